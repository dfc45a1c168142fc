-- Moves a record from one state to another, with everything that must be true at the same instant.
-- ARGV: 1 prefix, 2 id, 3 allowed states (comma-separated), 4 new state, 5 now (ms), 6 lock token ('' none needed),
--       7 operation token (a repeated call with it changes nothing), 8 options (JSON object), 9 kept answer's bytes
-- options: fields (flat list), unset (names of fields), history (string), pop, push, due (ms), filing (ms), settling (ms),
--          resuming (ms), keep_source_s, keep_s, answer (flat list), our_id, people (list),
--          given (field, value it must have), later (ms), conversation (in place of the thread's), drop_answer,
--          drafting (ms), person (JSON of why a person has the thread), unless_taken (refuse if a person has it),
--          only_if_taken (refuse if no person has it), figure (what counts in the day's figures where the state
--          changes), met (keys of people who have had mail by now), met_s (how long that is kept),
--          unasked (where it is replied: the ingress of records with which no mail came in),
--          bounds (where it is replied: of the buckets of the time to the reply, ms), counts (what it adds to the totals),
--          event (fields, most, keep_s; always: also where the state stays)
-- Returns {'moved' | 'missing' | 'lost' | 'wrong' | 'taken' | 'free', state}.
local P, id, now = ARGV[1], ARGV[2], ARGV[5]
local key = P .. 'm:' .. id
local state = redis.call('HGET', key, 'state')
if not state then return {'missing', ''} end
if redis.call('HGET', key, 'review') == '1' and state == 'held' then state = 'review' end
if redis.call('HGET', key, 'operation') == ARGV[7] then return {'moved', state} end
local options = cjson.decode(ARGV[8])
local thread = redis.call('HGET', key, 'thread_id')
local conversation = options.conversation or thread
if ARGV[6] ~= '' and redis.call('GET', P .. 'lock:conversation:' .. conversation) ~= ARGV[6] then
  return {'lost', state}
end
if not string.find(',' .. ARGV[3] .. ',', ',' .. state .. ',', 1, true) then return {'wrong', state} end

local taken = redis.call('EXISTS', P .. 'person:' .. thread) == 1
if options.unless_taken and taken then return {'taken', state} end
-- Whoever hands a thread back lets go on, after that, what is held: nothing may be held for a person afterwards.
if options.only_if_taken and not taken then return {'free', state} end
if options.given and (redis.call('HGET', key, options.given[1]) or '') ~= options.given[2] then
  return {'lost', state}
end
if ARGV[4] == 'replied' or ARGV[4] == 'uncertain' then
  -- A fact, whatever room there is: a script that has written something is not refused for want of memory.
  redis.call('HDEL', key, 'operation')
end
-- A review is stored as held, so that a version that knows no reviews finds what waits for a person.
local kept = ARGV[4] == 'review' and 'held' or ARGV[4]
if ARGV[4] == 'review' then redis.call('HSET', key, 'review', 1) else redis.call('HDEL', key, 'review') end
redis.call('HSET', key, 'state', kept, 'updated_at', now, 'operation', ARGV[7], unpack(options.fields))
if options.unset then redis.call('HDEL', key, unpack(options.unset)) end
local number = options.history and redis.call('RPUSH', key .. ':history', options.history)
if state ~= ARGV[4] then
  redis.call('ZREM', P .. 'index:state:' .. state, id)
  redis.call('ZADD', P .. 'index:state:' .. ARGV[4], 0, id)
end

-- What came by callback is no longer needed once it is the answer, or the message took another way.
if state == 'answering' and ARGV[4] ~= state then redis.call('DEL', key .. ':given') end
if options.keep_source_s then
  redis.call('EXPIRE', key .. ':source', options.keep_source_s)
  redis.call('EXPIRE', key .. ':answer', options.keep_source_s)
  redis.call('EXPIRE', key .. ':answer:bytes', options.keep_source_s)
else
  for _, part in ipairs({':source', ':answer', ':answer:bytes'}) do redis.call('PERSIST', key .. part) end
end
if options.drop_answer then redis.call('DEL', key .. ':answer', key .. ':answer:bytes') end
if options.answer then
  redis.call('DEL', key .. ':answer')
  redis.call('HSET', key .. ':answer', unpack(options.answer))
  keep(key .. ':answer:bytes', ARGV[9])
end
if options.our_id then
  redis.call('SET', P .. 'ours:' .. options.our_id, cjson.encode({thread, id}), 'EX', options.keep_s)
end
if options.people then
  for _, address in ipairs(options.people) do redis.call('SADD', P .. 'people:' .. thread, address) end
end

for _, one in ipairs(options.met or {}) do
  redis.call('SET', one, now, 'NX')
  redis.call('EXPIRE', one, options.met_s)
end

local list = P .. 'conversation:' .. conversation
if options.push then
  if not redis.call('LPOS', list, id) then redis.call('RPUSH', list, id) end
  redis.call('ZADD', P .. 'active', 'NX', now, conversation)
end
if options.pop then
  redis.call('LREM', list, 1, id)
  if redis.call('LLEN', list) == 0 then
    redis.call('ZREM', P .. 'active', conversation)
  else
    redis.call('ZADD', P .. 'active', now, conversation)
  end
elseif options.due then
  redis.call('ZADD', P .. 'active', options.due, conversation)
end
if options.later then
  local own = 'later:' .. id
  if not redis.call('LPOS', P .. 'conversation:' .. own, id) then redis.call('RPUSH', P .. 'conversation:' .. own, id) end
  redis.call('ZADD', P .. 'active', options.later, own)
end
local totals = P .. 'totals'
for name, count in pairs(options.counts or {}) do redis.call('HINCRBY', totals, name, count) end
if state ~= ARGV[4] then
  if not string.find(',received,answering,submitting,', ',' .. ARGV[4] .. ',', 1, true) then
    local ingress = redis.call('HGET', key, 'ingress') or ''
    redis.call('HINCRBY', totals, 'state:' .. ARGV[4] .. ':' .. ingress, 1)
  end
  -- The figures of the day. They are counts alone: nobody reads all records to draw a picture.
  local day, figure = P .. 'figures:' .. math.floor(now / 86400000), options.figure
  local asked = options.unasked ~= nil
  if asked then
    local ingress = redis.call('HGET', key, 'ingress')
    for _, one in ipairs(options.unasked) do asked = asked and one ~= ingress end
  end
  if asked and redis.call('HSETNX', key, 'answered_at', now) == 1 then
    figure = 'answered'
    local waited = math.max(now - redis.call('HGET', key, 'received_at'), 1)
    redis.call('HINCRBY', day, 'time:' .. math.floor(math.log(waited) / math.log(2) * 4), 1)
    local bound = 'inf'
    for _, one in ipairs(options.bounds) do
      if waited <= one then bound = one; break end
    end
    redis.call('HINCRBY', totals, 'reply:' .. bound, 1)
    redis.call('HINCRBY', totals, 'reply:ms', waited)
  end
  if figure and figure ~= '' then
    redis.call('HINCRBY', day, figure, 1)
    redis.call('EXPIRE', day, 3456000)
  end
end
if options.event and number and (state ~= ARGV[4] or options.event.always) then
  add_event(P, id, now, number, options.history, options.event)
end
if options.drafting then redis.call('ZADD', P .. 'drafting', options.drafting, id) end
if options.person then redis.call('SET', P .. 'person:' .. thread, options.person) end
redis.call('ZREM', P .. 'resuming', id)
if options.resuming then redis.call('ZADD', P .. 'resuming', options.resuming, id) end
if options.filing then redis.call('ZADD', P .. 'filing', options.filing, id) end
if options.settling then
  redis.call('ZADD', P .. 'settling', options.settling, id)
else
  redis.call('ZREM', P .. 'settling', id)
end
return {'moved', ARGV[4]}
