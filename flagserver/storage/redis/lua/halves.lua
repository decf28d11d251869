-- Keeps what one window said of how two halves of a service scatter. What is there stays, but what
-- says nothing gives way to what says something: it was told too early.
--
-- KEYS  1 halves  hash of one day: end of the window -> what it said
-- ARGV  1 end of the window  2 what it said  3 seconds to keep the day  4 most windows of it
--       5 '1' if it says something
-- Returns 1 when it is there now, 0 when the day is full.

local there = redis.call('HGET', KEYS[1], ARGV[1])
if there and not (ARGV[5] == '1' and string.sub(there, 1, 7) == '{"why":') then return 1 end
if not there and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
