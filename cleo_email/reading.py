"""One reading of the mailbox: stored first, flagged afterwards, and one bad mail stops nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from cleo_email.backoff import MINUTE
from cleo_email.clock import Clock, now_ms
from cleo_email.crashpoints import reach
from cleo_email.errors import MailboxError, MailboxUnavailable
from cleo_email.intake import Arrival, Intake, unfetched
from cleo_email.mailbox import (
    ACCEPTED,
    ANSWERED,
    FAILED,
    HELD,
    REPLIED,
    SEEN,
    BatchFailed,
    Mailbox,
    MessageInfo,
    describe_each,
)
from cleo_email.reading_pass import FLUSH, Pass, PollResult
from cleo_email.store import State, Store

log = logging.getLogger(__name__)

HEADERS_PER_POLL = 500  # of mail that is only recorded, so that a full old inbox does not delay new mail
FAULTS_IN_A_ROW = 4  # headers; then it is the server's fault, and a poll ends in bounded time
ALONE = 3  # failures of one mail by itself before it is left alone
FEW = 5
SLOW_COUNT, SLOW_COUNT_MS = "mail-trouble", 10 * MINUTE


class Reading:
    """``max_bytes`` in octets, ``max_age_days`` by INTERNALDATE. The caller holds the mailbox's lock."""

    def __init__(
        self,
        store: Store,
        mailbox: Mailbox,
        intake: Intake,
        *,
        max_bytes: int,
        max_age_days: int,
        clock: Clock = now_ms,
    ) -> None:
        self._store = store
        self._mailbox = mailbox
        self._intake = intake
        self._max_bytes = max_bytes
        self._max_age = timedelta(days=max_age_days)
        self._clock = clock

    def run(self, progress: Callable[[int, int], None]) -> PollResult:
        """Take up what is new; what was done. Raises MailboxError, StoreUnavailable."""
        status = self._mailbox.open()
        if status.read_only:
            raise MailboxError(
                "the mailbox is read-only for this login: a mail could not be marked \\Seen; give EMAIL_USER "
                "the right to write to its INBOX"
            )
        pass_ = Pass(status, PollResult(), progress)
        infos = self._candidates(pass_)
        reach("poll-after-search")
        oldest = datetime.fromtimestamp(self._clock() / 1000, UTC) - self._max_age
        fresh = [i for i in infos if i.internal_date >= oldest and i.size <= self._max_bytes]
        whole = {i.uid for i in fresh}
        others = [i for i in infos if i.uid not in whole][:HEADERS_PER_POLL]
        pass_.total = len(fresh) + len(others)
        self._take_fresh(pass_, fresh)
        pass_.flush(self._mailbox)
        self._take_headers(pass_, others)
        pass_.flush(self._mailbox)
        self._advance(pass_, infos)
        if pass_.total:
            log.info("poll: %s", pass_.result)
        return pass_.result

    def _candidates(self, pass_: Pass) -> list[MessageInfo]:
        """Unread mail, and mail that a person opened before we came by, oldest first."""
        status = pass_.status
        unseen = set(self._mailbox.search_unseen())
        cursor = self._store.mailbox.cursor(status.uidvalidity)
        opened: set[int] = set()
        earliest = datetime.fromtimestamp(0, UTC)
        if cursor is not None:
            opened = set(self._mailbox.search_since_uid(cursor)) - unseen
        elif self._store.mailbox.known():
            # Another UIDVALIDITY: every UID is void. What came since the last poll may have been opened.
            polled = self._store.pulse.health().polled
            earliest = datetime.fromtimestamp(polled / 1000, UTC) - timedelta(minutes=10)
            opened = set(self._mailbox.search_since((earliest - timedelta(days=1)).date())) - unseen
            log.warning("the mailbox has a new UIDVALIDITY %s: it is read anew", status.uidvalidity)
        trouble = self._store.mailbox.trouble(status.uidvalidity)
        wanted = [uid for uid in sorted(unseen | opened) if trouble.get(uid, 0) < ALONE]
        infos, failed = describe_each(self._mailbox, wanted)
        self._blame(pass_, failed, others=len(infos))
        return [
            info
            for uid, info in sorted(infos.items())
            if _is_wanted(info, opened=uid in opened, earliest=earliest)
        ]

    def _take_fresh(self, pass_: Pass, infos: Sequence[MessageInfo]) -> None:
        waiting = {info.uid: info for info in infos}
        while waiting:
            try:
                for fetched in self._mailbox.fetch([(uid, info.size) for uid, info in waiting.items()]):
                    reach("poll-after-fetch")
                    waiting.pop(fetched.uid, None)
                    self._take(pass_, fetched.uid, fetched.source)
                return  # what is left has vanished meanwhile
            except BatchFailed as error:
                log.warning("a batch of %d mails could not be fetched: %s", len(error.uids), error)
                self._one_by_one(pass_, [uid for uid in error.uids if uid in waiting])
                for uid in error.uids:
                    waiting.pop(uid, None)

    def _one_by_one(self, pass_: Pass, uids: Sequence[int]) -> None:
        """Find the mail that breaks a batch. A server that fails on all of them is not the mails' fault."""
        failed: list[tuple[int, str]] = []
        taken = 0
        for uid in uids:
            try:
                self._mailbox.open()
                fetched = self._mailbox.fetch_one(uid)
            except MailboxUnavailable as error:
                failed.append((uid, str(error)))
                continue
            if fetched is not None:
                self._take(pass_, uid, fetched.source)
                taken += 1
        self._mailbox.open()  # raises where the server is gone: then no mail is to blame
        self._blame(pass_, failed, others=taken)

    def _blame(self, pass_: Pass, failed: Sequence[tuple[int, str]], *, others: int) -> None:
        """Count against mails that failed alone. That a server fails on all of many is no mail's fault."""
        pass_.stuck.update(uid for uid, _ in failed)
        if others or len(failed) == 1:
            self._count(pass_, failed)
        elif failed:
            # A few bad mails look like a bad server while nothing else comes: those are counted slowly.
            pulse = self._store.pulse
            if len(failed) <= FEW and pulse.tick_left_ms(SLOW_COUNT) <= 0:
                pulse.next_tick(SLOW_COUNT, SLOW_COUNT_MS)
                self._count(pass_, failed)
            raise MailboxUnavailable(f"none of {len(failed)} mails could be fetched: {failed[0][1]}")

    def _count(self, pass_: Pass, failed: Sequence[tuple[int, str]]) -> None:
        before = self._store.mailbox.trouble(pass_.status.uidvalidity)
        for uid, why in failed:
            if before.get(uid, 0) + 1 >= ALONE:
                self._quarantine(pass_, uid, why)  # stored first: what is counted out is looked at no more
            self._store.mailbox.add_trouble(pass_.status.uidvalidity, uid)

    def _quarantine(self, pass_: Pass, uid: int, why: str) -> None:
        where = f"{pass_.status.uidvalidity}/{uid}"
        self._intake.quarantine(
            unfetched(where), f"the server could not deliver UID {uid} three times: {why}"
        )
        pass_.stuck.discard(uid)
        pass_.result.quarantined += 1

    def _take_headers(self, pass_: Pass, infos: Iterable[MessageInfo]) -> None:
        failed: list[tuple[int, str]] = []
        taken = 0
        for info in infos:
            try:
                header = self._mailbox.fetch_headers(info.uid)
            except BatchFailed as error:
                failed.append((info.uid, str(error)))
                self._mailbox.open()  # raises where the server is gone
                if len(failed) > FAULTS_IN_A_ROW and not taken:
                    break
                continue
            if header:  # else it has vanished meanwhile
                self._take(pass_, info.uid, header, hold=self._why_held(info))
                taken += 1
        self._blame(pass_, failed, others=taken)

    def _why_held(self, info: MessageInfo) -> str:
        if info.size > self._max_bytes:
            limit = f"EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes})"
            return f"{info.size} bytes, more than {limit}: not downloaded"
        day = info.internal_date.date().isoformat()
        return f"it came on {day}, longer ago than EMAIL_MAX_AGE_DAYS ({self._max_age.days})"

    def _take(self, pass_: Pass, uid: int, source: bytes, *, hold: str = "") -> None:
        where = f"{pass_.status.uidvalidity}/{uid}"
        accepted = self._intake.accept(Arrival(source, "imap", hold=hold, partial=bool(hold), mailbox=where))
        reach("poll-after-accept")
        if accepted.duplicate:
            pass_.result.duplicates += 1
        else:
            pass_.result.accepted += 1
        held = accepted.state is State.HELD and not accepted.duplicate
        pass_.result.held += held
        pass_.take(uid, held=held)
        if pass_.pending >= FLUSH:
            pass_.flush(self._mailbox)

    def _advance(self, pass_: Pass, infos: Sequence[MessageInfo]) -> None:
        """Move the cursor over everything that needs no second look, or that UNSEEN will find again."""
        highest = max([pass_.status.uidnext - 1, *(info.uid for info in infos), 0])
        again = [info.uid for info in infos if SEEN in info.flags and info.uid not in pass_.done]
        again += pass_.stuck
        if again:
            highest = min(highest, min(again) - 1)
        self._store.mailbox.set_cursor(pass_.status.uidvalidity, highest)


def _is_wanted(info: MessageInfo, *, opened: bool, earliest: datetime) -> bool:
    flags = {flag.lower() for flag in info.flags}
    if "\\deleted" in flags or "\\draft" in flags:
        return False
    if not opened:
        return True
    ours = {flag.lower() for flag in (ANSWERED, ACCEPTED, REPLIED, HELD, FAILED)}
    return not flags & ours and info.internal_date >= earliest
