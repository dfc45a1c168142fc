"""Upkeep of the mailbox: flags, our copy in Sent, uncertain submissions, mail fetched when a person asks.

The work waits in the store until there is a connection to the mailbox, and is repeated until it is done.
It never changes what was sent, and never keeps new mail from being read.
"""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import CleoError, MailboxError, MailboxLoginRefused, NotFound, WrongState
from cleo_email.imap.mailbox import Mailbox
from cleo_email.imap.session import RefusedForGood, RefusedForNow
from cleo_email.imap.values import (
    ACCEPTED,
    ANSWERED,
    FAILED,
    HELD,
    REPLIED,
    SEEN,
    BatchFailed,
    MailboxStatus,
    throttled_ms,
)
from cleo_email.pipeline.drafts import DraftFolder
from cleo_email.pipeline.logins import LoginsUsedUp
from cleo_email.pipeline.receive import IncomingMail, Receiver
from cleo_email.runtime import DAY, HOUR, MINUTE, SECOND, Clock, now_ms
from cleo_email.store import AT_WORK, LOGIN, Effects, Record, State, Store, conversation_of
from cleo_email.store.locks import ALIVE_MS
from cleo_email.store.mailbox import FLAGGED, DueList, filing_due
from cleo_email.store.messages import FINAL, MAILBOX

log = logging.getLogger(__name__)

LOCK = "mailbox"  # its name in the store: one process at a time is at the inbox and Sent
# How long one run may keep the mailbox from the poll, its last step aside. A copy takes 0.1 s over the net.
RUN_S = 1.0
# How long a server that files by itself may take before our own copy is made.
FIRST_LOOK_MS = 5 * SECOND
# When a copy that could not be put into Sent is tried again, at first.
NEXT_COPY_MS = 30 * SECOND
# When Sent is searched for an uncertain mail: some servers file a mail only after they have passed it on.
LOOKS_MS = (0, 20 * SECOND, 2 * MINUTE, 10 * MINUTE, HOUR)
# How long a kind of work rests after the first fault in a row that cost the connection, the second …
RESTS_MS = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR)
# The kinds of work in their order, and what is said of one that fails.
WORK = {
    "drafting": "answers that wait are not put into Drafts, or not taken out (or set EMAIL_DRAFTS=0)",
    "people": "nobody looks in Sent whether people have answered themselves (or set EMAIL_TAKEOVER=off)",
    "drafts": "what people do with drafts is not seen",
    "flags": "answered mail is not flagged",
    "filing": "no copies of answers are put into Sent (make it possible, or set EMAIL_SAVE_SENT=0)",
    "settling": "Sent is not searched for answers that may have been sent",
    "fetching": "mail that a person released or retries is not fetched",
}
# When flags that the server refuses are tried again, for a day at most.
NEXT_FLAGS_MS = 10 * MINUTE
# When a mail that a person asks for is fetched again, where the server refuses for a while.
NEXT_FETCH_MS = 5 * MINUTE
MOST_FLAGS = 200  # mails that one run flags
MOST_SUPERSEDED = 100  # mails of a thread, one by the other
TOGETHER = 10  # copies whose next try, and whose end, are stored at once
_KEYWORDS = {State.REPLIED: REPLIED, State.HELD: HELD, State.FAILED: FAILED}
# Nobody is answered: the mail stays unread for the people of the mailbox.
UNANSWERED = frozenset({State.HELD, State.FAILED, State.IGNORED})

T = TypeVar("T")


def flags_of(state: State, *, mark_unanswered: bool, by_person: bool = False) -> tuple[str, ...]:
    """Return the flags that a mail has in the mailbox by the state of its message.

    One that a person has answered is no more unread for people.
    """
    seen = () if state in UNANSWERED and not mark_unanswered and not by_person else (SEEN,)
    answered = (ANSWERED,) if state is State.REPLIED or by_person else ()
    return (*seen, *answered, ACCEPTED, *([_KEYWORDS[state]] if state in _KEYWORDS else []))


class _TooEarly(CleoError):
    """Nobody can know before ``until`` (ms) who files into Sent: the server may file the answer by itself."""

    def __init__(self, until: int) -> None:
        super().__init__("who files into Sent is not known yet")
        self.until = until


@dataclass
class Upkeep:
    """Uses the mailbox's connection; the caller holds the mailbox's lock. ``max_bytes`` in octets.

    Every method raises MailboxError (of the connection) and StoreUnavailable.
    """

    store: Store
    mailbox: Mailbox
    receiver: Receiver
    _: KW_ONLY
    save_sent: bool
    max_bytes: int
    mark_unanswered: bool = False
    drafts: DraftFolder | None = None
    clock: Clock = now_ms
    timer: Callable[[], float] = time.monotonic
    _mended: set[str] = field(init=False, default_factory=set)  # the kinds of work of this run that went well
    _sent_mode: str = field(init=False, default="")
    _begun: int = field(init=False, default=0)  # when this run began (ms)

    def run(self, seconds: float = RUN_S) -> int:
        """Do due work for so long at most (the rest stays due) and return how many answers were filed.

        Only a login that fails is a fault of the mailbox. Work that breaks the connection rests, longer each
        time, and ends the run, so that each of its faults costs one login and new mail is read meanwhile.
        """
        store, until, self._begun = self.store, self.timer() + seconds, self.clock()
        drafting, flags, settling, fetching = self._ready_each()
        if self._keep_drafts(drafting):
            _, flags, settling, fetching = self._ready_each()
        if not (flags or settling or fetching):
            return 0
        self.mailbox.connect()
        done, self._mended = 0, set()
        work = "flags"
        try:
            records = store.messages.load(flags)
            self._flag(records)
            self._works(work, records)
            work = "filing"
            sent = self._to_be_filed(records)
            if len(sent) > 1:  # there may be more than this run has time for: others are flagged first
                store.filing.put_off_each({one.id: _after_flags(one) for one in sent})
            done = self._file_all(sent, until)
            work = "settling"
            for id_ in self._in_time(settling, until):
                self._settle(id_)
            self._works(work, settling)
            work = "fetching"
            for id_ in self._in_time(fetching, until):
                self._fetch(id_)
            self._works(work, fetching)
        except (MailboxLoginRefused, LoginsUsedUp):
            raise
        except MailboxError as error:
            self._mended.discard(work)
            self._rest(work, error)
        if self._mended:
            store.health.upkeep_works(*self._mended)
        return done

    def _keep_drafts(self, ids: Sequence[str]) -> bool:
        """Bring Drafts into line over its own connection, whose faults stop nothing else."""
        if ids and self.drafts and self._at_peoples_folders("drafting", partial(self.drafts.keep_up, ids)):
            self.store.health.upkeep_works("drafting")
        return bool(ids)

    def look(self) -> None:
        """Look what people have answered, and what became of drafts; after the inbox, so that it is known."""
        if self.drafts and self.store.ticks.tick_left_ms("people") <= 0:
            works = {"people"} if self._at_peoples_folders("people", self.drafts.watch) else set()
            if self.drafts.fault:
                fault = f"{WORK['drafts']}: {self.drafts.fault}"
                self.store.health.upkeep_fault("drafts", fault, counts=False)
            else:
                works.add("drafts")
            if works:
                self.store.health.upkeep_works(*works)

    def _at_peoples_folders(self, work: str, do: Callable[[], None]) -> bool:
        """Return whether it was done."""
        try:
            do()
        except LoginsUsedUp as error:
            self.store.ticks.next_tick(work, error.ms)
        except MailboxError as error:  # also a login that is refused: the server may allow one at a time
            self._rest(work, error, RESTS_MS[:3])
        else:
            return True
        return False

    def _ready_each(self) -> list[list[str]]:
        """Return the ids that are due of each list: for Drafts, flags, uncertain mail, and mail to fetch."""
        store, now = self.store, self.clock()
        lists = ((store.drafting, 500, "drafting"), (store.filing, MOST_FLAGS, "flags"))
        more = ((store.settling, 500, "settling"), (store.fetching, 500, "fetching"))
        works = (*lists, *more)
        found = store.due_work.read(now, works)
        return [
            self._ready(due, now, ids, rest, most)
            for (due, most, _), (ids, rest) in zip(works, found, strict=True)
        ]

    def _ready(self, due: DueList, now: int, ids: list[str], rest: int, most: int) -> list[str]:
        """Return the ids that are due, none while this work rests (ms): they are put off until then.

        Of more than ``most`` the last are among them: what people did just now does not wait for a backlog.
        """
        if rest > 0:
            due.put_off(ids, now + rest)
            return []
        if len(ids) < most:
            return ids
        latest = due.latest(now, now - DAY, most // 2)
        return list(dict.fromkeys((*ids[: most - len(latest)], *latest)))

    def _rest(self, work: str, error: MailboxError, rests: Sequence[int] = RESTS_MS) -> None:
        faults = self.store.health.upkeep_fault(work, f"{WORK[work]}: {error}")
        rest = rests[min(faults, len(rests)) - 1]
        self.store.ticks.next_tick(work, rest)
        log.warning("%s (this rests for %d minutes): %s", WORK[work], rest // MINUTE, error)

    def _to_be_filed(self, records: Sequence[Record]) -> list[Record]:
        """Return those of which a copy is to be put into Sent: what was answered soon before what waited.

        Until it is known who files, the oldest come first: only the time since an answer left tells it.
        """
        sent = [one for one in records if one.state is State.REPLIED or one.bounced]
        rest = self.store.ticks.tick_left_ms("filing") if sent else 0
        if rest > 0:
            self.store.filing.put_off([one.id for one in sent], self.clock() + rest)
            return []
        known = self._sent_mode = self.store.mailbox.sent_mode() if sent else ""
        return sorted(sent, key=lambda one: one.updated_at - (one.received_at if known else 0))

    def _works(self, work: str, items: Sequence[object]) -> None:
        if items:
            self._mended.add(work)

    def _in_time(self, items: Iterable[T], until: float) -> Iterator[T]:
        """Yield the first item in any case, the others before ``until``: copies must not delay new mail."""
        for number, item in enumerate(items):
            if number and self.timer() >= until:
                return
            yield item

    def _move(self, id_: str, to: State, reason: str = "", **more: Any) -> None:
        self.store.messages.move(id_, to, now=self.clock(), reason=reason, **more)

    # --- flags, and our copy in Sent ------------------------------------------------------------------------

    def _flag(self, records: Sequence[Record]) -> None:
        """Flag the mails by the state of their messages: people see it in their own client.

        A mail of which nothing was sent is done by that, unless its state has changed meanwhile.
        """
        if not records:
            return
        crashpoint("chores-before-flags")
        status = self.mailbox.open()
        groups: dict[tuple[State, bool, bool], list[Record]] = defaultdict(list)
        for record, like in self._with_superseded(records):
            groups[like.state, bool(record.marked), was_answered(like)].append(record)
        for (state, marked, by_person), members in groups.items():
            refused = None
            try:
                if not status.read_only:
                    add = flags_of(state, mark_unanswered=self.mark_unanswered, by_person=by_person)
                    self._flag_alike(state, members, status.uidvalidity, add, marked=marked)
            except (RefusedForNow, RefusedForGood) as error:
                refused = error
                log.warning("%d mails cannot be flagged as %s: %s", len(members), state, error)
            now = self.clock()
            # Of an answer our copy comes next.
            ends = [one for one in members if not (one.state is State.REPLIED or one.bounced)]
            later = [one for one in ends if refused and now - one.updated_at < DAY]
            done = {one.id: one.state for one in ends if one not in later}
            self.store.filing.done_each(done, {one.id: now + NEXT_FLAGS_MS for one in later})
        crashpoint("chores-after-flags")

    def _with_superseded(self, records: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
        """Yield each record, and those that it supersedes, with the record by whose state it is flagged.

        A mail that is superseded is answered, or waits for people, together with the newer one.
        """
        for record in records:
            newest = self._newest(record)
            yield record, newest
            for older in self.store.messages.load(json.loads(record.supersedes or "[]")):
                if older.state is State.IGNORED and older.superseded_by:
                    yield older, newest

    def _newest(self, record: Record) -> Record:
        for _ in range(MOST_SUPERSEDED):
            newer = self.store.messages.load([record.superseded_by] if record.superseded_by else [])
            if record.state is not State.IGNORED or not newer:
                break
            record = newer[0]
        return record

    def _flag_alike(
        self, state: State, records: Sequence[Record], validity: int, add: tuple[str, ...], *, marked: bool
    ) -> None:
        r"""Set the flags of a state and take off those of others; ``\Seen`` only where it is ours."""
        here = {uid: record.id for record in records if (uid := _uid_under(validity, record)) is not None}
        if not here:
            return
        remove = [keyword for keyword in _KEYWORDS.values() if keyword not in add]
        was_ours = marked and SEEN not in add
        if SEEN in add and state in AT_WORK and not marked:
            self._note_marked(here.values(), 1)  # first: what is marked and not noted would stay so
        if was_ours:
            remove.append(SEEN)
            self.store.mailbox.leave(here)
        self.mailbox.add_flags(here, add)
        self.mailbox.remove_flags(here, remove)
        if was_ours:
            self._note_marked(here.values(), 0)

    def _note_marked(self, ids: Iterable[str], value: int) -> None:
        self.store.messages.note_each(list(ids), "marked", value)

    def _file_all(self, records: Sequence[Record], until: float) -> int:
        """Put our copies into Sent, as long as there is time. Return how many are done."""
        done = 0
        parts = (records[start : start + TOGETHER] for start in range(0, len(records), TOGETHER))
        try:
            for some in self._in_time(parts, until):
                done += self._file_each(some, until)
        except _TooEarly as error:
            self.store.filing.put_off([one.id for one in records], error.until)
        return done

    def _file_each(self, records: Sequence[Record], until: float) -> int:
        """Put a few copies into Sent. Return how many are done; the others are tried again later.

        The next time is stored before anything is tried: a copy that breaks the connection, or the process,
        must not stop the others. What was not tried stays due.
        """
        now = self.clock()
        ages = {one.id: now - one.updated_at for one in records}
        again = {id_: now + min(max(age, NEXT_COPY_MS), HOUR) for id_, age in ages.items()}
        self.store.filing.add_each(again)
        again = {one.id: _after_flags(one) for one in records}
        done: dict[str, str] = {}
        try:
            for record in self._in_time(records, until):
                del again[record.id]
                if self._file(record):
                    done[record.id] = record.state
        except _TooEarly:
            again[record.id] = _after_flags(record)
            raise
        finally:
            self.store.filing.done_each(done, again)
        return len(done)

    def _file(self, record: Record) -> bool:
        """Return whether our copy needs no other try. Raise _TooEarly."""
        age = self.clock() - record.updated_at
        try:
            self._copy_to_sent(record)
        except (MailboxLoginRefused, LoginsUsedUp):
            raise
        except MailboxError as error:
            done = self._not_in_sent(record, error, given_up=age > DAY)
            if not isinstance(error, RefusedForNow | RefusedForGood):
                raise
            self._mended.discard("filing")
            self.store.health.upkeep_fault("filing", f"{WORK['filing']}: {error}", counts=False)
            return done
        self._mended.add("filing")
        if record.filing_fault:
            self.store.messages.note(record.id, "filing_fault", "")
        return True

    def _not_in_sent(self, record: Record, error: MailboxError, *, given_up: bool) -> bool:
        """Note for people why there is no copy. Return whether it is given up: it is tried for a day only."""
        if given_up:
            self.store.filing.done(record.id)
            text = f"no copy of the answer was put into Sent, given up after a day: {error}"
            log.error("message %s: %s", record.id, text)
        else:
            text = f"the copy of the answer is not in Sent yet, tried again: {error}"
            log.warning("message %s: %s", record.id, text)
        self.store.messages.note(record.id, "filing_fault", text)
        return given_up

    def _copy_to_sent(self, record: Record) -> None:
        """Store our copy unless the server files by itself, which one search of Sent shows."""
        was_sent = (record.state is State.REPLIED or record.bounced) and record.answered_by != MAILBOX
        if not was_sent or not self.save_sent or record.ingress == LOGIN:
            return
        self._sent_mode = self._sent_mode or self._find_sent_mode(record)
        if self._sent_mode != "client" or (record.filing_begun and self._lies_in_sent(record)):
            return
        if answer := self.store.messages.answer_to_copy(record.id, self.clock()):
            crashpoint("chores-before-sent")
            if self._is_overtaken():
                log.warning("message %s: another process sees to its copy in Sent", record.id)
                raise _TooEarly(self.clock() + NEXT_COPY_MS)
            self.mailbox.append_sent(answer.source, datetime.fromtimestamp(self.clock() / 1000, UTC))
            crashpoint("chores-after-sent")

    def _is_overtaken(self) -> bool:
        """Return whether another process has the mailbox by now, and may have made the same copy.

        That is asked only where so much time has passed that a process which stood still has lost its lock.
        """
        return self.clock() - self._begun > ALIVE_MS and not self.store.locks.holds(LOCK)

    def _find_sent_mode(self, record: Record) -> str:
        """Return who files into Sent, ``server`` or ``client``. Raise _TooEarly."""
        mode = "client"
        if self._lies_in_sent(record):
            mode = "server"
        elif self.clock() - record.updated_at < FIRST_LOOK_MS:
            raise _TooEarly(record.updated_at + FIRST_LOOK_MS)
        self.store.mailbox.set_sent_mode(mode)
        return mode

    def _lies_in_sent(self, record: Record) -> bool:
        day = datetime.fromtimestamp(record.received_at / 1000, UTC).date()
        # The margin allows for the server's clock and zone; a search of all of Sent could take long.
        return self.mailbox.find_in_sent(record.reply_message_id, since=day - timedelta(days=2))

    # --- uncertain submissions ------------------------------------------------------------------------------

    def _settle(self, id_: str) -> None:
        """Search Sent: a copy proves that the mail was sent. Without one a person decides.

        The search is counted, and the next one set, before it is tried: each may break the connection.
        """
        try:
            record = self.store.messages.get(id_)
            if record.state is not State.UNCERTAIN or record.looks >= len(LOOKS_MS):
                self.store.settling.done(id_)
                return
            looks = record.looks + 1
            self.store.messages.note(id_, "looks", looks)
            self.store.settling.add(id_, self.clock() + LOOKS_MS[min(looks, len(LOOKS_MS) - 1)])
            if self._was_sent(record):
                crashpoint("settle-after-find")
                now, reason = self.clock(), "a copy in Sent shows that it was sent"
                effects = Effects(filing=now, fields={"filing_begun": now})
                self._move(id_, State.REPLIED, reason, effects=effects, only_from=[State.UNCERTAIN])
                log.info("message %s is settled: %s", id_, reason)
                looks = len(LOOKS_MS)
        except (NotFound, WrongState):
            looks = len(LOOKS_MS)
        if looks >= len(LOOKS_MS):
            self.store.settling.done(id_)

    def _was_sent(self, record: Record) -> bool:
        try:
            return self._lies_in_sent(record)
        except (RefusedForNow, RefusedForGood) as error:  # a server that does not search Sent shows nothing
            log.warning("Sent cannot be searched for the answer to message %s: %s", record.id, error)
            return False

    # --- mail of which only the header is stored, or nothing ------------------------------------------------

    def _fetch(self, id_: str) -> None:
        """Fetch a mail that a person released or retries, and continue with it."""
        try:
            self._fetch_whole(self.store.messages.get(id_))
        except (NotFound, WrongState):
            log.info("message %s is not to be fetched any more", id_)
        except BatchFailed as error:
            log.warning("message %s cannot be fetched for now: %s", id_, error)
            wait = max(throttled_ms(error) or 0, NEXT_FETCH_MS)
            self.store.fetching.add(id_, self.clock() + min(wait, HOUR))
            return
        self.store.fetching.done(id_)

    def _fetch_whole(self, record: Record) -> None:
        """Raise BatchFailed where the server refuses for a while, whatever it is asked."""
        quarantined = not self.store.messages.source(record.id)
        status = self.mailbox.open()
        try:
            source = self._whole(record, status)
        except (BatchFailed, RefusedForNow, RefusedForGood) as error:
            if isinstance(error, BatchFailed) and throttled_ms(error) is not None:
                raise
            # otherwise it would be tried for ever, ahead of all later work
            source = f"the server could not deliver the mail: {error}"
        now = self.clock()
        if isinstance(source, str):
            to = State.FAILED if quarantined else State.HELD
            self._move(record.id, to, source, effects=Effects(filing=now))
        elif quarantined:
            # Its sender and thread were unknown, and another channel may have accepted it already. So it is
            # accepted like any other mail, and this record points to the new one.
            incoming = IncomingMail(source, "imap", mailbox=record.mailbox, unread=True)
            accepted = self.receiver.accept(incoming)
            self.goes_on_as(record.id, accepted.id)
        else:
            self.store.messages.replace_source(record.id, source)
            effects = Effects(push=True, conversation=conversation_of(record))
            self._move(record.id, State.RECEIVED, quiet=True, effects=effects)

    def goes_on_as(self, id_: str, new_id: str) -> None:
        """End the record of a mail that could not be fetched: what lies in the mailbox is the new one's."""
        self.store.filing.add(new_id, self.clock())  # for its flags
        effects = Effects(fields={"mailbox": ""})
        self._move(id_, State.IGNORED, f"fetched at last: it goes on as message {new_id}", effects=effects)

    def _whole(self, record: Record, status: MailboxStatus) -> bytes | str:
        """Return the mail, or why there is none."""
        validity, _, uid = record.mailbox.partition("/")
        if not uid:
            return "the mail came without its text, and not from the mailbox: it cannot be fetched"
        if int(validity) != status.uidvalidity:
            return "the mail cannot be found any more: the mailbox has a new UIDVALIDITY"
        info = self.mailbox.describe([int(uid)]).get(int(uid))
        if info is not None and info.size > self.max_bytes:
            return f"{info.size} bytes, more than EMAIL_MAX_MESSAGE_BYTES ({self.max_bytes}): raise it first"
        fetched = self.mailbox.fetch_one(int(uid))
        return fetched.source if fetched is not None else "the mail is no more in the mailbox"


def was_answered(record: Record) -> bool:
    """Return whether a person has answered the mail, from the mailbox or as a colleague of its own."""
    return record.state in FINAL and record.answered_by == MAILBOX


def _uid_under(validity: int, record: Record) -> int | None:
    """Return the UID of a record's mail under this UIDVALIDITY, None where it has none."""
    under, _, uid = record.mailbox.partition("/")
    return int(uid) if uid and int(under) == validity else None


def _after_flags(record: Record) -> int:
    """Return when the copy of a flagged mail is due: behind the mail that still has no flags."""
    return FLAGGED + filing_due(record.updated_at - record.received_at)
