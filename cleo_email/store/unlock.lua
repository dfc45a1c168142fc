-- Renews (ARGV 2 > 0 milliseconds) or releases (ARGV 2 = 0) a lock, only while it is still ours.
-- KEYS: 1 the lock. ARGV: 1 token, 2 milliseconds. Returns 1, or 0 if it is not ours.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) > 0 then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('DEL', KEYS[1])
