-- Reserve actions for one customer, whose ledger is still the one that their caps were counted over.
--
-- KEYS  ledger, log, tombstone, moved: one hash slot
-- ARGV  now in ms, TTL of the keys in ms, age in ms past which the ledger forgets, how many of a
--       kind it keeps (0: all), the stored header that the caller read ("" for none), then for each
--       action: its 40-byte record, its log entry
-- Gives 1 or 0 for each action, as reserve.lua would where no cap forbids any. Gives nothing, and
-- writes nothing, where the ledger is another by now, or holds what is dated after now: the caller
-- did not count that.
-- include _ledger

-- include _search

-- include _hold

local now, ttl, horizon, keep = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local found = redis.call('MGET', KEYS[1], KEYS[3], KEYS[4])
local erased, moved = refused_until(found[2]), found[3]
if sub(found[1] or '', 1, HEADER) ~= ARGV[5] then return false end
local records = found[1] or EMPTY
local before = #records
if before > HEADER and unpack('<i8', records, #records - SIZE + 1) > now then return false end

local granted, last = {}, ''
for i = 6, #ARGV, 2 do
  local record, allowed = ARGV[i], 0
  if not moved and unpack('<i8', record) > erased then
    allowed = 1
    if not place(records, sub(record, 9, 16), FIRST) then
      local left = superseded(records, record)
      if left then
        records = inserted(left, record)
        last = redis.call('XADD', KEYS[2], '*', 'e', ARGV[i + 1])
      end
    end
  end
  granted[#granted + 1] = allowed
end

if last ~= '' then
  records = settled(records, before, milliseconds(last), horizon, keep, {})
  redis.call('SET', KEYS[1], header(last) .. sub(records, FIRST), 'PX', ttl)
end
return granted
