"""Poll the mailbox: store each new mail, then flag it; a mail that cannot be read stops no other."""

import hashlib
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import MailboxError, MailboxLoginRefused, MailboxUnavailable
from cleo_email.imap.connection import no_limit
from cleo_email.imap.mailbox import Mailbox, describe_each
from cleo_email.imap.values import (
    ACCEPTED,
    ANSWERED,
    FAILED,
    HELD,
    REPLIED,
    SEEN,
    SET_UIDS,
    BatchFailed,
    MailboxStatus,
    MessageInfo,
    throttled_ms,
)
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.parse import parse_header
from cleo_email.pipeline.logins import LoginsUsedUp, limit_logins
from cleo_email.pipeline.receive import IncomingMail, Receiver, unfetched
from cleo_email.pipeline.upkeep import Upkeep, flags_of
from cleo_email.runtime import DAY, HOUR, MINUTE, SECOND, Clock, backoff_ms, now_ms
from cleo_email.store import Identity, Record, State, Store
from cleo_email.store.mailbox import Trouble, UidState

log = logging.getLogger(__name__)

LOCK = "mailbox"  # its name in the store
FLUSH = 25  # mails between two STORE commands
HEADERS_PER_POLL = 500  # of mail that is only recorded, so that a full old inbox does not delay new mail
HOPELESS = 2  # mails that fail alone while none can be fetched: the server is at fault, or may be
# A mail that cannot be fetched while others can is recorded as failed after so long and so many tries; later
# where the server only ever says "not now". It is tried again once a day for as long as it is in the mailbox.
PATIENCE_MS, LONG_PATIENCE_MS, TRIES = 3 * HOUR, DAY, 5
RETRY_RECORDED_MS = DAY
AFTER_OTHERS_MS = 2 * MINUTE  # when a mail at which the connection was lost is tried again
OVERLOOKED_MS = 15 * MINUTE  # between two searches for unread mail below the cursor
MARGIN_MS = 10 * MINUTE  # by which clocks differ, and mail is stored after its INTERNALDATE
OLD_MS = DAY  # by which a date is clearly older than another
READ_BEFORE_MOST = 20_000  # read mails that are remembered at the first poll, the newest
OUTLINE_FAULTS = 40  # at the first poll, after which the read mails that are left are not remembered
PROBED = 5  # other mails, of which the smallest shows whether the server delivers any
LATER = 2**53  # ms: any time
READ_BEFORE = "it had been read before Cleo was installed"
BUSY_MS = 3 * SECOND
TOLD_BUSY_MS = SECOND // 2  # where the server has told of new mail
UPKEEP_PAUSE_MS = SECOND  # between two runs of upkeep
# A poll whose end is not recorded by then is asked for again: its process may have died.
UNTOLD_MS = 20 * SECOND
ANNOUNCED = "announced"  # the tick that stands while the server has told of news and no poll has begun since
# How long the mailbox rests after the first fault in a row, the second …: few enough logins by themselves.
# After a refused login longer, since many servers lock an account that tries too often.
RESTS_MS = (2 * SECOND, 5 * SECOND, 15 * SECOND, 45 * SECOND, MINUTE)
LOGIN_RESTS_MS = (MINUTE, 2 * MINUTE, 5 * MINUTE)
# Where the server asks for less, the rest grows beyond that, and is as long as it says, to an hour.
LONGEST_THROTTLED_MS = 15 * MINUTE

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
        self.mailbox.before_login = no_limit if force else partial(limit_logins, ticks)
        with self.store.locks.hold(LOCK) as lock:
            if lock is None:
                # Another process polls, or has died: its lock remains for some seconds.
                busy_ms = TOLD_BUSY_MS if ticks.tick_left_ms(ANNOUNCED) > 0 else BUSY_MS
                ticks.next_tick("poll", min(busy_ms, interval))
                return PollResult(busy=True)
            ticks.forget(ANNOUNCED)
            with self._resting_after_a_fault(logged=not force):
                limits = (self.max_bytes, self.max_age_days)
                reading = _Reading(
                    self.store,
                    self.mailbox,
                    self.receiver,
                    self.upkeep,
                    *limits,
                    begun,
                    progress,
                    thorough=force,
                )
                reading.run()
                if reading.fault is None:
                    self.store.health.polled(self.clock())
                self.upkeep.look()  # whatever mails cannot be fetched
                self.upkeep.run()
                if reading.fault is not None:
                    raise reading.fault
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
                self.store.health.poll_rests(str(error))
                if ticks.tick("logins-told", MINUTE):
                    log.warning("%s", error)
                raise
            refused = isinstance(error, MailboxLoginRefused)
            faults = self.store.health.poll_fault(str(error), login_refused=refused)
            rests = LOGIN_RESTS_MS if refused else RESTS_MS
            rest = max(rests[min(faults, len(rests)) - 1], used_up)
            if not refused and not used_up and (asked := throttled_ms(error)) is not None:
                grown = min(SECOND * 2 ** min(faults - 1, 10), LONGEST_THROTTLED_MS)
                rest = max(rest, grown, min(asked, HOUR))
            ticks.rest("poll", rest)
            ticks.next_tick("poll", rest)
            if logged:
                log.warning("the mailbox fails (the next attempt is in %d s): %s", rest // SECOND, error)
            raise


@dataclass
class _Reading:
    """One reading of the inbox. The caller holds the mailbox's lock.

    ``thorough``: search for overlooked mail too, whenever that was done last. ``fault``: no mail could be
    fetched, so the poll is no success; what it did is noted all the same.
    """

    store: Store
    mailbox: Mailbox
    receiver: Receiver
    upkeep: Upkeep
    max_bytes: int
    max_age_days: int
    now: int
    progress: Progress | None
    _: KW_ONLY
    thorough: bool = False
    result: PollResult = field(default_factory=PollResult)
    fault: MailboxUnavailable | None = None
    status: MailboxStatus = field(init=False)
    state: UidState = field(init=False)
    total: int = 0
    fetched: int = 0  # mails, whole or by their header
    pending: dict[int, State] = field(default_factory=dict)  # stored, not yet flagged
    again: dict[int, int] = field(default_factory=dict)  # UIDs to be looked at again: when
    done: set[int] = field(default_factory=set)
    wanted: set[int] = field(default_factory=set)  # the UIDs that this poll is to look at
    failed: dict[int, BatchFailed] = field(default_factory=dict)
    troubles: dict[int, Trouble] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)  # UIDs of unread mail that was not taken
    noted: set[int] = field(default_factory=set)  # UIDs that an earlier poll has noted
    fresh: set[int] = field(default_factory=set)  # UIDs at which no poll has looked since they were noted

    def run(self) -> None:
        """Store the new mail. Raise MailboxError, StoreUnavailable."""
        self.status = self.mailbox.open()
        if self.status.read_only:
            raise MailboxError(
                "the mailbox is read-only for this login: a mail could not be marked \\Seen; give EMAIL_USER "
                "the right to write to its INBOX"
            )
        known = self.store.mailbox.uids()
        if known is None or known.validity != self.status.uidvalidity:
            known = self._begin(known)
        self.state = known
        try:
            self._take_all()
        except MailboxError as error:
            # The server is gone. What was done and what failed is kept, else bad mails at the head of the
            # line, each of which costs the connection, would use up every poll.
            self._give_up(error)
            raise
        self._advance()
        if self.total:
            log.info("%s", self.result)

    def _take_all(self) -> None:
        judged = self._judged(self._candidates())
        crashpoint("poll-after-search")
        whole = [info for info, hold in judged if not hold]
        others = [(info, hold) for info, hold in judged if hold]
        self._again(info.uid for info, _ in others[HEADERS_PER_POLL:])
        others = others[:HEADERS_PER_POLL]
        self.total = len(whole) + len(others)
        self._take_whole(whole)
        self._flush()
        self._take_headers(others)
        self._flush()
        self._judge_failures()

    # --- which mail ---------------------------------------------------------------------------------------

    def _begin(self, known: UidState | None) -> UidState:
        """Read the mailbox for the first time, or anew as all UIDs are void.

        At the very first poll the unread mail is taken, and what people have read is remembered, so that it
        is answered under no other UID either. Later what is unread, or came since the last poll, is taken:
        it may have been opened already.
        """
        box, since, installed, unfinished = self.store.mailbox, 0, self.now, False
        if known is not None:
            since, installed = known.settled or known.installed, known.installed
            unfinished = bool(box.again(LATER))
        elif box.was_read():
            since = installed = self.store.health.read().polled or self.now
        # First the highest UID: mail that comes during this is above it, and looked at like any new mail.
        highest = max([0, *self.mailbox.search_since_uid(0)])
        if self.status.exists and not highest:
            raise MailboxUnavailable(f"the server tells of {self.status.exists} mails and finds none of them")
        again = set(self.mailbox.search_untaken())
        read: set[bytes] = set()
        if since:
            # What was not fetched yet may be of any day.
            earliest = self.now - self.max_age_days * DAY if unfinished else since - MARGIN_MS
            recent = self._since(earliest) - again
            infos, failed = describe_each(self.mailbox, sorted(recent))
            again.update(uid for uid, _ in failed)
            again |= {uid for uid, info in infos.items() if _ms(info.internal_date) >= earliest}
            log.warning("the mailbox is read anew: UIDVALIDITY %s is new", self.status.uidvalidity)
        if known is None:
            recent = self._since(self.now - self.max_age_days * DAY)
            known_then = sorted(uid for uid in recent if uid <= highest)
            for info, header in self._outlines(known_then[-READ_BEFORE_MOST:]):
                # The flags decide: a search may have found none of the unread mail, or all mail.
                if not _is_seen(info):
                    again |= set() if self._is_over_already(info) else {info.uid}
                elif not since or info.uid not in again:
                    again.discard(info.uid)
                    if mail := parse_header(header):
                        read.add(_identity(info, mail))
        state = UidState(self.status.uidvalidity, highest, highest, installed, since, since, self.now)
        box.begin(state, again, read)
        return state

    def _since(self, ms: int) -> set[int]:
        # SEARCH goes by the day of the server's own zone.
        day = (datetime.fromtimestamp(max(ms, DAY) / 1000, UTC) - timedelta(days=1)).date()
        return set(self.mailbox.search_since(day))

    def _outlines(self, uids: Sequence[int]) -> Iterator[tuple[MessageInfo, bytes]]:
        """Yield what is known of each mail without its body; a mail that cannot be fetched is left out.

        So is the rest after a lost connection, or many faults: no mail can be answered before this ends.
        Raise MailboxUnavailable where the server refuses all for a while.
        """
        parts = [list(uids[start : start + SET_UIDS]) for start in range(0, len(uids), SET_UIDS)]
        faults, logins, delivers = 0, self.mailbox.logins, False
        while parts:
            part = parts.pop()
            try:
                found = list(self.mailbox.fetch_outlines(part))
            except BatchFailed as error:
                faults += 1
                self.mailbox.open()
                if faults >= OUTLINE_FAULTS and not delivers and throttled_ms(error) is not None:
                    raise
                if faults >= OUTLINE_FAULTS or self.mailbox.logins > logins:
                    log.warning("what people have read before is not remembered in full: %s", error)
                    return
                half = len(part) // 2
                parts += [part[:half], part[half:]] if half else []
            else:
                delivers = True
                yield from found

    def _candidates(self) -> list[MessageInfo]:
        """Return the mail to be looked at, oldest first: new UIDs, and those noted for now."""
        box, state = self.store.mailbox, self.state
        self.troubles = box.troubles()
        self.noted, self.fresh = box.again(self.now), box.again(0)
        later = box.again(LATER) - self.noted
        new = set(self.mailbox.search_since_uid(state.cursor)) - later
        wanted = {*new, *self.noted, *self._overlooked()}
        self.wanted = set(wanted)
        # What failed before is tried by itself, so that it costs the others nothing.
        troubled = {uid for uid in wanted & self.troubles.keys() if not self._is_over(uid)}
        wanted -= self.troubles.keys()
        infos = self._describe(sorted(wanted))
        for uid in sorted(troubled, key=self._tries):
            if len(self.failed) < HOPELESS or infos:
                infos |= self._describe([uid])
            else:
                self._again([uid])
        there = infos.keys() | self.failed.keys() | self.again.keys()
        self.done |= (wanted | troubled) - there  # deleted, or never there: then the cursor stays below it
        self.state = replace(self.state, cursor=max([state.cursor, *(new & there)]))
        # They were unread when they were noted: if a person opens one from now on nothing changes.
        box.looked_at((uid for uid in self.fresh & infos.keys() if not _is_seen(infos[uid])), self.now)
        return [infos[uid] for uid in sorted(infos)]

    def _overlooked(self) -> set[int]:
        """Search now and then for unread mail below the cursor: UIDs may appear out of order."""
        box, state = self.store.mailbox, self.state
        if not self.thorough and self.now - state.searched < OVERLOOKED_MS:
            return set()
        self.state = replace(state, searched=self.now)
        unread, left = set(self.mailbox.search_untaken()), box.left()
        box.forget_left(left - unread)
        waiting = box.again(LATER)
        found = unread - left - waiting
        below = {uid for uid in found if uid <= state.floor}
        return found - below | self._given_twice(below)

    def _given_twice(self, uids: set[int]) -> set[int]:
        """Return those of mail that is new all the same: some servers give the UID of a deleted mail again.

        The others were read when this UIDVALIDITY began, and a person has marked them as unread.
        """
        try:
            infos = self.mailbox.describe(sorted(uids))
        except BatchFailed as error:
            log.warning("the server does not say the size of %d mails: %s", len(uids), error)
            self.mailbox.open()
            return set()
        new = {uid for uid, info in infos.items() if self._came_after_begin(info)}
        self.left |= infos.keys() - new
        return new

    def _came_after_begin(self, info: MessageInfo) -> bool:
        return _ms(info.internal_date) > max(self.state.installed, self.state.since)

    def _is_over(self, uid: int) -> bool:
        """Return whether a person has ended the record of a mail that could not be fetched, or retries it."""
        if not self.troubles[uid].recorded:
            return False
        record = self._record_of(uid)
        over = record is None or record.state is not State.FAILED
        self.done |= {uid} if over else set()
        return over

    def _record_of(self, uid: int) -> Record | None:
        id_ = self.store.messages.first_of(Identity(unfetched(self._where(uid)).fingerprint))
        return self.store.messages.find(id_) if id_ else None

    def _where(self, uid: int) -> str:
        return f"{self.status.uidvalidity}/{uid}"

    def _describe(self, uids: list[int]) -> dict[int, MessageInfo]:
        """Return what ``Mailbox.describe`` does; of a batch that fails try the first alone, then halves."""
        found: dict[int, MessageInfo] = {}
        parts = [uids] if uids else []
        while parts:
            part = parts.pop()
            try:
                found |= self.mailbox.describe(part)
            except BatchFailed as error:
                log.warning("the server does not say the size of %d mails: %s", len(part), error)
                half = (len(part) + 1) // 2
                if len(part) == 1:
                    self.failed[part[0]] = error
                self.mailbox.open()  # raises where the server is gone
                if len(part) > 1:
                    parts += [piece for piece in (part[half:], part[1:half], part[:1]) if piece]
            if not found and len(self.failed) >= HOPELESS:
                self._again(uid for rest in parts for uid in rest)
                break
        return found

    def _judged(self, infos: Sequence[MessageInfo]) -> list[tuple[MessageInfo, str]]:
        """Return the mail to be taken, each with why it is to be held, '' for one to be answered."""
        taken: list[tuple[MessageInfo, str]] = []
        for info in infos:
            hold = None if self._is_over_already(info) else self._why_held_by_date(info)
            if hold is None:
                self._leave_alone(info)
            else:
                taken.append((info, self._why_not_whole(info) or hold))
        return taken

    def _is_over_already(self, info: MessageInfo) -> bool:
        """Return whether the flags say so; a keyword says it of what an earlier poll noted only in part."""
        flags = {flag.lower() for flag in info.flags}
        if flags & {"\\deleted", "\\draft"}:
            return True
        return info.uid not in self.noted if flags & OURS else ANSWERED.lower() in flags

    def _why_held_by_date(self, info: MessageInfo) -> str | None:
        """Return why a mail is to be held for its INTERNALDATE, '' for new mail, None to leave it alone.

        Unread mail of the very first poll may be of any day.
        """
        state, date, day = self.state, _ms(info.internal_date), info.internal_date.date().isoformat()
        at_begin = info.uid <= state.floor
        if at_begin and not state.since and info.uid in self.fresh and _is_seen(info):
            return None  # the server finds read mail too where it is asked for the unread
        if at_begin and not state.since:
            return ""
        if at_begin and date < state.since - OLD_MS:
            return f"{ANEW} and it came on {day}, before the last poll"
        earliest = max(state.settled - MARGIN_MS, state.installed // SECOND * SECOND)
        if _is_seen(info) and not at_begin and date < earliest:
            if date < self.now - self.max_age_days * DAY:
                return None
            return f"it had been read, and came on {day}, before the last poll: was it moved here?"
        if date < state.installed - MARGIN_MS:
            return f"it came on {day}, before Cleo was installed"
        return ""

    def _why_not_whole(self, info: MessageInfo) -> str:
        """Return why only the header of a mail is fetched and the mail is held, '' for one to be answered."""
        if info.size > self.max_bytes:
            limit = f"EMAIL_MAX_MESSAGE_BYTES ({self.max_bytes})"
            return f"{info.size} bytes, more than {limit}: not downloaded"
        if _ms(info.internal_date) < self.now - self.max_age_days * DAY:
            day = info.internal_date.date().isoformat()
            return f"it came on {day}, longer ago than EMAIL_MAX_AGE_DAYS ({self.max_age_days})"
        return ""

    def _leave_alone(self, info: MessageInfo) -> None:
        self.done.add(info.uid)
        if not _is_seen(info):
            self.left.add(info.uid)

    def _why_held(self, info: MessageInfo, source: bytes) -> str:
        """Return why a mail is to be held by what its header says, '' for one to be answered."""
        at_begin = info.uid <= self.state.floor
        anew = at_begin and bool(self.state.since)
        twice = at_begin and info.uid not in self.fresh and self._came_after_begin(info)
        if not anew and not twice and not self.knows_read_mail:
            return ""
        mail = parse_header(source)
        if mail is not None and self.store.mailbox.was_read_before(_identity(info, mail)):
            return READ_BEFORE
        if anew and mail is not None and mail.date and _ms(mail.date) < self.state.since - OLD_MS:
            return f"{ANEW} and its Date is {mail.date.date().isoformat()}, before the last poll"
        if twice and mail is not None and mail.date and _ms(mail.date) < self.state.installed - OLD_MS:
            return f"its Date is {mail.date.date().isoformat()}, before Cleo was installed"
        return ""

    @cached_property
    def knows_read_mail(self) -> bool:
        return self.store.mailbox.knows_read_mail()

    # --- taking it ----------------------------------------------------------------------------------------

    def _take_whole(self, infos: Sequence[MessageInfo]) -> None:
        alone = sorted((i for i in infos if i.uid in self.troubles), key=lambda info: self._tries(info.uid))
        waiting = {info.uid: info for info in infos if info.uid not in self.troubles}
        while waiting:
            try:
                for fetched in self.mailbox.fetch([(uid, info.size) for uid, info in waiting.items()]):
                    crashpoint("poll-after-fetch")
                    if info := waiting.pop(fetched.uid, None):
                        self._take(info, fetched.source)
                self.done |= waiting.keys()  # deleted meanwhile
                waiting.clear()
            except BatchFailed as error:
                log.warning("a batch of %d mails could not be fetched: %s", len(error.uids), error)
                self._one_by_one([waiting.pop(uid) for uid in error.uids if uid in waiting])
                if self._is_hopeless():
                    break
        self._again(waiting)
        self._flush()
        self._one_by_one(alone)

    def _one_by_one(self, infos: Sequence[MessageInfo]) -> None:
        """Fetch each mail alone, to find the one that makes the batch fail."""
        for info in infos:
            if self._is_hopeless():
                self._again([info.uid])
                continue
            self.mailbox.open()  # raises where the server is gone: then no mail is to blame
            try:
                fetched = self.mailbox.fetch_one(info.uid)
            except BatchFailed as error:
                self.failed[info.uid] = error
                continue
            if fetched is not None:
                self._take(info, fetched.source)
            self.done.add(info.uid)

    def _tries(self, uid: int) -> tuple[int, int]:
        """Return a key by which those that failed least often come first, and all have their turn."""
        return (self.troubles[uid].tries, uid)

    def _is_hopeless(self) -> bool:
        return not self.fetched and len(self.failed) >= HOPELESS

    def _take_headers(self, infos: Iterable[tuple[MessageInfo, str]]) -> None:
        for info, hold in infos:
            if self._is_hopeless():
                self._again([info.uid])
                continue
            try:
                header = self.mailbox.fetch_headers(info.uid)
            except BatchFailed as error:
                self.failed[info.uid] = error
                self.mailbox.open()  # raises where the server is gone
                continue
            self.done.add(info.uid)
            if header:  # else it was deleted meanwhile
                self._take(info, header, hold=hold)

    def _take(self, info: MessageInfo, source: bytes, *, hold: str = "") -> None:
        unread = not _is_seen(info)
        self.fetched += 1
        why = self._why_held(info, source)
        if why == READ_BEFORE and not unread:
            self._leave_alone(info)
            return
        mail = IncomingMail(
            source, "imap", hold=hold or why, partial=bool(hold), mailbox=self._where(info.uid), unread=unread
        )
        accepted = self.receiver.accept(mail)
        crashpoint("poll-after-accept")
        if accepted.duplicate:
            self.result.duplicates += 1
        else:
            self.result.accepted += 1
        self.result.held += accepted.state is State.HELD and not accepted.duplicate
        trouble = self.troubles.get(info.uid)
        if trouble and trouble.recorded and (record := self._record_of(info.uid)):
            self.upkeep.goes_on_as(record.id, accepted.id)
        self.pending[info.uid] = accepted.state
        if len(self.pending) >= FLUSH:
            self._flush()

    def _flush(self) -> None:
        """Flag the stored mails. What stays unread is noted by UID: not every server keeps keywords."""
        if not self.pending:
            return
        confirmed: set[int] = set()
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for uid, state in self.pending.items():
            groups[flags_of(state, mark_unanswered=self.upkeep.mark_unanswered)].append(uid)
        for flags, uids in groups.items():
            if SEEN not in flags:
                self.store.mailbox.leave(uids)
                confirmed.update(uids)
            confirmed |= self.mailbox.add_flags(uids, flags)
        if missing := self.pending.keys() - confirmed:
            log.warning("the server did not confirm \\Seen for %d mails; they come again", len(missing))
            self._again(missing)
        self.done |= self.pending.keys()
        self.pending.clear()
        crashpoint("poll-after-seen")
        if self.progress:
            self.progress(min(len(self.done), self.total), self.total)

    # --- what could not be fetched ------------------------------------------------------------------------

    def _again(self, uids: Iterable[int]) -> None:
        """Note mails for the next poll."""
        self.again.update(dict.fromkeys(uids, self.now))

    def _judge_failures(self) -> None:
        """Count the failures of mails that failed alone; unless another can be fetched, it is the server."""
        if not self.failed:
            return
        uid, error = next(iter(self.failed.items()))
        if not self.fetched and not self._another_can_be_fetched():
            self._again(self.failed)
            some = "the mail" if len(self.failed) == 1 else f"{len(self.failed)} mails"
            self.fault = MailboxUnavailable(f"no mail can be fetched, not {some} that came: {error}")
            return
        for uid, error in self.failed.items():
            self._count(uid, error)
            if self._patience_is_over(self.troubles[uid], error):
                self._quarantine(uid, str(error))
                self.troubles[uid] = replace(self.troubles[uid], recorded=True)
            if self.troubles[uid].recorded:
                self.again[uid] = self.now + RETRY_RECORDED_MS

    def _count(self, uid: int, error: BatchFailed) -> None:
        before = self.troubles.get(uid, Trouble(0, self.now))
        self.troubles[uid] = replace(before, tries=before.tries + 1)
        wait = max(backoff_ms(before.tries + 1), min(throttled_ms(error) or 0, HOUR))
        self.again[uid] = self.now + wait

    def _give_up(self, error: MailboxError) -> None:
        """Note what this poll did before the server was gone; what it did not reach comes first next time.

        Where nothing was fetched, a mail that failed is not blamed, but from now on it is tried by itself,
        after the others: else the first few of the line would use up the logins of every poll.
        """
        self.fault = MailboxUnavailable(str(error))
        self._again(self.wanted - self.done - self.failed.keys() - self.again.keys())
        self._again(self.pending)  # they are stored and not flagged
        for uid, failure in self.failed.items():
            if self.fetched:
                self._count(uid, failure)
            else:
                self.troubles.setdefault(uid, Trouble(0, self.now))
                self.again[uid] = self.now + AFTER_OTHERS_MS
        self._advance()

    def _patience_is_over(self, trouble: Trouble, error: BatchFailed) -> bool:
        patience = PATIENCE_MS if throttled_ms(error) is None else LONG_PATIENCE_MS
        is_long = self.now - trouble.since >= patience and trouble.tries >= TRIES
        return is_long and not trouble.recorded

    def _another_can_be_fetched(self) -> bool:
        """Return whether the server delivers any mail: try one by chance, as it may be a bad one too."""
        bad = self.failed.keys() | self.troubles.keys()
        others = [uid for uid in self.mailbox.search_since_uid(0) if uid not in bad]
        try:
            sizes = self.mailbox.describe(
                random.sample(others, min(len(others) // 2 + 1, len(others), PROBED))
            )
            smallest = min(sizes.values(), key=lambda info: info.size, default=None)
            return smallest is not None and self.mailbox.fetch_one(smallest.uid) is not None
        except BatchFailed:
            self.mailbox.open()  # raises where the server is gone
            return False

    def _quarantine(self, uid: int, why: str) -> None:
        """Record a mail that cannot be fetched, with its sender and subject as far as they can be had."""
        from_address, subject = self._sender_and_subject(uid)
        text = f"the server does not deliver this mail, UID {uid}, and is asked again once a day: {why}"
        incoming = unfetched(self._where(uid))
        accepted = self.receiver.quarantine(incoming, text, from_address=from_address, subject=subject)
        self.store.filing.add(accepted.id, self.now)  # for its flags
        self.result.quarantined += 1

    def _sender_and_subject(self, uid: int) -> tuple[str, str]:
        try:
            mail = parse_header(self.mailbox.fetch_headers(uid))
            if mail is not None and (mail.from_address or mail.subject):
                return mail.from_address, mail.subject
        except BatchFailed:
            self.mailbox.open()  # raises where the server is gone
        try:
            return self.mailbox.fetch_envelope(uid)
        except BatchFailed:
            self.mailbox.open()
            return "", ""

    def _advance(self) -> None:
        done = self.done - self.again.keys()
        waiting = [
            trouble for uid, trouble in self.troubles.items() if uid not in done and not trouble.recorded
        ]
        settled = self.state.settled if self.fault or waiting else self.now
        self.store.mailbox.leave(self.left)
        self.store.mailbox.advance(
            replace(self.state, settled=settled),
            done=done,
            again=self.again,
            troubles={uid: self.troubles[uid] for uid in self.failed if uid in self.troubles},
        )


OURS = frozenset(flag.lower() for flag in (ACCEPTED, REPLIED, HELD, FAILED))
ANEW = "the mailbox had to be read anew (new UIDVALIDITY),"


def _identity(info: MessageInfo, mail: InboundEmail) -> bytes:
    """Return what makes a mail known again under another UID, or where its INTERNALDATE was lost."""
    date = mail.date or info.internal_date
    named = mail.message_id or f"{mail.from_address} {date} {mail.subject} {info.size}"
    return hashlib.sha256(named.encode("utf-8", "replace")).digest()[:12]


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _is_seen(info: MessageInfo) -> bool:
    return SEEN.lower() in {flag.lower() for flag in info.flags}
