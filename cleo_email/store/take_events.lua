-- Takes the first event of some messages that are due; nobody else gets one of these messages meanwhile.
-- ARGV: 1 prefix, 2 now (ms), 3 how many at most, 4 for how long (ms)
-- Returns for each: id, event, the times it failed and since when ('' or 'n since'). While the receiver does not
-- answer it is one event at a time.
local P, now, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local waiting, state, found = P .. 'events', P .. 'events-state', {}
local rests = tonumber(redis.call('HGET', state, 'rests_until') or 0)
if rests > now then return {} end
if rests > 0 then most = 1 end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting, '-inf', now, 'LIMIT', 0, most)) do
  local event = redis.call('LINDEX', P .. 'events:' .. id, 0)
  if event then
    redis.call('ZADD', waiting, now + ARGV[4], id)
    for _, part in ipairs({id, event, redis.call('HGET', P .. 'events-failed', id) or ''}) do found[#found + 1] = part end
  else -- it has expired
    redis.call('ZREM', waiting, id)
    redis.call('HDEL', P .. 'events-failed', id)
    redis.call('HINCRBY', state, 'given_up', 1)
  end
end
if rests > 0 and #found > 0 then redis.call('HSET', state, 'rests_until', now + ARGV[4]) end
return found
