"""Signs of life and of trouble, as ``/readyz`` shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from redis import Redis

from cleo_email.store.connection import PREFIX, redis_errors

WORKER_MS = 90_000


@dataclass(frozen=True)
class Health:
    """Times in milliseconds since 1970, 0 for never; ``*_fault`` is '' or a line for a person."""

    worker_seen: int
    polled: int
    poll_fault: str
    submission_fault: str

    def worker_is_away(self, now: int) -> bool:
        """Whether no worker has been seen in the last 90 seconds."""
        return now - self.worker_seen > WORKER_MS


class Pulse:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def tick(self, name: str, every_ms: int) -> bool:
        """True for exactly one caller of all machines per ``every_ms``."""
        with redis_errors():
            return bool(self._redis.set(f"{PREFIX}tick:{name}", 1, nx=True, px=every_ms))

    def next_tick(self, name: str, ms: int) -> None:
        """The tick comes in so many milliseconds, whatever was said before."""
        with redis_errors():
            self._redis.set(f"{PREFIX}tick:{name}", 1, px=max(ms, 1))

    def opened(self, name: str, quiet_ms: int) -> bool:
        """True for the first of a run of calls between each two of which less than ``quiet_ms`` passed."""
        with redis_errors():
            return self._redis.set(f"{PREFIX}open:{name}", 1, px=quiet_ms, get=True) is None

    def tick_left_ms(self, name: str) -> int:
        with redis_errors():
            return self._redis.pttl(f"{PREFIX}tick:{name}")

    def worker_seen(self, now: int) -> None:
        self._set("worker", now)

    def polled(self, now: int) -> None:
        """A poll succeeded: whatever was wrong with the mailbox is over."""
        with redis_errors(), self._redis.pipeline() as pipe:
            pipe.hset(f"{PREFIX}pulse", "polled", now)
            pipe.hdel(f"{PREFIX}pulse", "poll_fault", "poll_faults")
            pipe.execute()

    def poll_fault(self, text: str) -> int:
        """Note why a poll failed; the number of failures in a row."""
        with redis_errors(), self._redis.pipeline() as pipe:
            pipe.hset(f"{PREFIX}pulse", "poll_fault", text)
            pipe.hincrby(f"{PREFIX}pulse", "poll_faults", 1)
            return int(pipe.execute()[1])

    def rest(self, name: str, ms: int) -> None:
        with redis_errors():
            self._redis.set(f"{PREFIX}rest:{name}", 1, px=ms)

    def resting(self, name: str) -> bool:
        with redis_errors():
            return bool(self._redis.exists(f"{PREFIX}rest:{name}"))

    def fresh_start(self) -> None:
        """A worker starts, perhaps with other settings: what was wrong is tried again at once."""
        with redis_errors(), self._redis.pipeline() as pipe:
            pipe.hdel(f"{PREFIX}pulse", "submission_fault", "poll_faults")
            pipe.delete(f"{PREFIX}rest:poll", f"{PREFIX}tick:poll", f"{PREFIX}tick:submission-probe")
            pipe.execute()

    def sent_mode(self) -> str:
        """Who files into Sent: ``server``, ``client``, or '' as long as nobody has looked."""
        with redis_errors():
            raw = cast("bytes | None", self._redis.get(f"{PREFIX}sent-mode"))
        return (raw or b"").decode()

    def set_sent_mode(self, mode: str) -> None:
        """Remembered for a week: a mailbox may move to another server."""
        with redis_errors():
            self._redis.set(f"{PREFIX}sent-mode", mode, ex=7 * 86_400)

    def submission_fault(self, text: str) -> None:
        """Nothing can be sent until a person acts; '' ends it."""
        self._set("submission_fault", text)

    def health(self) -> Health:
        with redis_errors():
            raw = cast("dict[bytes, bytes]", self._redis.hgetall(f"{PREFIX}pulse"))
        return Health(
            int(raw.get(b"worker", 0)),
            int(raw.get(b"polled", 0)),
            raw.get(b"poll_fault", b"").decode(),
            raw.get(b"submission_fault", b"").decode(),
        )

    def scheduled(self, name: str, *, first: int) -> int:
        """When a schedule was last served; ``first`` for one that is met for the first time."""
        with redis_errors(), self._redis.pipeline() as pipe:
            pipe.hsetnx(f"{PREFIX}schedules", name, first)
            pipe.hget(f"{PREFIX}schedules", name)
            return int(pipe.execute()[1])

    def set_scheduled(self, name: str, at: int) -> None:
        with redis_errors():
            self._redis.hset(f"{PREFIX}schedules", name, at)

    def memory_share(self) -> float | None:
        """Used share of Redis's ``maxmemory``, or None where it has no limit or does not tell."""
        with redis_errors():
            info = cast("dict[str, int]", self._redis.info("memory"))
        limit = int(info.get("maxmemory", 0))
        return int(info.get("used_memory", 0)) / limit if limit else None

    def _set(self, field: str, value: str | int) -> None:
        with redis_errors():
            self._redis.hset(f"{PREFIX}pulse", field, value)
