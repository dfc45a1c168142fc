-- Takes a lease that is free, or renews our own.
-- KEYS: 1 the lease. ARGV: 1 token, 2 milliseconds. Returns 0, or the milliseconds until another's expires.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return math.max(redis.call('PTTL', KEYS[1]), 1) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 0
