-- Store events of one customer: dedupe, insert in order, trim, ledger, headers, log; all or nothing.
--
-- KEYS  timeline, ledger, log, tombstone, moved: one hash slot
-- ARGV  limit of the timeline, TTL of the keys in ms, age in ms past which the ledger forgets, how
--       many of a kind it keeps (0: all), whom the caller knows the customer to be merged into ("":
--       nobody), then for each event: its 40-byte record, whether the ledger counts it ("1", "0";
--       "2": the ledger of the one it was merged into has it from before), its log entry, hash of
--       the reservation that it ends ("": none)
-- Gives {id of the last log entry or "", status of each event, whom the customer is merged into}; a
-- status is a code of features.timeline.Status, or 5 for an event that occurred before the customer
-- was forgotten. Where the third is not "", nothing was stored: the ledger's part goes there first.
--
-- The layout is that of features/record.py; features/timeline.py and features/ledger.py are the
-- reference. What is stored stays one string, and what this call adds a short list; they are merged
-- once, at the end: Lua hashes every string that it makes, so a copy of a timeline takes as long as
-- 30 comparisons.
-- include _ledger

-- include _search

local limit, ttl, horizon, keep = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local MOST = 32 -- events of a call, as service/store.py has it

local needs_ledger = false
for i = 6, #ARGV, 4 do
  needs_ledger = needs_ledger or ARGV[i + 1] ~= '0' or ARGV[i + 3] ~= ''
end
local found = needs_ledger and redis.call('MGET', KEYS[1], KEYS[4], KEYS[5], KEYS[2])
  or redis.call('MGET', KEYS[1], KEYS[4], KEYS[5])
local erased, moved = tonumber(found[2] or '-1'), found[3] or ''
local here, elsewhere = moved == '', moved ~= '' and moved == ARGV[5]
local refused = needs_ledger and not here and not elsewhere

local timeline, ledger = found[1] or EMPTY, found[4] or EMPTY
local added, recent, counting = {}, {}, {} -- what one of the two takes; by hash, what each does
local size, first = (#timeline - HEADER) / SIZE, FIRST -- what the timeline keeps begins there
-- The earliest moments that the timeline keeps: of what is stored, and of what is added.
local oldest_stored = size > 0 and unpack('<i8', timeline, first) or math.huge
local oldest_added = math.huge

local function earlier(a, b)
  if a.t ~= b.t then return a.t < b.t end
  return precedes(a.record, 1, b.record, 1)
end

local function first_added()
  local oldest
  for _, event in ipairs(added) do
    if event.kept and not (oldest and earlier(oldest, event)) then oldest = event end
  end
  return oldest
end

local function before_stored(event)
  return event.t < oldest_stored
    or event.t == oldest_stored and precedes(event.record, 1, timeline, first)
end

local function comes_first(event)
  if event.t > oldest_stored or event.t > oldest_added then return false end
  return before_stored(event) and (event.t < oldest_added or earlier(event, first_added()))
end

local function drop_first()
  size = size - 1
  local event = oldest_added <= oldest_stored and first_added()
  if event and before_stored(event) then
    event.kept = false
    event = first_added()
    oldest_added = event and event.t or math.huge
  else
    first = first + SIZE
    oldest_stored = first < #timeline and unpack('<i8', timeline, first) or math.huge
  end
end

-- The record with this hash, or nil: of the timeline, and of the ledger where that counts.
local function known(hash, counted)
  if recent[hash] and recent[hash].kept then return recent[hash].record end
  local at = place(timeline, hash, first)
  if at then return sub(timeline, at, at + SIZE - 1) end
  if not counted then return nil end
  if counting[hash] then return counting[hash].record end
  at = place(ledger, hash, FIRST)
  return at and sub(ledger, at, at + SIZE - 1)
end

-- Sorted as numbers, which takes a fraction of what a function to compare them does; few events are
-- of one moment. Moments end with the year 9999, so that the numbers are exact.
local function in_order()
  local keys, order = {}, {}
  for n, event in ipairs(added) do keys[n] = event.t * MOST + n - 1 end
  table.sort(keys)
  for n, key in ipairs(keys) do
    local event = added[key % MOST + 1]
    while n > 1 and earlier(event, order[n - 1]) do
      order[n] = order[n - 1]
      n = n - 1
    end
    order[n] = event
  end
  return order
end

-- All records of a set as one string, after a header: those stored from `from` on, and what it takes
-- of those added.
local function merged(id, stored, from, order, takes)
  local untouched, pieces, n = '', {}, 0
  for _, event in ipairs(order) do
    if event[takes] then
      local to = rank(stored, event.record, 1, from)
      if n == 0 then
        untouched = sub(stored, from, to - 1)
      elseif to > from then
        n = n + 1
        pieces[n] = sub(stored, from, to - 1)
      end
      n = n + 1
      pieces[n] = event.record
      from = to
    end
  end
  pieces[n + 1] = sub(stored, from)
  return header(id) .. untouched .. table.concat(pieces)
end

local statuses, last, last_of_ledger, ended = {}, '', '', {}

for i = 6, #ARGV, 4 do
  local record, counted, releases = ARGV[i], here and ARGV[i + 1] ~= '0', ARGV[i + 3]
  local t, hash, status = unpack('<i8', record), sub(record, 9, 16), 1
  local maybe = recent[hash] or find(timeline, hash, first + 8, true)
    or counted and (counting[hash] or find(ledger, hash, FIRST + 8, true))
  local same = maybe and known(hash, counted)
  if t <= erased then
    status = 5
  elseif same then
    status = same == record and 2 or 3
  else
    local event = {t = t, record = record, kept = true, counted = counted}
    if size >= limit and t <= oldest_stored and comes_first(event) then
      status, event.kept = 4, false
    else
      size = size + 1
      if t < oldest_added then oldest_added = t end
    end
    added[#added + 1] = event
    if event.kept then recent[hash] = event end
    if counted then counting[hash] = event end
    while status == 1 and size > limit do drop_first() end
    if elsewhere and status == 4 and ARGV[i + 1] == '2' then
      status = 2
    elseif not refused then
      last = redis.call('XADD', KEYS[3], '*', 'e', ARGV[i + 2])
      if event.counted then last_of_ledger = last end
      if here and releases ~= '' then
        local at = place(ledger, releases, FIRST)
        if at and byte(ledger, at + OUTCOME) == RESERVED then
          ended[releases] = true
          last_of_ledger = last
        end
      end
    end
  end
  statuses[(i - 2) / 4] = status
end

if refused then return {'', statuses, moved} end
if last ~= '' then
  local order = in_order()
  redis.call('SET', KEYS[1], merged(last, timeline, first, order, 'kept'), 'PX', ttl)
  if last_of_ledger ~= '' then
    local left = merged(last_of_ledger, ledger, FIRST, order, 'counted')
    left = settled(left, #ledger, milliseconds(last_of_ledger), horizon, keep, ended)
    redis.call('SET', KEYS[2], left, 'PX', ttl)
  end
end
return {last, statuses, ''}
