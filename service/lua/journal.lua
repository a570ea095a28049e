-- Append a decision to the log and leave a pointer to it, once.
--
-- KEYS  log, decision, tombstone: one hash slot
-- ARGV  log entry, what the pointer says besides the entry's id, TTL in ms, decision id
-- Gives the id of the log entry, or "" where the customer was forgotten after the decision.
local known = redis.call('GET', KEYS[2])
if known then return string.match(known, '^[^ ]+') end
local taken = tonumber(string.sub(ARGV[4], 3, 13), 16) -- the moment that the id holds
local erased = tonumber(redis.call('GET', KEYS[3]) or '-1')
if taken and taken <= erased then return '' end
local id = redis.call('XADD', KEYS[1], '*', 'e', ARGV[1])
redis.call('SET', KEYS[2], id .. ' ' .. ARGV[2], 'PX', ARGV[3])
return id
