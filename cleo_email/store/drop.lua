-- Takes a message off its conversation, which is over only if nobody added another one meanwhile.
-- KEYS: 1 the conversation, 2 the active threads. ARGV: 1 id, 2 thread id.
redis.call('LREM', KEYS[1], 1, ARGV[1])
if redis.call('LLEN', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[2]) end
return 1
