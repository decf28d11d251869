-- Take a lease, or renew it.
--
-- KEYS[1] lease  string  <holder>|<token>, with an expiry
-- KEYS[2] meta   hash    token:<name> -> highest fencing token that was handed out
-- ARGV[1] name  ARGV[2] holder  ARGV[3] milliseconds
--
-- Returns the fencing token, or 0: somebody else holds it. A new token is also at least the
-- store's own time, so that a failover that lost the highest one cannot hand it out again.

local held = redis.call('GET', KEYS[1])
if held then
  local holder, token = string.match(held, '^(.*)|(%d+)$')
  if holder ~= ARGV[2] then
    return '0'
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return token
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local last = tonumber(redis.call('HGET', KEYS[2], 'token:' .. ARGV[1]) or '0')
local token = string.format('%.0f', math.max(last + 1, now))
redis.call('HSET', KEYS[2], 'token:' .. ARGV[1], token)
redis.call('SET', KEYS[1], ARGV[2] .. '|' .. token, 'PX', ARGV[3])
return token
