"""What the mailbox is told of an answer: flags on the mail that was answered, and our copy in Sent."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cleo_email.backoff import HOUR, SECOND
from cleo_email.clock import Clock, now_ms
from cleo_email.crashpoints import reach
from cleo_email.mailbox import ANSWERED, FAILED, HELD, REPLIED, Mailbox
from cleo_email.mailbox.faults import RefusedForGood, RefusedForNow
from cleo_email.store import Record, State, Store

log = logging.getLogger(__name__)

# How long a server that files by itself may take before our own copy is made.
FIRST_LOOK_MS = 5 * SECOND
# When a copy that could not be put into Sent is tried again, at first.
NEXT_COPY_MS = 30 * SECOND
DAY = 24 * HOUR


class Filing:
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
        reach("chores-before-flags")
        status = self._mailbox.open()
        uids: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for record in records:
            validity, _, uid = record.mailbox.partition("/")
            if uid and int(validity) == status.uidvalidity:
                uids[_flags(record.state, keywords=status.keywords_allowed)].append(int(uid))
        for flags, members in uids.items():
            if flags and not status.read_only:
                self._mailbox.add_flags(members, flags)
        reach("chores-after-flags")

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
        mode = self._store.pulse.sent_mode() or self._decide(record)
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
            reach("chores-before-sent")
            self._mailbox.append_sent(answer.source, datetime.fromtimestamp(self._clock() / 1000, UTC))
            reach("chores-after-sent")
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
        self._store.pulse.set_sent_mode(mode)
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
