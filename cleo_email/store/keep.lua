-- Stores a mail; a compressed one in pieces: see source.py. Stands before the scripts that use it.
local function keep(name, mail) -- a compressed one in pieces: see source.py
  redis.call('DEL', name)
  if string.sub(mail, 1, 2) ~= '\0z' then return redis.call('SET', name, mail) end
  for at = 1, #mail, 16000 do redis.call('RPUSH', name, string.sub(mail, at, at + 15999)) end
end
