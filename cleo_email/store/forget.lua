-- Removes a record whose time is over, and whatever leads to it; a damaged one too, as far as it says what that is.
-- ARGV: 1 prefix, 2 id, 3 states in which it stays (comma-separated, '' for none), 4 all states (comma-separated)
-- Returns 1 if it was there and is gone.
local P, id = ARGV[1], ARGV[2]
local key = P .. 'm:' .. id
local state = redis.call('HGET', key, 'state')
if state and string.find(',' .. ARGV[3] .. ',', ',' .. state .. ',', 1, true) then return 0 end
for _, index in ipairs({'index:all', 'filing', 'settling', 'fetching', 'resuming', 'drafting', 'handing-over'}) do redis.call('ZREM', P .. index, id) end
redis.call('ZREMRANGEBYLEX', P .. 'index:search', '[' .. id, '(' .. id .. '!')
for name in string.gmatch(ARGV[4], '[^,]+') do redis.call('ZREM', P .. 'index:state:' .. name, id) end
local thread, mid = redis.call('HGET', key, 'thread_id'), redis.call('HGET', key, 'message_id')
redis.call('HDEL', P .. 'drafts', id)
if mid and mid ~= '' then redis.call('ZREM', P .. 'index:message-id:' .. mid, id) end
if thread then
  redis.call('ZREM', P .. 'index:thread:' .. thread, id)
  if redis.call('EXISTS', P .. 'index:thread:' .. thread) == 0 then
    redis.call('DEL', P .. 'people:' .. thread, P .. 'workflow:' .. thread, P .. 'person:' .. thread)
  end
end
local gone = redis.call('DEL', key)
redis.call('DEL', key .. ':source', key .. ':answer', key .. ':answer:bytes', key .. ':given', key .. ':history')
return gone
