-- What every script that writes a ledger has in common. A ledger is handled with its header before
-- it: a string without one would be one more to make, and Lua hashes every byte of each.
local SIZE, HEADER, MAGIC = 40, 24, 'rapport1'
local FIRST, EMPTY = HEADER + 1, string.rep('\0', HEADER) -- where the first record begins
local OUTCOME, PRESENTED, RESERVED, ALONE = 38, 2, 255, '\0\0\0\0'
local HELD = '\255\128' -- outcome and mood of a reservation, see features/record.py
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

-- The day that a record is of. What an interaction shows more than once on one is one contact.
local function day(records, at) return floor(unpack('<i8', records, at) / 86400000) end

-- Of many records of an action, outcome and channel only the newest few: no limit counts further. Of
-- what one interaction presented more than once only the newest: it counts once.
local function newest(records, keep)
  local seen, told, pieces, stop = {}, {}, {}, #records
  for at = #records - SIZE + 1, FIRST, -SIZE do
    local low, high, _, _, channel, _, outcome = byte(records, at + 32, at + OUTCOME)
    local kind = ((high * 256 + low) * 256 + channel) * 256 + outcome
    local interaction, again = sub(records, at + 20, at + 23), false
    if outcome == PRESENTED and interaction ~= ALONE then
      local contact = kind .. interaction .. day(records, at)
      again = told[contact]
      told[contact] = true
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
local function settled(records, length_before, ms, horizon, keep, ended)
  local start = FIRST
  while start < #records and unpack('<i8', records, start) < ms - horizon do start = start + SIZE end
  local pieces, from = {sub(records, 1, HEADER)}, start + OUTCOME
  while true do
    -- A search in C: a reservation holds no mood, so its last two bytes are these.
    local outcome_at = find(records, HELD, from, true)
    if not outcome_at then break end
    from = outcome_at + 1
    if (outcome_at - FIRST) % SIZE == OUTCOME then
      local at = outcome_at - OUTCOME
      if ended[sub(records, at + 8, at + 15)] or not (ms < held_until(records, at)) then
        pieces[#pieces + 1] = sub(records, start, at - 1)
        start = at + SIZE
      end
    end
  end
  if start > FIRST then -- else all of it stays as it is
    pieces[#pieces + 1] = sub(records, start)
    records = table.concat(pieces)
  end
  local count, before = (#records - HEADER) / SIZE, (length_before - HEADER) / SIZE
  if keep > 0 and count > MANY and floor(count / STEP) > floor(before / STEP) then
    return newest(records, keep)
  end
  return records
end
