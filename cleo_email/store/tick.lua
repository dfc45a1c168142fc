-- Gives each tick that is due to whoever asks first.
-- ARGV: 1 prefix, then for each tick: name, milliseconds, and keys, separated by blanks, of which one must exist.
-- Returns for each 0 where the caller has it, otherwise the milliseconds after which to ask again.
local P, answers = ARGV[1], {}
for i = 2, #ARGV, 3 do
  local keys, left = {}, 0
  for key in string.gmatch(ARGV[i + 2], '%S+') do keys[#keys + 1] = P .. key end
  if #keys > 0 and redis.call('EXISTS', unpack(keys)) == 0 then
    left = tonumber(ARGV[i + 1])
  else
    left = redis.call('PTTL', P .. 'tick:' .. ARGV[i])
    if left <= 0 then
      redis.call('SET', P .. 'tick:' .. ARGV[i], 1, 'PX', ARGV[i + 1])
      left = 0
    end
  end
  answers[#answers + 1] = left
end
return answers
