-- Takes a record off a list of due work, unless its state has changed since the work was done.
-- ARGV: 1 prefix, 2 the list, 3 id, 4 state. Returns 1 if it was taken off.
local key = ARGV[1] .. 'm:' .. ARGV[3]
local state = redis.call('HGET', key, 'state')
if redis.call('HGET', key, 'review') == '1' and state == 'held' then state = 'review' end
if state and state ~= ARGV[4] then return 0 end
return redis.call('ZREM', ARGV[2], ARGV[3])
