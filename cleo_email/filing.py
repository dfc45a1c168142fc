"""What the mailbox is told afterwards: flags on the mail, our copy in Sent, and whether a lost send was none.

None of it can change what was sent. It waits in the store until the mailbox is at hand, and is repeated
until it is done.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from cleo_email.backoff import HOUR, MINUTE, SECOND
from cleo_email.clock import Clock, now_ms
from cleo_email.crashpoints import reach
from cleo_email.errors import NotFound, WrongState
from cleo_email.mailbox import ANSWERED, FAILED, HELD, REPLIED, BatchFailed, Mailbox, MailboxStatus
from cleo_email.mailbox.faults import RefusedForGood, RefusedForNow
from cleo_email.store import Effects, Record, State, Store

log = logging.getLogger(__name__)
Thing = TypeVar("Thing")

# How long one run may keep the mailbox from the poll, its last step aside. A copy takes 0.1 s over the net.
RUN_S = 1.0

# When Sent is searched for a mail of which nobody knows whether it was sent: some servers file it only after
# they have passed it on.
LOOKS_MS = (0, 20 * SECOND, 2 * MINUTE, 10 * MINUTE, HOUR)
# How long a server that files by itself may take before our own copy is made.
FIRST_LOOK_MS = 5 * SECOND
# When a copy that could not be put into Sent is tried again.
NEXT_COPY_MS = 30 * SECOND


class Filing:
    """Uses the mailbox's connection; the caller holds the mailbox's lock."""

    def __init__(
        self,
        store: Store,
        mailbox: Mailbox,
        *,
        save_sent: bool,
        max_bytes: int,
        clock: Clock = now_ms,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._mailbox = mailbox
        self._save_sent = save_sent
        self._max_bytes = max_bytes
        self._clock = clock
        self._timer = timer

    def run(self) -> int:
        """Do what is due, as far as ``RUN_S`` goes; the number of records that are finished.

        Raises MailboxError, StoreUnavailable; what was not done stays due.
        """
        until = self._timer() + RUN_S
        records = self._store.messages.load(self._store.filing.due(self._clock()))
        if records:
            reach("chores-before-flags")
            self._flag(records)
            reach("chores-after-flags")
        done = 0
        for record in self._in_time(records, until):
            done += self._file_or_say(record)
        for id_ in self._in_time(self._store.settling.due(self._clock()), until):
            self._settle(id_)
        for id_ in self._in_time(self._store.fetching.due(self._clock()), until):
            self._fetch(id_)
        return done

    def _in_time(self, things: Iterable[Thing], until: float) -> Iterator[Thing]:
        """The first of ``things`` in any case, the others until then: copies must not delay new mail."""
        for number, thing in enumerate(things):
            if number and self._timer() >= until:
                return
            yield thing

    def _flag(self, records: Sequence[Record]) -> None:
        """\\Answered and a keyword by state, one STORE for each: people see it in their own client."""
        status = self._mailbox.open()
        uids: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for record in records:
            validity, _, uid = record.mailbox.partition("/")
            if uid and int(validity) == status.uidvalidity:
                uids[_flags(record.state, keywords=status.keywords_allowed)].append(int(uid))
        if status.read_only:
            return
        for flags, members in uids.items():
            if flags:
                self._mailbox.add_flags(members, flags)

    def _file_or_say(self, record: Record) -> int:
        try:
            return self._file(record)
        except (RefusedForNow, RefusedForGood) as error:
            log.warning("our copy of the answer to message %s is not in Sent: %s", record.id, error)
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
        begun = record.filing_begun and self._mailbox.find_in_sent(record.reply_message_id)
        if answer is not None and not begun:
            self._note(record, "filing_begun", self._clock())
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
        if self._mailbox.find_in_sent(record.reply_message_id):
            mode = "server"
        elif self._clock() - record.updated_at < FIRST_LOOK_MS:
            self._store.filing.add(record.id, record.updated_at + FIRST_LOOK_MS)
            return ""
        self._store.pulse.set_sent_mode(mode)
        return mode

    def _fetch(self, id_: str) -> None:
        """The whole of a mail of which only the header was kept, now that a person wants it answered."""
        try:
            record = self._store.messages.get(id_)
            why = self._refetch(record)
            if why:
                self._store.messages.move(id_, State.HELD, now=self._clock(), reason=why)
            else:
                effects = Effects(push=True)
                self._store.messages.move(id_, State.RECEIVED, now=self._clock(), quiet=True, effects=effects)
        except (NotFound, WrongState):
            log.info("message %s is not to be fetched any more", id_)
        self._store.fetching.done(id_)

    def _refetch(self, record: Record) -> str:
        status = self._mailbox.open()
        validity, _, uid = record.mailbox.partition("/")
        try:
            return self._fetch_whole(record, status, validity, uid)
        except BatchFailed as error:  # else it would be tried for ever, before everything that waits behind
            return f"the server could not deliver the mail: {error}"

    def _fetch_whole(self, record: Record, status: MailboxStatus, validity: str, uid: str) -> str:
        if not uid or int(validity) != status.uidvalidity:
            return "the mail cannot be found any more: the mailbox has a new UIDVALIDITY"
        info = self._mailbox.describe([int(uid)]).get(int(uid))
        if info is not None and info.size > self._max_bytes:
            return f"{info.size} bytes, more than EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes}): raise it first"
        fetched = self._mailbox.fetch_one(int(uid))
        if fetched is None:
            return "the mail is no more in the mailbox"
        self._store.messages.replace_source(record.id, fetched.source)
        return ""

    def _settle(self, id_: str) -> None:
        """A copy in Sent proves that the mail was sent. Its absence proves nothing: a person decides."""
        try:
            record = self._store.messages.get(id_)
            if record.state is State.UNCERTAIN and self._mailbox.find_in_sent(record.reply_message_id):
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
                return
        except (NotFound, WrongState):
            self._store.settling.done(id_)
            return
        looks = record.looks + 1
        if record.state is not State.UNCERTAIN or looks >= len(LOOKS_MS):
            self._store.settling.done(id_)
            return
        self._note(record, "looks", looks)
        self._store.settling.add(id_, self._clock() + LOOKS_MS[looks])

    def _note(self, record: Record, field: str, value: int) -> None:
        self._store.messages.note(record.id, field, value)


def _flags(state: State, *, keywords: bool) -> tuple[str, ...]:
    keyword = {State.REPLIED: REPLIED, State.HELD: HELD, State.FAILED: FAILED}.get(state)
    flags = [ANSWERED] if state is State.REPLIED else []
    if keywords and keyword:
        flags.append(keyword)
    return tuple(flags)
