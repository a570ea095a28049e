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
-- include _ledger

-- include _search

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
-- from now on, so it counts in every window. What an interaction shows more than once a day on a
-- channel is one contact: an open reservation counts, or else the newest presentation.
local shown, contacts = {}, {}
local function count_in(action, t, channel, of)
  local of_action = shown[action]
  if not of_action then
    of_action = {}
    shown[action] = of_action
  end
  local at = #of_action + 1
  of_action[at], of_action[at + 1] = t, channel
  if of then contacts[of] = {moments = of_action, at = at} end
end

-- The contact that a record is part of, or nil: it stands alone.
local function contact(records, at)
  local interaction = sub(records, at + 20, at + 23)
  if interaction == ALONE then return nil end
  return interaction .. sub(records, at + 32, at + 33) .. byte(records, at + 36) .. ' ' .. day(records, at)
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
    local known = of and contacts[of]
    if known then
      if t == math.huge then known.moments[known.at] = t end
    elseif t then
      count_in(sub(records, at + 32, at + 33), t, byte(records, at + 36), of)
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
  counted[key] = {count = count, channel = channel, actions = actions, since = since}
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
local function hold(code, channel, of)
  local known = of and contacts[of]
  local before = known and known.moments[known.at]
  if known then known.moments[known.at] = math.huge else count_in(code, math.huge, channel, of) end
  for _, cap in pairs(counted) do
    local told = before and before > cap.since
    if not told and (cap.channel == 0 or cap.channel == channel) and listed(cap.actions, code) then
      cap.count = cap.count + 1
    end
  end
end

-- Drop what the contact holds for less long; false where it holds the place for as long already.
local function supersedes(record, of)
  local from, ends = 1, held_until(record, 1)
  while of and from <= #records do
    if byte(records, from + OUTCOME) == RESERVED and contact(records, from) == of then
      if held_until(records, from) >= ends then return false end
      records = sub(records, 1, from - 1) .. sub(records, from + SIZE)
    else
      from = from + SIZE
    end
  end
  return true
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
      if room(i + 3, caps, own and own.moments[own.at]) then
        allowed = 1
        if supersedes(record, of) then
          insert(record)
          if now < held_until(record, 1) then
            hold(sub(record, 33, 34), byte(record, 37), of)
          end
          last = redis.call('XADD', KEYS[2], '*', 'e', ARGV[i + 1])
        end
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
