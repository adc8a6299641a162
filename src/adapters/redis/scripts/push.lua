-- One entry into a list that may exist.
-- KEYS: the list. ARGV: the entry (16 bytes), the most entries.
-- Answer: 0 there is no list; 1 it is new; 2 it was there, or the list does not reach down to it.
-- Cost: two writes in place for the newest entry. One that comes late, which after a pause of the
-- workers most do, costs 1 kB read and what is newer written again. The list is read and written whole
-- when it grows, and for an entry that is not among the newest.
local LATE = 64
local ring = open(KEYS[1])
if not ring then
  return 0
end
local entry, limit = ARGV[1], tonumber(ARGV[2])
local th, tl = struct.unpack('>I4I4', entry)
if not above(th, tl, ring.fh, ring.fl) then
  return 2
end
local full, whole = ring.len == ring.cap, false
local newer = ''
if not above(th, tl, ring.nh, ring.nl) then
  local count = math.min(ring.len, LATE)
  local newest = read(ring, ring.len - count, count)
  local low, high = 0, count
  while low < high do
    local middle = math.floor((low + high) / 2)
    local mh, ml = struct.unpack('>I4I4', newest, middle * ENTRY + 1)
    if above(th, tl, mh, ml) then low = middle + 1 else high = middle end
  end
  newer = string.sub(newest, low * ENTRY + 1)
  if string.sub(newer, 1, 8) == string.sub(entry, 1, 8) then
    return 2
  end
  whole = low == 0
end
if whole or (full and ring.cap < limit) then
  load(ring)
  local pushed = insert(ring, entry, limit)
  if ring.dirty then
    store(ring, limit, 'KEEPTTL')
  end
  return pushed
end
if full then
  ring.fh, ring.fl = struct.unpack('>I4I4', read(ring, 0, 1))
  ring.start, ring.len = (ring.start + 1) % ring.cap, ring.len - 1
end
write(ring, ring.len - #newer / ENTRY, entry .. newer)
ring.len = ring.len + 1
if newer == '' then
  ring.nh, ring.nl = th, tl
end
redis.call('SETRANGE', ring.key, 0, header(ring))
return 1
