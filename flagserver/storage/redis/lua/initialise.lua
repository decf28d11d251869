-- Give an empty store its identity; leave one that has it as it is.
--
-- KEYS[1] meta  hash  store, epoch, seq, head
-- ARGV[1] store id   ARGV[2] the chain's value before the first entry, in hex
--
-- Returns {store, epoch} as they are now.

if redis.call('HEXISTS', KEYS[1], 'store') == 0 then
  redis.call('HSET', KEYS[1], 'store', ARGV[1], 'epoch', 1, 'seq', 0, 'head', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'store', 'epoch')
