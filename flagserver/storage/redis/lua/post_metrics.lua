-- Keeps numbers that were posted, in one environment's minute; the same again replaces.
--
-- KEYS  1 metrics   hash of one minute: <point> -> <numerator>:<denominator>
-- ARGV  1 seconds that it is kept  2 most points of the minute
--       3 and on: point, its numbers, ...
-- Returns how many found no room.

local seconds, most = ARGV[1], tonumber(ARGV[2])
local size, refused = redis.call('HLEN', KEYS[1]), 0

for i = 3, #ARGV, 2 do
  local known = redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1
  if known or size < most then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    if not known then size = size + 1 end
  else
    refused = refused + 1
  end
end
if size > 0 then redis.call('EXPIRE', KEYS[1], seconds) end
return refused
