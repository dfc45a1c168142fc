-- Removes a record whose time is over, and whatever leads to it.
-- ARGV: 1 prefix, 2 id. Returns 1 if it was there.
local P, id = ARGV[1], ARGV[2]
local key = P .. 'm:' .. id
local state = redis.call('HGET', key, 'state')
redis.call('ZREM', P .. 'index:all', id)
redis.call('ZREM', P .. 'filing', id)
redis.call('ZREM', P .. 'settling', id)
redis.call('ZREM', P .. 'fetching', id)
if not state then return 0 end
local thread, mid = redis.call('HGET', key, 'thread_id'), redis.call('HGET', key, 'message_id')
redis.call('ZREM', P .. 'index:state:' .. state, id)
redis.call('ZREM', P .. 'index:thread:' .. thread, id)
if mid and mid ~= '' then redis.call('ZREM', P .. 'index:message-id:' .. mid, id) end
if redis.call('EXISTS', P .. 'index:thread:' .. thread) == 0 then
  redis.call('DEL', P .. 'people:' .. thread, P .. 'workflow:' .. thread)
end
redis.call('DEL', key, key .. ':source', key .. ':answer', key .. ':answer:bytes', key .. ':history')
return 1
