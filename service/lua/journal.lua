-- Append a decision to the log and leave a pointer to it, once.
--
-- KEYS  log, decision: one hash slot
-- ARGV  log entry, what the pointer says besides the entry's id, TTL in ms
-- Gives the id of the log entry.
local known = redis.call('GET', KEYS[2])
if known then return string.match(known, '^[^ ]+') end
local id = redis.call('XADD', KEYS[1], '*', 'e', ARGV[1])
redis.call('SET', KEYS[2], id .. ' ' .. ARGV[2], 'PX', ARGV[3])
return id
