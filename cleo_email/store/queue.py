"""The RQ queues: a job carries only the id of a conversation, whose messages are in the store."""

import io
import json
import logging
import pickle
import zlib
from collections.abc import Sequence
from typing import Any

from redis import Redis
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import CleoError, StoreUnavailable
from cleo_email.store.connection import PREFIX, redis_errors

log = logging.getLogger(__name__)

ANSWERS = "cleo-email"
MAILBOX = "cleo-email-mailbox"

ANSWER_JOB = "cleo_email.jobs.answer"
POLL_JOB = "cleo_email.jobs.poll"
UPKEEP_JOB = "cleo_email.jobs.chores"  # its name in Redis
ALLOWED = frozenset({ANSWER_JOB, POLL_JOB, UPKEEP_JOB})

KEPT_S: dict[str, Any] = {"result_ttl": 60, "failure_ttl": 3600}

_MALFORMED = (
    *(ValueError, TypeError, LookupError, ArithmeticError, AssertionError, AttributeError, EOFError),
    *(pickle.UnpicklingError, zlib.error),
)


class JobRefused(CleoError):
    """A job that names a function outside the allow-list, or data that is no plain data."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise JobRefused(f"job data that would import {module}.{name} is refused")


class PlainSerializer:
    """Writes JSON. Reads JSON, and pickles of plain data as ``rq cron`` and rq-scheduler write them."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        return json.dumps(value).encode()

    @staticmethod
    def loads(data: bytes) -> Any:
        try:
            return json.loads(data)
        except ValueError:
            return _PlainUnpickler(io.BytesIO(data)).load()


class PlainJob(Job):
    """An RQ job that runs nothing but the functions of this package's ``jobs``, and no callbacks."""

    @property
    def func(self) -> Any:
        if self.func_name not in ALLOWED or self.instance is not None:
            raise JobRefused(f"job {self.id} names {self.func_name!r}, which is not one of ours")
        return super().func

    # RQ imports a callback by the name that stands in Redis, and importing a module already runs it.
    success_callback = failure_callback = stopped_callback = property(lambda _self: None)

    def restore(self, raw_data: Any) -> None:
        """Read the job's hash; a malformed one counts as missing, since it would end RQ's loop."""
        try:
            super().restore(raw_data)
        except (*_MALFORMED, JobRefused) as error:
            raise NoSuchJobError(f"job {self.id} is malformed ({type(error).__name__})") from None


# A wake-up that has not been taken for so long counts as lost, and the sweeper repeats it.
WOKEN_S = 20
MOST_WAITING = 500  # wake-ups in the queue: those of a backlog are made as the queue drains
CROWD = 50  # wake-ups in the queue, of a backlog: whoever writes meanwhile does not wait for all of them


class WakeQueue:
    """Puts wake-ups into the queues. Losing one is harmless: the sweeper repeats it."""

    def __init__(self, redis: Redis, *, answer_timeout_s: int = 600) -> None:
        self._redis = redis
        self._answers = queue(redis, ANSWERS)
        self._mailbox = queue(redis, MAILBOX)
        self._timeout = answer_timeout_s

    def wake(self, thread_id: str) -> None:
        """Ask a worker to handle the thread. Its mail is stored already, so an error here loses nothing."""
        self.wake_each([thread_id])

    def wake_each(self, thread_ids: Sequence[str], *, backlog: bool = False, fresh: bool = False) -> int:
        """Ask for each thread, as ``wake`` does, and return how many were woken by that.

        Threads of a ``backlog`` are asked for as far as there is room in the queue; the sweeper does the rest
        as the queue drains. ``fresh`` ones pass a crowd: whoever wrote just now gets an answer soon.
        """
        if not thread_ids:
            return 0
        try:
            if backlog:
                thread_ids = thread_ids[: max(MOST_WAITING - self.waiting(), 0)]
            claimed, waiting = self._claim(thread_ids)
            for _ in claimed:
                crashpoint("wake-after-claim")
            self._conversations(claimed, at_front=fresh and waiting > CROWD)
            return len(claimed)
        except StoreUnavailable as error:
            log.warning("a wake-up was lost and will be repeated: %s", error)
            return 0

    def _claim(self, thread_ids: Sequence[str]) -> tuple[list[str], int]:
        """Return those threads that nobody else has woken a moment ago, and how many wake-ups wait.

        Each goes to one caller in WOKEN_S: a lost wake-up is repeated, not multiplied.
        """
        with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for thread in thread_ids:
                pipe.set(f"{PREFIX}woken:{thread}", 1, nx=True, ex=WOKEN_S)
            pipe.llen(self._answers.key)
            *claimed, waiting = pipe.execute()
        return [thread for thread, ours in zip(thread_ids, claimed, strict=True) if ours], waiting

    def conversation(self, thread_id: str) -> None:
        """Ask a worker to handle the thread. Raise StoreUnavailable."""
        self._conversations([thread_id])

    def _conversations(self, thread_ids: Sequence[str], *, at_front: bool = False) -> None:
        how: dict[str, Any] = {"timeout": self._timeout, "description": "conversation", **KEPT_S}
        jobs = [Queue.prepare_data(ANSWER_JOB, (one,), at_front=at_front, **how) for one in thread_ids]
        if jobs:
            with redis_errors():
                self._answers.enqueue_many(reversed(jobs) if at_front else jobs)

    def poll(self, every_s: int) -> None:
        """Ask for one poll; the job expires when the next but one is due."""
        self._put(self._mailbox, POLL_JOB, timeout=3600, ttl=max(2, 2 * every_s), what="poll")

    def upkeep(self) -> None:
        self._put(self._mailbox, UPKEEP_JOB, timeout=600, ttl=60, what="mailbox upkeep")

    def waiting(self) -> int:
        with redis_errors():
            return int(self._answers.count)

    def _put(self, to: Queue, name: str, *args: str, timeout: int, what: str, ttl: int | None = None) -> None:
        with redis_errors():
            to.enqueue_call(name, args=args, timeout=timeout, ttl=ttl, description=what, **KEPT_S)


def queue(redis: Redis, name: str) -> Queue:
    return Queue(name, connection=redis, serializer=PlainSerializer, job_class=PlainJob)
