-- Gives a role up, if it is still held under this token.
--
-- KEYS  1 lease  hash: holder, token
-- ARGV  1 holder  2 token
-- Returns 1 if it was held, else 0.

local held = redis.call('HMGET', KEYS[1], 'holder', 'token')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return 0 end
return redis.call('DEL', KEYS[1])
