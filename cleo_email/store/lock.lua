-- Takes a lock and, where it is a conversation's, the message that is to be handled under it.
-- A holder whose process has said nothing for a while is dead: its lock is taken where ARGV 6 allows it.
-- ARGV: 1 prefix, 2 name, 3 token (process.random), 4 milliseconds of the lock, 5 of the process's sign of life,
--       6 '1' if a dead holder's lock may be taken, 7 conversation ('' none), 8 now (ms), 9 most bytes of source
-- Returns {'taken' | 'held'}, for a conversation {'taken', id, record, source ('' where it is larger or gone),
-- its type}, and {'idle'} without a lock where nothing is due.
local P, token, conversation = ARGV[1], ARGV[3], ARGV[7]
local key, process = P .. 'lock:' .. ARGV[2], string.match(ARGV[3], '^(%w+)%.')
local holder = redis.call('GET', key)
if holder and holder ~= token then -- our own token: redis-py repeats a call whose answer was lost
  local other = string.match(holder, '^(%w+)%.')
  if ARGV[6] ~= '1' or not other or other == process then return {'held'} end
  if redis.call('EXISTS', P .. 'alive:' .. other) == 1 then return {'held'} end
end
local id
if conversation ~= '' then
  id = redis.call('LINDEX', P .. 'conversation:' .. conversation, 0)
  local due = redis.call('ZSCORE', P .. 'active', conversation)
  if not id or (due and tonumber(due) > tonumber(ARGV[8])) then
    if holder then redis.call('DEL', key) end
    redis.call('DEL', P .. 'woken:' .. conversation)
    return {'idle'}
  end
end
redis.call('SET', key, token, 'PX', ARGV[4])
redis.call('SET', P .. 'alive:' .. process, 1, 'PX', ARGV[5])
if not id then return {'taken'} end
redis.call('DEL', P .. 'woken:' .. conversation) -- only here: a full Redis has refused the lock before
local record, source, most = P .. 'm:' .. id, '', tonumber(ARGV[9])
local kind = redis.call('TYPE', record .. ':source')['ok'] -- a list of pieces where it is compressed: see source.py
if kind == 'string' and redis.call('STRLEN', record .. ':source') <= most then
  source = redis.call('GET', record .. ':source')
elseif kind == 'list' and redis.call('LLEN', record .. ':source') * 16000 <= most then
  source = table.concat(redis.call('LRANGE', record .. ':source', 0, -1))
end
return {'taken', id, redis.call('HGETALL', record), source, kind}
