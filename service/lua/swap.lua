-- Set a key to a new value if it still has the old one ("" for absent).
--
-- KEYS  key
-- ARGV  old value, new value
-- Gives 1 if it was set.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
