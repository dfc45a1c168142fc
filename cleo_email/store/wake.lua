-- Puts a job into a queue as RQ does, unless one was put there for the same conversation a moment ago.
-- ARGV: 1 the key that remembers it ('' for none), 2 for how many seconds, 3 RQ's set of queues, 4 the queue,
--       5 the job's key, 6 its id, 7 the seconds after which it is void ('' for none), 8 how many may wait before it
--       ('' for any), 9 how many wait where there is no room for it ('' for any), then its fields.
-- Returns whether the job was put into the queue.
local waiting = redis.call('LLEN', ARGV[4])
if ARGV[9] ~= '' and waiting >= tonumber(ARGV[9]) then return 0 end
if ARGV[1] ~= '' and not redis.call('SET', ARGV[1], 1, 'NX', 'EX', ARGV[2]) then return 0 end
redis.call('SADD', ARGV[3], ARGV[4])
redis.call('HSET', ARGV[5], unpack(ARGV, 10))
if ARGV[7] ~= '' then redis.call('EXPIRE', ARGV[5], ARGV[7]) end
local passes = ARGV[8] ~= '' and waiting > tonumber(ARGV[8])
redis.call(passes and 'LPUSH' or 'RPUSH', ARGV[4], ARGV[6])
return 1
