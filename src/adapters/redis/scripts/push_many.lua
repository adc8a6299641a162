-- A follower's backfill: entries that are all that belongs into the list above an id.
-- KEYS: the list. ARGV: that id (8 bytes), the most entries, the entries (16 bytes each).
-- Answer: -1 the list reaches below that id, nothing was written; -2 there is no list; else
-- {new, repeated}.
-- Cost: the list read and written once, and a search for each entry.
local ring = open(KEYS[1])
if not ring then
  return -2
end
local ah, al = struct.unpack('>I4I4', ARGV[1])
if above(ah, al, ring.fh, ring.fl) then
  return -1
end
local limit, new, repeated = tonumber(ARGV[2]), 0, 0
load(ring)
for from = 1, #ARGV[3], ENTRY do
  if insert(ring, string.sub(ARGV[3], from, from + ENTRY - 1), limit) == 1 then
    new = new + 1
  else
    repeated = repeated + 1
  end
end
if ring.dirty then
  store(ring, limit, 'KEEPTTL')
end
return { new, repeated }
