-- Reads a piece of a stored mail, which is a string, or a list of pieces where it is compressed.
-- KEYS: 1 the mail. ARGV: 1 number of the piece from 0, '' for the size of the whole, 2 octets of a piece.
-- Returns {'string' | 'list' | 'none', the piece or the size}.
local key, number = KEYS[1], tonumber(ARGV[1])
local kind = redis.call('TYPE', key)['ok']
if kind == 'string' and number then
  return {kind, redis.call('GETRANGE', key, number * ARGV[2], (number + 1) * ARGV[2] - 1)}
elseif kind == 'string' then
  return {kind, tostring(redis.call('STRLEN', key))}
elseif kind == 'list' and number then
  return {kind, redis.call('LINDEX', key, number) or ''}
elseif kind == 'list' then
  return {kind, string.sub(redis.call('LINDEX', key, 0), 3, 12)}
end
return {'none', ''}
