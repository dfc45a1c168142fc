-- Lets the people of a mail take part in its thread, once it is released or its sender is proven. A thread that
-- is others' by then stays theirs: the mail moves to a thread of its own.
-- ARGV: 1 prefix, 2 id, 3 sender, 4 people (JSON list), 5 threads of its own to try (JSON list), 6 now (ms)
-- Returns the thread id, or '' where there is no such record.
local P, id, sender = ARGV[1], ARGV[2], ARGV[3]
local admitted, own_names = cjson.decode(ARGV[4]), cjson.decode(ARGV[5])
local key = P .. 'm:' .. id
local thread = redis.call('HGET', key, 'thread_id')
if not thread then return '' end

local function open_to_sender(name)
  local people = P .. 'people:' .. name
  return redis.call('EXISTS', people) == 0 or redis.call('SISMEMBER', people, sender) == 1
end

if not open_to_sender(thread) then
  local own = thread
  for _, name in ipairs(own_names) do
    own = name
    if open_to_sender(name) then break end
  end
  redis.call('ZREM', P .. 'index:thread:' .. thread, id)
  redis.call('ZADD', P .. 'index:thread:' .. own, 0, id)
  redis.call('HSET', key, 'thread_id', own)
  local list = P .. 'conversation:' .. thread
  if redis.call('LREM', list, 0, id) > 0 then
    if redis.call('EXISTS', list) == 0 then redis.call('ZREM', P .. 'active', thread) end
    redis.call('RPUSH', P .. 'conversation:' .. own, id)
    redis.call('ZADD', P .. 'active', 'NX', ARGV[6], own)
  end
  thread = own
end
for _, address in ipairs(admitted) do redis.call('SADD', P .. 'people:' .. thread, address) end
return thread
