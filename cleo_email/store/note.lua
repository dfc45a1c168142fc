-- Sets a field of a record that there is; one that was forgotten meanwhile does not come back as a rest of itself.
-- ARGV: 1 prefix, 2 id, 3 field, 4 value, 5 the whole mail in place of its header (optional).
-- Returns 1, or 0 where there is no such record.
local key = ARGV[1] .. 'm:' .. ARGV[2]
if redis.call('HEXISTS', key, 'state') == 0 then return 0 end
redis.call('HSET', key, ARGV[3], ARGV[4])
if ARGV[5] then keep(key .. ':source', ARGV[5]) end
return 1
