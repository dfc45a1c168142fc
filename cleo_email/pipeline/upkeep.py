"""Upkeep of the mailbox: flags, our copy in Sent, uncertain submissions, mail fetched when a person asks.

All of it waits in the store until the mailbox is at hand and is repeated until it is done. None of it can
change what was sent, and none of it decides whether new mail is read.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import NotFound, WrongState
from cleo_email.imap.mailbox import Mailbox
from cleo_email.imap.session import RefusedForGood, RefusedForNow
from cleo_email.imap.values import ACCEPTED, ANSWERED, FAILED, HELD, REPLIED, SEEN, BatchFailed, MailboxStatus
from cleo_email.pipeline.receive import IncomingMail, Receiver
from cleo_email.runtime import HOUR, MINUTE, SECOND, Clock, now_ms
from cleo_email.store import Effects, Record, State, Store

log = logging.getLogger(__name__)

# How long a server that files by itself may take before our own copy is made.
FIRST_LOOK_MS = 5 * SECOND
# When a copy that could not be put into Sent is tried again, at first.
NEXT_COPY_MS = 30 * SECOND
DAY = 24 * HOUR


class MailboxFiler:
    """Uses the mailbox's connection; the caller holds the mailbox's lock."""

    def __init__(
        self,
        store: Store,
        mailbox: Mailbox,
        *,
        save_sent: bool,
        clock: Clock = now_ms,
    ) -> None:
        self._store = store
        self._mailbox = mailbox
        self._save_sent = save_sent
        self._clock = clock

    def due(self) -> list[Record]:
        return self._store.messages.load(self._store.filing.due(self._clock()))

    def flag(self, records: Sequence[Record]) -> None:
        """\\Answered and a keyword by state, one STORE for each: people see it in their own client.

        Raises MailboxError.
        """
        if not records:
            return
        crashpoint("chores-before-flags")
        status = self._mailbox.open()
        uids: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for record in records:
            validity, _, uid = record.mailbox.partition("/")
            if uid and int(validity) == status.uidvalidity:
                uids[_flags(record.state, keywords=status.keywords_allowed)].append(int(uid))
        for flags, members in uids.items():
            if flags and not status.read_only:
                self._mailbox.add_flags(members, flags)
        crashpoint("chores-after-flags")

    def file(self, record: Record) -> int:
        """Put our copy into Sent; 1 where nothing is left to do, 0 where it is tried again later.

        Raises MailboxError (of the connection), StoreUnavailable.
        """
        try:
            return self._file(record)
        except (RefusedForNow, RefusedForGood) as error:
            return self._later(record, str(error))

    def _later(self, record: Record, why: str) -> int:
        """A server that takes no copies costs a try now and then, and only for a day."""
        age = self._clock() - record.updated_at
        if age > DAY:
            log.error("no copy of the answer to message %s was put into Sent, given up: %s", record.id, why)
            self._store.filing.done(record.id)
            return 1
        log.warning("our copy of the answer to message %s is not in Sent: %s", record.id, why)
        self._store.filing.add(record.id, self._clock() + min(max(age, NEXT_COPY_MS), HOUR))
        return 0

    def _file(self, record: Record) -> int:
        """Our copy in Sent, unless the server files by itself: that is found out by looking, once."""
        if record.state is not State.REPLIED or not self._save_sent:
            self._store.filing.done(record.id)
            return 1
        mode = self._store.mailbox.sent_mode() or self._decide(record)
        if mode == "server":
            self._store.filing.done(record.id)
            return 1
        if not mode:
            return 0
        answer = self._store.messages.answer(record.id)
        begun = record.filing_begun and lies_in_sent(self._mailbox, record)
        if answer is not None and not begun:
            self._store.messages.note(record.id, "filing_begun", self._clock())
            # A copy that the server will not take, or that breaks the connection, must not stop the others.
            self._store.filing.add(record.id, self._clock() + NEXT_COPY_MS)
            crashpoint("chores-before-sent")
            self._mailbox.append_sent(answer.source, datetime.fromtimestamp(self._clock() / 1000, UTC))
            crashpoint("chores-after-sent")
        self._store.filing.done(record.id)
        return 1

    def _decide(self, record: Record) -> str:
        """Who files into Sent, ``server`` or ``client``; '' while it is too early to know."""
        mode = "client"
        if lies_in_sent(self._mailbox, record):
            mode = "server"
        elif self._clock() - record.updated_at < FIRST_LOOK_MS:
            self._store.filing.add(record.id, record.updated_at + FIRST_LOOK_MS)
            return ""
        self._store.mailbox.set_sent_mode(mode)
        return mode


def lies_in_sent(mailbox: Mailbox, record: Record) -> bool:
    """Whether the answer lies in Sent. Raises MailboxError."""
    day = datetime.fromtimestamp(record.received_at / 1000, UTC).date()
    # By the server's clock and zone; a Sent of years is not searched from its beginning.
    return mailbox.find_in_sent(record.reply_message_id, since=day - timedelta(days=2))


def _flags(state: State, *, keywords: bool) -> tuple[str, ...]:
    keyword = {State.REPLIED: REPLIED, State.HELD: HELD, State.FAILED: FAILED}.get(state)
    flags = [ANSWERED] if state is State.REPLIED else []
    if keywords and keyword:
        flags.append(keyword)
    return tuple(flags)


# When Sent is searched: some servers file a mail only after they have passed it on.
LOOKS_MS = (0, 20 * SECOND, 2 * MINUTE, 10 * MINUTE, HOUR)


class SendSettler:
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
        crashpoint("settle-after-find")
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


class PartialFetcher:
    """Uses the mailbox's connection; the caller holds the mailbox's lock. ``max_bytes`` in octets."""

    def __init__(
        self, store: Store, mailbox: Mailbox, intake: Receiver, *, max_bytes: int, clock: Clock = now_ms
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
        accepted = self._intake.accept(IncomingMail(source, "imap", mailbox=record.mailbox))
        uid = int(record.mailbox.partition("/")[2])
        if not status.read_only:
            self._mailbox.add_flags([uid], (SEEN, ACCEPTED))
        self._move(record, State.IGNORED, f"fetched at last: it goes on as message {accepted.id}")

    def _move(self, record: Record, state: State, reason: str) -> None:
        self._store.messages.move(record.id, state, now=self._clock(), reason=reason)


Thing = TypeVar("Thing")

# How long one run may keep the mailbox from the poll, its last step aside. A copy takes 0.1 s over the net.
RUN_S = 1.0


class Upkeep:
    def __init__(
        self,
        filing: MailboxFiler,
        settling: SendSettler,
        fetching: PartialFetcher,
        *,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._filing = filing
        self._settling = settling
        self._fetching = fetching
        self._timer = timer

    def run(self) -> int:
        """Do what is due, as far as ``RUN_S`` goes; the number of answers that are filed.

        Raises MailboxError, StoreUnavailable; what was not done stays due.
        """
        until = self._timer() + RUN_S
        records = self._filing.due()
        self._filing.flag(records)
        done = 0
        for record in self._in_time(records, until):
            done += self._filing.file(record)
        for id_ in self._in_time(self._settling.due(), until):
            self._settling.settle(id_)
        for id_ in self._in_time(self._fetching.due(), until):
            self._fetching.fetch(id_)
        return done

    def _in_time(self, things: Iterable[Thing], until: float) -> Iterator[Thing]:
        """The first of ``things`` in any case, the others until then: copies must not delay new mail."""
        for number, thing in enumerate(things):
            if number and self._timer() >= until:
                return
            yield thing
