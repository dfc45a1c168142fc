-- Ends the delivery of an event, if it still is the first one of its message.
-- ARGV: 1 prefix, 2 id, 3 event, 4 now (ms), 5 what it counts as ('delivered' or 'given_up'; '' to try it again),
--       6 when (ms), 7 the times it failed and since when
-- Returns 1, or 0 where another process has ended it.
local P, id = ARGV[1], ARGV[2]
local list, waiting = P .. 'events:' .. id, P .. 'events'
if redis.call('LINDEX', list, 0) ~= ARGV[3] then return 0 end
if ARGV[5] == '' then
  redis.call('ZADD', waiting, ARGV[6], id)
  redis.call('HSET', P .. 'events-failed', id, ARGV[7])
  return 1
end
redis.call('LPOP', list)
redis.call('HDEL', P .. 'events-failed', id)
redis.call('HINCRBY', P .. 'events-state', ARGV[5], 1)
if ARGV[5] == 'delivered' then
  redis.call('HDEL', P .. 'events-state', 'rests_until', 'failing_since', 'fault')
end
if redis.call('LLEN', list) > 0 then
  redis.call('ZADD', waiting, ARGV[4], id)
else
  redis.call('ZREM', waiting, id)
end
return 1
