-- Gives an empty store its identity and an empty record; leaves one that has an identity alone.
--
-- KEYS  1 meta  hash: store, epoch, seq, head
-- ARGV  1 store id  2 chain value before the first entry, hex
-- Returns {store, epoch, seq, head} as they are now.

if redis.call('HSETNX', KEYS[1], 'store', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], 'epoch', '1', 'seq', '0', 'head', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'store', 'epoch', 'seq', 'head')
