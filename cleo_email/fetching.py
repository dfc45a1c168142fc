"""The whole of a mail of which only a header, or nothing, was kept: fetched when a person asks for it."""

from __future__ import annotations

import logging

from cleo_email.clock import Clock, now_ms
from cleo_email.errors import NotFound, WrongState
from cleo_email.intake import Arrival, Intake
from cleo_email.mailbox import ACCEPTED, SEEN, BatchFailed, Mailbox, MailboxStatus
from cleo_email.mailbox.faults import RefusedForGood, RefusedForNow
from cleo_email.store import Effects, Record, State, Store

log = logging.getLogger(__name__)


class Fetching:
    """Uses the mailbox's connection; the caller holds the mailbox's lock. ``max_bytes`` in octets."""

    def __init__(
        self, store: Store, mailbox: Mailbox, intake: Intake, *, max_bytes: int, clock: Clock = now_ms
    ) -> None:
        self._store = store
        self._mailbox = mailbox
        self._intake = intake
        self._max_bytes = max_bytes
        self._clock = clock

    def due(self) -> list[str]:
        return self._store.fetching.due(self._clock())

    def fetch(self, id_: str) -> None:
        """Fetch the mail and let it go on. Raises MailboxError (of the connection), StoreUnavailable."""
        try:
            self._fetch(self._store.messages.get(id_))
        except (NotFound, WrongState):
            log.info("message %s is not to be fetched any more", id_)
        self._store.fetching.done(id_)

    def _fetch(self, record: Record) -> None:
        quarantined = not self._store.messages.source(record.id)
        status = self._mailbox.open()
        try:
            source = self._whole(record, status)
        except (BatchFailed, RefusedForNow, RefusedForGood) as error:
            # else it would be tried for ever, before everything that waits behind it
            source = f"the server could not deliver the mail: {error}"
        if isinstance(source, str):
            state = State.FAILED if quarantined else State.HELD
            self._move(record, state, source)
        elif quarantined:
            self._accept(record, source, status)
        else:
            self._store.messages.replace_source(record.id, source)
            self._store.messages.move(
                record.id, State.RECEIVED, now=self._clock(), quiet=True, effects=Effects(push=True)
            )

    def _whole(self, record: Record, status: MailboxStatus) -> bytes | str:
        """The mail, or why there is none."""
        validity, _, uid = record.mailbox.partition("/")
        if not uid:
            return "the mail came without its text, and not from the mailbox: it cannot be fetched"
        if int(validity) != status.uidvalidity:
            return "the mail cannot be found any more: the mailbox has a new UIDVALIDITY"
        info = self._mailbox.describe([int(uid)]).get(int(uid))
        if info is not None and info.size > self._max_bytes:
            return f"{info.size} bytes, more than EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes}): raise it first"
        fetched = self._mailbox.fetch_one(int(uid))
        return fetched.source if fetched is not None else "the mail is no more in the mailbox"

    def _accept(self, record: Record, source: bytes, status: MailboxStatus) -> None:
        """Nothing was known of a mail in quarantine: who wrote it, in which thread, and whether it was taken
        already on another way. So it comes in like any other, and the record points to its own."""
        accepted = self._intake.accept(Arrival(source, "imap", mailbox=record.mailbox))
        uid = int(record.mailbox.partition("/")[2])
        if not status.read_only:
            self._mailbox.add_flags([uid], (SEEN, ACCEPTED))
        self._move(record, State.IGNORED, f"fetched at last: it goes on as message {accepted.id}")

    def _move(self, record: Record, state: State, reason: str) -> None:
        self._store.messages.move(record.id, state, now=self._clock(), reason=reason)
