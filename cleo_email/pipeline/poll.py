"""Poll the mailbox: store each new mail, then flag it; a mail that cannot be read stops no other."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

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
from cleo_email.pipeline.logins import LoginsUsedUp, count_login, limit_logins
from cleo_email.pipeline.receive import IncomingMail, Receiver, unfetched
from cleo_email.pipeline.upkeep import Upkeep
from cleo_email.runtime import MINUTE, SECOND, Clock, now_ms
from cleo_email.store import State, Store

log = logging.getLogger(__name__)

LOCK = "mailbox"  # its name in the store
FLUSH = 25  # mails between two STORE commands
HEADERS_PER_POLL = 500  # of mail that is only recorded, so that a full old inbox does not delay new mail
FAULTS_IN_A_ROW = 4  # headers that fail; then the poll ends, as the server is at fault
ALONE = 3  # failed fetches of one mail alone, after which it is recorded as failed
FEW = 5
SLOW_COUNT, SLOW_COUNT_MS = "mail-trouble", 10 * MINUTE
BUSY_MS = 3 * SECOND
UPKEEP_PAUSE_MS = SECOND  # between two runs of upkeep
# A poll whose end is not recorded by then is asked for again: its process may have died.
UNTOLD_MS = 20 * SECOND
# How long the mailbox rests after the first fault in a row, the second …: few enough logins by themselves.
# After a refused login longer, since many servers lock an account that tries too often.
RESTS_MS = (2 * SECOND, 5 * SECOND, 15 * SECOND, 45 * SECOND, MINUTE)
LOGIN_RESTS_MS = (MINUTE, 2 * MINUTE, 5 * MINUTE)

Progress = Callable[[int, int], None]


@dataclass
class PollResult:
    """The counts of one poll; ``busy``: another process was polling."""

    accepted: int = 0
    duplicates: int = 0
    held: int = 0
    quarantined: int = 0
    busy: bool = False
    resting: bool = False

    def __str__(self) -> str:
        if self.busy:
            return "another process is at it"
        if self.resting:
            return "the mailbox rests after a fault"
        counts = [f"{count} {name}" for name, count in vars(self).items() if count]
        return ", ".join(counts) or "nothing new"


@dataclass
class Poller:
    """Reads the mailbox and does its upkeep, one process at a time.

    ``max_bytes`` in octets, ``max_age_days`` by INTERNALDATE, ``interval_s`` between two polls.
    """

    store: Store
    mailbox: Mailbox
    receiver: Receiver
    upkeep: Upkeep
    _: KW_ONLY
    max_bytes: int
    max_age_days: int
    interval_s: int = 60
    clock: Clock = now_ms

    def run(self, *, force: bool = False, progress: Progress | None = None) -> PollResult:
        """Poll once. Raise MailboxError (recorded for ``/readyz``) and StoreUnavailable.

        ``force``: a person asked for this poll and the caller shows its errors, so they are not logged.
        """
        ticks = self.store.ticks
        if not force and ticks.resting("poll"):
            return PollResult(resting=True)
        begun, interval = self.clock(), self.interval_s * SECOND
        self.mailbox.before_login = partial(count_login if force else limit_logins, ticks)
        with self.store.locks.hold(LOCK) as lock:
            if lock is None:
                # Another process polls, or has died: its lock remains for some seconds.
                ticks.next_tick("poll", min(BUSY_MS, interval))
                return PollResult(busy=True)
            with self._resting_after_a_fault(logged=not force):
                limits = (self.max_bytes, self.max_age_days)
                reading = _Reading(self.store, self.mailbox, self.receiver, *limits, begun, progress)
                reading.run()
                self.store.health.polled(self.clock())
                self.upkeep.run()
            ticks.next_tick("poll", interval - (self.clock() - begun))
            return reading.result

    def run_upkeep(self) -> int | None:
        """Do the due flags, copies and searches of Sent. Return None where the mailbox is busy or rests.

        Raise MailboxError and StoreUnavailable; unfinished work stays due.
        """
        ticks = self.store.ticks
        # While a long poll had the mailbox, wake-ups for upkeep may have piled up before those for polls.
        if ticks.resting("poll") or ticks.tick_left_ms("chores-done") > 0:
            return None
        self.mailbox.before_login = partial(limit_logins, ticks)
        with self.store.locks.hold(LOCK) as lock:
            if lock is None:
                return None
            with self._resting_after_a_fault():
                done = self.upkeep.run()
            ticks.next_tick("chores-done", UPKEEP_PAUSE_MS)
            return done

    @contextmanager
    def _resting_after_a_fault(self, *, logged: bool = True) -> Iterator[None]:
        """After an error of the server, or a refused login, do not try again for a while."""
        ticks, logins = self.store.ticks, self.mailbox.logins
        try:
            yield
        except MailboxError as error:
            self.mailbox.close()
            used_up = error.ms if isinstance(error, LoginsUsedUp) else 0
            if used_up and self.mailbox.logins == logins:
                # No word about the server, and another process may have a connection.
                ticks.next_tick("poll", min(used_up, BUSY_MS))
                if ticks.tick("logins-told", MINUTE):
                    log.warning("%s", error)
                raise
            refused = isinstance(error, MailboxLoginRefused)
            faults = self.store.health.poll_fault(str(error), login_refused=refused)
            rests = LOGIN_RESTS_MS if refused else RESTS_MS
            rest = max(rests[min(faults, len(rests)) - 1], used_up)
            ticks.rest("poll", rest)
            ticks.next_tick("poll", rest)
            if logged:
                log.warning("the mailbox fails (the next attempt is in %d s): %s", rest // SECOND, error)
            raise


@dataclass
class _Reading:
    """One reading of the inbox. The caller holds the mailbox's lock."""

    store: Store
    mailbox: Mailbox
    receiver: Receiver
    max_bytes: int
    max_age_days: int
    now: int
    progress: Progress | None
    result: PollResult = field(default_factory=PollResult)
    status: MailboxStatus = field(init=False)
    total: int = 0
    pending: dict[int, bool] = field(default_factory=dict)  # stored, not yet \Seen: UID to whether it is held
    done: set[int] = field(default_factory=set)
    stuck: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Store the new mail. Raise MailboxError, StoreUnavailable."""
        self.status = self.mailbox.open()
        if self.status.read_only:
            raise MailboxError(
                "the mailbox is read-only for this login: a mail could not be marked \\Seen; give EMAIL_USER "
                "the right to write to its INBOX"
            )
        infos = self._candidates()
        crashpoint("poll-after-search")
        oldest = datetime.fromtimestamp(self.now / 1000, UTC) - timedelta(days=self.max_age_days)
        fresh = [i for i in infos if i.internal_date >= oldest and i.size <= self.max_bytes]
        whole = {i.uid for i in fresh}
        others = [i for i in infos if i.uid not in whole][:HEADERS_PER_POLL]
        self.total = len(fresh) + len(others)
        self._take_fresh(fresh)
        self._flush()
        self._take_headers(others)
        self._flush()
        self._advance(infos)
        if self.total:
            log.info("%s", self.result)

    def _candidates(self) -> list[MessageInfo]:
        """Return unread mail, and mail that a person opened before it was polled, oldest first."""
        validity = self.status.uidvalidity
        unseen = set(self.mailbox.search_unseen())
        cursor = self.store.mailbox.cursor(validity)
        opened: set[int] = set()
        earliest = datetime.fromtimestamp(0, UTC)
        if cursor is not None:
            opened = set(self.mailbox.search_since_uid(cursor)) - unseen
        elif self.store.mailbox.known():
            # A new UIDVALIDITY makes every UID void. Mail since the last poll may have been opened already.
            polled = self.store.health.read().polled
            earliest = datetime.fromtimestamp(polled / 1000, UTC) - timedelta(minutes=10)
            opened = set(self.mailbox.search_since((earliest - timedelta(days=1)).date())) - unseen
            log.warning("the mailbox has a new UIDVALIDITY %s: it is read anew", validity)
        trouble = self.store.mailbox.trouble(validity)
        wanted = [uid for uid in sorted(unseen | opened) if trouble.get(uid, 0) < ALONE]
        infos, failed = describe_each(self.mailbox, wanted)
        self._blame(failed, others=len(infos))
        return [
            info
            for uid, info in sorted(infos.items())
            if _is_wanted(info, opened=uid in opened, earliest=earliest)
        ]

    def _take_fresh(self, infos: Sequence[MessageInfo]) -> None:
        waiting = {info.uid: info for info in infos}
        while waiting:
            try:
                for fetched in self.mailbox.fetch([(uid, info.size) for uid, info in waiting.items()]):
                    crashpoint("poll-after-fetch")
                    waiting.pop(fetched.uid, None)
                    self._take(fetched.uid, fetched.source)
                return  # the others were deleted meanwhile
            except BatchFailed as error:
                log.warning("a batch of %d mails could not be fetched: %s", len(error.uids), error)
                self._one_by_one([uid for uid in error.uids if uid in waiting])
                for uid in error.uids:
                    waiting.pop(uid, None)

    def _one_by_one(self, uids: Sequence[int]) -> None:
        """Fetch each mail alone, to find the one that makes the batch fail."""
        failed: list[tuple[int, str]] = []
        taken = 0
        for uid in uids:
            try:
                self.mailbox.open()
                fetched = self.mailbox.fetch_one(uid)
            except MailboxUnavailable as error:
                failed.append((uid, str(error)))
                continue
            if fetched is not None:
                self._take(uid, fetched.source)
                taken += 1
        self.mailbox.open()  # raises where the server is gone: then no mail is to blame
        self._blame(failed, others=taken)

    def _blame(self, failed: Sequence[tuple[int, str]], *, others: int) -> None:
        """Count the failures of mails that failed alone, unless all of many failed: that is the server."""
        self.stuck.update(uid for uid, _ in failed)
        if others or len(failed) == 1:
            self._count(failed)
        elif failed:
            # While no other mail comes, a few bad mails look like a bad server: they are counted slowly.
            ticks = self.store.ticks
            if len(failed) <= FEW and ticks.tick_left_ms(SLOW_COUNT) <= 0:
                ticks.next_tick(SLOW_COUNT, SLOW_COUNT_MS)
                self._count(failed)
            raise MailboxUnavailable(f"none of {len(failed)} mails could be fetched: {failed[0][1]}")

    def _count(self, failed: Sequence[tuple[int, str]]) -> None:
        before = self.store.mailbox.trouble(self.status.uidvalidity)
        for uid, why in failed:
            if before.get(uid, 0) + 1 >= ALONE:
                # Store it before the last count, after which the mail is never fetched again.
                text = f"the server could not deliver UID {uid} three times: {why}"
                self.receiver.quarantine(unfetched(f"{self.status.uidvalidity}/{uid}"), text)
                self.stuck.discard(uid)
                self.result.quarantined += 1
            self.store.mailbox.add_trouble(self.status.uidvalidity, uid)

    def _take_headers(self, infos: Iterable[MessageInfo]) -> None:
        failed: list[tuple[int, str]] = []
        taken = 0
        for info in infos:
            try:
                header = self.mailbox.fetch_headers(info.uid)
            except BatchFailed as error:
                failed.append((info.uid, str(error)))
                self.mailbox.open()  # raises where the server is gone
                if len(failed) > FAULTS_IN_A_ROW and not taken:
                    break
                continue
            if header:  # else it was deleted meanwhile
                self._take(info.uid, header, hold=self._why_held(info))
                taken += 1
        self._blame(failed, others=taken)

    def _why_held(self, info: MessageInfo) -> str:
        if info.size > self.max_bytes:
            limit = f"EMAIL_MAX_MESSAGE_BYTES ({self.max_bytes})"
            return f"{info.size} bytes, more than {limit}: not downloaded"
        day = info.internal_date.date().isoformat()
        return f"it came on {day}, longer ago than EMAIL_MAX_AGE_DAYS ({self.max_age_days})"

    def _take(self, uid: int, source: bytes, *, hold: str = "") -> None:
        where = f"{self.status.uidvalidity}/{uid}"
        mail = IncomingMail(source, "imap", hold=hold, partial=bool(hold), mailbox=where)
        accepted = self.receiver.accept(mail)
        crashpoint("poll-after-accept")
        if accepted.duplicate:
            self.result.duplicates += 1
        else:
            self.result.accepted += 1
        held = accepted.state is State.HELD and not accepted.duplicate
        self.result.held += held
        self.pending[uid] = held
        if len(self.pending) >= FLUSH:
            self._flush()

    def _flush(self) -> None:
        """Set \\Seen on the stored mails."""
        if not self.pending:
            return
        confirmed: set[int] = set()
        for held, flags in ((False, (SEEN, ACCEPTED)), (True, (SEEN, ACCEPTED, HELD))):
            uids = [uid for uid, is_held in self.pending.items() if is_held is held]
            if uids:
                confirmed |= self.mailbox.add_flags(uids, flags)
        if missing := self.pending.keys() - confirmed:
            log.warning("the server did not confirm \\Seen for %d mails; they come again", len(missing))
        self.done |= self.pending.keys()
        self.pending.clear()
        crashpoint("poll-after-seen")
        if self.progress:
            self.progress(len(self.done), self.total)

    def _advance(self, infos: Sequence[MessageInfo]) -> None:
        """Move the cursor past all mail that is done, or that a search for UNSEEN will find again."""
        highest = max([self.status.uidnext - 1, *(info.uid for info in infos), 0])
        again = [info.uid for info in infos if SEEN in info.flags and info.uid not in self.done]
        again += self.stuck
        if again:
            highest = min(highest, min(again) - 1)
        self.store.mailbox.set_cursor(self.status.uidvalidity, highest)


def _is_wanted(info: MessageInfo, *, opened: bool, earliest: datetime) -> bool:
    flags = {flag.lower() for flag in info.flags}
    if "\\deleted" in flags or "\\draft" in flags:
        return False
    if not opened:
        return True
    ours = {flag.lower() for flag in (ANSWERED, ACCEPTED, REPLIED, HELD, FAILED)}
    return not flags & ours and info.internal_date >= earliest
