-- Takes the next job off a queue. One of ours loses its hash, and what remembers that it was put there, at once: it
-- is a wake-up, which the sweeper repeats. A job of others goes where RQ looks for what was taken and not begun.
-- ARGV: 1 prefix, 2 the queue, 3 where what is taken goes, 4 how keys of jobs begin, 5 how ids of ours begin,
--       6 RQ's key that suspends all workers
-- Returns {'none'}, {'suspended'}, {'other', id} or {'ours', id, its fields, how many are left}.
if redis.call('EXISTS', ARGV[6]) == 1 then return {'suspended'} end
local id = redis.call('LINDEX', ARGV[2], 0)
if not id then return {'none'} end
if string.sub(id, 1, #ARGV[5]) ~= ARGV[5] then
  redis.call('LMOVE', ARGV[2], ARGV[3], 'LEFT', 'RIGHT')
  return {'other', id}
end
redis.call('LPOP', ARGV[2])
local key, woken = ARGV[4] .. id, ARGV[1] .. 'woken:'
local mark, fields = redis.call('HGET', key, 'woken') or '', redis.call('HGETALL', key)
redis.call('DEL', key)
if string.sub(mark, 1, #woken) == woken then redis.call('DEL', mark) end
return {'ours', id, fields, redis.call('LLEN', ARGV[2])}
