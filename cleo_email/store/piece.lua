-- Reads a piece of a stored mail, which is a string, or where it is compressed a list of 16000 octets each: they
-- leave less of Redis's memory unused than one string, which may get a quarter more than it needs.
-- KEYS: 1 the mail. ARGV: 1 number of the piece from 0, '' for the size of the whole, 2 octets of a piece.
-- Returns {'string' | 'list' | 'none', the piece or the size}.
local key, number = KEYS[1], tonumber(ARGV[1])
local kind = redis.call('TYPE', key)['ok']
if kind == 'string' and number then
  return {kind, redis.call('GETRANGE', key, number * ARGV[2], (number + 1) * ARGV[2] - 1)}
elseif kind == 'string' then
  return {kind, tostring(redis.call('STRLEN', key))}
elseif kind == 'list' and number then
  local most = ARGV[2] / 16000
  return {kind, table.concat(redis.call('LRANGE', key, number * most, (number + 1) * most - 1))}
elseif kind == 'list' then
  return {kind, string.sub(redis.call('LINDEX', key, 0), 3, 12)}
end
return {'none', ''}
