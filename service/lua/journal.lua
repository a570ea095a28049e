-- Append a decision to the log and leave a pointer to it, once.
--
-- KEYS  log, decision, tombstone, index: one hash slot
-- ARGV  log entry, summary of the decision, TTL in ms, decision id
-- Gives the id of the log entry, or "" where the customer was forgotten after the decision, or so
-- shortly before it that it may have read what was there before.
local ON_ITS_WAY = 10000 -- ms
local known = redis.call('GET', KEYS[2])
if known then return string.match(known, '^[^ ]+') end
local taken = tonumber(string.sub(ARGV[4], 3, 13), 16) -- the moment that the id holds
local erased = tonumber(redis.call('GET', KEYS[3]) or '-1')
if taken and taken <= erased + ON_ITS_WAY and erased >= 0 then return '' end
local id = redis.call('XADD', KEYS[1], '*', 'e', ARGV[1])
redis.call('SET', KEYS[2], id .. ' ' .. ARGV[2], 'PX', ARGV[3])
local now = tonumber(string.match(id, '^%d+'))
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
redis.call('ZADD', KEYS[4], now + ARGV[3], 'd' .. ARGV[4])
return id
