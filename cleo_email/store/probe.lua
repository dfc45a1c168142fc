-- Does on keys of its own what the other scripts do, so that a Redis that would refuse them is found out before
-- a mail is. A test compares the commands.
-- ARGV: 1 the beginning of its keys, which it removes, 2 a list of RQ's kind, which gets an element and expires.
local P = ARGV[1]
local key, set, sorted, list, text = P .. 'hash', P .. 'set', P .. 'sorted', P .. 'list', P .. 'text'
redis.call('HSET', key, 'field', '1')
redis.call('EXPIRE', key, 60)
redis.call('PERSIST', key)
redis.call('HGET', key, 'field')
redis.call('HGETALL', key)
redis.call('HMGET', key, 'field')
redis.call('HEXISTS', key, 'field')
redis.call('HDEL', key, 'field')
redis.call('HINCRBY', key, 'count', 1)
redis.call('HSETNX', key, 'field', '1')
redis.call('SADD', set, '1')
redis.call('SISMEMBER', set, '1')
redis.call('ZADD', sorted, 'NX', 1, '1')
redis.call('ZSCORE', sorted, '1')
redis.call('ZCARD', sorted)
redis.call('ZREMRANGEBYSCORE', sorted, '-inf', 0)
redis.call('ZREMRANGEBYLEX', sorted, '[0', '[0')
redis.call('ZREM', sorted, '1')
redis.call('RPUSH', list, '1')
redis.call('LPOS', list, '1')
redis.call('LLEN', list)
redis.call('LREM', list, 0, '1')
redis.call('SET', text, '1', 'EX', 60)
redis.call('GET', text)
redis.call('EXISTS', text)
redis.call('DEL', key, set, sorted, list, text)
redis.call('RPUSH', ARGV[2], '1')
redis.call('PEXPIRE', ARGV[2], 60000)
return 1
