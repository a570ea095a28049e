-- Merge a customer into another, first half: from now on nothing is written to their ledger.
--
-- KEYS  ledger, log, moved, members, lock: one hash slot, that of the one who is merged
-- ARGV  whom they are merged into, log entry, token of the lock
-- Gives {whom they are merged into, ledger or "", members or ""}; the first is "" where the lock is
-- not ours any more. Of a customer who is fenced already it changes nothing, and needs no lock.
local into = redis.call('GET', KEYS[3])
if not into then
  if redis.call('GET', KEYS[5]) ~= ARGV[3] then return {'', '', ''} end
  into = ARGV[1]
  redis.call('SET', KEYS[3], into)
  redis.call('XADD', KEYS[2], '*', 'e', ARGV[2])
end
return {into, redis.call('GET', KEYS[1]) or '', redis.call('GET', KEYS[4]) or ''}
