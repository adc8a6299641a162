-- Ends the fill of a list: the entries are united with what was pushed meanwhile.
-- KEYS: the list. ARGV: token (8 bytes), floor (8 bytes), the most entries, time to live in
-- milliseconds, the entries (16 bytes each, oldest first).
-- Answer: 1 stored; 0 the token does not stand.
-- Cost: the list read and written once, and a search for each entry.
local ring = open(KEYS[1])
if not ring or ring.state ~= FILLING or ring.token ~= ARGV[1] then
  return 0
end
load(ring)
local fh, fl = struct.unpack('>I4I4', ARGV[2])
if above(fh, fl, ring.fh, ring.fl) then
  local kept = {}
  for _, entry in ipairs(ring.entries) do
    local th, tl = struct.unpack('>I4I4', entry)
    if above(th, tl, fh, fl) then
      kept[#kept + 1] = entry
    end
  end
  ring.entries, ring.fh, ring.fl = kept, fh, fl
end
local limit = tonumber(ARGV[3])
for from = 1, #ARGV[5], ENTRY do
  insert(ring, string.sub(ARGV[5], from, from + ENTRY - 1), limit)
end
ring.state = READY
store(ring, limit, 'PX', ARGV[4])
return 1
