-- A page of a home timeline, filtered by the reader's relations.
-- KEYS: the list, the relations (one slot). ARGV: window (L latest, B before, A after), its bound (8
-- bytes), the most entries, time to live in milliseconds, renewed below this rest of it.
-- Answer: 1 no relations; 2 no list that is ready; else {floor, exhausted, entries, pulled authors}.
-- Cost: both values read, and a search in the visible authors for each entry that is looked at:
-- as many as the page has where nobody is hidden, 800 at most.
local relations = redis.call('GET', KEYS[2])
if not relations or string.sub(relations, 1, 2) ~= '\1\1' then
  return 1
end
local ring = open(KEYS[1])
if not ring or ring.state ~= READY then
  return 2
end
renew(KEYS[1], ARGV[4], ARGV[5])
renew(KEYS[2], ARGV[4], ARGV[5])
local visible = struct.unpack('>I4', relations, 5)
local pulled = struct.unpack('>I4', relations, 17)
local function sees(author)
  local ah, al = struct.unpack('>I4I4', author)
  local low, high = 0, visible
  while low < high do
    local middle = math.floor((low + high) / 2)
    local mh, ml = struct.unpack('>I4I4', relations, HEADER + middle * 8 + 1)
    if mh == ah and ml == al then
      return true
    end
    if above(ah, al, mh, ml) then low = middle + 1 else high = middle end
  end
  return false
end
local page = slice(ring, ARGV[1], ARGV[2], tonumber(ARGV[3]), sees)
local first = HEADER + visible * 8
page[4] = string.sub(relations, first + 1, first + pulled * 8)
return page
