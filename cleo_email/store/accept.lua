-- Accepts a message once: deduplication, record, source, conversation and indexes in one step.
-- ARGV: 1 prefix, 2 id, 3 fingerprint, 4 claim (date|kind|content|proven), 5 seconds to remember the fingerprint,
--       6 now (ms), 7 state, 8 thread id, 9 Message-ID, 10 source, 11 seconds to keep the source ('' for good),
--       12 record (flat JSON list), 13 history entries (JSON list), 14 participants (JSON list),
--       15 kept answer (flat JSON list without its bytes, '' for none; the source then is its bytes),
--       16 keys to set on acceptance (JSON list of [key, value, seconds or 0], '' for none),
--       17 who has to take part in the thread if anybody does ('' nobody has to),
--       18 the text in which the record is searched for, 19 what counts in the day's figures (JSON list),
--       20 what an event carries (JSON, '' where nobody is told of it),
--       21 the conversation in which it waits ('' for the thread's),
--       22 and on: the job that wakes a worker for it, as put.lua takes it (none: nobody is woken)
-- Returns {'accepted' | 'duplicate' | 'same' | 'stranger', id, thread id}; 'same' is a duplicate with the very claim.
-- Without an id nothing is stored: it only looks.
local P, id, thread = ARGV[1], ARGV[2], ARGV[8]
local seen = P .. 'seen:' .. ARGV[3]
local function read(claim) -- those of earlier versions are a date alone
  local date, kind, content, proven = string.match(claim, '^(%-?%d*)|(%a*)|(%x*)|(1?)$')
  return {date = date or claim, kind = kind or '', content = content or '', proven = proven == '1'}
end

-- Whether a mail with the claim ``new`` is a copy of the record ``first`` with the claim ``old``. Another Date makes
-- another mail, and so does other content in the same channel; a copy without a Date (webhook) matches any. A header
-- alone claims nothing for a whole mail, nor does a mail whose sender is not proven, and that is not answered, for
-- one whose sender is.
local function is_copy(new, old, first)
  if new.date ~= '' and old.date ~= '' and new.date ~= old.date then return false end
  if new.kind == old.kind and new.content ~= old.content then return false end
  if old.kind == 'part' and new.kind ~= 'part' then return false end
  if new.proven and not old.proven then
    local state = redis.call('HGET', P .. 'm:' .. first, 'state')
    if redis.call('HGET', P .. 'm:' .. first, 'review') == '1' and state == 'held' then return true end
    return state ~= 'held' and state ~= 'ignored'
  end
  return true
end

local function thread_of(first) return redis.call('HGET', P .. 'm:' .. first, 'thread_id') or '' end
local same = redis.call('HGET', seen, ARGV[4])
if same then return {'same', same, thread_of(same)} end
local new, known = read(ARGV[4]), redis.call('HGETALL', seen)
for i = 1, #known, 2 do
  local old, first = read(known[i]), known[i + 1]
  if is_copy(new, old, first) then
    if old.date == '' and new.date ~= '' then
      redis.call('HDEL', seen, known[i])
      redis.call('HSET', seen, ARGV[4], first)
    end
    return {'duplicate', first, thread_of(first)}
  end
end
if id == '' then return {'accepted', '', ''} end
-- What cannot be decoded must fail before anything is written.
local fields, history, admitted = cjson.decode(ARGV[12]), cjson.decode(ARGV[13]), cjson.decode(ARGV[14])
local answer = ARGV[15] ~= '' and cjson.decode(ARGV[15])
local more = ARGV[16] ~= '' and cjson.decode(ARGV[16]) or {}
local figures = cjson.decode(ARGV[19])
local event = ARGV[20] ~= '' and cjson.decode(ARGV[20])
-- Two who quote an id that was unknown a moment ago: the second one is a stranger to the first one's thread.
local people = P .. 'people:' .. thread
if ARGV[17] ~= '' and redis.call('EXISTS', people) == 1 and redis.call('SISMEMBER', people, ARGV[17]) == 0 then
  return {'stranger', id, thread}
end
redis.call('HSET', seen, ARGV[4], id)
redis.call('EXPIRE', seen, ARGV[5])

local key = P .. 'm:' .. id
redis.call('HSET', key, unpack(fields))
if answer then
  redis.call('HSET', key .. ':answer', unpack(answer.fields))
  keep(key .. ':answer:bytes', ARGV[10])
  redis.call('SET', P .. 'ours:' .. answer.our_id, cjson.encode({thread, id}), 'EX', answer.keep_s)
else
  keep(key .. ':source', ARGV[10])
end
if ARGV[11] ~= '' then redis.call('EXPIRE', key .. ':source', ARGV[11]) end
for _, entry in ipairs(history) do
  local number = redis.call('RPUSH', key .. ':history', entry)
  if event then add_event(P, id, ARGV[6], number, entry, event) end
end

redis.call('ZADD', P .. 'index:all', 0, id)
redis.call('ZADD', P .. 'index:search', 0, id .. ' ' .. ARGV[18])
local day = P .. 'figures:' .. math.floor(ARGV[6] / 86400000)
for _, name in ipairs(figures) do
  redis.call('HINCRBY', day, name, 1)
  redis.call('EXPIRE', day, 3456000)
end
local ingress = redis.call('HGET', key, 'ingress') or ''
redis.call('HINCRBY', P .. 'totals', 'accepted:' .. ingress, 1)
if ARGV[7] ~= 'received' and ARGV[7] ~= 'submitting' then
  redis.call('HINCRBY', P .. 'totals', 'state:' .. ARGV[7] .. ':' .. ingress, 1)
end
redis.call('ZADD', P .. 'index:state:' .. ARGV[7], 0, id)
redis.call('ZADD', P .. 'index:thread:' .. thread, 0, id)
if ARGV[9] ~= '' then redis.call('ZADD', P .. 'index:message-id:' .. ARGV[9], 0, id) end

for _, address in ipairs(admitted) do redis.call('SADD', people, address) end
if ARGV[7] == 'received' or ARGV[7] == 'submitting' then
  local conversation = ARGV[21] ~= '' and ARGV[21] or thread
  redis.call('RPUSH', P .. 'conversation:' .. conversation, id)
  redis.call('ZADD', P .. 'active', 'NX', ARGV[6], conversation)
end
for _, entry in ipairs(more) do
  redis.call('SET', P .. entry[1], entry[2])
  if entry[3] > 0 then redis.call('EXPIRE', P .. entry[1], entry[3]) end
end
if #ARGV > 21 then put_job({unpack(ARGV, 22)}) end
return {'accepted', id, thread}
