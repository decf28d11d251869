-- Copies a part of the record without the bodies that are to go; the last part puts the copy in the
-- record's place. An entry of a stream cannot be changed, and what is deleted in one still lies in
-- its memory and its dumps: so it is written anew. The index forgets what such entries were about.
--
-- The caller comes with part after part. The same part twice is copied once.
--
-- KEYS  1 record  stream: <seq>-0 -> entry (a pruned one has none), leaf, chain
--       2 copy    stream: the same, as far as it was copied
--       3 rewrite string: there while the store's log on disk must be written anew
--       4 targets sorted set, all of one score: <target>\n<seq, 16 digits>
-- ARGV  1 the last entry that was copied  2 how many at most  3 and on: first, last of what is to go
--
-- Returns {"more", the last entry that is copied now}
--         {"elsewhere", the same}  the copy is not where the caller thinks: another one made it
--         {"done", 0}              the copy is the record now

local previous, count = tonumber(ARGV[1]), tonumber(ARGV[2])

local function number(id) return tonumber(string.match(id, '^(%d+)-')) end

local function goes(seq)
  for i = 3, #ARGV, 2 do
    if seq >= tonumber(ARGV[i]) and seq <= tonumber(ARGV[i + 1]) then return true end
  end
  return false
end

local function forget(seq, entry)
  local target = cjson.decode(entry)['target']
  redis.call('ZREM', KEYS[4], target .. '\n' .. string.format('%016.0f', seq))
end

local function without_body(seq, fields)
  local kept = {}
  for i = 1, #fields, 2 do
    if fields[i] == 'entry' then
      forget(seq, fields[i + 1])
    else
      kept[#kept + 1] = fields[i]
      kept[#kept + 1] = fields[i + 1]
    end
  end
  return kept
end

local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local at = newest and number(newest[1]) or 0
if at ~= previous then return {'elsewhere', string.format('%.0f', at)} end

local start = string.format('%.0f-0', previous + 1)
local found = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', count)
for _, each in ipairs(found) do
  at = number(each[1])
  local fields = goes(at) and without_body(at, each[2]) or each[2]
  redis.call('XADD', KEYS[2], each[1], unpack(fields))
end
if #found == count then return {'more', string.format('%.0f', at)} end
redis.call('RENAME', KEYS[2], KEYS[1])
redis.call('SET', KEYS[3], 'owed')
return {'done', '0'}
