"""A connection that is kept between uses, because servers throttle a login for every poll."""

from __future__ import annotations

import ssl
import time

from cleo_email.accounts import ImapAccount
from cleo_email.errors import MailboxError

from .values import Timeouts
from .wire import Wire
from .words import Words

QUIET = 30.0  # seconds without an answer after which a kept connection is tried before it is used


class KeptConnection:
    """Gives the live connection of an account, and a new one where it has died. Not for several threads."""

    def __init__(self, account: ImapAccount, context: ssl.SSLContext | None, timeouts: Timeouts) -> None:
        self.account = account
        self.logins = 0
        self._context = context
        self._timeouts = timeouts
        self._words = Words()
        self._wire: Wire | None = None

    def wire(self, *, try_after: float = QUIET) -> Wire:
        """The kept connection, tried by NOOP if last heard of ``try_after`` seconds ago; or a new one.

        Raises what :class:`Wire` raises when it connects.
        """
        wire = self._wire
        if wire is not None and wire.alive and time.monotonic() - wire.heard >= try_after:
            try:
                wire.noop(self._timeouts.liveness)
            except MailboxError:
                wire.discard()
        if wire is None or not wire.alive:
            self._wire = None
            self._wire = wire = Wire(self.account, self._context, self._timeouts, self._words)
            self.logins += 1
        return wire

    def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None and wire.alive:
            wire.log_out()
