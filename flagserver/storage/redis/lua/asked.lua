-- Keeps on which day each flag of an environment was last asked for, and since when that is noted. Of
-- two days the later stays.
--
-- KEYS  1 hash: flag -> day (2026-11-28); "" -> the first day that was noted
-- ARGV  flag, day, flag, day, ...

redis.call('HSETNX', KEYS[1], '', ARGV[2])
for i = 1, #ARGV, 2 do
  local kept = redis.call('HGET', KEYS[1], ARGV[i])
  if not kept or kept < ARGV[i + 1] then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return 1
