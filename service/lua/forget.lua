-- Remove a customer's keys and leave a tombstone.
--
-- KEYS  timeline, ledger, profile, log, tombstone, index, members, lock: one hash slot
-- ARGV  moment in ms up to which events are refused from now on, log entry, token of the lock ("":
--       it is not needed)
-- Gives {id of the log entry, bytes of the timeline that went, members of the index}; nothing where
-- the lock is not ours any more.
if ARGV[3] ~= '' and redis.call('GET', KEYS[8]) ~= ARGV[3] then return false end
local size = redis.call('STRLEN', KEYS[1])
local index = redis.call('ZRANGE', KEYS[6], 0, -1)
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[7])
if tonumber(ARGV[1]) > tonumber(redis.call('GET', KEYS[5]) or '-1') then
  redis.call('SET', KEYS[5], ARGV[1])  -- never back: a slower clock must not let events in again
end
return {redis.call('XADD', KEYS[4], '*', 'e', ARGV[2]), size, index}
