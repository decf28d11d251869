-- Reads an environment as of one version: its flags and their states there, and which previews of it
-- are revoked.
--
-- KEYS  1 meta      hash: store, epoch
--       2 versions  hash: environment -> snapshot version
--       3 flags     hash: flag -> <revision>|<json>
--       4 states    hash: flag -> <revision>|<json>
--       5 revoked   hash: environment -> <revision>|<json>
-- ARGV  1 environment  2 "all" or "some"  3 and on: the flags wanted of "some"
-- Returns {store, epoch, version, {flag, value, ...}, {flag, value, ...}, revoked}; store is nil
-- when the store is empty, revoked is when there never was one.

local function contents(key)
  if ARGV[2] == 'all' then return redis.call('HGETALL', key) end
  local found = {}
  for i = 3, #ARGV do
    local value = redis.call('HGET', key, ARGV[i])
    if value then
      found[#found + 1] = ARGV[i]
      found[#found + 1] = value
    end
  end
  return found
end

local meta = redis.call('HMGET', KEYS[1], 'store', 'epoch')
local version = redis.call('HGET', KEYS[2], ARGV[1]) or '0'
local revoked = redis.call('HGET', KEYS[5], ARGV[1])
return {meta[1], meta[2], version, contents(KEYS[3]), contents(KEYS[4]), revoked}
