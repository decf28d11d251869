-- Moves a notifier's place in the outbox forward, never back: of two that deliver, or after a retry,
-- the one that is further counts.
--
-- KEYS  1 delivered  hash: notifier -> position in the outbox, <milliseconds>-<number>
-- ARGV  1 notifier  2 position
--
-- Returns the notifier's place now.

local function parts(position)
  local high, low = string.match(position, '^(%d+)-(%d+)$')
  return tonumber(high), tonumber(low)
end

local place = redis.call('HGET', KEYS[1], ARGV[1])
if place then
  local high, low = parts(ARGV[2])
  local kept_high, kept_low = parts(place)
  if high < kept_high or (high == kept_high and low <= kept_low) then return place end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return ARGV[2]
