-- Accepts a message once: deduplication, record, source, conversation and indexes in one step.
-- ARGV: 1 prefix, 2 id, 3 fingerprint, 4 date key ('' unknown), 5 seconds to remember the fingerprint,
--       6 now (ms), 7 state, 8 thread id, 9 Message-ID, 10 source, 11 seconds to keep the source ('' for good),
--       12 record (flat JSON list), 13 history entries (JSON list), 14 participants (JSON list),
--       15 kept answer (flat JSON list without its bytes, '' for none; the source then is its bytes),
--       16 keys to set on acceptance (JSON list of [key, value, seconds or 0], '' for none),
--       17 who has to take part in the thread if anybody does ('' nobody has to)
-- Returns {'accepted' | 'duplicate' | 'stranger', id, thread id}.
local P, id, date, thread = ARGV[1], ARGV[2], ARGV[4], ARGV[8]
local seen = P .. 'seen:' .. ARGV[3]

-- The same fingerprint with another Date is another mail; a copy without a Date (webhook) matches any.
local known = redis.call('HGETALL', seen)
for i = 1, #known, 2 do
  if date == '' or known[i] == '' or known[i] == date then
    local first = known[i + 1]
    if known[i] == '' and date ~= '' then
      redis.call('HDEL', seen, '')
      redis.call('HSET', seen, date, first)
    end
    return {'duplicate', first, redis.call('HGET', P .. 'm:' .. first, 'thread_id') or ''}
  end
end
-- Two who quote an id that was unknown a moment ago: the second one is a stranger to the first one's thread.
local people = P .. 'people:' .. thread
if ARGV[17] ~= '' and redis.call('EXISTS', people) == 1 and redis.call('SISMEMBER', people, ARGV[17]) == 0 then
  return {'stranger', id, thread}
end
redis.call('HSET', seen, date, id)
redis.call('EXPIRE', seen, ARGV[5])

local key = P .. 'm:' .. id
redis.call('HSET', key, unpack(cjson.decode(ARGV[12])))
if ARGV[15] ~= '' then
  local answer = cjson.decode(ARGV[15])
  redis.call('HSET', key .. ':answer', unpack(answer.fields))
  redis.call('SET', key .. ':answer:bytes', ARGV[10])
  redis.call('SET', P .. 'ours:' .. answer.our_id, cjson.encode({thread, id}), 'EX', answer.keep_s)
else
  redis.call('SET', key .. ':source', ARGV[10])
end
if ARGV[11] ~= '' then redis.call('EXPIRE', key .. ':source', ARGV[11]) end
for _, entry in ipairs(cjson.decode(ARGV[13])) do redis.call('RPUSH', key .. ':history', entry) end

redis.call('ZADD', P .. 'index:all', 0, id)
redis.call('ZADD', P .. 'index:state:' .. ARGV[7], 0, id)
redis.call('ZADD', P .. 'index:thread:' .. thread, 0, id)
if ARGV[9] ~= '' then redis.call('ZADD', P .. 'index:message-id:' .. ARGV[9], 0, id) end

for _, address in ipairs(cjson.decode(ARGV[14])) do redis.call('SADD', people, address) end
if ARGV[7] == 'received' or ARGV[7] == 'submitting' then
  redis.call('RPUSH', P .. 'conversation:' .. thread, id)
  redis.call('ZADD', P .. 'active', 'NX', ARGV[6], thread)
end
if ARGV[16] ~= '' then
  for _, entry in ipairs(cjson.decode(ARGV[16])) do
    redis.call('SET', P .. entry[1], entry[2])
    if entry[3] > 0 then redis.call('EXPIRE', P .. entry[1], entry[3]) end
  end
end
return {'accepted', id, thread}
