-- Keeps when things were last used. Of two times the later stays, whoever comes last.
--
-- KEYS  1 hash: id -> RFC 3339, all of one form, so that they compare as text
-- ARGV  id, time, id, time, …

for i = 1, #ARGV, 2 do
  local kept = redis.call('HGET', KEYS[1], ARGV[i])
  if not kept or kept < ARGV[i + 1] then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return 1
