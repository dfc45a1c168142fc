"""Signs of life: ticks that machines race for, when worker and poll were seen, what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from redis import Redis

from cleo_email.store.connection import ours
from cleo_email.store.keys import PREFIX

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
        with ours():
            return bool(self._redis.set(f"{PREFIX}tick:{name}", 1, nx=True, px=every_ms))

    def next_tick(self, name: str, ms: int) -> None:
        """The tick comes in so many milliseconds, whatever was said before."""
        with ours():
            self._redis.set(f"{PREFIX}tick:{name}", 1, px=max(ms, 1))

    def opened(self, name: str, quiet_ms: int) -> bool:
        """True for the first of a run of calls between each two of which less than ``quiet_ms`` passed."""
        with ours():
            return self._redis.set(f"{PREFIX}open:{name}", 1, px=quiet_ms, get=True) is None

    def tick_left_ms(self, name: str) -> int:
        with ours():
            return self._redis.pttl(f"{PREFIX}tick:{name}")

    def worker_seen(self, now: int) -> None:
        self._set("worker", now)

    def polled(self, now: int) -> None:
        """A poll succeeded: whatever was wrong with the mailbox is over."""
        with ours(), self._redis.pipeline() as pipe:
            pipe.hset(f"{PREFIX}pulse", "polled", now)
            pipe.hdel(f"{PREFIX}pulse", "poll_fault", "poll_faults")
            pipe.execute()

    def poll_fault(self, text: str) -> int:
        """Note why a poll failed; the number of failures in a row."""
        with ours(), self._redis.pipeline() as pipe:
            pipe.hset(f"{PREFIX}pulse", "poll_fault", text)
            pipe.hincrby(f"{PREFIX}pulse", "poll_faults", 1)
            return int(pipe.execute()[1])

    def rest(self, name: str, ms: int) -> None:
        with ours():
            self._redis.set(f"{PREFIX}rest:{name}", 1, px=ms)

    def resting(self, name: str) -> bool:
        with ours():
            return bool(self._redis.exists(f"{PREFIX}rest:{name}"))

    def fresh_start(self) -> None:
        """A worker starts, perhaps with other settings: what was wrong is tried again at once."""
        with ours(), self._redis.pipeline() as pipe:
            pipe.hdel(f"{PREFIX}pulse", "submission_fault", "poll_faults")
            pipe.delete(f"{PREFIX}rest:poll", f"{PREFIX}tick:poll", f"{PREFIX}tick:submission-probe")
            pipe.execute()

    def sent_mode(self) -> str:
        """Who files into Sent: ``server``, ``client``, or '' as long as nobody has looked."""
        with ours():
            raw = cast("bytes | None", self._redis.get(f"{PREFIX}sent-mode"))
        return (raw or b"").decode()

    def set_sent_mode(self, mode: str) -> None:
        """Remembered for a week: a mailbox may move to another server."""
        with ours():
            self._redis.set(f"{PREFIX}sent-mode", mode, ex=7 * 86_400)

    def submission_fault(self, text: str) -> None:
        """Nothing can be sent until a person acts; '' ends it."""
        self._set("submission_fault", text)

    def health(self) -> Health:
        with ours():
            raw = cast("dict[bytes, bytes]", self._redis.hgetall(f"{PREFIX}pulse"))
        return Health(
            int(raw.get(b"worker", 0)),
            int(raw.get(b"polled", 0)),
            raw.get(b"poll_fault", b"").decode(),
            raw.get(b"submission_fault", b"").decode(),
        )

    def scheduled(self, name: str, *, first: int) -> int:
        """When a schedule was last served; ``first`` for one that is met for the first time."""
        with ours(), self._redis.pipeline() as pipe:
            pipe.hsetnx(f"{PREFIX}schedules", name, first)
            pipe.hget(f"{PREFIX}schedules", name)
            return int(pipe.execute()[1])

    def set_scheduled(self, name: str, at: int) -> None:
        with ours():
            self._redis.hset(f"{PREFIX}schedules", name, at)

    def memory_share(self) -> float | None:
        """Used share of Redis's ``maxmemory``, or None where it has no limit or does not tell."""
        with ours():
            info = cast("dict[str, int]", self._redis.info("memory"))
        limit = int(info.get("maxmemory", 0))
        return int(info.get("used_memory", 0)) / limit if limit else None

    def _set(self, field: str, value: str | int) -> None:
        with ours():
            self._redis.hset(f"{PREFIX}pulse", field, value)


class MailboxState:
    """What the poll remembers of a mailbox, per UIDVALIDITY. ``account`` is '' where there is none."""

    def __init__(self, redis: Redis, account: str) -> None:
        self._redis = redis
        self._key = f"{PREFIX}mailbox:{account}"
        self.is_configured = bool(account)

    def cursor(self, uidvalidity: int) -> int | None:
        """The highest UID that was taken up, or None for a mailbox (or a UIDVALIDITY) never seen."""
        with ours():
            raw = cast("bytes | None", self._redis.hget(f"{self._key}:cursor", str(uidvalidity)))
        return int(raw) if raw is not None else None

    def set_cursor(self, uidvalidity: int, uid: int) -> None:
        with ours():
            self._redis.hset(f"{self._key}:cursor", str(uidvalidity), uid)

    def known(self) -> bool:
        """Whether this mailbox was ever read under any UIDVALIDITY."""
        with ours():
            return bool(self._redis.exists(f"{self._key}:cursor"))

    def trouble(self, uidvalidity: int) -> dict[int, int]:
        """UID to the number of times that it alone could not be fetched."""
        with ours():
            raw = cast("dict[bytes, bytes]", self._redis.hgetall(f"{self._key}:trouble:{uidvalidity}"))
        return {int(uid): int(count) for uid, count in raw.items()}

    def add_trouble(self, uidvalidity: int, uid: int) -> int:
        key = f"{self._key}:trouble:{uidvalidity}"
        with ours():
            return self._redis.hincrby(key, str(uid), 1)


class Chores:
    """Work on the mailbox that waits for the next connection: ``filing`` and ``settling``."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis = redis
        self._key = f"{PREFIX}{name}"

    def due(self, now: int, limit: int = 500) -> list[str]:
        with ours():
            raw = self._redis.zrange(self._key, "-inf", now, byscore=True, offset=0, num=limit)
        return [item.decode() for item in cast("list[bytes]", raw)]

    def add(self, id_: str, due: int) -> None:
        with ours():
            self._redis.zadd(self._key, {id_: due})

    def done(self, id_: str) -> None:
        with ours():
            self._redis.zrem(self._key, id_)
