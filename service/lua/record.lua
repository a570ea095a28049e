-- Store events of one customer: dedupe, insert in order, trim, ledger, headers, log; all or nothing.
--
-- KEYS  timeline, ledger, log, tombstone, moved: one hash slot
-- ARGV  limit of the timeline, TTL of the keys in ms, age in ms past which the ledger forgets, how
--       many of a kind it keeps (0: all), whom the caller knows the customer to be merged into ("":
--       nobody), then for each event: its 40-byte record, whether the ledger counts it ("1", "0";
--       "2": the ledger of the one it was merged into has it from before), its log entry, hash of
--       the reservation that it ends ("": none)
-- Gives {id of the last log entry or "", status of each event, whom the customer is merged into}; a
-- status is a code of features.timeline.Status, or 5 for an event that occurred before the customer
-- was forgotten. Where the third is not "", nothing was stored: the ledger's part goes there first.
--
-- The layout is that of features/record.py; features/timeline.py and features/ledger.py are the
-- reference. What is stored stays one string, and what this call adds a short sorted list; they are
-- merged once, at the end: copying the string for every event took most of the time.
-- include _ledger

local limit, ttl, horizon, keep = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

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

-- All records as one string, after what comes before them.
local function merged(set, head)
  local pieces, from = {head}, set.first
  for _, event in ipairs(set.added) do
    local to = rank(set, event, from)
    if to > from then
      pieces[#pieces + 1] = sub(set.stored, HEADER + from * SIZE + 1, HEADER + to * SIZE)
    end
    pieces[#pieces + 1] = event.record
    from = to
  end
  pieces[#pieces + 1] = sub(set.stored, HEADER + from * SIZE + 1)
  return table.concat(pieces)
end

local moved = redis.call('GET', KEYS[5]) or ''
local elsewhere = moved ~= '' and moved == ARGV[5]
local refused = false
if moved ~= '' and not elsewhere then
  for i = 6, #ARGV, 4 do refused = refused or ARGV[i + 1] ~= '0' or ARGV[i + 3] ~= '' end
end

local timeline, ledger = open(KEYS[1]), nil
local erased = tonumber(redis.call('GET', KEYS[4]) or '-1')
local statuses, last, last_of_ledger, ended = {}, '', '', {}

for i = 6, #ARGV, 4 do
  local event, counted, releases = parse(ARGV[i]), ARGV[i + 1] ~= '0', ARGV[i + 3]
  local here = moved == ''
  if here and (counted or releases ~= '') and not ledger then ledger = open(KEYS[2]) end
  local known = held(timeline, event.hash) or (here and counted and held(ledger, event.hash))
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
    if elsewhere and status == 4 and ARGV[i + 1] == '2' then
      status = 2
    elseif not refused then
      last = redis.call('XADD', KEYS[3], '*', 'e', ARGV[i + 2])
      if here and counted then
        add(ledger, event)
        last_of_ledger = last
      end
      if here and releases ~= '' then
        local reservation = held(ledger, releases)
        if reservation and byte(reservation, OUTCOME + 1) == RESERVED then
          ended[releases] = true
          last_of_ledger = last
        end
      end
    end
  end
  statuses[#statuses + 1] = status
end

if refused then return {'', statuses, moved} end
if last ~= '' then
  redis.call('SET', KEYS[1], merged(timeline, header(last)), 'PX', ttl)
end
if last_of_ledger ~= '' then
  local left = settled(
    merged(ledger, ''), ledger.count, milliseconds(last_of_ledger), horizon, keep, ended
  )
  redis.call('SET', KEYS[2], header(last_of_ledger) .. left, 'PX', ttl)
end
return {last, statuses, ''}
