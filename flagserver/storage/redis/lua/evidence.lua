-- Adds an entry to what a rollout is judged by, if the writer knows of all that are there, and keeps
-- how it left the rollout. The same entry twice is one: the answer to the first was lost.
--
-- KEYS  1 evidence  list: the head, then a look each  2 standing  string, JSON
-- ARGV  1 how many entries the writer knows of  2 entry  3 seconds to keep them  4 standing, or ''

local length = redis.call('LLEN', KEYS[1])
local known = tonumber(ARGV[1])
if length == known + 1 and redis.call('LINDEX', KEYS[1], -1) == ARGV[2] then return 1 end
if length ~= known then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
if ARGV[4] ~= '' then redis.call('SET', KEYS[2], ARGV[4], 'EX', ARGV[3]) end
return 1
