-- Store events of one customer: dedupe, insert in order, trim, ledger, headers, log; all or nothing.
--
-- KEYS  timeline, ledger, log, tombstone: one hash slot
-- ARGV  limit of the timeline, TTL of the keys in ms, age in ms past which the ledger forgets,
--       then for each event: its 40-byte record, "1" if the ledger counts it, its log entry
-- Gives {id of the last log entry or "", status of each event}; a status is a code of
-- features.timeline.Status, or 5 for an event that occurred before the customer was forgotten.
--
-- The layout is that of features/record.py; features/timeline.py is the reference. What is stored
-- stays one string, and what this call adds a short sorted list; they are merged once, at the end:
-- copying the string for every event took most of the time.
local SIZE, HEADER, MAGIC = 40, 24, 'rapport1'
local sub, find, unpack, floor = string.sub, string.find, struct.unpack, math.floor
local limit, ttl, horizon = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

-- A set of records: those at first .. count - 1 of the stored string, and those added.
local function open(key)
  local stored = redis.call('GET', key) or string.rep('\0', HEADER)
  return {
    stored = stored, first = 0, count = (#stored - HEADER) / SIZE, added = {}, by_hash = {},
  }
end

local function size(set) return set.count - set.first + #set.added end

local function parse(record)
  local t, low, high, sequence = unpack('<i8I4I4I2', record)
  return {
    t = t, sequence = sequence, high = high, low = low, record = record, hash = sub(record, 9, 16),
  }
end

local function earlier(a, b)
  if a.t ~= b.t then return a.t < b.t end
  if a.sequence ~= b.sequence then return a.sequence < b.sequence end
  if a.high ~= b.high then return a.high < b.high end
  return a.low < b.low
end

local function earlier_than_stored(event, set, index)
  local at = HEADER + index * SIZE + 1
  local t = unpack('<i8', set.stored, at)
  if event.t ~= t then return event.t < t end
  local low, high, sequence = unpack('<I4I4I2', set.stored, at + 8)
  if event.sequence ~= sequence then return event.sequence < sequence end
  if event.high ~= high then return event.high < high end
  return event.low < low
end

-- The record with this hash, or nil.
local function held(set, hash)
  if set.by_hash[hash] then return set.by_hash[hash] end
  local from = HEADER + set.first * SIZE + 9
  while true do
    local at = find(set.stored, hash, from, true)
    if not at then return nil end
    if (at - HEADER - 9) % SIZE == 0 then return sub(set.stored, at - 8, at + 31) end
    from = at + 1
  end
end

local function comes_first(set, event)
  return (set.first == set.count or earlier_than_stored(event, set, set.first))
    and (not set.added[1] or earlier(event, set.added[1]))
end

local function add(set, event)
  local added = set.added
  local low, high = 1, #added + 1
  if high > 1 and not earlier(event, added[high - 1]) then low = high end
  while low < high do
    local middle = floor((low + high) / 2)
    if earlier(event, added[middle]) then high = middle else low = middle + 1 end
  end
  table.insert(added, low, event)
  set.by_hash[event.hash] = event.record
end

local function drop_first(set)
  local event = set.added[1]
  if set.first < set.count and not (event and earlier_than_stored(event, set, set.first)) then
    set.first = set.first + 1
  else
    set.by_hash[event.hash] = nil
    table.remove(set.added, 1)
  end
end

local function oldest(set)
  local stored = set.first < set.count and unpack('<i8', set.stored, HEADER + set.first * SIZE + 1)
  local added = set.added[1] and set.added[1].t
  return stored and added and math.min(stored, added) or stored or added
end

-- How many stored records come before the event; most events are new, so the end is tried first.
local function rank(set, event, from)
  local stored, t, to = set.stored, event.t, set.count
  if from == to or not earlier_than_stored(event, set, to - 1) then return to end
  to = to - 1
  while from < to do
    local middle = floor((from + to) / 2)
    local t2 = unpack('<i8', stored, HEADER + middle * SIZE + 1)
    if t < t2 or (t == t2 and earlier_than_stored(event, set, middle)) then
      to = middle
    else
      from = middle + 1
    end
  end
  return from
end

local function save(key, set, header)
  local pieces, from = {header}, set.first
  for _, event in ipairs(set.added) do
    local to = rank(set, event, from)
    if to > from then
      pieces[#pieces + 1] = sub(set.stored, HEADER + from * SIZE + 1, HEADER + to * SIZE)
    end
    pieces[#pieces + 1] = event.record
    from = to
  end
  pieces[#pieces + 1] = sub(set.stored, HEADER + from * SIZE + 1)
  redis.call('SET', key, table.concat(pieces), 'PX', ttl)
end

local timeline, ledger = open(KEYS[1]), nil
local erased = tonumber(redis.call('GET', KEYS[4]) or '-1')
local statuses, last, counted_any = {}, '', false

for i = 4, #ARGV, 3 do
  local event, counted = parse(ARGV[i]), ARGV[i + 1] == '1'
  if counted and not ledger then ledger = open(KEYS[2]) end
  local known = held(timeline, event.hash) or (counted and held(ledger, event.hash))
  local status
  if event.t <= erased then
    status = 5
  elseif known then
    status = known == event.record and 2 or 3
  else
    if size(timeline) >= limit and comes_first(timeline, event) then
      status = 4
    else
      add(timeline, event)
      while size(timeline) > limit do drop_first(timeline) end
      status = 1
    end
    if counted then
      add(ledger, event)
      counted_any = true
    end
    last = redis.call('XADD', KEYS[3], '*', 'e', ARGV[i + 2])
  end
  statuses[#statuses + 1] = status
end

if last ~= '' then
  local ms, sequence = string.match(last, '(%d+)-(%d+)')
  ms = tonumber(ms)
  local header = MAGIC .. struct.pack('<I8I8', ms, tonumber(sequence))
  save(KEYS[1], timeline, header)
  if counted_any then
    while size(ledger) > 0 and oldest(ledger) < ms - horizon do drop_first(ledger) end
    save(KEYS[2], ledger, header)
  end
end
return {last, statuses}
