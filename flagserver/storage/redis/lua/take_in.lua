-- Adds one subject's rows of one batch to its counts, once.
--
-- KEYS  1 taken         hash of this period: source -> <highest seq>:<mask>
--       2 taken before  the same of the period before; only read
--       3 and on        hash of one minute, or of one hour's points: field -> number
-- ARGV  1 source  2 seq  3 seconds that batches are remembered  4 most fields of a hash
--       5 and on: number of the hash's key, seconds that it is kept, how many fields, then field,
--       increment, ...
-- Returns 0 when the batch was here before, else 1, and 2 when a full hash took no more.
--
-- The mask's bit n is set when the batch `highest - n` was taken in; 48 fit in a number of Lua.
-- A batch further behind than that is taken for one that was here.

local WINDOW = 48

local source, seq, seconds, most = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local kept = redis.call('HGET', KEYS[1], source) or redis.call('HGET', KEYS[2], source)
local highest, mask = -1, 0
if kept then
  local high, low = string.match(kept, '^(%d+):(%d+)$')
  highest, mask = tonumber(high), tonumber(low)
end

if seq > highest then
  local gap = highest < 0 and WINDOW or seq - highest
  mask = gap < WINDOW and (mask * 2 ^ gap) % 2 ^ WINDOW or 0
  highest, mask = seq, mask + 1
else
  local bit = highest - seq
  if bit >= WINDOW or math.floor(mask / 2 ^ bit) % 2 == 1 then return 0 end
  mask = mask + 2 ^ bit
end

redis.call('HSET', KEYS[1], source, string.format('%.0f:%.0f', highest, mask))
redis.call('EXPIRE', KEYS[1], seconds)

local result = 1
local position = 5
while position <= #ARGV do
  local key, kept_for = KEYS[tonumber(ARGV[position])], ARGV[position + 1]
  local count = tonumber(ARGV[position + 2])
  if redis.call('HLEN', key) + count > most then
    result = 2
  else
    for i = position + 3, position + 2 + 2 * count, 2 do
      redis.call('HINCRBY', key, ARGV[i], ARGV[i + 1])
    end
    redis.call('EXPIRE', key, kept_for)
  end
  position = position + 3 + 2 * count
end
return result
