-- Add the rows of one batch about one subject, unless they were added before.
--
-- KEYS[1] seen   hash  source -> highest seq that was added
-- KEYS[2…] ticks hashes of one minute each, field -> count; a field is
--          <at>|<variant>|<what>, what being a (assignments), r (requests), f (failures),
--          s (latency sum, microseconds), l<bucket>, t<metric> (total), x<metric> (failed)
-- ARGV[1] source  ARGV[2] seq  ARGV[3] seconds to keep  ARGV[4…] key number, field, count, …
--
-- Returns 1, or 0 when (source, seq) was here before.

local seen = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '-1')
if tonumber(ARGV[2]) <= seen then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
for i = 4, #ARGV, 3 do
  redis.call('HINCRBY', KEYS[1 + tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2])
end
for i = 2, #KEYS do
  redis.call('EXPIRE', KEYS[i], ARGV[3])
end
return 1
