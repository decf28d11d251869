-- Notes that a service has A/A history, unless as many others have some.
--
-- KEYS  1 known  sorted set: service by the unix second at which its newest window ended
-- ARGV  1 service  2 end of the window  3 seconds that history is kept  4 most services
--       5 '1' to note it all the same
-- Returns 1 when it is noted, 0 when there are too many.

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', tonumber(ARGV[2]) - tonumber(ARGV[3]))
local before = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0')
local full = redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4])
if before == 0 and full and ARGV[5] ~= '1' then return 0 end
redis.call('ZADD', KEYS[1], math.max(before, tonumber(ARGV[2])), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
