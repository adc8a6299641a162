-- Counts one call by the generic cell rate algorithm, on this server's clock. The key holds the time
-- (microseconds) at which the full burst is there again, and lives until then.
-- KEYS: the limit of one caller. ARGV: microseconds between two calls, the burst.
-- Answer: {1 if allowed, calls left, microseconds until one more, microseconds until all}.
-- Cost: one read, and one write if allowed.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local interval = tonumber(ARGV[1])
local window = interval * tonumber(ARGV[2])
-- A clock that jumped or a shorter limit must not lock a caller out for longer than the window.
local full_at = tonumber(redis.call('GET', KEYS[1]) or now) or now
full_at = math.min(math.max(full_at, now), now + window)
local allowed = full_at + interval - now <= window
if allowed then
  full_at = full_at + interval
  local left = math.ceil((full_at - now) / 1000)
  redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', left)
end
local room = window - (full_at - now)
local wait = math.max(interval - room, 0)
return { allowed and 1 or 0, math.floor(room / interval), wait, full_at - now }
