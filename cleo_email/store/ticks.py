"""What workers compete for: ticks, rests after a fault, and when a schedule was last served."""

from __future__ import annotations

from redis import Redis

from cleo_email.store.connection import PREFIX, redis_errors


class Ticks:
    """Lets one of all processes act, by keys that expire. Every method raises StoreUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def tick(self, name: str, every_ms: int) -> bool:
        """Return True for exactly one caller of all machines per ``every_ms``."""
        with redis_errors():
            return bool(self._redis.set(f"{PREFIX}tick:{name}", 1, nx=True, px=every_ms))

    def next_tick(self, name: str, ms: int) -> None:
        """Let the tick come in so many milliseconds, whatever was set before."""
        with redis_errors():
            self._redis.set(f"{PREFIX}tick:{name}", 1, px=max(ms, 1))

    def opened(self, name: str, quiet_ms: int) -> bool:
        """Return True for the first of a run of calls that follow each other within ``quiet_ms``."""
        with redis_errors():
            return self._redis.set(f"{PREFIX}open:{name}", 1, px=quiet_ms, get=True) is None

    def tick_left_ms(self, name: str) -> int:
        with redis_errors():
            return self._redis.pttl(f"{PREFIX}tick:{name}")

    def rest(self, name: str, ms: int) -> None:
        with redis_errors():
            self._redis.set(f"{PREFIX}rest:{name}", 1, px=ms)

    def resting(self, name: str) -> bool:
        with redis_errors():
            return bool(self._redis.exists(f"{PREFIX}rest:{name}"))

    def scheduled(self, name: str, *, first: int) -> int:
        """Return when a schedule was last served, ``first`` where it is new."""
        with redis_errors(), self._redis.pipeline() as pipe:
            pipe.hsetnx(f"{PREFIX}schedules", name, first)
            pipe.hget(f"{PREFIX}schedules", name)
            return int(pipe.execute()[1])

    def set_scheduled(self, name: str, at: int) -> None:
        with redis_errors():
            self._redis.hset(f"{PREFIX}schedules", name, at)
