"""The RQ queues: a job carries only the id of a conversation, whose messages are in the store."""

import io
import json
import logging
import pickle
import socket
import zlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import utcformat

from cleo_email.errors import CleoError
from cleo_email.runtime import random_bits
from cleo_email.store.connection import PREFIX, StorePart, json_text
from cleo_email.store.faults import explain

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

OURS = "wake-"  # how the ids of wake-ups begin, whose jobs are gone once they are taken


class WakeQueue(StorePart):
    """Puts wake-ups into the queues. Losing one is harmless: the sweeper repeats it."""

    def __init__(self, redis: Redis, *, answer_timeout_s: int = 600) -> None:
        super().__init__(redis)
        self._answers = queue(redis, ANSWERS)
        self._mailbox = queue(redis, MAILBOX)
        self._timeout = answer_timeout_s
        self._kinds: dict[tuple[str, int, int | None], str] = {}

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
            if len(thread_ids) == 1:
                return int(self._wake(thread_ids[0], backlog, fresh))
            with self._redis.pipeline(transaction=False) as pipe:
                self._load_script("wake", pipe)
                for thread in thread_ids:
                    self._wake(thread, backlog, fresh, pipe)
                return sum(pipe.execute()[1:])
        except (RedisError, OSError) as error:
            log.warning("a wake-up was lost and will be repeated: %s", explain(error))
            return 0

    def conversation(self, thread_id: str) -> None:
        """Ask a worker to handle the thread. Raise StoreUnavailable."""
        self._put(self._answers, ANSWER_JOB, thread_id, timeout=self._timeout)

    def _wake(self, thread_id: str, backlog: bool, fresh: bool, pipe: Any = None) -> Any:
        return self._run("wake", args=self.job(thread_id, backlog=backlog, fresh=fresh), pipe=pipe)

    def job(self, thread_id: str, *, backlog: bool = False, fresh: bool = False) -> list[Any]:
        """Return the wake-up that ``wake_each`` puts into the queue, as put.lua takes it."""
        how: dict[str, Any] = {"timeout": self._timeout, "mark": f"{PREFIX}woken:{thread_id}"}
        how |= {"crowd": CROWD if fresh else "", "most": MOST_WAITING if backlog else ""}
        return self._job(self._answers, ANSWER_JOB, thread_id, **how)

    def poll(self, every_s: int) -> None:
        """Ask for one poll; the job expires when the next but one is due."""
        self._put(self._mailbox, POLL_JOB, timeout=3600, ttl=max(2, 2 * every_s))

    def upkeep(self) -> None:
        self._put(self._mailbox, UPKEEP_JOB, timeout=600, ttl=60)

    def waiting(self) -> int:
        return int(self._answers.count)

    def _put(self, to: Queue, name: str, *args: str, timeout: int, ttl: int | None = None) -> None:
        """Put a job into the queue, as RQ would."""
        self._run("wake", args=self._job(to, name, *args, timeout=timeout, ttl=ttl))

    def _job(
        self,
        to: Queue,
        name: str,
        *args: str,
        timeout: int,
        ttl: int | None = None,
        mark: str = "",
        crowd: int | str = "",
        most: int | str = "",
    ) -> list[Any]:
        """Return a job for the queue, as RQ would make it. With ``mark`` it goes there once.

        It goes to the front where more than ``crowd`` wait, and nowhere where ``most`` do; '' for no bound.
        """
        id_, at = f"{OURS}{random_bits(96):024x}", utcformat(datetime.now(UTC))
        data = PlainSerializer.dumps((name, None, args, {}))  # RQ reads what is not compressed, too
        where = [to.redis_queues_keys, to.key, Job.key_for(id_), id_]
        own = ["created_at", at, "enqueued_at", at, "data", data, "woken", mark]
        common = self._common(to, name, timeout, ttl)
        return [mark, WOKEN_S, *where, "" if ttl is None else ttl, crowd, most, common, *own]

    def _common(self, to: Queue, name: str, timeout: int, ttl: int | None) -> str:
        """Return what such jobs have in common, as a flat JSON list: RQ takes its time to make it."""
        kind = (name, timeout, ttl)
        if kind not in self._kinds:
            job = to.create_job(name, timeout=timeout, ttl=ttl, description=name, **KEPT_S)
            job.origin = to.name
            fields = {**job.to_dict(), "status": JobStatus.QUEUED.value}
            del fields["created_at"], fields["data"]  # each has its own
            self._kinds[kind] = json_text([str(item) for pair in fields.items() for item in pair])
        return self._kinds[kind]


class QueueReader(StorePart):
    """Takes jobs off one queue, and waits for them on a connection of its own that another thread can cut."""

    def __init__(self, redis: Redis, to: Queue) -> None:
        super().__init__(redis)
        self._queue = to
        self._connection = redis.connection_pool.get_connection()
        self._is_cut = False
        self.is_empty = False  # as far as it is known

    def take(self) -> tuple[str, PlainJob | None]:
        """Return ``ours`` and a wake-up, ``other`` and a job of RQ's, ``suspended``, ``none``.

        The job is None also where it was void, or cannot be read.
        """
        to = self._queue
        names = [to.key, to.intermediate_queue_key, Job.key_for(""), OURS, WORKERS_SUSPENDED]
        outcome, *found = self._run("take", args=[PREFIX, *names])
        kind = cast("bytes", outcome).decode()
        self.is_empty = kind == "none"
        if not found:
            return kind, None
        id_ = found[0].decode("utf-8", "replace")
        with suppress(NoSuchJobError):
            if kind == "other":
                return kind, cast("PlainJob", PlainJob.fetch(id_, to.connection, PlainSerializer))
            job = PlainJob(id_, connection=to.connection, serializer=PlainSerializer)
            flat, left = found[1:]
            self.is_empty = not left
            if flat:
                job.restore(dict(zip(flat[::2], flat[1::2], strict=True)))
                return kind, job
        return kind, None

    def wait(self, seconds: float) -> bool:
        """Wait until there is a job, at most so long, or until ``cut``. It stays where it is.

        Return whether there is one.
        """
        key, connection = self._queue.key, self._connection

        def ask() -> bool:
            if self._is_cut:
                return False
            command = ("BLMOVE", key, key, "LEFT", "LEFT", seconds)
            connection.send_command(*command)  # type: ignore[no-untyped-call]
            return connection.read_response() is not None

        def leave(_error: Exception) -> None:
            connection.disconnect()  # type: ignore[no-untyped-call]

        found = connection.retry.call_with_retry(ask, leave)
        self.is_empty = not found
        return found

    def cut(self) -> None:
        """End the waiting, now and for good."""
        self._is_cut = True
        if (link := getattr(self._connection, "_sock", None)) is not None:
            with suppress(OSError):
                # Not that of an SSLSocket, which another thread is reading.
                socket.socket.shutdown(link, socket.SHUT_RDWR)


def queue(redis: Redis, name: str) -> Queue:
    return Queue(name, connection=redis, serializer=PlainSerializer, job_class=PlainJob)
