-- Releases a lock, only while it is still ours, and says whether its conversation has more that is due.
-- ARGV: 1 prefix, 2 the lock's key, 3 token, 4 conversation ('' none), 5 now (ms).
-- Returns 0 if it was not ours, 1, or 2 where the conversation goes on.
local P, conversation = ARGV[1], ARGV[4]
if redis.call('GET', ARGV[2]) ~= ARGV[3] then return 0 end
redis.call('DEL', ARGV[2])
if conversation == '' or redis.call('EXISTS', P .. 'conversation:' .. conversation) == 0 then return 1 end
local due = redis.call('ZSCORE', P .. 'active', conversation)
if due and tonumber(due) > tonumber(ARGV[5]) then return 1 end
redis.call('DEL', P .. 'woken:' .. conversation)
return 2
