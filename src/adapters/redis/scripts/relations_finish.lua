-- Ends a fill of relations.
-- KEYS: the relations. ARGV: token (8 bytes), the value, time to live in milliseconds.
-- Answer: 1 stored; 0 the token does not stand.
-- Cost: one write of the value.
local head = redis.call('GETRANGE', KEYS[1], 0, 31)
if #head ~= 32 or string.byte(head) ~= 1 or string.sub(head, 9, 16) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
