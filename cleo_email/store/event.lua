-- Put in front of the scripts that change a state. Adds an event to those that wait to be told: the record as it is
-- at this instant, under the number of its entry in the history. Beyond so many messages nothing is added.
local function add_event(P, id, now, number, entry, event)
  local waiting, list = P .. 'events', P .. 'events:' .. id
  if redis.call('ZCARD', waiting) >= event.most and not redis.call('ZSCORE', waiting, id) then
    redis.call('HINCRBY', P .. 'events-state', 'dropped', 1)
    return
  end
  local values, record = redis.call('HMGET', P .. 'm:' .. id, unpack(event.fields)), {}
  for i, name in ipairs(event.fields) do record[name] = values[i] or nil end
  redis.call('RPUSH', list, cjson.encode({number = number, entry = entry, record = record}))
  redis.call('EXPIRE', list, event.keep_s)
  redis.call('ZADD', waiting, 'NX', now, id)
end
