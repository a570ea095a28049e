-- Remove a customer's keys and leave a tombstone.
--
-- KEYS  timeline, ledger, profile, log, tombstone: one hash slot
-- ARGV  moment in ms up to which events are refused from now on, log entry
-- Gives {id of the log entry, bytes of the timeline that went}.
local size = redis.call('STRLEN', KEYS[1])
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('SET', KEYS[5], ARGV[1])
return {redis.call('XADD', KEYS[4], '*', 'e', ARGV[2]), size}
