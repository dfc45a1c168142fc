-- Takes units of every budget named, or of none.
-- ARGV: 1 prefix, 2 member (the record's id), 3 now (ms), 4 the key of a person ('' none), 5 a time (ms),
--       then for each budget: name, window (ms), limit, how much it is higher where the person had mail from us
--       before that time, units (0: it is only looked whether there is room)
-- Returns '' or the name of the first budget that is used up. A member that holds a unit keeps it.
local P, member, now = ARGV[1], ARGV[2], tonumber(ARGV[3])
local met = ARGV[4] ~= '' and tonumber(redis.call('GET', ARGV[4]) or '')
local known = met and met < tonumber(ARGV[5])
for i = 6, #ARGV, 5 do
  local key, limit, units = P .. 'budget:' .. ARGV[i], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 4])
  if known then limit = limit + tonumber(ARGV[i + 3]) end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - tonumber(ARGV[i + 1]))
  local holds = units > 0 and redis.call('ZSCORE', key, member)
  if not holds and redis.call('ZCARD', key) + math.min(math.max(units, 1), limit) > limit then
    return ARGV[i]
  end
end
for i = 6, #ARGV, 5 do
  local key, units = P .. 'budget:' .. ARGV[i], tonumber(ARGV[i + 4])
  if units > 0 then
    redis.call('ZADD', key, 'NX', now, member)
    for unit = 2, units do redis.call('ZADD', key, 'NX', now, member .. '#' .. unit) end
    redis.call('PEXPIRE', key, ARGV[i + 1])
  end
end
return ''
