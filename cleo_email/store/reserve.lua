-- Takes one unit of every budget named, or of none.
-- ARGV: 1 prefix, 2 member (the record's id), 3 now (ms), then for each budget: name, window (ms), limit
-- Returns '' or the name of the first budget that is used up. A member that holds a unit keeps it.
local P, member, now = ARGV[1], ARGV[2], tonumber(ARGV[3])
for i = 4, #ARGV, 3 do
  local key = P .. 'budget:' .. ARGV[i]
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - tonumber(ARGV[i + 1]))
  if not redis.call('ZSCORE', key, member) and redis.call('ZCARD', key) >= tonumber(ARGV[i + 2]) then
    return ARGV[i]
  end
end
for i = 4, #ARGV, 3 do
  local key = P .. 'budget:' .. ARGV[i]
  redis.call('ZADD', key, 'NX', now, member)
  redis.call('PEXPIRE', key, ARGV[i + 1])
end
return ''
