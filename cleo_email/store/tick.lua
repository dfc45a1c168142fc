-- Gives each tick that is due to whoever asks first.
-- ARGV: 1 prefix, then for each tick: name, milliseconds, and keys, separated by blanks, of which one must exist.
-- Returns for each 0 where the caller has it, otherwise the milliseconds after which to ask again: for one that has
-- nothing to do two seconds at least.
local P, answers, all = ARGV[1], {}, {}
local function add(keys, names)
  for name in string.gmatch(names, '%S+') do keys[#keys + 1] = P .. name end
  return keys
end
for i = 2, #ARGV, 3 do add(all, ARGV[i + 2]) end
-- Mostly none exists: then one command tells it.
local none = #all > 0 and redis.call('EXISTS', unpack(all)) == 0
for i = 2, #ARGV, 3 do
  local keys, left = add({}, ARGV[i + 2]), 0
  if #keys > 0 and (none or redis.call('EXISTS', unpack(keys)) == 0) then
    left = math.max(tonumber(ARGV[i + 1]), 2000)
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
