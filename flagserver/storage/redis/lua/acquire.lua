-- Gives a role to a holder for a while: if nobody has it, or to whoever has it already.
--
-- KEYS  1 lease   hash with an end: holder, token
--       2 fences  hash: name -> the last token given for it; outlives the leases
-- ARGV  1 name  2 holder  3 milliseconds
-- Returns the token, as text, or nil when somebody else has the role.
--
-- A new holder's token is greater than every token before: the store's clock keeps it rising when
-- what was stored is lost, what was stored keeps it rising when the clock is set back.

local held = redis.call('HMGET', KEYS[1], 'holder', 'token')
local token = held[2]
if held[1] and held[1] ~= ARGV[2] then return false end
if not token then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local last = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
  token = string.format('%.0f', math.max(last + 1, now))
  redis.call('HSET', KEYS[2], ARGV[1], token)
  redis.call('HSET', KEYS[1], 'holder', ARGV[2], 'token', token)
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return token
