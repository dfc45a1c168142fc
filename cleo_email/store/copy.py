"""Copy what one Redis holds of ours into another."""

from collections.abc import Callable
from typing import Any, cast

from redis import Redis

from cleo_email.store.connection import PREFIX, read_large, redis_errors

# What only the processes of the moment need.
_PASSING = ("lock:", "tick:", "rest:", "open:", "woken:", "failures:", "pulse")
_RECORDS, _ALL = f"{PREFIX}m:", f"{PREFIX}index:all"
_TOGETHER = 200  # keys in one round trip


def copy_store(source: Redis, target: Redis, progress: Callable[[int, int], None]) -> int:
    """Copy our keys with their expiry, and return their number. No process may be at work on either side.

    Value by value, and not by DUMP or replication: those need a target that is not older, and the embedded
    server is newer than the Redis of most systems. Records come first and the list of all of them last: until
    then the target counts as empty, so that a copy that was interrupted is made again from the start.

    :raises StoreUnavailable: one of the two does not answer.
    """
    with redis_errors():
        found = [key.decode() for key in source.scan_iter(f"{PREFIX}*", count=1000)]
        keys = [key for key in found if not key.removeprefix(PREFIX).startswith(_PASSING)]
        keys.sort(key=lambda key: (key == _ALL, not key.startswith(_RECORDS)))
        for start in range(0, len(keys), _TOGETHER):
            part = keys[start : start + _TOGETHER]
            with source.pipeline(transaction=False) as pipe:
                for key in part:
                    pipe.type(key)
                    pipe.pttl(key)
                facts = pipe.execute()
            for key, kind, left_ms in zip(part, facts[::2], facts[1::2], strict=True):
                _copy_key(source, target, key, kind.decode(), left_ms)
            progress(start + len(part), len(keys))
        return len(keys)


def holds_messages(redis: Redis) -> bool:
    """Return whether any message was accepted here, damaged ones included. Raise StoreUnavailable."""
    with redis_errors():
        return bool(redis.exists(_ALL))


def _copy_key(source: Redis, target: Redis, key: str, kind: str, left_ms: int) -> None:
    read: dict[str, Callable[[], Any]] = {
        "string": lambda: read_large(source, key),
        "hash": lambda: source.hgetall(key),
        "list": lambda: source.lrange(key, 0, -1),
        "set": lambda: source.smembers(key),
        "zset": lambda: dict(cast("Any", source.zrange(key, 0, -1, withscores=True))),
    }
    value = read[kind]() if kind in read else None
    if not value and value != b"":  # it has expired meanwhile
        return
    with target.pipeline() as pipe:
        pipe.delete(key)
        match kind:
            case "string":
                pipe.set(key, value)
            case "hash":
                pipe.hset(key, mapping=value)
            case "list":
                pipe.rpush(key, *value)
            case "set":
                pipe.sadd(key, *value)
            case "zset":
                pipe.zadd(key, value)
        if left_ms > 0:
            pipe.pexpire(key, left_ms)
        pipe.execute()
