"""Locks, which end when their holder dies, and ticks, which one of all processes gets."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError

from cleo_email.errors import StoreUnavailable
from cleo_email.store.connection import PREFIX, StorePart, redis_errors
from cleo_email.store.source import unpacked

# A process that holds locks says so often that it is alive. One that has said nothing for ALIVE_MS is dead to
# those that have reached Redis without a gap for STEADY_S: after an outage all are silent for a while.
BEAT_S = 1.0
ALIVE_MS = 4_000
STEADY_S = 3.0
WATCHED_S = 10.0  # how long a process without locks goes on to say so, once it was asked whose holder is dead
MOST_SOURCE = 256 * 1024  # bytes of a mail that are read together with its record


@dataclass(frozen=True)
class Lock:
    """A lock that is held. ``token`` proves it to the scripts."""

    name: str
    token: str

    @property
    def key(self) -> str:
        return f"{PREFIX}lock:{self.name}"


@dataclass
class Head:
    """The message at the head of a conversation that is locked, and its record's ``fields``, {} for none.

    ``source`` is None where it is to be read by itself. ``goes_on`` says, after the end, whether the
    conversation has more that is due.
    """

    lock: Lock
    id: str
    fields: dict[bytes, bytes]
    source: bytes | None
    goes_on: bool = False


class Locks(StorePart):
    """Keeps the locks that this process holds, renewed by one thread for all of them.

    ``ttl_ms`` is how long a lock outlives all knowledge of its holder. ``beats`` is a connection that does
    not wait long, so that a hung one delays no sign of life.
    """

    def __init__(self, redis: Redis, *, beats: Redis | None = None, ttl_ms: int = 30_000) -> None:
        super().__init__(redis)
        self._beats = StorePart(beats if beats is not None else redis)
        self._process = secrets.token_hex(6)
        self._ttl = ttl_ms
        self._held: dict[str, Lock] = {}
        self._guard = threading.Lock()  # guards what follows
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._watched_until = 0.0  # by the monotonic clock, as are the next
        self._beaten = self._steady_since = self._renewed = 0.0

    @contextmanager
    def hold(self, name: str) -> Iterator[Lock | None]:
        """Yield the lock of that name, or None where it is taken."""
        lock = self._new(name)
        outcome, *_ = self._take(lock, ["", "", ""])
        if outcome != b"taken":
            yield None
            return
        self._keep(lock)
        try:
            yield lock
        finally:
            self._release(lock, ["", ""])

    @contextmanager
    def hold_conversation(self, thread_id: str, clock: Callable[[], int]) -> Iterator[Head | None]:
        """Yield what is due of a conversation, locked; None where nothing is, or somebody handles it."""
        lock = self._new(f"conversation:{thread_id}")
        outcome, *found = self._take(lock, [thread_id, clock(), MOST_SOURCE])
        if outcome != b"taken":
            yield None
            return
        self._keep(lock)
        id_, flat, source, kind = found
        source = unpacked(source) if source and kind == b"list" else source or None
        head = Head(lock, id_.decode(), dict(zip(flat[::2], flat[1::2], strict=True)), source)
        try:
            yield head
        finally:
            head.goes_on = self._release(lock, [thread_id, clock()])

    def holds(self, name: str) -> bool:
        """Return whether this process has the lock of that name, for what no script can check in its step."""
        token = cast("bytes | None", self._redis.get(Lock(name, "").key))
        return token is not None and token.decode("ascii", "replace") in self._held

    def free(self, threads: Sequence[str]) -> list[str]:
        """Return those of the conversations that nobody handles and that nobody has woken a moment ago.

        Nobody handles those without a lock, nor those with a dead holder's.
        """
        if not threads:
            return []
        locks = [Lock(f"conversation:{thread}", "").key for thread in threads]
        woken = [f"{PREFIX}woken:{thread}" for thread in threads]
        found = cast("list[bytes | None]", self._redis.mget([*locks, *woken]))
        tokens, marks = found[: len(threads)], found[len(threads) :]
        others = {_process_of(token) for token in tokens if token} - {"", self._process}
        dead: set[str] = set()
        if others and self.is_steady():
            with self._redis.pipeline(transaction=False) as pipe:
                for one in others:
                    pipe.exists(_alive_key(one))
                dead = {one for one, alive in zip(others, pipe.execute(), strict=True) if not alive}
        rows = zip(threads, tokens, marks, strict=True)
        return [one for one, token, mark in rows if not mark and (not token or _process_of(token) in dead)]

    def is_steady(self) -> bool:
        """Return whether this process may call another one dead; it may some seconds after the first call."""
        now = time.monotonic()
        with self._guard:
            self._watched_until = now + WATCHED_S
            self._begin()
            return now - self._beaten <= 2 * BEAT_S and now - self._steady_since >= STEADY_S

    def release_all(self) -> None:
        """Release every lock, so that other processes continue the unfinished work at once."""
        self._stop.set()
        for lock in list(self._held.values()):
            self._release(lock, ["", ""])

    def _new(self, name: str) -> Lock:
        return Lock(name, f"{self._process}.{secrets.token_hex(8)}")

    def _take(self, lock: Lock, about: list[Any]) -> list[Any]:
        inherits = "1" if self.is_steady() else ""
        args = [PREFIX, lock.name, lock.token, self._ttl, ALIVE_MS, inherits, *about]
        with redis_errors():
            return cast("list[Any]", self._run("lock", args=args))

    def _keep(self, lock: Lock) -> None:
        with self._guard:
            self._held[lock.token] = lock
            self._begin()

    def _release(self, lock: Lock, about: list[Any]) -> bool:
        with self._guard:
            self._held.pop(lock.token, None)
        with suppress(StoreUnavailable), redis_errors():  # else it expires by itself
            return bool(self._run("unlock", args=[PREFIX, lock.key, lock.token, *about]) == 2)
        return False

    # --- signs of life --------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._thread is None and not self._stop.is_set():
            self._thread = threading.Thread(target=self._live, name="cleo-locks", daemon=True)
            self._thread.start()

    def _live(self) -> None:
        while True:
            with suppress(RedisError, OSError):  # safe: each script checks the token before it writes
                self._beat()
            stopped = self._stop.wait(min(BEAT_S, self._ttl / 3000))
            with self._guard:
                if stopped or not (self._held or time.monotonic() < self._watched_until):
                    self._thread = None
                    return

    def _beat(self) -> None:
        begun = time.monotonic()
        with self._guard:
            is_due = begun - self._renewed >= self._ttl / 3000
            held = list(self._held.values()) if is_due else []
        pairs = [part for lock in held for part in (lock.key, lock.token)]
        self._beats._run("renew", args=[_alive_key(self._process), ALIVE_MS, self._ttl, *pairs])
        with self._guard:
            now = time.monotonic()
            self._renewed = begun if is_due else self._renewed
            if now - self._beaten > 2 * BEAT_S:
                self._steady_since = now
            self._beaten = now


def _alive_key(process: str) -> str:
    return f"{PREFIX}alive:{process}"


def _process_of(token: bytes) -> str:
    """Return the process of a lock's token, '' for one of an earlier version."""
    process, dot, _ = token.decode("ascii", "replace").partition(".")
    return process if dot else ""


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
        self._run("unlock", args=[PREFIX, self._key, token, "", ""])

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

    def take(self, steps: Sequence[tuple[str, int, str]]) -> list[int]:
        """Ask for several ticks at once: (name, interval in ms, keys of which one must exist, '' for none).

        Return for each 0 where it is the caller's, otherwise the milliseconds after which to ask again.
        """
        flat = [item for step in steps for item in step]
        return cast("list[int]", self._run("tick", args=[PREFIX, *flat]))

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
