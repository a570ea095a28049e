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
-- [ledger] The same lines in every script that writes a ledger; a test compares them.
local SIZE, HEADER, MAGIC = 40, 24, 'rapport1'
local OUTCOME, PRESENTED, RESERVED, ALONE = 38, 2, 255, '\0\0\0\0'
local MANY, STEP = 128, 32 -- from how many records on, and after how many more, some are dropped
local sub, byte, find, floor, unpack = string.sub, string.byte, string.find, math.floor, struct.unpack

local function milliseconds(id) return tonumber(string.match(id, '^%d+')) end

local function header(id)
  local ms, sequence = string.match(id, '(%d+)-(%d+)')
  return MAGIC .. struct.pack('<I8I8', tonumber(ms), tonumber(sequence))
end

-- Until when a reservation holds.
local function held_until(records, at)
  return unpack('<i8', records, at) + 1000 * unpack('<f', records, at + 24)
end

-- Of many records of an action, outcome and channel only the newest few: no limit counts further. Of
-- what one interaction presented more than once only the newest: it counts once.
local function newest(records, keep)
  local seen, told, pieces, stop = {}, {}, {}, #records
  for at = #records - SIZE + 1, 1, -SIZE do
    local low, high, _, _, channel, _, outcome = byte(records, at + 32, at + OUTCOME)
    local kind = ((high * 256 + low) * 256 + channel) * 256 + outcome
    local interaction, again = sub(records, at + 20, at + 23), false
    if outcome == PRESENTED and interaction ~= ALONE then
      again = told[kind .. interaction]
      told[kind .. interaction] = true
    end
    if not again then seen[kind] = (seen[kind] or 0) + 1 end
    if (again or seen[kind] > keep) and outcome ~= RESERVED then
      if at + SIZE <= stop then table.insert(pieces, sub(records, at + SIZE, stop)) end
      stop = at - 1
    end
  end
  table.insert(pieces, sub(records, 1, stop))
  for i = 1, floor(#pieces / 2) do
    pieces[i], pieces[#pieces + 1 - i] = pieces[#pieces + 1 - i], pieces[i]
  end
  return table.concat(pieces)
end

-- What a ledger keeps at a moment: nothing past the horizon, and no reservation that has ended or
-- whose time is up.
local function settled(records, count_before, ms, horizon, keep, ended)
  local start = 1
  while start < #records and unpack('<i8', records, start) < ms - horizon do start = start + SIZE end
  local pieces = {}
  for outcome_at = start + OUTCOME, #records, SIZE do
    if byte(records, outcome_at) == RESERVED then
      local at = outcome_at - OUTCOME
      if ended[sub(records, at + 8, at + 15)] or not (ms < held_until(records, at)) then
        pieces[#pieces + 1] = sub(records, start, at - 1)
        start = at + SIZE
      end
    end
  end
  pieces[#pieces + 1] = sub(records, start)
  records = table.concat(pieces)
  local count = #records / SIZE
  if keep > 0 and count > MANY and floor(count / STEP) > floor(count_before / STEP) then
    return newest(records, keep)
  end
  return records
end
-- [/ledger]

-- [search] The same lines in reserve.lua and adopt.lua; a test compares them.
-- Whether one record comes before another: by moment, sequence and hash.
local function precedes(a, at, b, by)
  local t, low, high, sequence = unpack('<i8I4I4I2', a, at)
  local t2, low2, high2, sequence2 = unpack('<i8I4I4I2', b, by)
  if t ~= t2 then return t < t2 end
  if sequence ~= sequence2 then return sequence < sequence2 end
  if high ~= high2 then return high < high2 end
  return low < low2
end

-- Where a string of records holds a hash, or nil.
local function place(records, hash)
  local from = 9
  while true do
    local at = find(records, hash, from, true)
    if not at or at % SIZE == 9 then return at and at - 8 end
    from = at + 1
  end
end
-- [/search]

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

local stored = sub(redis.call('GET', KEYS[1]) or '', HEADER + 1)
local count, statuses, taken, ended, changed = #stored / SIZE, {}, {}, {}, joins
local known = {}
if #added / SIZE > 8 then
  for at = 1, #stored, SIZE do known[sub(stored, at + 8, at + 15)] = at end
else
  for at = 1, #added, SIZE do
    local hash = sub(added, at + 8, at + 15)
    known[hash] = place(stored, hash)
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
  local pieces, from = {}, 1
  for _, at in ipairs(taken) do
    local low, high = floor((from - 1) / SIZE), count
    while low < high do
      local middle = floor((low + high) / 2)
      if precedes(added, at, stored, middle * SIZE + 1) then high = middle else low = middle + 1 end
    end
    pieces[#pieces + 1] = sub(stored, from, low * SIZE)
    pieces[#pieces + 1] = sub(added, at, at + SIZE - 1)
    from = low * SIZE + 1
  end
  pieces[#pieces + 1] = sub(stored, from)
  if joins then redis.call('SET', KEYS[4], ARGV[2]) end
  local id = redis.call('XADD', KEYS[2], '*', 'e', ARGV[7])
  local left = settled(table.concat(pieces), count, milliseconds(id), horizon, keep, ended)
  redis.call('SET', KEYS[1], header(id) .. left, 'PX', ttl)
end
return {'done', table.concat(statuses)}
