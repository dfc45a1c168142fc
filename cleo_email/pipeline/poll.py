"""Poll the mailbox: store each new mail, then flag it; a mail that cannot be read stops no other."""

import hashlib
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import MailboxError, MailboxLoginRefused, MailboxUnavailable
from cleo_email.imap.connection import no_limit
from cleo_email.imap.mailbox import BATCH_MESSAGES, Mailbox, describe_each
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
    batches,
    throttled_ms,
)
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.parse import parse_header
from cleo_email.mail.thread import quoted_ids, threads_in_question
from cleo_email.pipeline.logins import LoginsUsedUp, limit_logins
from cleo_email.pipeline.receive import IncomingMail, Receiver, unfetched
from cleo_email.pipeline.upkeep import LOCK, Upkeep, flags_of
from cleo_email.runtime import DAY, HOUR, MINUTE, SECOND, Clock, backoff_ms, now_ms
from cleo_email.store import Accepted, Identity, Record, State, Store
from cleo_email.store.mailbox import Noted, Trouble, UidState
from cleo_email.store.source import packed

log = logging.getLogger(__name__)

# BATCH_MESSAGES are fetched, stored and flagged together.
BATCH_OCTETS = 4 * 1024 * 1024  # of a batch; a larger mail comes alone
LONG = 100  # mails of one poll: more are a backlog, before which new mail is taken
BREAK_S = 0.5  # between two turns of the upkeep during a long poll, and for each of them
RELATIONS_AT_ONCE = 500  # headers of mail that waits, read together
MOST_QUOTED = 200  # ids of one mail, as the receiver reads them
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
    timer: Callable[[], float] = time.monotonic

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
                    clock=self.clock,
                    timer=self.timer,
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


class _Fetched(NamedTuple):
    info: MessageInfo
    source: bytes
    packed: bytes | None = None


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
    clock: Clock = now_ms
    timer: Callable[[], float] = time.monotonic
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
    later: set[int] = field(default_factory=set)  # those that are not due yet
    knows_read_mail: bool = False
    fresh: set[int] = field(default_factory=set)  # UIDs at which no poll has looked since they were noted
    waiting: dict[int, MessageInfo] = field(default_factory=dict)  # to be fetched whole, in this order
    newer: set[int] = field(default_factory=set)  # UIDs that came during this pass
    relations: dict[int, frozenset[int]] = field(
        default_factory=dict
    )  # of mail in a long pass: see _relations
    saved: set[int] = field(default_factory=set)  # UIDs of which it is noted that they wait, or are done
    is_long: bool = False
    next_break: float = 0.0

    def run(self) -> None:
        """Store the new mail. Raise MailboxError, StoreUnavailable."""
        self.status = self.mailbox.open()
        if self.status.read_only:
            raise MailboxError(
                "the mailbox is read-only for this login: a mail could not be marked \\Seen; give EMAIL_USER "
                "the right to write to its INBOX"
            )
        noted = self.store.mailbox.noted()
        state = noted.state
        if state is None or state.validity != self.status.uidvalidity:
            state = self._begin(state, unfinished=bool(noted.again))
            noted = self.store.mailbox.noted()
        self.state = state
        self._take_up(noted)
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
        self.is_long = len(whole) > LONG
        if self.is_long:  # a short one reads them when they are needed
            self._learn_relations([info.uid for info in whole])
        self.next_break = self.timer() + BREAK_S
        self._take_whole(whole)
        self._flush()
        self._take_headers(others)
        self._flush()
        self._judge_failures()

    # --- which mail ---------------------------------------------------------------------------------------

    def _take_up(self, noted: Noted) -> None:
        self.troubles = dict(noted.troubles)
        self.noted = {uid for uid, at in noted.again.items() if at <= self.now}
        self.fresh = {uid for uid, at in noted.again.items() if at <= 0}
        self.later = noted.again.keys() - self.noted
        self.knows_read_mail = noted.knows_read_mail

    def _begin(self, known: UidState | None, *, unfinished: bool) -> UidState:
        """Read the mailbox for the first time, or anew as all UIDs are void.

        At the very first poll the unread mail is taken, and what people have read is remembered, so that it
        is answered under no other UID either. Later what is unread, or came since the last poll, is taken:
        it may have been opened already.
        """
        box, since, installed = self.store.mailbox, 0, self.now
        if known is not None:
            since, installed = known.settled or known.installed, known.installed
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
        new = set(self.mailbox.search_since_uid(state.cursor)) - self.later
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
        self._reached(new, infos, self.wanted - self.done)
        # They were unread when they were noted: if a person opens one from now on nothing changes.
        box.looked_at((uid for uid in self.fresh & infos.keys() if not _is_seen(infos[uid])), self.now)
        return [infos[uid] for uid in sorted(infos)]

    def _reached(self, new: set[int], infos: Mapping[int, MessageInfo], wanted: Collection[int] = ()) -> None:
        there = infos.keys() | self.failed.keys() | self.again.keys()
        self.done |= {*new, *wanted} - there  # deleted, or never there: then the cursor stays below it
        self.state = replace(self.state, cursor=max([self.state.cursor, *(new & there)]))

    def _overlooked(self) -> set[int]:
        """Search now and then for unread mail below the cursor: UIDs may appear out of order."""
        box, state = self.store.mailbox, self.state
        if not self.thorough and self.now - state.searched < OVERLOOKED_MS:
            return set()
        self.state = replace(state, searched=self.now)
        unread, left = set(self.mailbox.search_untaken()), box.left()
        box.forget_left(left - unread)
        found = unread - left - self.noted - self.later
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

    def _why_held(self, mails: Sequence[_Fetched]) -> list[str]:
        """Return why each mail is to be held by what its header says, '' for one to be answered."""
        headers = [
            parse_header(source) if self._depends_on_header(info) else None for info, source, _ in mails
        ]
        identities = [_identity(one.info, mail) for one, mail in zip(mails, headers, strict=True) if mail]
        read = self.store.mailbox.read_before(identities)
        whys: list[str] = []
        for (info, _, _), mail in zip(mails, headers, strict=True):
            known = mail is not None and _identity(info, mail) in read
            whys.append(READ_BEFORE if known else self._why_held_by_header(info, mail) if mail else "")
        return whys

    def _depends_on_header(self, info: MessageInfo) -> bool:
        anew = info.uid <= self.state.floor and bool(self.state.since)
        return anew or self._is_given_twice(info) or self.knows_read_mail

    def _is_given_twice(self, info: MessageInfo) -> bool:
        at_begin = info.uid <= self.state.floor
        return at_begin and info.uid not in self.fresh and self._came_after_begin(info)

    def _why_held_by_header(self, info: MessageInfo, mail: InboundEmail) -> str:
        anew = info.uid <= self.state.floor and bool(self.state.since)
        if anew and mail.date and _ms(mail.date) < self.state.since - OLD_MS:
            return f"{ANEW} and its Date is {mail.date.date().isoformat()}, before the last poll"
        if self._is_given_twice(info) and mail.date and _ms(mail.date) < self.state.installed - OLD_MS:
            return f"its Date is {mail.date.date().isoformat()}, before Cleo was installed"
        return ""

    # --- taking it ----------------------------------------------------------------------------------------

    def _take_whole(self, infos: Sequence[MessageInfo]) -> None:
        alone = sorted((i for i in infos if i.uid in self.troubles), key=lambda info: self._tries(info.uid))
        self.waiting.update((info.uid, info) for info in infos if info.uid not in self.troubles)
        while self.waiting:
            try:
                self._take_batches()
            except BatchFailed as error:
                log.warning("a batch of %d mails could not be fetched: %s", len(error.uids), error)
                self._one_by_one([self.waiting.pop(uid) for uid in error.uids if uid in self.waiting])
                if self._is_hopeless():
                    break
        self._again(self.waiting)
        self.waiting.clear()
        self._flush()
        self._one_by_one(alone)

    def _take_batches(self) -> None:
        """Take what waits; the next batch is fetched while one is stored. Raise BatchFailed.

        The connection is used by one thread at a time. Two batches are in memory at once, none of them large.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="cleo-fetch") as aside:
            batch = self._next_batch()
            fetched = self._fetch(batch) if batch else []
            while batch:
                following = self._next_batch(behind=batch)
                ahead = aside.submit(self._fetch, following) if following else None
                try:
                    self._take(fetched, backlog=self.is_long)
                finally:
                    if ahead:
                        wait([ahead])
                for info in batch:  # those that were not fetched were deleted meanwhile
                    del self.waiting[info.uid]
                    self.done.update({info.uid} - self.pending.keys())
                self._flush()
                self._let_others_in()
                batch = following or self._next_batch()
                fetched = ahead.result() if ahead else self._fetch(batch) if batch else []

    def _next_batch(self, behind: Sequence[MessageInfo] = ()) -> list[MessageInfo]:
        """Return the first of the mails that wait ``behind`` a batch; none where both take much memory."""
        left = islice(self.waiting.values(), len(behind), len(behind) + BATCH_MESSAGES)
        sizes = [(info.uid, info.size) for info in left]
        uids = next(batches(sizes, BATCH_MESSAGES, BATCH_OCTETS), [])
        batch = [self.waiting[uid] for uid in uids]
        much = behind and sum(info.size for info in (*behind, *batch)) > 2 * BATCH_OCTETS
        return [] if much else batch

    def _fetch(self, batch: Sequence[MessageInfo]) -> list[_Fetched]:
        """Return the mails, compressed too: that takes a third of the time of all the rest, and no lock."""
        infos = {info.uid: info for info in batch}
        mails = self.mailbox.fetch([(uid, 0) for uid in infos])
        return [_Fetched(infos[one.uid], one.source, packed(one.source)) for one in mails if one.uid in infos]

    # --- a long pass lets others in -----------------------------------------------------------------------

    def _let_others_in(self) -> None:
        """Between two batches take new mail, and now and then see to what was answered meanwhile."""
        if not self.waiting:
            return
        is_time = self.timer() >= self.next_break
        if self.is_long or is_time:
            self._take_newer()
        if not is_time:
            return
        self._save()
        self.upkeep.run(BREAK_S)
        if self.mailbox.open().uidvalidity != self.status.uidvalidity:
            raise MailboxUnavailable("UIDVALIDITY has changed during the poll, all UIDs are void")
        self.store.health.polled(self.clock())
        self.next_break = self.timer() + BREAK_S

    def _save(self) -> None:
        """Note how far this pass has come, so that a process that dies loses nothing of it."""
        rest = self.wanted - self.done - self.failed.keys() - self.again.keys() - self.noted - self.saved
        done = self.done - self.again.keys() - self.saved
        again = {**self.again, **dict.fromkeys(rest, self.now)}
        self.store.mailbox.advance(self.state, done=done, again=again, troubles={})
        self.saved |= rest | done

    def _take_newer(self) -> None:
        """Take mail that came during this pass before what waits, where none of that may be of its thread."""
        new = set(self.mailbox.search_since_uid(self.state.cursor)) - self.wanted
        if not new:
            return
        self.wanted |= new
        infos = self._describe(sorted(new))
        self._reached(new, infos)
        judged = self._judged([infos[uid] for uid in sorted(infos)])
        whole = [info for info, hold in judged if not hold]
        self._again(info.uid for info, hold in judged if hold)  # for the next poll
        if not self.relations:
            self._learn_relations(list(self.waiting))
        self.total += len(whole)
        self.newer |= {info.uid for info in whole}
        self.waiting.update((info.uid, info) for info in whole)
        sizes = [(info.uid, info.size) for info in whole]
        for uids in batches(sizes, BATCH_MESSAGES, BATCH_OCTETS):
            fetched = self._fetch([infos[uid] for uid in uids])
            passing = self._passing(fetched)
            self._take(passing)
            for mail in passing:
                del self.waiting[mail.info.uid]
            self._flush()

    def _passing(self, fetched: Sequence[_Fetched]) -> list[_Fetched]:
        """Return the mails of which no earlier one that waits may be of the same thread."""
        mails = {one.info.uid: mail for one in fetched if (mail := parse_header(one.source))}
        self.relations |= self._relations(mails)
        waiting = [uid for uid in self.waiting if uid in self.relations]
        unknown = len(waiting) < len(self.waiting)  # their headers could not be had
        passing: list[_Fetched] = []
        for one in fetched:
            uid = one.info.uid
            own = self.relations.get(uid)
            if own is None or (unknown and quoted_ids(mails[uid])):
                continue
            if all(other >= uid or own.isdisjoint(self.relations[other]) for other in waiting):
                passing.append(one)
                waiting.remove(uid)
        return passing

    def _learn_relations(self, uids: Sequence[int]) -> None:
        """Read of the mail that waits what its threads depend on, so that new mail of others can pass it."""
        for start in range(0, len(uids), RELATIONS_AT_ONCE):
            part = uids[start : start + RELATIONS_AT_ONCE]
            try:
                outlines = self.mailbox.fetch_outlines(part)
                mails = {info.uid: parse_header(header) for info, header in outlines}
            except BatchFailed as error:
                log.warning("answers to earlier mail wait for this backlog: %s", error)
                self.mailbox.open()  # raises where the server is gone
                return
            self.relations |= self._relations({uid: mail for uid, mail in mails.items() if mail})

    def _relations(self, mails: Mapping[int, InboundEmail]) -> dict[int, frozenset[int]]:
        """Return for each UID the hashes of all ids on which the thread of the mail may depend."""
        quoted = {uid: quoted_ids(mail)[:MOST_QUOTED] for uid, mail in mails.items()}
        asked = list(dict.fromkeys(id_ for ids in quoted.values() for id_ in ids))
        known = self.store.threads.by_our_ids(asked)
        found: dict[int, frozenset[int]] = {}
        for uid, mail in mails.items():
            threads = (known[id_][0] for id_ in quoted[uid] if id_ in known)
            found[uid] = frozenset(map(hash, (*quoted[uid], *threads_in_question(mail, {}), *threads)))
        return found

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
                self._take([_Fetched(info, fetched.source)])
            self.done.add(info.uid)
            self._flush_many()

    def _tries(self, uid: int) -> tuple[int, float]:
        """Return a key: those that failed least often come first, of equals any, so that none is left out."""
        return (self.troubles[uid].tries, random.random())  # noqa: S311

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
                self._take([_Fetched(info, header)], hold=hold)
            self._flush_many()

    def _take(self, fetched: Sequence[_Fetched], *, hold: str = "", backlog: bool = False) -> None:
        mails: list[tuple[MessageInfo, IncomingMail]] = []
        for (info, source, small), why in zip(fetched, self._why_held(fetched), strict=True):
            crashpoint("poll-after-fetch")
            unread = not _is_seen(info)
            self.fetched += 1
            if why == READ_BEFORE and not unread:
                self._leave_alone(info)
                continue
            facts: dict[str, Any] = {"hold": hold or why, "partial": bool(hold), "unread": unread}
            facts |= {"mailbox": self._where(info.uid), "packed": small}
            mails.append((info, IncomingMail(source, "imap", **facts)))
        newer = [(info, mail) for info, mail in mails if not backlog or info.uid in self.newer]
        rest = [(info, mail) for info, mail in mails if backlog and info.uid not in self.newer]
        for some, waits in ((rest, True), (newer, False)):
            accepted = self.receiver.accept_each([mail for _, mail in some], backlog=waits)
            for (info, _), one in zip(some, accepted, strict=True):
                self._note(info, one)

    def _note(self, info: MessageInfo, accepted: Accepted) -> None:
        """Note a mail that is stored and has to be flagged."""
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

    def _flush_many(self) -> None:
        if len(self.pending) >= BATCH_MESSAGES:
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
        before = self.troubles.get(uid)
        if not before or not before.tries:  # what it was set aside for is no failure of its own
            before = Trouble(0, self.now)
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
        """Return whether the server delivers any mail: try one by chance, as it may be a bad one too.

        It is the smallest of some, yet not always: in a small mailbox all but the largest may be bad.
        """
        bad = self.failed.keys() | self.troubles.keys()
        others = [uid for uid in self.mailbox.search_since_uid(0) if uid not in bad]
        try:
            count = random.choice((1, PROBED))  # noqa: S311
            sizes = self.mailbox.describe(random.sample(others, min(len(others), count)))
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
