-- Goes before each script that touches a list; answers nothing itself. A list is the bytes of
-- src/domain/ring.rs: a header of 32 bytes and a ring of 16-byte entries (tweet, author).
-- Numbers are compared by their halves: the order of strings follows the server's locale, and a
-- number of Lua is exact only up to 2^53.
local HEADER, ENTRY, FILLING, READY = 32, 16, 1, 2

local function above(ah, al, bh, bl)
  return ah > bh or (ah == bh and al > bl)
end

-- The header; nil if there is no list, or none of this version. Cost: 32 bytes read.
local function open(key)
  local head = redis.call('GETRANGE', key, 0, HEADER - 1)
  if #head ~= HEADER or string.byte(head) ~= 1 then
    return nil
  end
  local ring = { key = key, token = string.sub(head, 9, 16) }
  ring.state, ring.start, ring.len, ring.cap = struct.unpack('>BHHH', head, 2)
  ring.fh, ring.fl, ring.nh, ring.nl = struct.unpack('>I4I4I4I4', head, 17)
  return ring
end

local function header(ring)
  return struct.pack('>BBHHH', 1, ring.state, ring.start, ring.len, ring.cap)
    .. ring.token
    .. struct.pack('>I4I4I4I4', ring.fh, ring.fl, ring.nh, ring.nl)
end

-- The bytes of `count` entries from the `i`th on, which is 0 for the oldest. Cost: what is read.
local function read(ring, i, count)
  local from = (ring.start + i) % ring.cap
  local before_end = math.min(count, ring.cap - from)
  local first = HEADER + from * ENTRY
  local bytes = redis.call('GETRANGE', ring.key, first, first + before_end * ENTRY - 1)
  if before_end == count then
    return bytes
  end
  local rest = HEADER + (count - before_end) * ENTRY
  return bytes .. redis.call('GETRANGE', ring.key, HEADER, rest - 1)
end

-- Puts the bytes of entries at the `i`th and those after it. Cost: what is written.
local function write(ring, i, bytes)
  local from = (ring.start + i) % ring.cap
  local before_end = (ring.cap - from) * ENTRY
  redis.call('SETRANGE', ring.key, HEADER + from * ENTRY, string.sub(bytes, 1, before_end))
  if #bytes > before_end then
    redis.call('SETRANGE', ring.key, HEADER, string.sub(bytes, before_end + 1))
  end
end

-- Takes the entries into a table, oldest first. Cost: the whole list, 12.8 kB at most.
local function load(ring)
  local bytes = redis.call('GET', ring.key)
  local entries = {}
  for i = 0, ring.len - 1 do
    local from = HEADER + (ring.start + i) % ring.cap * ENTRY
    entries[i + 1] = string.sub(bytes, from + 1, from + ENTRY)
  end
  ring.entries = entries
end

-- Puts one entry where it belongs: 1 if it is new, 2 if it was there or is not above the floor.
local function insert(ring, entry, limit)
  local entries = ring.entries
  local th, tl = struct.unpack('>I4I4', entry)
  if not above(th, tl, ring.fh, ring.fl) then
    return 2
  end
  local low, high = 1, #entries + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local mh, ml = struct.unpack('>I4I4', entries[middle])
    if above(th, tl, mh, ml) then low = middle + 1 else high = middle end
  end
  if entries[low] and string.sub(entries[low], 1, 8) == string.sub(entry, 1, 8) then
    return 2
  end
  ring.dirty = true
  if #entries >= limit then
    if low == 1 then
      ring.fh, ring.fl = th, tl
      return 2
    end
    ring.fh, ring.fl = struct.unpack('>I4I4', entries[1])
    table.remove(entries, 1)
    low = low - 1
  end
  table.insert(entries, low, entry)
  return 1
end

-- Writes the entries back. Cost: the whole list.
local function store(ring, limit, ...)
  local entries = ring.entries
  while ring.cap < #entries do
    ring.cap = math.min(ring.cap * 2, limit)
  end
  ring.start, ring.len, ring.nh, ring.nl = 0, #entries, 0, 0
  if #entries > 0 then
    ring.nh, ring.nl = struct.unpack('>I4I4', entries[#entries])
  end
  local free = string.rep('\0', (ring.cap - #entries) * ENTRY)
  redis.call('SET', ring.key, header(ring) .. table.concat(entries) .. free, ...)
end

-- Entries inside a window that `keep` accepts (given the author), newest first, at most `limit`.
-- Gives {floor, whether nothing more is held in that direction, entries}.
local function slice(ring, kind, bound, limit, keep)
  local bytes = redis.call('GET', ring.key)
  local function at(i)
    return HEADER + (ring.start + i) % ring.cap * ENTRY + 1
  end
  local low, high = 0, ring.len
  if kind ~= 'L' then
    local bh, bl = struct.unpack('>I4I4', bound)
    while low < high do
      local middle = math.floor((low + high) / 2)
      local mh, ml = struct.unpack('>I4I4', bytes, at(middle))
      local below = above(bh, bl, mh, ml) or (kind == 'A' and mh == bh and ml == bl)
      if below then low = middle + 1 else high = middle end
    end
  end
  local from, to, step = high - 1, 0, -1
  if kind == 'A' then
    from, to, step = low, ring.len - 1, 1
  end
  local found, exhausted = {}, 1
  for i = from, to, step do
    local place = at(i)
    if keep(string.sub(bytes, place + 8, place + 15)) then
      if #found == limit then
        exhausted = 0
        break
      end
      found[#found + 1] = string.sub(bytes, place, place + ENTRY - 1)
    end
  end
  if kind == 'A' then
    for i = 1, math.floor(#found / 2) do
      found[i], found[#found - i + 1] = found[#found - i + 1], found[i]
    end
  end
  return { struct.pack('>I4I4', ring.fh, ring.fl), exhausted, table.concat(found) }
end

-- A read keeps a key, but a write for each would go to the replicas: only once in a while.
local function renew(key, ttl, renewed_below)
  if redis.call('PTTL', key) < tonumber(renewed_below) then
    redis.call('PEXPIRE', key, ttl)
  end
end
