-- Keeps what one window said of how two halves of a service scatter; what is there stays.
--
-- KEYS  1 halves  hash of one day: end of the window -> what it said
-- ARGV  1 end of the window  2 what it said  3 seconds to keep the day  4 most windows of it
-- Returns 1 when it is there now, 0 when the day is full.

local size = redis.call('HLEN', KEYS[1])
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 1 end
if size >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
