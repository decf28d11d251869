-- Carry out one change: all of it, or nothing.
--
-- KEYS[1] meta         hash    store, epoch, seq, head
-- KEYS[2] versions     hash    environment -> snapshot version
-- KEYS[3] claims       hash    what must be unique -> who has it
-- KEYS[4] record       stream  entries of the record, id <seq>-0
-- KEYS[5] feed         stream  events
-- KEYS[6] idempotency  string  fingerprint of the request that this key was used for
-- KEYS[7…] collections hashes  key -> <revision>|<JSON>
--
-- ARGV[1]  the plan, as JSON: store, epoch, seq, head, entry, leaf, chain, writes, claims,
--          at_versions, environments, flags, documents, fingerprint, keep_seconds, feed_length.
--          Documents travel in it as text and are never decoded here.
--
-- Returns {"ok", seq, {environment, version, …}} or what stands against it:
--   {"repeated", seq}  {"idempotency"}  {"store"}  {"moved", environment}
--   {"claimed", name}  {"exists", collection, key}  {"missing", …}  {"stale", …, revision}
--   {"head", seq, head}   somebody else appended: hash again and come back

local plan = cjson.decode(ARGV[1])
local meta = redis.call('HMGET', KEYS[1], 'store', 'epoch', 'seq', 'head')

if meta[1] ~= plan.store or tonumber(meta[2]) ~= plan.epoch then
  return {'store'}
end

if plan.fingerprint ~= '' then
  local used = redis.call('GET', KEYS[6])
  if used then
    local seq, fingerprint = string.match(used, '^(%d+)|(.*)$')
    if fingerprint ~= plan.fingerprint then
      return {'idempotency'}
    end
    return {'repeated', tonumber(seq)}
  end
end

for environment, version in pairs(plan.at_versions) do
  if tonumber(redis.call('HGET', KEYS[2], environment) or '0') ~= version then
    return {'moved', environment}
  end
end

for name, owner in pairs(plan.claims) do
  local has = redis.call('HGET', KEYS[3], name)
  if has and has ~= owner then
    return {'claimed', name}
  end
end

for _, write in ipairs(plan.writes) do
  local held = redis.call('HGET', KEYS[6 + write.collection], write.key)
  local revision = 0
  if held then
    revision = tonumber(string.match(held, '^(%d+)|'))
  end
  if revision ~= write.expected then
    if write.expected == 0 then
      return {'exists', write.collection, write.key, revision}
    end
    return {'stale', write.collection, write.key, revision}
  end
end

local seq = tonumber(meta[3])
if seq + 1 ~= plan.seq or meta[4] ~= plan.head then
  return {'head', seq, meta[4]}
end

-- Nothing above has written anything; nothing below refuses.

for _, write in ipairs(plan.writes) do
  redis.call('HSET', KEYS[6 + write.collection], write.key, (write.expected + 1) .. '|' .. write.body)
end
for name, owner in pairs(plan.claims) do
  redis.call('HSET', KEYS[3], name, owner)
end

local versions, moved = {}, {}
for _, environment in ipairs(plan.environments) do
  local version = redis.call('HINCRBY', KEYS[2], environment, 1)
  versions[#versions + 1] = environment
  versions[#versions + 1] = version
  moved[#moved + 1] = environment .. '=' .. (version - 1) .. '>' .. version
end

redis.call('HSET', KEYS[1], 'seq', plan.seq, 'head', plan.chain)
redis.call('XADD', KEYS[4], plan.seq .. '-0',
  'entry', plan.entry, 'leaf', plan.leaf, 'chain', plan.chain)
redis.call('XADD', KEYS[5], 'MAXLEN', '~', plan.feed_length, '*',
  'seq', plan.seq, 'versions', table.concat(moved, ' '), 'flags', plan.flags,
  'documents', plan.documents)
if plan.fingerprint ~= '' then
  redis.call('SET', KEYS[6], plan.seq .. '|' .. plan.fingerprint, 'EX', plan.keep_seconds)
end
return {'ok', plan.seq, versions}
