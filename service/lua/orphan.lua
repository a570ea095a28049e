-- Log an outcome whose decision is not known, once.
--
-- KEYS  log, marker: one hash slot
-- ARGV  log entry, TTL of the marker in ms
-- Gives 1 if it was logged, 2 if it had been.
if not redis.call('SET', KEYS[2], '', 'NX', 'PX', ARGV[2]) then return 2 end
redis.call('XADD', KEYS[1], '*', 'e', ARGV[1])
return 1
