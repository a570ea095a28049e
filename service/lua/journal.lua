-- Append decisions to the log and leave a pointer to each, once.
--
-- KEYS  for each decision: log, decision, tombstone, index; on a cluster all of one hash slot
-- ARGV  TTL of the pointers in ms, then for each decision: log entry, summary, decision id
-- Gives for each the id of its log entry, or "" where the customer was forgotten after the decision,
-- or so shortly before it that it may have read what was there before.
local ON_ITS_WAY = 10000 -- ms
local FIRST_OF_SIXTEEN = 48 -- the digit 0

local ttl, asked, ids, written = ARGV[1], {}, {}, {}
for i = 1, #KEYS, 4 do
  asked[#asked + 1] = KEYS[i + 1]
  asked[#asked + 1] = KEYS[i + 2]
end
local found = redis.call('MGET', unpack(asked))

local function append(decision, first)
  local pointer, erased = found[2 * decision - 1], found[2 * decision]
  local entry, summary, name = ARGV[first], ARGV[first + 1], ARGV[first + 2]
  if pointer then return string.match(pointer, '^[^ ]+') end
  if written[name] then return written[name] end
  if erased then
    local taken = tonumber(string.sub(name, 3, 13), 16) -- the moment that the id holds
    if taken and taken <= tonumber(erased) + ON_ITS_WAY then return '' end
  end
  local log, key, index = KEYS[4 * decision - 3], KEYS[4 * decision - 2], KEYS[4 * decision]
  local id = redis.call('XADD', log, '*', 'e', entry)
  redis.call('SET', key, id .. ' ' .. summary, 'PX', ttl)
  local now = string.match(id, '^%d+')
  redis.call('ZADD', index, now + ttl, 'd' .. name)
  -- One in sixteen, by the last digit of its id, clears away what has expired: where forgetting finds
  -- that listed still, it only looks for keys that are gone.
  if string.byte(name, -1) == FIRST_OF_SIXTEEN then
    redis.call('ZREMRANGEBYSCORE', index, '-inf', now)
  end
  written[name] = id
  return id
end

for first = 2, #ARGV, 3 do
  ids[#ids + 1] = append(#ids + 1, first)
end
return ids
