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

-- Where a string of records holds a hash, or nil.
local function place(records, hash)
  local from = 9
  while true do
    local at = find(records, hash, from, true)
    if not at or at % SIZE == 9 then return at and at - 8 end
    from = at + 1
  end
end
