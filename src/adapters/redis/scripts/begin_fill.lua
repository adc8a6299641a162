-- Begins the fill of a list; one that runs is taken over, and keeps what was pushed meanwhile.
-- KEYS: the list. ARGV: token (8 bytes), capacity of a new list, lease in milliseconds.
-- Answer: 1 begun; 0 the list is ready.
-- Cost: one write of 1 kB.
local ring = open(KEYS[1])
if not ring then
  ring = { state = FILLING, start = 0, len = 0, cap = tonumber(ARGV[2]), token = ARGV[1] }
  ring.fh, ring.fl, ring.nh, ring.nl = 0, 0, 0, 0
  local free = string.rep('\0', ring.cap * ENTRY)
  redis.call('SET', KEYS[1], header(ring) .. free, 'PX', ARGV[3])
  return 1
end
if ring.state == READY then
  return 0
end
redis.call('SETRANGE', KEYS[1], 8, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
