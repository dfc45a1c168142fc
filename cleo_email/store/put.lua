-- Puts a job into a queue as RQ does, unless one was put there for the same conversation a moment ago. Stands before
-- the scripts that use it. ``job``: 1 the key that remembers it ('' for none), 2 for how many seconds, 3 RQ's set of
-- queues, 4 the queue, 5 the job's key, 6 its id, 7 the seconds after which it is void ('' for none), 8 how many may
-- wait before it ('' for any), 9 how many wait where there is no room for it ('' for any), 10 the fields
-- that it shares with others (flat JSON list), then its own.
-- Returns whether the job was put into the queue.
local function put_job(job)
  local waiting = redis.call('LLEN', job[4])
  if job[9] ~= '' and waiting >= tonumber(job[9]) then return 0 end
  if job[1] ~= '' and not redis.call('SET', job[1], 1, 'NX', 'EX', job[2]) then return 0 end
  redis.call('SADD', job[3], job[4])
  redis.call('HSET', job[5], unpack(cjson.decode(job[10])))
  redis.call('HSET', job[5], unpack(job, 11))
  if job[7] ~= '' then redis.call('EXPIRE', job[5], job[7]) end
  local passes = job[8] ~= '' and waiting > tonumber(job[8])
  redis.call(passes and 'LPUSH' or 'RPUSH', job[4], job[6])
  return 1
end
