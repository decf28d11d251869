-- Adds a look at a rollout to the others; the oldest go, and all some time after the last. The same
-- look twice is one: the answer to the first was lost.
--
-- KEYS  1 looks  stream: look, JSON
-- ARGV  1 look  2 length, about  3 seconds to keep them

local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest and newest[2][2] == ARGV[1] then return 0 end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'look', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
