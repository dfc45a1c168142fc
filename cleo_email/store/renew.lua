-- Says that a process is alive, and renews those of its locks that are still its own.
-- ARGV: 1 the process's key, 2 its milliseconds, 3 milliseconds of the locks, then for each lock: key, token
for i = 4, #ARGV, 2 do
  if redis.call('GET', ARGV[i]) == ARGV[i + 1] then redis.call('PEXPIRE', ARGV[i], ARGV[3]) end
end
-- A full Redis refuses no expiry.
if redis.call('PEXPIRE', ARGV[1], ARGV[2]) == 0 then redis.call('SET', ARGV[1], 1, 'PX', ARGV[2]) end
return 1
