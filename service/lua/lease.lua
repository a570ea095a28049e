-- Take units of a ceiling, or give some back.
--
-- KEYS  units taken so far
-- ARGV  units to take, negative to give back; limit, TTL in ms; the last two only for taking
-- Gives how many were taken or given back: as many as there are, never over the limit nor under 0.
local used, wanted = tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[1])
if wanted < 0 then
  local given = math.min(used, -wanted)
  if given > 0 then redis.call('DECRBY', KEYS[1], given) end -- which leaves the TTL as it is
  return given
end
local taken = math.max(0, math.min(wanted, tonumber(ARGV[2]) - used))
if taken > 0 then redis.call('SET', KEYS[1], used + taken, 'PX', ARGV[3]) end
return taken
