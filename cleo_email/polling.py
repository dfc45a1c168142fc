"""When the mailbox is used, and by whom: one process at a time, with rests after faults."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cleo_email.backoff import MINUTE, SECOND
from cleo_email.chores import Chores
from cleo_email.clock import Clock, now_ms
from cleo_email.errors import MailboxError, MailboxLoginRefused
from cleo_email.mailbox import Mailbox
from cleo_email.reading import Reading
from cleo_email.reading_pass import PollResult
from cleo_email.store import Store

log = logging.getLogger(__name__)

LOCK = "mailbox"
BUSY_MS = 3 * SECOND
CHORES_MS = SECOND  # between two runs of chores
# A poll that has not told its end by then is asked for again: its process may be gone.
UNTOLD_MS = 20 * SECOND
# After a fault the next poll waits 1, 2, 4 … seconds; after a refused login five minutes, since many servers
# lock an account that tries too often.
LONGEST_REST_MS = 30_000
LOGIN_REST_MS = 5 * MINUTE


class Polling:
    """Reads the mailbox and does its chores, never two at once; ``interval_s`` between two polls."""

    def __init__(
        self,
        store: Store,
        mailbox: Mailbox,
        reading: Reading,
        chores: Chores,
        *,
        interval_s: int = 60,
        clock: Clock = now_ms,
    ) -> None:
        self._store = store
        self._mailbox = mailbox
        self._reading = reading
        self._chores = chores
        self._interval = interval_s * SECOND
        self._clock = clock

    def run(self, *, force: bool = False, progress: Callable[[int, int], None] | None = None) -> PollResult:
        """One poll. Raises MailboxError (noted for ``/readyz``) and StoreUnavailable.

        ``force``: a person asked for this one and is told of its fault by whoever called; it is not logged.
        """
        pulse = self._store.pulse
        if not force and pulse.resting("poll"):
            return PollResult(resting=True)
        begun = self._clock()
        with self._store.locks.hold(LOCK) as lock:
            if lock is None:
                # Somebody is at it, or was and died: its lock says no more for some seconds.
                pulse.next_tick("poll", min(BUSY_MS, self._interval))
                return PollResult(busy=True)
            with self._resting_after_a_fault(logged=not force):
                result = self._reading.run(progress or (lambda _done, _all: None))
                pulse.polled(self._clock())
                self._chores.run()
            pulse.next_tick("poll", self._interval - (self._clock() - begun))
            return result

    def chores(self) -> int | None:
        """What waits for the mailbox: flags, copies, searches of Sent. None where it is busy or rests.

        Raises MailboxError and StoreUnavailable; what was not done stays due.
        """
        pulse = self._store.pulse
        # While a long poll had the mailbox, wake-ups for chores may have piled up before those for polls.
        if pulse.resting("poll") or pulse.tick_left_ms("chores-done") > 0:
            return None
        with self._store.locks.hold(LOCK) as lock:
            if lock is None:
                return None
            with self._resting_after_a_fault():
                done = self._chores.run()
            pulse.next_tick("chores-done", CHORES_MS)
            return done

    @contextmanager
    def _resting_after_a_fault(self, *, logged: bool = True) -> Iterator[None]:
        """A server that is down, or that refuses the login, is not asked all the time."""
        try:
            yield
        except MailboxError as error:
            self._mailbox.close()
            pulse = self._store.pulse
            faults = pulse.poll_fault(str(error))
            rest = min(SECOND * 2 ** min(faults - 1, 10), LONGEST_REST_MS)
            if isinstance(error, MailboxLoginRefused):
                rest = LOGIN_REST_MS
            pulse.rest("poll", rest)
            pulse.next_tick("poll", rest)
            if logged:
                log.warning("the mailbox fails (the next attempt is in %d s): %s", rest // SECOND, error)
            raise
