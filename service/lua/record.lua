-- Store events of one customer: dedupe, insert in order, trim, ledger, headers, log; all or nothing.
--
-- KEYS  timeline, ledger, log, tombstone: one hash slot
-- ARGV  limit of the timeline, TTL of the keys in ms, age in ms past which the ledger forgets,
--       then for each event: its 40-byte record, "1" if the ledger counts it, its log entry
-- Gives {id of the last log entry or "", status of each event}; a status is a code of
-- features.timeline.Status, or 5 for an event that occurred before the customer was forgotten.
--
-- The layout is that of features/record.py; features/timeline.py is the reference.
local SIZE, HEADER, MAGIC = 40, 24, 'rapport1'
local sub, find, unpack = string.sub, string.find, struct.unpack
local limit, ttl, horizon = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local function body(key)
  local stored = redis.call('GET', key)
  return stored and sub(stored, HEADER + 1) or ''
end

-- Position of the record with this hash, or nil.
local function place_of(records, hash)
  local from = 1
  while true do
    local at = find(records, hash, from, true)
    if not at then return nil end
    if (at - 1) % SIZE == 8 then return at - 8 end
    from = at + 1
  end
end

-- Number of records that come before the given one, searched from the end: most events are new.
local function rank(records, record)
  local t, low, high, sequence = unpack('<i8I4I4I2', record)
  local function before(index)
    local t2, low2, high2, sequence2 = unpack('<i8I4I4I2', records, index * SIZE + 1)
    if t ~= t2 then return t < t2 end
    if sequence ~= sequence2 then return sequence < sequence2 end
    if high ~= high2 then return high < high2 end
    return low < low2
  end
  local count = #records / SIZE
  if count == 0 or not before(count - 1) then return count end
  local first, last = 0, count - 1
  while first < last do
    local middle = math.floor((first + last) / 2)
    if before(middle) then last = middle else first = middle + 1 end
  end
  return first
end

local function insert(records, at, record)
  return sub(records, 1, at * SIZE) .. record .. sub(records, at * SIZE + 1)
end

local timeline, ledger = body(KEYS[1]), nil
local erased = tonumber(redis.call('GET', KEYS[4]) or '-1')
local statuses, last = {}, ''
local timeline_changed, ledger_changed = false, false

for i = 4, #ARGV, 3 do
  local record, counted, entry = ARGV[i], ARGV[i + 1] == '1', ARGV[i + 2]
  local hash = sub(record, 9, 16)
  if counted and not ledger then ledger = body(KEYS[2]) end
  local known = place_of(timeline, hash)
  local same = known and sub(timeline, known, known + SIZE - 1) == record
  if not known and counted then
    known = place_of(ledger, hash)
    same = known and sub(ledger, known, known + SIZE - 1) == record
  end
  local status
  if unpack('<i8', record) <= erased then
    status = 5
  elseif known then
    status = same and 2 or 3
  else
    local at = rank(timeline, record)
    if #timeline >= limit * SIZE and at == 0 then
      status = 4
    else
      timeline = insert(timeline, at, record)
      if #timeline > limit * SIZE then timeline = sub(timeline, SIZE + 1) end
      status = 1
    end
    timeline_changed = true
    if counted then
      ledger = insert(ledger, rank(ledger, record), record)
      ledger_changed = true
    end
    last = redis.call('XADD', KEYS[3], '*', 'e', entry)
  end
  statuses[#statuses + 1] = status
end

if timeline_changed then
  local ms, sequence = string.match(last, '(%d+)-(%d+)')
  local header = MAGIC .. struct.pack('<I8I8', tonumber(ms), tonumber(sequence))
  redis.call('SET', KEYS[1], header .. timeline, 'PX', ttl)
  if ledger_changed then
    local floor, old = tonumber(ms) - horizon, 0
    while old * SIZE < #ledger and unpack('<i8', ledger, old * SIZE + 1) < floor do
      old = old + 1
    end
    redis.call('SET', KEYS[2], header .. sub(ledger, old * SIZE + 1), 'PX', ttl)
  end
end
return {last, statuses}
