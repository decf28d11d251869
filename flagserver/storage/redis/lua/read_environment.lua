-- Read an environment as of one version.
--
-- KEYS[1] meta      hash  store, epoch, seq, head
-- KEYS[2] versions  hash  environment -> snapshot version
-- KEYS[3] flags     hash  key -> <revision>|<JSON>
-- KEYS[4] states    hash  key -> <revision>|<JSON>, of this environment
-- ARGV[1] environment   ARGV[2…] keys of the flags to read; none: all
--
-- Returns {store, epoch, version, {key, flag, …}, {key, state, …}}.

local function read(key)
  if #ARGV == 1 then
    return redis.call('HGETALL', key)
  end
  local found = {}
  for i = 2, #ARGV do
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
return { meta[1], meta[2], version, read(KEYS[3]), read(KEYS[4]) }
