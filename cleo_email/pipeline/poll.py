"""Poll the mailbox: store first, flag afterwards, and let one bad mail stop nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import MailboxError, MailboxLoginRefused, MailboxUnavailable
from cleo_email.imap.mailbox import Mailbox, describe_each
from cleo_email.imap.values import (
    ACCEPTED,
    ANSWERED,
    FAILED,
    HELD,
    REPLIED,
    SEEN,
    BatchFailed,
    MailboxStatus,
    MessageInfo,
)
from cleo_email.pipeline.receive import IncomingMail, Receiver, unfetched
from cleo_email.pipeline.upkeep import Upkeep
from cleo_email.runtime import MINUTE, SECOND, Clock, now_ms
from cleo_email.store import State, Store

log = logging.getLogger(__name__)

FLUSH = 25  # mails between two STORE commands


@dataclass
class PollResult:
    """What one poll did; ``busy``: another process was at it."""

    accepted: int = 0
    duplicates: int = 0
    held: int = 0
    quarantined: int = 0
    busy: bool = False
    resting: bool = False

    def __str__(self) -> str:
        if self.busy:
            return "poll: another process is at it"
        if self.resting:
            return "poll: the mailbox rests after a fault"
        counts = {
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "held": self.held,
            "quarantined": self.quarantined,
        }
        return "poll: " + (", ".join(f"{n} {name}" for name, n in counts.items() if n) or "nothing new")


class PollPass:
    def __init__(
        self, status: MailboxStatus, result: PollResult, progress: Callable[[int, int], None]
    ) -> None:
        self.status = status
        self.result = result
        self.total = 0
        self.done: set[int] = set()
        self.stuck: set[int] = set()
        self._progress = progress
        self._pending: dict[int, bool] = {}

    @property
    def pending(self) -> int:
        return len(self._pending)

    def take(self, uid: int, *, held: bool) -> None:
        self._pending[uid] = held

    def flush(self, mailbox: Mailbox) -> None:
        """Only now, with the records durable, the mails become \\Seen."""
        if not self._pending:
            return
        confirmed: set[int] = set()
        for held, flags in ((False, (SEEN, ACCEPTED)), (True, (SEEN, ACCEPTED, HELD))):
            uids = [uid for uid, is_held in self._pending.items() if is_held is held]
            if uids:
                confirmed |= mailbox.add_flags(uids, flags)
        if missing := self._pending.keys() - confirmed:
            log.warning(
                "the server did not confirm \\Seen for %d mails; they are looked at again", len(missing)
            )
        self.done |= self._pending.keys()
        self._pending.clear()
        crashpoint("poll-after-seen")
        self._progress(len(self.done), self.total)


HEADERS_PER_POLL = 500  # of mail that is only recorded, so that a full old inbox does not delay new mail
FAULTS_IN_A_ROW = 4  # headers; then it is the server's fault, and a poll ends in bounded time
ALONE = 3  # failures of one mail by itself before it is left alone
FEW = 5
SLOW_COUNT, SLOW_COUNT_MS = "mail-trouble", 10 * MINUTE


class InboxReader:
    """``max_bytes`` in octets, ``max_age_days`` by INTERNALDATE. The caller holds the mailbox's lock."""

    def __init__(
        self,
        store: Store,
        mailbox: Mailbox,
        intake: Receiver,
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
        pass_ = PollPass(status, PollResult(), progress)
        infos = self._candidates(pass_)
        crashpoint("poll-after-search")
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

    def _candidates(self, pass_: PollPass) -> list[MessageInfo]:
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
            polled = self._store.health.read().polled
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

    def _take_fresh(self, pass_: PollPass, infos: Sequence[MessageInfo]) -> None:
        waiting = {info.uid: info for info in infos}
        while waiting:
            try:
                for fetched in self._mailbox.fetch([(uid, info.size) for uid, info in waiting.items()]):
                    crashpoint("poll-after-fetch")
                    waiting.pop(fetched.uid, None)
                    self._take(pass_, fetched.uid, fetched.source)
                return  # what is left has vanished meanwhile
            except BatchFailed as error:
                log.warning("a batch of %d mails could not be fetched: %s", len(error.uids), error)
                self._one_by_one(pass_, [uid for uid in error.uids if uid in waiting])
                for uid in error.uids:
                    waiting.pop(uid, None)

    def _one_by_one(self, pass_: PollPass, uids: Sequence[int]) -> None:
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

    def _blame(self, pass_: PollPass, failed: Sequence[tuple[int, str]], *, others: int) -> None:
        """Count against mails that failed alone. That a server fails on all of many is no mail's fault."""
        pass_.stuck.update(uid for uid, _ in failed)
        if others or len(failed) == 1:
            self._count(pass_, failed)
        elif failed:
            # A few bad mails look like a bad server while nothing else comes: those are counted slowly.
            ticks = self._store.ticks
            if len(failed) <= FEW and ticks.tick_left_ms(SLOW_COUNT) <= 0:
                ticks.next_tick(SLOW_COUNT, SLOW_COUNT_MS)
                self._count(pass_, failed)
            raise MailboxUnavailable(f"none of {len(failed)} mails could be fetched: {failed[0][1]}")

    def _count(self, pass_: PollPass, failed: Sequence[tuple[int, str]]) -> None:
        before = self._store.mailbox.trouble(pass_.status.uidvalidity)
        for uid, why in failed:
            if before.get(uid, 0) + 1 >= ALONE:
                self._quarantine(pass_, uid, why)  # stored first: what is counted out is looked at no more
            self._store.mailbox.add_trouble(pass_.status.uidvalidity, uid)

    def _quarantine(self, pass_: PollPass, uid: int, why: str) -> None:
        where = f"{pass_.status.uidvalidity}/{uid}"
        self._intake.quarantine(
            unfetched(where), f"the server could not deliver UID {uid} three times: {why}"
        )
        pass_.stuck.discard(uid)
        pass_.result.quarantined += 1

    def _take_headers(self, pass_: PollPass, infos: Iterable[MessageInfo]) -> None:
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

    def _take(self, pass_: PollPass, uid: int, source: bytes, *, hold: str = "") -> None:
        where = f"{pass_.status.uidvalidity}/{uid}"
        accepted = self._intake.accept(
            IncomingMail(source, "imap", hold=hold, partial=bool(hold), mailbox=where)
        )
        crashpoint("poll-after-accept")
        if accepted.duplicate:
            pass_.result.duplicates += 1
        else:
            pass_.result.accepted += 1
        held = accepted.state is State.HELD and not accepted.duplicate
        pass_.result.held += held
        pass_.take(uid, held=held)
        if pass_.pending >= FLUSH:
            pass_.flush(self._mailbox)

    def _advance(self, pass_: PollPass, infos: Sequence[MessageInfo]) -> None:
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


LOCK = "mailbox"
BUSY_MS = 3 * SECOND
CHORES_MS = SECOND  # between two runs of chores
# A poll that has not told its end by then is asked for again: its process may be gone.
UNTOLD_MS = 20 * SECOND
# After a fault the next poll waits 1, 2, 4 … seconds; after a refused login five minutes, since many servers
# lock an account that tries too often.
LONGEST_REST_MS = 30_000
LOGIN_REST_MS = 5 * MINUTE


class Poller:
    """Reads the mailbox and does its chores, never two at once; ``interval_s`` between two polls."""

    def __init__(
        self,
        store: Store,
        mailbox: Mailbox,
        reading: InboxReader,
        chores: Upkeep,
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
        ticks = self._store.ticks
        if not force and ticks.resting("poll"):
            return PollResult(resting=True)
        begun = self._clock()
        with self._store.locks.hold(LOCK) as lock:
            if lock is None:
                # Somebody is at it, or was and died: its lock says no more for some seconds.
                ticks.next_tick("poll", min(BUSY_MS, self._interval))
                return PollResult(busy=True)
            with self._resting_after_a_fault(logged=not force):
                result = self._reading.run(progress or (lambda _done, _all: None))
                self._store.health.polled(self._clock())
                self._chores.run()
            ticks.next_tick("poll", self._interval - (self._clock() - begun))
            return result

    def chores(self) -> int | None:
        """What waits for the mailbox: flags, copies, searches of Sent. None where it is busy or rests.

        Raises MailboxError and StoreUnavailable; what was not done stays due.
        """
        ticks = self._store.ticks
        # While a long poll had the mailbox, wake-ups for chores may have piled up before those for polls.
        if ticks.resting("poll") or ticks.tick_left_ms("chores-done") > 0:
            return None
        with self._store.locks.hold(LOCK) as lock:
            if lock is None:
                return None
            with self._resting_after_a_fault():
                done = self._chores.run()
            ticks.next_tick("chores-done", CHORES_MS)
            return done

    @contextmanager
    def _resting_after_a_fault(self, *, logged: bool = True) -> Iterator[None]:
        """A server that is down, or that refuses the login, is not asked all the time."""
        try:
            yield
        except MailboxError as error:
            self._mailbox.close()
            ticks = self._store.ticks
            faults = self._store.health.poll_fault(str(error))
            rest = min(SECOND * 2 ** min(faults - 1, 10), LONGEST_REST_MS)
            if isinstance(error, MailboxLoginRefused):
                rest = LOGIN_REST_MS
            ticks.rest("poll", rest)
            ticks.next_tick("poll", rest)
            if logged:
                log.warning("the mailbox fails (the next attempt is in %d s): %s", rest // SECOND, error)
            raise
