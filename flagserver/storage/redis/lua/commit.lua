-- Carries out one change as a whole, or refuses it and writes nothing.
--
-- The caller has made the record's entry and its hashes (Redis has no SHA-256) for the head that it
-- knew; if the record has moved on, it is told the new head, hashes again and comes back. The same
-- call twice does the thing once: an entry that is there already, with the same chain, was ours.
--
-- KEYS  1 meta      hash: store, epoch, seq, head; was: the store's id before the last it got;
--                   indexed_from, indexed_to: entries that `targets` has, both included
--       2 versions  hash: environment -> snapshot version
--       3 record    stream: <seq>-0 -> entry, leaf, chain
--       4 feed      stream: <epoch>-<seq> -> documents, flags, from/<environment>...
--       5 claims    hash: name -> owner
--       6 once      hash: fingerprint, seq, to/<environment>...  (not touched if fingerprint is "")
--       7 outbox    stream: notice, JSON      (not touched without notices)
--       8 targets   sorted set, all of one score: <target>\n<seq, 16 digits>; no part of the record
--       9 and on    hash of each write's collection: key -> <revision>|<json>
--
-- ARGV  1 store  2 epoch                 which store the caller began with
--       3 previous seq  4 previous head  what the entry follows
--       5 seq  6 entry  7 leaf  8 chain  the entry; hashes in hex
--       9 documents  10 flags            what the event says of them, JSON
--      11 fingerprint  12 milliseconds   of the request, and how long its answer is kept
--      13 length of the feed, about
--      14 store  15 epoch               which the store is from now on; mostly as it was
--      16 length of the outbox, about
--      17 target                        what the entry is about
--      18 writes  19 releases  20 claims  21 guards  22 environments  23 notices   how many follow:
--         writes        key, expected revision ("0": none), new value ("": the document goes)
--         releases      name, owner
--         claims        name, owner
--         guards        environment, version that must hold
--         environments  environment whose version rises
--         notices       notice
--
-- Returns {"done", seq, environment, version, ...}   also for a call that was carried out before
--         {"repeated", seq, environment, version, ...}  the idempotency key was used for the same
--         {"mismatch"}                        the idempotency key was used for something else
--         {"store", store, epoch}             another store or epoch; "" where there is none
--         {"exists", number of the write} | {"stale", number of the write, revision}
--         {"claimed", name, owner} | {"moved", environment, version}
--         {"torn", name, id}                  a stream does not end where it must
--         {"head", seq, head}                 the record moved on: hash again

local META, VERSIONS, RECORD, FEED, CLAIMS, ONCE, OUTBOX, TARGETS = unpack(KEYS, 1, 8)
local OTHERS = 8
local store, epoch, previous, head, seq, entry, leaf, chain = unpack(ARGV, 1, 8)
local documents, flags, fingerprint, milliseconds, feed_length = unpack(ARGV, 9, 13)
local new_store, new_epoch, outbox_length, target = unpack(ARGV, 14, 17)
local writes, releases, claims = tonumber(ARGV[18]), tonumber(ARGV[19]), tonumber(ARGV[20])
local guards, environments, notices = tonumber(ARGV[21]), tonumber(ARGV[22]), tonumber(ARGV[23])

local position = 23
local function following()
  position = position + 1
  return ARGV[position]
end

-- Returns an answer of this kind with what `fields` (name, value, ...) say under names that begin
-- with `prefix`, each raised by `more`.
local function answer(kind, number, fields, prefix, more)
  local reply = {kind, number}
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, #prefix) == prefix then
      reply[#reply + 1] = string.sub(fields[i], #prefix + 1)
      reply[#reply + 1] = string.format('%.0f', tonumber(fields[i + 1]) + more)
    end
  end
  return reply
end

local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
end

-- Which store is this?

local meta = redis.call('HMGET', META, 'store', 'epoch', 'seq', 'head', 'indexed_to')
if meta[1] ~= store or meta[2] ~= epoch then
  return {'store', meta[1] or '', meta[2] or ''}
end

-- Was this done before?

if tonumber(meta[3]) >= tonumber(seq) then
  local there = redis.call('XRANGE', RECORD, seq .. '-0', seq .. '-0')[1]
  if there and field(there[2], 'chain') == chain then
    local event = redis.call('XRANGE', FEED, epoch .. '-' .. seq, epoch .. '-' .. seq)[1]
    return answer('done', seq, event and event[2] or {}, 'from/', 1)
  end
end

if fingerprint ~= '' then
  local known = redis.call('HGETALL', ONCE)
  if #known > 0 then
    if field(known, 'fingerprint') ~= fingerprint then return {'mismatch'} end
    return answer('repeated', field(known, 'seq'), known, 'to/', 0)
  end
end

-- May it be done?

local new = {}
for i = 1, writes do
  local key, expected, value = following(), following(), following()
  local kept = redis.call('HGET', KEYS[OTHERS + i], key)
  local revision = kept and string.match(kept, '^(%d+)|') or '0'
  if revision ~= expected then
    if expected == '0' then return {'exists', tostring(i)} end
    return {'stale', tostring(i), revision}
  end
  new[i] = {key, value}
end

local released = {}
for _ = 1, releases do
  local name, owner = following(), following()
  if redis.call('HGET', CLAIMS, name) == owner then released[name] = true end
end

local claimed = {}
for i = 1, claims do
  local name, owner = following(), following()
  local has = redis.call('HGET', CLAIMS, name)
  if has and has ~= owner and not released[name] then return {'claimed', name, has} end
  claimed[i] = {name, owner}
end

for _ = 1, guards do
  local environment, held = following(), following()
  local version = redis.call('HGET', VERSIONS, environment) or '0'
  if version ~= held then return {'moved', environment, version} end
end

if meta[3] ~= previous or meta[4] ~= head then
  return {'head', meta[3], meta[4]}
end

-- Somebody else's entry in a stream would make ours fail when half of the change is written.

local function last(stream)
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  return newest and newest[1]
end

local end_of_record, end_of_feed = last(RECORD), last(FEED)
if end_of_record and end_of_record ~= previous .. '-0' then
  return {'torn', 'record', end_of_record}
end
if end_of_feed then
  local high, low = string.match(end_of_feed, '^(%d+)-(%d+)$')
  high, low = tonumber(high), tonumber(low)
  local now = tonumber(new_epoch)
  if high > now or (high == now and low >= tonumber(seq)) then
    return {'torn', 'feed', end_of_feed}
  end
end

local event = {'documents', documents, 'flags', flags}
for _ = 1, environments do
  local environment = following()
  event[#event + 1] = 'from/' .. environment
  event[#event + 1] = redis.call('HGET', VERSIONS, environment) or '0'
end

-- Do it. Should Redis be full or lack replicas, the first of these is refused, and with it all.

redis.call('XADD', RECORD, seq .. '-0', 'entry', entry, 'leaf', leaf, 'chain', chain)
redis.call('XADD', FEED, 'MAXLEN', '~', feed_length, new_epoch .. '-' .. seq, unpack(event))
redis.call('ZADD', TARGETS, 0, target .. '\n' .. string.rep('0', 16 - #seq) .. seq)
redis.call('HSET', META, 'seq', seq, 'head', chain, 'indexed_to', seq)
if meta[5] ~= previous then
  -- What came before was written by a process that knew no index: it begins here.
  redis.call('HSET', META, 'indexed_from', seq)
end
if new_store ~= store or new_epoch ~= epoch then
  redis.call('HSET', META, 'store', new_store, 'epoch', new_epoch, 'was', store)
end
for i, each in ipairs(new) do
  if each[2] == '' then
    redis.call('HDEL', KEYS[OTHERS + i], each[1])
  else
    redis.call('HSET', KEYS[OTHERS + i], each[1], each[2])
  end
end
for name in pairs(released) do
  redis.call('HDEL', CLAIMS, name)
end
for _, each in ipairs(claimed) do
  redis.call('HSET', CLAIMS, each[1], each[2])
end
for _ = 1, notices do
  redis.call('XADD', OUTBOX, 'MAXLEN', '~', outbox_length, '*', 'notice', following())
end
local done = answer('done', seq, event, 'from/', 1)
for i = 3, #done, 2 do
  redis.call('HSET', VERSIONS, done[i], done[i + 1])
end
if fingerprint ~= '' then
  redis.call('HSET', ONCE, 'fingerprint', fingerprint, 'seq', seq)
  for i = 3, #done, 2 do
    redis.call('HSET', ONCE, 'to/' .. done[i], done[i + 1])
  end
  redis.call('PEXPIRE', ONCE, milliseconds)
end
return done
