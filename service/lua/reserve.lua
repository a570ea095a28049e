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

-- include _hold

local now, ttl, horizon, keep = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local found = redis.call('MGET', KEYS[1], KEYS[3], KEYS[4])
local erased, moved = refused_until(found[2]), found[3]
local records = found[1] or EMPTY
local before = #records

-- What counts, by the code of its action: moments, and the channel after each. A reservation that is
-- open may be presented any time from now on, so it counts in every window. What an interaction shows
-- more than once a day on a channel is one contact: an open reservation counts, or else the newest
-- presentation.
local shown, contacts = {}, {}
local function count_in(code, t, channel, of)
  local of_action = shown[code]
  if not of_action then
    of_action = {}
    shown[code] = of_action
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
  for at = #records - SIZE + 1, FIRST, -SIZE do
    local low, high, _, _, channel, _, outcome = byte(records, at + 32, at + OUTCOME)
    local t
    if outcome == PRESENTED then
      t = unpack('<i8', records, at)
    elseif outcome == RESERVED and now < held_until(records, at) then
      t = math.huge
    end
    if t then
      local of = contact(records, at)
      local known = of and contacts[of]
      if not known then
        count_in(256 * high + low, t, channel, of)
      elseif t == math.huge then
        known.moments[known.at] = t
      end
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
  for at = 1, #actions, 2 do
    local low, high = byte(actions, at, at + 1)
    local of_action = shown[256 * high + low] or {}
    for j = 1, #of_action, 2 do
      if of_action[j] > since and (channel == 0 or of_action[j + 1] == channel) then
        count = count + 1
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
local function hold(record, of)
  local low, high, _, _, channel = byte(record, 33, 37)
  local known = of and contacts[of]
  local before = known and known.moments[known.at]
  if known then
    known.moments[known.at] = math.huge
  else
    count_in(256 * high + low, math.huge, channel, of)
  end
  for _, cap in pairs(counted) do
    local told = before and before > cap.since
    if not told and (cap.channel == 0 or cap.channel == channel)
      and listed(cap.actions, sub(record, 33, 34)) then
      cap.count = cap.count + 1
    end
  end
end

local granted, last, i, looked = {}, '', 5, false
while i <= #ARGV do
  local record, caps = ARGV[i], tonumber(ARGV[i + 2])
  local t, allowed = unpack('<i8', record), 0
  if not moved and t > erased then
    if place(records, sub(record, 9, 16), FIRST) then
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
        local left = superseded(records, record)
        if left then
          records = inserted(left, record)
          if now < held_until(record, 1) then
            hold(record, of)
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
  records = settled(records, before, milliseconds(last), horizon, keep, {})
  redis.call('SET', KEYS[1], header(last) .. sub(records, FIRST), 'PX', ttl)
end
return granted
