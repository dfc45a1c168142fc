"""The thread that listens to the mailbox (IDLE): of all workers one, and its news wakes the poll at once."""

import logging
import secrets
import socket
import threading
import time
from contextlib import suppress

from cleo_email.app import App
from cleo_email.errors import MailboxError, MailboxLoginRefused, StoreUnavailable, place_of
from cleo_email.imap.idle import Idle, IdleRefused
from cleo_email.pipeline.logins import LIMITED, LIMITED_MS, LoginsUsedUp, is_of_a_limit
from cleo_email.pipeline.poll import ANNOUNCED, UNTOLD_MS
from cleo_email.runtime import DAY, SECOND, SeldomLog

log = logging.getLogger(__name__)

BEAT_S = 3.0  # between two renewals of the lease
LEASE_MS = 9 * SECOND  # after which another process listens in place of one that died
PAUSE_S = 0.1  # after news, so that a server which tells of something all the time leads to few polls
CONNECT_MS = 40 * SECOND  # the same while it connects
LOOK_S = 30.0  # between two looks at a lease that is closed
# After the first loss in a row, the second …: a login each. One that listened for so long begins a new row.
RESTS_S = (1, 30, 60, 300, 900)
LASTED_S = 900.0
REFUSED_MS = DAY  # until a server that does not do it is asked again, or a login that was refused is tried


class Listener(threading.Thread):
    """Listens while this process has the lease and its poll has logged in; ``end`` ends it at once.

    A login that fails here is never tried again soon: the poll is the one that finds out.
    """

    def __init__(self, app: App, idle: Idle) -> None:
        super().__init__(name="cleo-idle", daemon=True)
        self._app, self._idle = app, idle
        self._lease = app.store.listening
        self._token = secrets.token_hex(8)
        self._awake, self._waking = socket.socketpair()
        self._ending = threading.Event()
        self._told = SeldomLog()
        self._began = app.clock()
        self._losses = 0
        self._rests_until = 0.0  # monotonic
        self._refused = -1  # how many logins the poll had made when one was refused here
        self._said = False

    def end(self) -> None:
        """End the thread, and let another process listen."""
        self._ending.set()
        self._waking.send(b"x")
        self.join(2)

    def run(self) -> None:
        with suppress(StoreUnavailable):
            self._lease.reopen()  # the settings may be new
        while not self._ending.is_set():
            pause = BEAT_S
            try:
                pause = self._turn()
            except StoreUnavailable:
                self._idle.close()  # the ticker says it
            except Exception as error:  # noqa: BLE001 - if this thread ended, nobody would listen
                self._idle.close()
                if self._told.is_due(place_of(error)):
                    log.error("listening (IDLE) fails, the poll goes on: unexpected %s", place_of(error))
                pause = LOOK_S
            self._ending.wait(pause)
        self._idle.close()
        with suppress(StoreUnavailable):
            self._app.store.health.listens(0)
            self._lease.release(self._token)

    def _turn(self) -> float:
        """Listen, if this process is to do it, until that is over. Return the seconds to the next turn."""
        if taken_ms := self._lease.take(self._token, LEASE_MS):
            return min(taken_ms / SECOND + 0.01, LOOK_S)
        if not self._may_log_in():
            return BEAT_S
        self._lease.take(self._token, CONNECT_MS)
        begun = 0.0
        try:
            self._idle.begin()
            begun = time.monotonic()
            self._listen()
        except MailboxError as fault:
            self._idle.close()
            self._note(fault, time.monotonic() - begun if begun else None)
        return 0.1

    def _may_log_in(self) -> bool:
        """Return whether a login is due, and will be taken: the poll has succeeded since this process began.

        After a login that was refused this process's poll must have logged in anew.
        """
        store, rests = self._app.store, time.monotonic() < self._rests_until
        if rests and not 0 <= self._refused < self._logins():
            return False
        return store.health.read().polled >= self._began and not store.ticks.resting("poll")

    def _logins(self) -> int:
        """Return how often the poll of this process has logged in."""
        return self._app.mailbox.logins if self._app.mailbox else 0

    def _listen(self) -> None:
        """Wake the poll at each news until the connection, or the lease, is lost, or the process ends."""
        self._app.store.health.listens(self._app.clock())
        if not self._said:
            self._said = True
            log.info("the server tells of new mail by itself (IDLE)")
        self._wake()  # what came before, nobody tells
        held_until = beat = 0.0
        while not self._ending.is_set():
            if (now := time.monotonic()) >= beat:
                beat = now + BEAT_S
                try:
                    if self._lease.take(self._token, LEASE_MS):
                        break
                    held_until = now + LEASE_MS / SECOND
                except StoreUnavailable:
                    if now >= held_until:  # another process may listen by now
                        raise
            if self._idle.wait(beat - time.monotonic(), self._awake):
                self._wake()
                self._ending.wait(PAUSE_S)
        self._idle.close()

    def _wake(self) -> None:
        """Ask for a poll, unless one that was asked for has not begun yet."""
        app = self._app
        with suppress(StoreUnavailable):  # the next poll comes by itself
            if app.store.ticks.tick(ANNOUNCED, UNTOLD_MS):
                app.wake.poll(app.settings.poll_interval)

    def _note(self, fault: MailboxError, lasted_s: float | None) -> None:
        """Rest after a fault; ``lasted_s`` is None where there was no listening. What lasts is said once."""
        why, store, now = str(fault), self._app.store, time.monotonic()
        is_said, self._refused = True, -1
        if isinstance(fault, LoginsUsedUp):
            is_said, self._rests_until = False, now + fault.ms / SECOND
        elif isinstance(fault, MailboxLoginRefused):
            self._refused, self._rests_until = self._logins(), now + REFUSED_MS / SECOND
        elif isinstance(fault, IdleRefused):
            store.listening.close(REFUSED_MS)
        elif lasted_s is None and is_of_a_limit(fault):
            why = f"{LIMITED}: {fault}"
            store.listening.close(LIMITED_MS)
        else:
            self._losses = 1 if (lasted_s or 0) >= LASTED_S else self._losses + 1
            self._rests_until = now + RESTS_S[min(self._losses, len(RESTS_S)) - 1]
            is_said = self._losses > 1  # once in a while every server ends a connection
        store.health.listens(0, why)
        if is_said and self._told.is_due(why):
            log.warning("new mail waits for the poll, every %d s: %s", self._app.settings.poll_interval, why)
