-- Take over records of a member: all of their ledger when they are merged, later ones one by one.
--
-- KEYS  ledger, log, moved, members, lock: one hash slot, that of the one whom they are merged into
-- ARGV  the member, all members from now on as msgpack ("": no change, and the member has to be one
--       already), token of the lock ("" where nobody joins), TTL of the keys in ms, age in ms past
--       which the ledger forgets, how many of a kind it keeps (0: all), log entry, the records in
--       order; one that is reserved for no time at all ends the reservation of the same hash
-- Gives {"done", a byte for each record: 1 taken, 2 known, 3 known with other content}, {"moved",
-- whom this one was merged into}, {"stranger"} where the member is none, or {"lost"} where the lock
-- is not ours any more.
-- include _ledger

-- include _search

local ttl, horizon, keep, added = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[8]
local moved = redis.call('GET', KEYS[3])
if moved then return {'moved', moved} end
local joins = ARGV[2] ~= ''
if joins and redis.call('GET', KEYS[5]) ~= ARGV[3] then return {'lost'} end
local packed, is_member = redis.call('GET', KEYS[4]), false
for _, name in ipairs(packed and cmsgpack.unpack(packed) or {}) do
  is_member = is_member or name == ARGV[1]
end
if not joins and not is_member then return {'stranger'} end
if joins and is_member then return {'done', ''} end

local stored = redis.call('GET', KEYS[1]) or EMPTY
local statuses, taken, ended, changed = {}, {}, {}, joins
local known = {}
if #added / SIZE > 8 then
  for at = FIRST, #stored, SIZE do known[sub(stored, at + 8, at + 15)] = at end
else
  for at = 1, #added, SIZE do
    local hash = sub(added, at + 8, at + 15)
    known[hash] = place(stored, hash, FIRST)
  end
end
for at = 1, #added, SIZE do
  local hash, there = sub(added, at + 8, at + 15), known[sub(added, at + 8, at + 15)]
  local status = 1
  if byte(added, at + OUTCOME) == RESERVED and unpack('<f', added, at + 24) == 0 then
    if there and byte(stored, there + OUTCOME) == RESERVED then
      ended[hash] = true
      changed = true
    end
  elseif there then
    status = sub(stored, there, there + SIZE - 1) == sub(added, at, at + SIZE - 1) and 2 or 3
  else
    taken[#taken + 1] = at
    changed = true
  end
  statuses[#statuses + 1] = string.char(status)
end

if changed then
  local pieces, from = {}, FIRST
  for _, at in ipairs(taken) do
    local to = rank(stored, added, at, from)
    pieces[#pieces + 1] = sub(stored, from, to - 1)
    pieces[#pieces + 1] = sub(added, at, at + SIZE - 1)
    from = to
  end
  pieces[#pieces + 1] = sub(stored, from)
  if joins then redis.call('SET', KEYS[4], ARGV[2]) end
  local id = redis.call('XADD', KEYS[2], '*', 'e', ARGV[7])
  local left = header(id) .. table.concat(pieces)
  left = settled(left, #stored, milliseconds(id), horizon, keep, ended)
  redis.call('SET', KEYS[1], left, 'PX', ttl)
end
return {'done', table.concat(statuses)}
