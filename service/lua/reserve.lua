-- Reserve actions for one customer, each unless a cap forbids it by then; all or nothing of each.
--
-- KEYS  ledger, log, tombstone, moved: one hash slot
-- ARGV  now in ms, TTL of the keys in ms, age in ms past which the ledger forgets, how many of a
--       kind it keeps (0: all), then for each action: its 40-byte record, its log entry, the number
--       of its caps, and for each cap: at most, within ms, channel (0: any), codes of the actions
--       that count, 16 bits each
-- Gives 1 or 0 for each action. Nothing is granted of a customer who was merged into another, or was
-- forgotten after the moment of the record.
--
-- Counts what features/ledger.py calls presented; slow and plain, that is the reference.
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

local now, ttl, horizon, keep = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local stored = redis.call('GET', KEYS[1]) or ''
local records = sub(stored, HEADER + 1)
local before = #records / SIZE
-- As in journal.lua: a decision taken so shortly after may have read what was there before.
local ON_ITS_WAY = 10000 -- ms
local erased = tonumber(redis.call('GET', KEYS[3]) or '-1')
if erased >= 0 then erased = erased + ON_ITS_WAY end
local moved = redis.call('EXISTS', KEYS[4]) == 1

-- What counts, by action: moments and channels. A reservation that is open may be presented any time
-- from now on, so it counts in every window.
-- What an interaction shows more than once on a channel is one contact: the newest counts.
local shown, contacts = {}, {}
local function count_in(action, t, channel)
  local of_action = shown[action]
  if not of_action then
    of_action = {}
    shown[action] = of_action
  end
  of_action[#of_action + 1] = t
  of_action[#of_action + 1] = channel
end

-- The contact that a record is part of, or nil: it stands alone.
local function contact(records, at)
  local interaction = sub(records, at + 20, at + 23)
  if interaction ~= ALONE then return interaction .. sub(records, at + 32, at + 33) .. byte(records, at + 36) end
end

local function look()
  for at = #records - SIZE + 1, 1, -SIZE do
    local outcome, t = byte(records, at + OUTCOME), nil
    if outcome == PRESENTED then
      t = unpack('<i8', records, at)
    elseif outcome == RESERVED and now < held_until(records, at) then
      t = math.huge
    end
    local of = t and contact(records, at)
    if t and not (of and contacts[of]) then
      count_in(sub(records, at + 32, at + 33), t, byte(records, at + 36))
      if of then contacts[of] = t end
    end
  end
end

local function listed(actions, code)
  local from = 1
  while true do
    local at = find(actions, code, from, true)
    if not at or at % 2 == 1 then return at end
    from = at + 1
  end
end

-- How much of a cap is used up. Holds of one call share most of their caps: each is counted once, and
-- what is granted is added.
local counted = {}
local function used(within, channel, actions)
  local key = within .. ' ' .. channel .. ' ' .. actions
  local cap = counted[key]
  if cap then return cap.count end
  local since, count = now - tonumber(within), 0
  channel = tonumber(channel)
  for code, of_action in pairs(shown) do
    if listed(actions, code) then
      for j = 1, #of_action, 2 do
        if of_action[j] > since and (channel == 0 or of_action[j + 1] == channel) then
          count = count + 1
        end
      end
    end
  end
  counted[key] = {count = count, channel = channel, actions = actions}
  return count
end

-- Whether no cap forbids it. `own` is the moment at which the same interaction showed the same action
-- last, or nil: within a cap that counts it, showing it again adds nothing.
local function room(first, caps, own)
  for i = first, first + 4 * (caps - 1), 4 do
    local more = own and own > now - tonumber(ARGV[i + 1]) and 0 or 1
    if used(ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) + more > tonumber(ARGV[i]) then return false end
  end
  return true
end

-- Count a reservation that is open in what was counted already, and in what will be.
local function hold(code, channel)
  count_in(code, math.huge, channel)
  for _, cap in pairs(counted) do
    if (cap.channel == 0 or cap.channel == channel) and listed(cap.actions, code) then
      cap.count = cap.count + 1
    end
  end
end

local function insert(record)
  local at = #records + 1
  while at > 1 and precedes(record, 1, records, at - SIZE) do at = at - SIZE end
  records = sub(records, 1, at - 1) .. record .. sub(records, at)
end

local granted, last, i, looked = {}, '', 5, false
while i <= #ARGV do
  local record, caps = ARGV[i], tonumber(ARGV[i + 2])
  local t, allowed = unpack('<i8', record), 0
  if not moved and t > erased then
    if place(records, sub(record, 9, 16)) then
      allowed = 1
    else
      if not looked then
        look()
        looked = true
      end
      local of = contact(record, 1)
      local own = of and contacts[of]
      if room(i + 3, caps, own) then
        allowed = 1
        insert(record)
        if not own and now < held_until(record, 1) then
          hold(sub(record, 33, 34), byte(record, 37))
          if of then contacts[of] = math.huge end
        end
        last = redis.call('XADD', KEYS[2], '*', 'e', ARGV[i + 1])
      end
    end
  end
  granted[#granted + 1] = allowed
  i = i + 3 + 4 * caps
end

if last ~= '' then
  local left = settled(records, before, milliseconds(last), horizon, keep, {})
  redis.call('SET', KEYS[1], header(last) .. left, 'PX', ttl)
end
return granted
