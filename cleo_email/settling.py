"""Whether a mail whose submission broke off was sent after all: a copy in Sent proves it."""

from __future__ import annotations

import logging

from cleo_email.backoff import HOUR, MINUTE, SECOND
from cleo_email.clock import Clock, now_ms
from cleo_email.crashpoints import reach
from cleo_email.errors import NotFound, WrongState
from cleo_email.filing import lies_in_sent
from cleo_email.mailbox import Mailbox
from cleo_email.mailbox.faults import RefusedForGood, RefusedForNow
from cleo_email.store import Effects, Record, State, Store

log = logging.getLogger(__name__)

# When Sent is searched: some servers file a mail only after they have passed it on.
LOOKS_MS = (0, 20 * SECOND, 2 * MINUTE, 10 * MINUTE, HOUR)


class Settling:
    """Uses the mailbox's connection; the caller holds the mailbox's lock."""

    def __init__(self, store: Store, mailbox: Mailbox, *, clock: Clock = now_ms) -> None:
        self._store = store
        self._mailbox = mailbox
        self._clock = clock

    def due(self) -> list[str]:
        return self._store.settling.due(self._clock())

    def settle(self, id_: str) -> None:
        """A copy in Sent proves that the mail was sent. Its absence proves nothing: a person decides.

        Raises MailboxError (of the connection), StoreUnavailable.
        """
        try:
            record = self._store.messages.get(id_)
            if record.state is State.UNCERTAIN and self._lies_in_sent(record):
                self._sent_after_all(id_)
                return
        except (NotFound, WrongState):
            self._store.settling.done(id_)
            return
        looks = record.looks + 1
        if record.state is not State.UNCERTAIN or looks >= len(LOOKS_MS):
            self._store.settling.done(id_)
            return
        self._store.messages.note(id_, "looks", looks)
        self._store.settling.add(id_, self._clock() + LOOKS_MS[looks])

    def _lies_in_sent(self, record: Record) -> bool:
        try:
            return lies_in_sent(self._mailbox, record)
        except (RefusedForNow, RefusedForGood) as error:  # a server that does not search Sent shows nothing
            log.warning("Sent cannot be searched for the answer to message %s: %s", record.id, error)
            return False

    def _sent_after_all(self, id_: str) -> None:
        reach("settle-after-find")
        self._store.messages.move(
            id_,
            State.REPLIED,
            now=self._clock(),
            reason="a copy in Sent shows that it was sent",
            effects=Effects(filing=self._clock(), fields={"filing_begun": self._clock()}),
            only_from=[State.UNCERTAIN],
        )
        log.info("message %s is settled: a copy in Sent shows that it was sent", id_)
        self._store.settling.done(id_)
