-- Begins a fill of relations; one that runs is overruled, and a value that is there stays readable.
-- KEYS: the relations. ARGV: token (8 bytes), lease in milliseconds, a header without a value.
-- Answer: 1.
-- Cost: one write of 8 or 32 bytes.
local head = redis.call('GETRANGE', KEYS[1], 0, 31)
if #head ~= 32 or string.byte(head) ~= 1 then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
elseif string.byte(head, 2) == 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
redis.call('SETRANGE', KEYS[1], 8, ARGV[1])
return 1
