"""Locks, which expire when their holder dies, and ticks, which one of all processes gets."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from cleo_email.errors import StoreUnavailable
from cleo_email.store.connection import PREFIX, StorePart, redis_errors


@dataclass(frozen=True)
class Lock:
    """A lock that is held. ``token`` proves it to the scripts."""

    name: str
    token: str

    @property
    def key(self) -> str:
        return f"{PREFIX}lock:{self.name}"


class Locks(StorePart):
    """Keeps the locks that this process holds, renewed by one thread for all of them.

    ``ttl_ms`` bounds how long a killed process blocks a conversation.
    """

    def __init__(self, redis: Redis, *, ttl_ms: int = 15_000) -> None:
        super().__init__(redis)
        self._ttl = ttl_ms
        self._held: dict[str, Lock] = {}
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def hold(self, name: str) -> Iterator[Lock | None]:
        """Yield the lock of that name, or None where it is taken."""
        lock = Lock(name, secrets.token_hex(8))
        with redis_errors():
            taken = self._redis.set(lock.key, lock.token, nx=True, px=self._ttl)
            # If the reply was lost, redis-py repeats the SET, which then finds our own token.
            taken = taken or self._redis.get(lock.key) == lock.token.encode()
        if not taken:
            yield None
            return
        with self._guard:
            self._held[lock.token] = lock
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew, name="cleo-locks", daemon=True)
                self._thread.start()
        try:
            yield lock
        finally:
            self._release(lock)

    def release_all(self) -> None:
        """Release every lock, so that other processes continue the unfinished work at once."""
        self._stop.set()
        for lock in list(self._held.values()):
            self._release(lock)

    def _release(self, lock: Lock) -> None:
        with self._guard:
            self._held.pop(lock.token, None)
        with suppress(StoreUnavailable), redis_errors():  # else it expires by itself
            self._run("unlock", keys=[lock.key], args=[lock.token, 0])

    def _renew(self) -> None:
        while not self._stop.wait(self._ttl / 3000):
            with self._guard:
                held = list(self._held.values())
            for lock in held:
                try:
                    self._run("unlock", keys=[lock.key], args=[lock.token, self._ttl])
                except (RedisError, OSError):
                    break  # safe: each script checks the token before it writes


class Lease(StorePart):
    """A lock for as long as a process lives, which anybody may close to all of them for a while."""

    _CLOSED = "closed"

    def __init__(self, redis: Redis, name: str) -> None:
        super().__init__(redis)
        self._key = f"{PREFIX}lock:{name}"

    def take(self, token: str, ms: int) -> int:
        """Take or renew it. Return 0 where it is ours then, else in how many milliseconds it is free."""
        return int(self._run("lease", keys=[self._key], args=[token, ms]))

    def release(self, token: str) -> None:
        self._run("unlock", keys=[self._key], args=[token, 0])

    def close(self, ms: int) -> None:
        """Take it from its holder, who finds out when it renews it, and give it to nobody."""
        self._redis.set(self._key, self._CLOSED, px=ms)

    def reopen(self) -> None:
        """Let it be taken again, unless somebody holds it."""
        self.release(self._CLOSED)


class Ticks(StorePart):
    """Lets one of all processes act, by keys that expire."""

    def tick(self, name: str, every_ms: int) -> bool:
        """Return True for exactly one caller of all machines per ``every_ms``."""
        return bool(self._redis.set(f"{PREFIX}tick:{name}", 1, nx=True, px=every_ms))

    def next_tick(self, name: str, ms: int) -> None:
        """Set the next tick to come in ``ms`` milliseconds."""
        self._redis.set(f"{PREFIX}tick:{name}", 1, px=max(ms, 1))

    def opened(self, name: str, quiet_ms: int) -> bool:
        """Return True for the first call, and for the first after ``quiet_ms`` without one."""
        return self._redis.set(f"{PREFIX}open:{name}", 1, px=quiet_ms, get=True) is None

    def forget(self, name: str) -> None:
        """Let the next tick come at once."""
        self._redis.delete(f"{PREFIX}tick:{name}")

    def tick_left_ms(self, name: str) -> int:
        return self._redis.pttl(f"{PREFIX}tick:{name}")

    def rest(self, name: str, ms: int) -> None:
        self._redis.set(f"{PREFIX}rest:{name}", 1, px=ms)

    def resting(self, name: str) -> bool:
        return bool(self._redis.exists(f"{PREFIX}rest:{name}"))

    def scheduled(self, name: str, *, first: int) -> int:
        """Return when a schedule was last served, ``first`` where it is new."""
        with self._redis.pipeline() as pipe:
            pipe.hsetnx(f"{PREFIX}schedules", name, first)
            pipe.hget(f"{PREFIX}schedules", name)
            return int(pipe.execute()[1])

    def set_scheduled(self, name: str, at: int) -> None:
        self._redis.hset(f"{PREFIX}schedules", name, at)
