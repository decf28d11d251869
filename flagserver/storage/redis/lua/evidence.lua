-- Adds an entry to what a rollout is judged by, if the writer knows of all that are there. The same
-- entry twice is one: the answer to the first was lost.
--
-- KEYS  1 evidence  list: the head, then a look each
-- ARGV  1 how many entries the writer knows of  2 entry  3 seconds to keep them

local length = redis.call('LLEN', KEYS[1])
local known = tonumber(ARGV[1])
if length == known + 1 and redis.call('LINDEX', KEYS[1], -1) == ARGV[2] then return 1 end
if length ~= known then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
