"""The time of Redis, which all processes have in common."""

import logging
import threading
import time

from redis import Redis
from redis.exceptions import RedisError

from cleo_email.runtime import MINUTE, SECOND, Clock, now_ms

log = logging.getLogger(__name__)

EVERY_S = MINUTE / SECOND
NOISE_MS = 250  # of measuring, beside the time that the answer took
TOLD_FROM_MS = 5 * SECOND


class ServerClock:
    """This machine's clock, corrected by what it differs from that of Redis.

    One process writes when work is due and another compares that with its own time: an hour between their
    clocks would make mail wait that hour. The difference is measured once a minute, by whoever asks then;
    while Redis is away the last one counts. A small one counts as none, so that the processes of one machine
    agree to the millisecond.
    """

    def __init__(self, redis: Redis, *, local: Clock = now_ms) -> None:
        self._redis = redis
        self._local = local
        self._guard = threading.Lock()
        self._next = 0.0  # by the monotonic clock
        self._ahead = 0

    def __call__(self) -> int:
        """Return milliseconds since 1970 UTC. Never raise."""
        if time.monotonic() >= self._next and self._guard.acquire(blocking=False):
            try:
                self._next = time.monotonic() + EVERY_S
                self._measure()
            finally:
                self._guard.release()
        return self._local() - self._ahead

    @property
    def ahead_ms(self) -> int:
        """By how much this machine's clock is ahead of that of Redis, 0 where that is next to nothing."""
        return self._ahead

    def _measure(self) -> None:
        begun = self._local()
        try:
            seconds, micros = self._redis.time()
        except (RedisError, OSError):
            return
        ended = self._local()
        ahead = (begun + ended) // 2 - (int(seconds) * SECOND + int(micros) // 1000)
        if abs(ahead - self._ahead) <= NOISE_MS + (ended - begun):
            return
        self._ahead = ahead if abs(ahead) > NOISE_MS else 0
        if abs(ahead) >= TOLD_FROM_MS:
            log.warning("%s", self.describe())

    def describe(self) -> str:
        """Return a line that names the difference and what to do about it."""
        seconds, which = abs(self._ahead) / SECOND, "ahead of" if self._ahead > 0 else "behind"
        return (
            f"this machine's clock is {seconds:.0f} s {which} that of the machine of Redis, which counts:"
            " set both by NTP (timedatectl set-ntp true)"
        )
