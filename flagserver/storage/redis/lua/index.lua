-- Puts a further part of the record into the index of what entries are about: of a store that was
-- written to by a process that knew no index. Goes back from where the index begins.
--
-- KEYS  1 meta     hash: seq; indexed_from, indexed_to: entries that the index has, both included
--       2 record   stream: <seq>-0 -> entry (a pruned one has none), leaf, chain
--       3 targets  sorted set, all of one score: <target>\n<seq, 16 digits>
-- ARGV  1 how many entries at most
-- Returns the first entry that the index has now; 1: it has all.

local seq, from, to = unpack(redis.call('HMGET', KEYS[1], 'seq', 'indexed_from', 'indexed_to'))
if not seq then return '1' end
if to ~= seq then
  from = string.format('%.0f', tonumber(seq) + 1)
  redis.call('HSET', KEYS[1], 'indexed_to', seq)
end
local count = tonumber(ARGV[1])
local found = redis.call('XREVRANGE', KEYS[2], '(' .. from .. '-0', '-', 'COUNT', count)
for _, each in ipairs(found) do
  local number = string.match(each[1], '^(%d+)-')
  for i = 1, #each[2], 2 do
    if each[2][i] == 'entry' then
      local target = cjson.decode(each[2][i + 1])['target']
      redis.call('ZADD', KEYS[3], 0, target .. '\n' .. string.rep('0', 16 - #number) .. number)
    end
  end
  from = number
end
if #found < count then from = '1' end
redis.call('HSET', KEYS[1], 'indexed_from', from)
return from
