"""The times of the last poll and of the worker's last heartbeat, and lasting errors, for ``/readyz``."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from redis.exceptions import ResponseError

from cleo_email.runtime import backoff_ms
from cleo_email.store.connection import PREFIX, StorePart

WORKER_MS = 90_000
LISTENING = "idle"  # the lease of the process that listens
PULSE, LISTENS = f"{PREFIX}pulse", f"{PREFIX}lock:{LISTENING}"
WORKERS = f"{PREFIX}workers"  # each process, by when it was last seen
TOTALS = f"{PREFIX}totals"
_SUBMISSION = ("submission_fault", "submission_limits", "submission_rests_until")


@dataclass(frozen=True)
class Health:
    """Times in milliseconds since 1970, 0 for never; ``*_fault`` is '' or a line for a person."""

    worker_seen: int
    polled: int
    poll_fault: str
    submission_fault: str
    submission_rests_until: int = 0  # no mail is to be tried before
    submission_limits: int = 0  # how often in a row the server refused mail by a limit of the account
    login_faults: int = 0  # polls in a row whose login was refused
    idle_since: int = 0  # since when the server tells of new mail by itself
    idle_fault: str = ""  # why it does not

    @property
    def smtp_login_refused(self) -> bool:
        return bool(self.submission_fault) and not self.submission_limits

    def worker_is_away(self, now: int) -> bool:
        """Return whether no worker has been seen in the last 90 seconds."""
        return now - self.worker_seen > WORKER_MS


def load_health(raw: Mapping[bytes, bytes], listens: int) -> Health:
    """Return what the hash PULSE says; ``listens``: LISTENS exists, for a killed process says nothing."""
    return Health(
        int(raw.get(b"worker", 0)),
        int(raw.get(b"polled", 0)),
        raw.get(b"poll_fault", b"").decode(),
        raw.get(b"submission_fault", b"").decode(),
        int(raw.get(b"submission_rests_until", 0)),
        int(raw.get(b"submission_limits", 0)),
        int(raw.get(b"login_faults", 0)),
        int(raw.get(b"idle_since", 0)) if listens else 0,
        raw.get(b"idle_fault", b"").decode(),
    )


class HealthStore(StorePart):
    """Keeps the times of the last heartbeat and poll, and the errors that a person has to mend."""

    def worker_seen(self, now: int, name: str = "") -> None:
        """Record the heartbeat of a worker process, which ``name`` tells from the others."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(f"{PREFIX}pulse", "worker", now)
            if name:
                pipe.zadd(WORKERS, {name: now})
                pipe.zremrangebyscore(WORKERS, "-inf", now - 10 * WORKER_MS)
            pipe.execute()

    def polled(self, now: int) -> None:
        """Record a successful poll, and remove the error of earlier ones."""
        with self._redis.pipeline() as pipe:
            pipe.hset(f"{PREFIX}pulse", "polled", now)
            pipe.hincrby(TOTALS, "polls:success", 1)
            pipe.hdel(f"{PREFIX}pulse", "poll_fault", "poll_faults", "login_faults")
            pipe.execute()

    def poll_fault(self, text: str, *, login_refused: bool = False) -> int:
        """Record why a poll failed. Return the number of failures of this kind since the last success."""
        with self._redis.pipeline() as pipe:
            pipe.hset(f"{PREFIX}pulse", "poll_fault", text)
            pipe.hincrby(f"{PREFIX}pulse", "login_faults" if login_refused else "poll_faults", 1)
            pipe.hincrby(TOTALS, "polls:failure", 1)
            return int(pipe.execute()[1])

    def poll_rests(self, why: str) -> None:
        """Record why nothing is polled now, though nothing is wrong with the server."""
        self._redis.hset(f"{PREFIX}pulse", "poll_fault", why)

    def upkeep_fault(self, work: str, text: str, *, counts: bool = True) -> int:
        """Record why one kind of upkeep of the mailbox fails. Return how often that counted in a row."""
        with self._redis.pipeline() as pipe:
            pipe.hset(f"{PREFIX}upkeep-faults", work, text)
            pipe.hincrby(f"{PREFIX}upkeep-counts", work, int(counts))
            return int(pipe.execute()[1])

    def upkeep_works(self, *works: str) -> None:
        """Remove the errors of these kinds of upkeep."""
        with self._redis.pipeline() as pipe:
            pipe.hdel(f"{PREFIX}upkeep-faults", *works)
            pipe.hdel(f"{PREFIX}upkeep-counts", *works)
            pipe.execute()

    def upkeep_faults(self) -> list[str]:
        """Return a line for each kind of upkeep that fails."""
        raw = cast("dict[bytes, bytes]", self._redis.hgetall(f"{PREFIX}upkeep-faults"))
        return [text.decode() for _, text in sorted(raw.items())]

    def fresh_start(self) -> None:
        """Forget the errors and rests when a worker starts, since its settings may be new.

        Refused logins stay counted: a worker that is started again and again must not knock each time anew.
        """
        with self._redis.pipeline() as pipe:
            pipe.hdel(f"{PREFIX}pulse", *_SUBMISSION, "poll_faults", "idle_fault")
            pipe.delete(f"{PREFIX}rest:poll", f"{PREFIX}tick:poll", f"{PREFIX}tick:submission-probe")
            pipe.execute()

    def submission_fault(self, text: str) -> None:
        """Record why nothing can be sent until a person acts; '' removes the error and any limit."""
        with self._redis.pipeline() as pipe:
            pipe.hdel(f"{PREFIX}pulse", *_SUBMISSION)
            if text:
                pipe.hset(f"{PREFIX}pulse", "submission_fault", text)
            pipe.execute()

    def submission_limited(self, text: str, now: int, at_least: int) -> int:
        """Record that the server takes no mail of the account for now, and return until when (ms) all mail is
        to rest: ``at_least`` so many milliseconds, longer each time in a row."""
        with self._redis.pipeline() as pipe:
            pipe.hset(f"{PREFIX}pulse", "submission_fault", text)
            pipe.hincrby(f"{PREFIX}pulse", "submission_limits", 1)
            row = int(pipe.execute()[1])
        until = now + max(backoff_ms(row), at_least)
        self._rest_until(until)
        return until

    def submission_rests_no_more(self) -> None:
        """Let the next mail be tried at once: a person asks for it."""
        self._rest_until(0)

    def _rest_until(self, until: int) -> None:
        with self._redis.pipeline() as pipe:
            pipe.hset(f"{PREFIX}pulse", "submission_rests_until", until)
            pipe.delete(f"{PREFIX}tick:submission-probe")
            pipe.execute()

    def listens(self, since: int, fault: str = "") -> None:
        """Record since when the server tells of new mail by itself (IDLE); 0: it does not, and why."""
        self._redis.hset(f"{PREFIX}pulse", mapping={"idle_since": since, "idle_fault": fault})

    def read(self) -> Health:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(PULSE)
            pipe.exists(LISTENS)
            return load_health(*pipe.execute())

    def try_writes(self) -> None:
        """Do what mail needs on scratch keys: all that scripts write, a transaction, RQ's blocking move.

        A server may answer and read, and still take no mail: a replica, a full one, one with other rights.
        """
        token = secrets.token_hex(8)
        queue = f"rq:queue:{PREFIX}probe:{token}"
        self._run("probe", args=[f"{PREFIX}probe:{token}:", queue])
        self._redis.blmove(queue, f"{queue}:intermediate", 1, "RIGHT", "LEFT")
        with self._redis.pipeline() as pipe:
            pipe.delete(queue, f"{queue}:intermediate")
            pipe.execute()

    def memory_share(self) -> float | None:
        """Return the used share of Redis's ``maxmemory``, None where it has no limit or does not say."""
        try:
            info = cast("dict[str, int]", self._redis.info("memory"))
        except ResponseError:  # a hosted one, or one whose user may not ask
            return None
        limit = int(info.get("maxmemory", 0))
        return int(info.get("used_memory", 0)) / limit if limit else None
