-- Write a profile, unless it changed since it was read.
--
-- KEYS  profile, log, tombstone, moved: one hash slot
-- ARGV  the stored header that the caller read ("" for none), the new profile, its log entry, TTL,
--       moment in ms that the change is dated at
-- Gives the id of the log entry, "" where the header is another by now or the customer was merged
-- into another, "erased" where they were forgotten after that moment.
local HEADER, MAGIC = 24, 'rapport1'
local erased = tonumber(redis.call('GET', KEYS[3]) or '-1')
if tonumber(ARGV[5]) <= erased then return 'erased' end
if redis.call('EXISTS', KEYS[4]) == 1 then return '' end
if redis.call('GETRANGE', KEYS[1], 0, HEADER - 1) ~= ARGV[1] then return '' end
local id = redis.call('XADD', KEYS[2], '*', 'e', ARGV[3])
local ms, sequence = string.match(id, '(%d+)-(%d+)')
local header = MAGIC .. struct.pack('<I8I8', tonumber(ms), tonumber(sequence))
redis.call('SET', KEYS[1], header .. ARGV[2], 'PX', ARGV[4])
return id
