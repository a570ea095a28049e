-- What the two scripts that reserve have in common.
-- As in journal.lua: a decision taken so shortly after may have read what was there before.
local ON_ITS_WAY = 10000 -- ms

-- Until when nothing is reserved of a customer who was forgotten; before all where they were not.
local function refused_until(tombstone)
  return tombstone and tonumber(tombstone) + ON_ITS_WAY or -1
end

-- Whether two records are part of one contact, which stands alone for none.
local function same_contact(record, records, at)
  return sub(record, 21, 24) == sub(records, at + 20, at + 23)
    and sub(record, 33, 34) == sub(records, at + 32, at + 33)
    and byte(record, 37) == byte(records, at + 36)
    and day(record, 1) == day(records, at)
end

-- Drop what the contact of a record holds for less long; nil where it holds the place for as long
-- already.
local function superseded(records, record)
  if sub(record, 21, 24) == ALONE then return records end
  local outcome_at = find(records, HELD, FIRST + OUTCOME, true)
  while outcome_at do
    local from = outcome_at + 1
    local at = outcome_at - OUTCOME
    if (at - FIRST) % SIZE == 0 and same_contact(record, records, at) then
      if held_until(records, at) >= held_until(record, 1) then return nil end
      records = sub(records, 1, at - 1) .. sub(records, at + SIZE)
      from = from - SIZE
    end
    outcome_at = find(records, HELD, from, true)
  end
  return records
end

local function inserted(records, record)
  local at = #records + 1
  while at > FIRST and precedes(record, 1, records, at - SIZE) do at = at - SIZE end
  if at > #records then return records .. record end
  return sub(records, 1, at - 1) .. record .. sub(records, at)
end
