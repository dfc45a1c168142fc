-- Takes units of every budget named, or of none.
-- ARGV: 1 prefix, 2 member (the record's id), 3 now (ms), then for each budget: name, window (ms), limit, units
-- Returns '' or the name of the first budget that is used up. A member that holds a unit keeps it.
local P, member, now = ARGV[1], ARGV[2], tonumber(ARGV[3])
for i = 4, #ARGV, 4 do
  local key, limit, units = P .. 'budget:' .. ARGV[i], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - tonumber(ARGV[i + 1]))
  if not redis.call('ZSCORE', key, member) and redis.call('ZCARD', key) + math.min(units, limit) > limit then
    return ARGV[i]
  end
end
for i = 4, #ARGV, 4 do
  local key = P .. 'budget:' .. ARGV[i]
  redis.call('ZADD', key, 'NX', now, member)
  for unit = 2, tonumber(ARGV[i + 3]) do redis.call('ZADD', key, 'NX', now, member .. '#' .. unit) end
  redis.call('PEXPIRE', key, ARGV[i + 1])
end
return ''
