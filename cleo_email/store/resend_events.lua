-- Puts events of one message among those that wait, each once and in order.
-- ARGV: 1 prefix, 2 id, 3 now (ms), 4 how many messages at most, 5 seconds to keep them, then the events
-- Returns how many were added, -1 where there is no room.
local P, id = ARGV[1], ARGV[2]
local list, waiting = P .. 'events:' .. id, P .. 'events'
if redis.call('ZCARD', waiting) >= tonumber(ARGV[4]) and not redis.call('ZSCORE', waiting, id) then return -1 end
local all, numbers, added = {}, {}, 0
for _, text in ipairs(redis.call('LRANGE', list, 0, -1)) do
  local number = cjson.decode(text).number
  all[number], numbers[#numbers + 1] = text, number
end
for i = 6, #ARGV do
  local number = cjson.decode(ARGV[i]).number
  if not all[number] then
    all[number], numbers[#numbers + 1], added = ARGV[i], number, added + 1
  end
end
if added == 0 then return 0 end
table.sort(numbers)
redis.call('DEL', list)
for _, number in ipairs(numbers) do redis.call('RPUSH', list, all[number]) end
redis.call('EXPIRE', list, ARGV[5])
redis.call('HDEL', P .. 'events-failed', id)
redis.call('ZADD', waiting, ARGV[3], id)
return added
