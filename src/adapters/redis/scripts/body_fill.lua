-- Ends the fill of a body.
-- KEYS: the body. ARGV: what a fill under the token left there, the value, time to live in
-- milliseconds.
-- Answer: 1 stored; 0 the token does not stand.
-- Cost: one write of the value.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
