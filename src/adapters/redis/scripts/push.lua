-- One entry into a list that may exist.
-- KEYS: the list. ARGV: the entry (16 bytes), the most entries.
-- Answer: 0 there is no list; 1 it is new; 2 it was there, or the list does not reach down to it.
-- Cost: two writes in place for the newest entry; the list is written anew when it grows, or when
-- the entry is not the newest.
local ring = open(KEYS[1])
if not ring then
  return 0
end
local limit = tonumber(ARGV[2])
local th, tl = struct.unpack('>I4I4', ARGV[1])
if not above(th, tl, ring.fh, ring.fl) then
  return 2
end
local full = ring.len == ring.cap
if not above(th, tl, ring.nh, ring.nl) or (full and ring.cap < limit) then
  load(ring)
  local pushed = insert(ring, ARGV[1], limit)
  if ring.dirty then
    store(ring, limit, 'KEEPTTL')
  end
  return pushed
end
if full then
  local oldest = HEADER + ring.start * ENTRY
  ring.fh, ring.fl = struct.unpack('>I4I4', redis.call('GETRANGE', ring.key, oldest, oldest + 7))
  ring.start, ring.len = (ring.start + 1) % ring.cap, ring.len - 1
end
local place = HEADER + (ring.start + ring.len) % ring.cap * ENTRY
ring.len, ring.nh, ring.nl = ring.len + 1, th, tl
redis.call('SETRANGE', ring.key, place, ARGV[1])
redis.call('SETRANGE', ring.key, 0, header(ring))
return 1
