-- Finding a place among the records of a ledger.
-- Whether one record comes before another: by moment, sequence and hash.
local function precedes(a, at, b, by)
  local t, low, high, sequence = unpack('<i8I4I4I2', a, at)
  local t2, low2, high2, sequence2 = unpack('<i8I4I4I2', b, by)
  if t ~= t2 then return t < t2 end
  if sequence ~= sequence2 then return sequence < sequence2 end
  if high ~= high2 then return high < high2 end
  return low < low2
end

-- Where a string of records holds a hash, the first of them at `first`; nil where it does not.
local function place(records, hash, first)
  local from = first + 8
  while true do
    local at = find(records, hash, from, true)
    if not at or (at - first) % SIZE == 8 then return at and at - 8 end
    from = at + 1
  end
end

-- Where the first of those records begins, from `low` on, that comes after record `at` of `a`: looked
-- for in steps that double, since one that is late is seldom far behind the late one before it.
local function rank(records, a, at, low)
  local t, stop, high, step = unpack('<i8', a, at), #records + 1, low, SIZE
  while high < stop do
    local t2 = unpack('<i8', records, high)
    if t < t2 or t == t2 and precedes(a, at, records, high) then break end
    low, high, step = high + SIZE, high + step, 2 * step
  end
  if high > stop then high = stop end
  while low < high do
    local middle = low + floor((high - low) / SIZE / 2) * SIZE
    local t2 = unpack('<i8', records, middle)
    if t < t2 or t == t2 and precedes(a, at, records, middle) then
      high = middle
    else
      low = middle + SIZE
    end
  end
  return low
end
