"""Functions that every part uses: the clock, numbers by chance, back-off, deadlines, memory, the log.

Nothing can interrupt a thread: each part of a job has its own end (the deadlines below, in seconds), and the
watchdog, which ends the whole process, waits for all of them together.
"""

import ctypes
import ipaddress
import logging
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from cleo_email.errors import AgentUnavailable

Clock = Callable[[], int]


def now_ms() -> int:
    """Return milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def random_bits(count: int) -> int:
    """Return a number of so many random bits, which need not be secret.

    ``secrets`` would ask the system each time, and another thread would take over meanwhile.
    """
    return _random_of(os.getpid()).getrandbits(count)


@cache
def _random_of(process: int) -> random.Random:
    """Return a generator of this process alone. That of the module ``random`` may be seeded by an agent."""
    return random.Random()  # noqa: S311


SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def backoff_ms(failures: int) -> int:
    """Return the milliseconds to wait after the n-th failure in a row: 10 s, doubling up to an hour."""
    return int(min(10 * SECOND * 2 ** min(max(failures, 1) - 1, 20), HOUR))


# One operation of a worker on Redis: a connection of the pool becomes free, and is tried several times.
REDIS_POOL_S = 20
REDIS_CONNECT_S = 3
REDIS_ANSWER_S = 15
REDIS_RETRIES = 4
REDIS_PAUSE_S = 1.0  # the longest between two tries
REDIS_TRY_S = REDIS_CONNECT_S + REDIS_ANSWER_S
REDIS_S = REDIS_POOL_S + REDIS_TRY_S + REDIS_RETRIES * (REDIS_PAUSE_S + REDIS_TRY_S)

# Whether the sender is proven: for each signature the policies of two domains, and a key.
DNS_S = 4.0  # one question, its repetitions included
SIGNATURES_TRIED = 5
PROOF_S = 5.0  # all questions of one mail together

# Large mails are composed and sent a few at a time.
COMPOSING_TURN_S = 120.0
SENDING_TURN_S = 30.0

TOKEN_RENEWAL_S = 30.0  # by another process
TOKEN_REQUEST_S = 15.0

LOOK_S = 60.0  # whether a person has answered: drafts are taken out, and Sent is read before the final dot
SUBMISSION_S = 180.0  # waiting for a connection, and a second one, included
# How long the outcome of a submission, which only this process knows, waits for Redis.
RECORD_S = 120.0

# An operation that Redis leaves unanswered ends the job, but for those around the end of DATA: the mark
# before it, the one at which the waiting ends, and one more without the lock.
AROUND_THE_AGENT_S = PROOF_S + COMPOSING_TURN_S + SENDING_TURN_S + TOKEN_RENEWAL_S + TOKEN_REQUEST_S
AROUND_THE_AGENT_S += LOOK_S + SUBMISSION_S + RECORD_S + 3 * REDIS_S


class Deadline:
    """A time ``seconds`` from now, by which several waits together must end."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left, always more than 0 (a socket time-out of 0 would mean "do not block").

        :raises TimeoutError: nothing is left.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError(self.said)
        return left

    def cap(self, seconds: float) -> float:
        """Return ``seconds``, or what is left if that is less. Raise as :meth:`left` does."""
        return min(seconds, self.left())

    @property
    def said(self) -> str:
        """Return the text of the error once it is over."""
        return f"no answer within {round(self.seconds, 2):g} s"


_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_FROM = 256 * 1024  # bytes
_HEAPS = 2


def give_back_large_blocks() -> None:
    """Make glibc return the memory of large mails to the system. Do nothing without glibc.

    Each time glibc frees a large block it raises the size from which blocks are mapped singly, up to 32 MB;
    smaller blocks stay in a thread's heap (mallopt(3)). So there are few heaps, as threads of Python wait for
    one another anyway.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _FROM)
        libc.mallopt(_M_ARENA_MAX, _HEAPS)
    except (OSError, AttributeError):
        return


class SeldomLog:
    """Limits the log of an error that goes on to one line in ten minutes."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._logged: dict[str, float] = {}

    def is_due(self, fault: str) -> bool:
        """Return whether the fault is to be logged now."""
        now = time.monotonic()
        with self._guard:
            due = now - self._logged.get(fault, -600.0) >= 600.0
            if due:
                self._logged[fault] = now
        return due


class LargeWork:
    """Lets at most ``at_once`` threads of this process work on something of ``from_bytes`` or more.

    Fifty conversations at once need little memory, fifty mails of 25 MB at once too much.
    """

    def __init__(self, at_once: int, *, from_bytes: int = 1 << 20) -> None:
        self._from = from_bytes
        self._slots = threading.BoundedSemaphore(at_once)

    @contextmanager
    def turn(self, size: int, *, patience: float | None = None) -> Iterator[bool]:
        """Yield True once it is our turn, False if it is not within ``patience`` seconds (None: for ever)."""
        if size < self._from:
            yield True
            return
        taken = self._slots.acquire(timeout=patience)
        try:
            yield taken
        finally:
            if taken:
                self._slots.release()


class AtWork:
    """Counts the conversations at which this process works; those that wait for their agent do not count.

    More than ``most`` at once would make no answer earlier, as they share one interpreter and a few
    connections: each would take longer, also that of whoever wrote just now.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._changed = threading.Condition()

    def begin(self) -> None:
        with self._changed:
            self._count += 1

    def end(self) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Do not count meanwhile."""
        self.end()
        try:
            yield
        finally:
            self.begin()

    def await_room(self, seconds: float) -> bool:
        """Wait until fewer than ``most`` are at work, at most so long. Return whether there is room."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count < self._most, seconds)


_IN_URL = re.compile(r"([?&]secret=)[^&\s\"']+")


class WithoutSecrets(logging.Filter):
    """Removes ``secret=…`` of a URL from every line, because SendGrid can send a secret only in its URL."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a format that does not fit: logging reports it
            return True
        if "secret=" in text:
            record.msg, record.args = _IN_URL.sub(r"\1…", text), ()
        return True


def set_up_logging() -> None:
    """Log to standard error: our lines from INFO on, RQ's from WARNING on (it logs each wake-up thrice)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(WithoutSecrets())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    for name in ("gunicorn.access", "gunicorn.error"):  # they have handlers of their own
        logging.getLogger(name).addFilter(WithoutSecrets())
    root.setLevel(logging.WARNING)
    logging.getLogger("cleo_email").setLevel(logging.INFO)
    # Before RQ looks: it sets INFO where no level is set.
    for name in ("rq.worker", "rq.job", "rq.queue", "rq.registry"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("rq.worker").propagate = True


# --- calls under a deadline -------------------------------------------------------------------------------

Given = TypeVar("Given")

_running: dict[object, float] = {}  # each call whose thread is alive -> end of its deadline (monotonic)
_running_lock = threading.Lock()


class CallFailed(Exception):
    """The call failed. ``error`` is the exception that it raised, None where it did not end in time."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__(type(error).__name__ if error else "out of time")
        self.error = error


def call_within(
    limit: Deadline, call: Callable[[Callable[[], bool]], Given], *, name: str = "agent-call"
) -> Given:
    """Return the result of ``call``, run in a daemon thread, because nothing can interrupt foreign code.

    ``call`` gets a function that returns whether its result is no longer waited for.

    :raises CallFailed: it raised something, did not end in time, or the system gives no further thread.
    """
    future: Future[Given] = Future()
    abandoned = threading.Event()

    def work() -> None:
        with _running_lock:
            _running[future] = limit.end
        try:
            future.set_result(call(abandoned.is_set))
        except BaseException as error:  # noqa: BLE001  (a stranger's code: even SystemExit is a failed call)
            future.set_exception(error)
        finally:
            with _running_lock:
                _running.pop(future, None)

    try:
        limit.left()
        threading.Thread(target=work, name=name, daemon=True).start()
        wait([future], limit.left())
    except TimeoutError:
        raise CallFailed from None
    except RuntimeError:
        raise CallFailed(AgentUnavailable("the system gives no new thread")) from None
    finally:
        abandoned.set()
    if not future.done():
        raise CallFailed
    if (error := future.exception()) is not None:
        raise CallFailed(error)
    return future.result()


def stuck_calls() -> list[float]:
    """Return the seconds beyond its deadline of each call that is still running, the oldest first.

    A thread cannot be ended from outside: a watchdog that sees these grow ends the process.
    """
    now = time.monotonic()
    with _running_lock:
        return sorted((now - end for end in _running.values() if now > end), reverse=True)


def is_loopback(host: str) -> bool:
    """Return whether the host, in lower case, is this machine itself (RFC 6761 section 6.3)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
