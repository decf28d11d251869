-- Notes who reported a batch, last of all that belongs to it, and forgets who fell silent.
--
-- KEYS  1 sources  hash: source -> <highest seq>:<mask>:<owner of the highest> <json>
--       2 seen     sorted set: source by the unix second of its last report
-- ARGV  1 source  2 seq  3 about, JSON  4 now  5 oldest second kept  6 most sources  7 seconds kept
--       8 owner: hexadecimal or empty; the owner of the highest batch is told again that it is new
-- Returns 0 when the batch was here before, else 1. For the mask see take_in.lua.

local WINDOW = 48
local SWEEP = 100

local source, seq = ARGV[1], tonumber(ARGV[2])
local kept = redis.call('HGET', KEYS[1], source)
local highest, mask, owner = -1, 0, ''
if kept then
  local high, low, by = string.match(kept, '^(%d+):(%d+):?(%x*) ')
  highest, mask, owner = tonumber(high), tonumber(low), by
end

local new = 1
if seq > highest then
  local gap = highest < 0 and WINDOW or seq - highest
  mask = gap < WINDOW and (mask * 2 ^ gap) % 2 ^ WINDOW or 0
  highest, mask, owner = seq, mask + 1, ARGV[8]
elseif seq < highest or owner == '' or owner ~= ARGV[8] then
  local bit = highest - seq
  if bit >= WINDOW or math.floor(mask / 2 ^ bit) % 2 == 1 then
    new = 0
  else
    mask = mask + 2 ^ bit
  end
end

redis.call('HSET', KEYS[1], source, string.format('%.0f:%.0f:%s ', highest, mask, owner) .. ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], source)

local function forget(sources)
  for _, each in ipairs(sources) do
    redis.call('HDEL', KEYS[1], each)
    redis.call('ZREM', KEYS[2], each)
  end
end

forget(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[5], 'LIMIT', 0, SWEEP))
local surplus = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[6])
if surplus > 0 then
  forget(redis.call('ZRANGE', KEYS[2], 0, math.min(surplus, SWEEP) - 1))
end
redis.call('EXPIRE', KEYS[1], ARGV[7])
redis.call('EXPIRE', KEYS[2], ARGV[7])
return new
