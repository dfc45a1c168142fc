-- Stores what an agent gives by callback: the answer to the question that is open, with which its conversation is
-- due at once, or how far it has come.
-- ARGV: 1 prefix, 2 id, 3 number of the question ('' the one that is open), 4 now (ms), 5 digest of the answer,
--       6 the answer, 7 seconds to keep it, 8 progress (in place of 5 and 6, which are '' then)
-- Returns {'accepted' | 'duplicate' | 'missing' | 'stale' | 'another' | 'over', state, reason}.
local P, id, now = ARGV[1], ARGV[2], ARGV[4]
local key = P .. 'm:' .. id
local found = redis.call('HMGET', key, 'state', 'asked', 'given', 'asking', 'waits_until', 'reason', 'thread_id', 'review')
local state, given, reason = found[1], found[3] or '', found[6] or ''
if not state then return {'missing', '', ''} end
if ARGV[3] ~= '' and (found[2] or '0') ~= ARGV[3] then return {'stale', state, reason} end
if ARGV[8] == '' and given == ARGV[5] then return {'duplicate', state, reason} end
if found[8] == '1' and state == 'held' then state = 'review' end
if given ~= '' or (found[4] or '') ~= '' then return {'another', state, reason} end
if state ~= 'answering' then return {'over', state, reason} end
if ARGV[8] ~= '' then
  redis.call('HSET', key, 'reason', ARGV[8], 'updated_at', now)
  return {'accepted', state, ''}
end
redis.call('HSET', key, 'given', ARGV[5], 'waits_until', 0, 'tries', 0)
redis.call('SET', key .. ':given', ARGV[6], 'EX', ARGV[7])
redis.call('ZADD', P .. 'active', now, found[7])
return {'accepted', state, ''}
