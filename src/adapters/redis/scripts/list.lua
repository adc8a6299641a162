-- A part of a list, whole.
-- KEYS: the list. ARGV: window (L latest, B before, A after), its bound (8 bytes), the most entries,
-- time to live in milliseconds, renewed below this rest of it.
-- Answer: nil if no list is ready; else {floor, exhausted, entries}.
-- Cost: the list read once.
local ring = open(KEYS[1])
if not ring or ring.state ~= READY then
  return false
end
renew(KEYS[1], ARGV[4], ARGV[5])
local function all()
  return true
end
return slice(ring, ARGV[1], ARGV[2], tonumber(ARGV[3]), all)
