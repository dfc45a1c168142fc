r"""What people answer in the mailbox themselves: their mail in Sent, and ``\Answered`` in the inbox."""

import hashlib
import json
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from math import ceil

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import MailboxError, MailboxUnavailable, NotFound, UnreadableMessage
from cleo_email.imap.folders import Folders, SentMail
from cleo_email.imap.session import RefusedForGood, RefusedForNow
from cleo_email.mail.address import is_allowed, is_own, person
from cleo_email.mail.headers import parse_addresses
from cleo_email.mail.model import InboundEmail, OutboundEmail
from cleo_email.mail.parse import parse, parse_header
from cleo_email.mail.quotes import cut_new_part
from cleo_email.mail.thread import is_forward, quoted_ids
from cleo_email.pipeline.colleagues import MOST_IDS, own_domains
from cleo_email.pipeline.logins import ConnectionRests, LoginsUsedUp
from cleo_email.pipeline.send import REMEMBERED
from cleo_email.pipeline.withdrawal import (
    INGRESS,
    OPEN,
    RECORDS,
    STOPPABLE,
    Withdrawal,
    is_unsent,
    what_is_answered,
)
from cleo_email.runtime import DAY, Clock, now_ms
from cleo_email.store import Draft, Effects, Identity, Record, State, Store, new_id
from cleo_email.store.messages import MAILBOX

log = logging.getLogger(__name__)

SENT_DRAFT = "a person sent the draft"
ANEW_MS = 2 * DAY  # how far back Sent is read where its UIDs are void
CURSOR_EVERY = 50  # mails
RESTS_S = (30, 60, 300, 900)  # after the first fault of the connection in a row, the second …
PATIENCE_S = 10.0  # for another thread that uses the connection
SHARE_OF_DRAFT, SHARE_OF_MAIL, FEW_WORDS = 0.6, 0.8, 5
_WORD = re.compile(r"\w+")


class SharedFolders:
    """The folders of the account, over one connection for all threads of this process.

    After each fault of the connection it rests longer, so that it costs the account few logins.
    """

    def __init__(self, folders: Folders, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._folders = folders
        self._guard = threading.RLock()
        self._timer = timer
        self._depth = self._faults = 0
        self._rests_until, self._fault = 0.0, ""

    @contextmanager
    def use(self) -> Iterator[Folders]:
        """Raise MailboxUnavailable where another thread does not let go of them, or as they do.

        That is LoginsUsedUp while the connection rests.
        """
        if not self._guard.acquire(timeout=PATIENCE_S):
            raise MailboxUnavailable("the connection for Sent and Drafts is busy")
        self._depth += 1
        try:
            if (rest := self._rests_until - self._timer()) > 0:
                raise ConnectionRests(ceil(rest * 1000), self._fault)
            yield self._folders
            self._faults = 0
        except (LoginsUsedUp, RefusedForNow, RefusedForGood):
            raise  # nothing is wrong with the connection
        except MailboxError as error:
            self._folders.close()
            if self._depth == 1:
                self._fault = str(error)
                self._rests_until = self._timer() + RESTS_S[min(self._faults, len(RESTS_S) - 1)]
                self._faults += 1
            raise
        finally:
            self._depth -= 1
            self._guard.release()


@dataclass
class Takeover:
    """Finds what people have answered, and stores their mail as turns of the threads.

    ``own`` are our addresses, ``colleagues`` patterns of people of ours, ``mode`` is EMAIL_TAKEOVER. Several
    processes may look at the same time: each step is harmless when it is done twice.

    Every public method raises MailboxError and StoreUnavailable.
    """

    store: Store
    folders: SharedFolders
    own: frozenset[str]
    _: KW_ONLY
    mode: str = "thread"
    colleagues: Sequence[str] = ()
    max_bytes: int = 10_000_000
    clock: Clock = now_ms
    withdrawal: Withdrawal = field(init=False)

    def __post_init__(self) -> None:
        self.withdrawal = Withdrawal(self.store, mode=self.mode, clock=self.clock)

    def look(self, records: Sequence[Record]) -> None:
        r"""Read what is new in Sent and, of the mails of these records, ``\Answered``, in this order.

        A client may set the flag before it stores the mail, and a draft that was sent is no takeover.
        """
        with self.folders.use() as folders:
            known = self.store.mailbox.sent_known([one.message_id for one in records])
            self._read_sent(folders, known.cursor)
            if self.mode == "off":
                return
            self._read_early(folders, known.early)
            # Of those in Drafts it takes a second look: see DraftFolder.
            for record in self.flagged([one for one in records if one.id not in known.drafted]):
                self.answered_by_flag(record)

    def waiting(self) -> list[Record]:
        """Return the records whose answer may still be stopped."""
        states = STOPPABLE if self.mode != "off" else ()
        return self.store.messages.newest(states, RECORDS)

    # --- Sent ---------------------------------------------------------------------------------------------

    def read_sent(self) -> None:
        """Take up the mails in Sent above the cursor, which follows when they are done."""
        with self.folders.use() as folders:
            self._read_sent(folders, self.store.mailbox.sent_cursor())

    def _read_sent(self, folders: Folders, cursor: tuple[int, int] | None) -> None:
        mails = folders.sent_after(*cursor) if cursor else None
        if mails is None:
            cursor = self._begin(folders, anew=cursor is not None)
            mails = cursor and folders.sent_after(*cursor)
        if not cursor or not mails:
            return
        for start in range(0, len(mails), CURSOR_EVERY):
            some = mails[start : start + CURSOR_EVERY]
            headers = [(sent, mail) for sent in some if (mail := parse_header(sent.header))]
            readers = {person(one) for _, mail in headers for one in self._readers(mail)}
            self.store.threads.met(sorted(readers), self.clock())
            for sent, mail in headers:
                self._take(folders, f"{cursor[0]}/{sent.uid}", sent, mail)
            crashpoint("takeover-before-cursor")
            self.store.mailbox.set_sent_cursor(cursor[0], some[-1].uid)

    def _begin(self, folders: Folders, *, anew: bool) -> tuple[int, int] | None:
        """Set the cursor: to the end where Cleo is new, so that nothing before it counts."""
        # Where there was no Sent at first, or its UIDs are void, what came lately is read.
        since = datetime.fromtimestamp((self.clock() - ANEW_MS) / 1000, UTC).date() if anew else None
        position = folders.sent_position(since)
        if position is not None or not anew:
            self.store.mailbox.set_sent_cursor(*(position or (0, 0)))
        return position

    def _read_early(self, folders: Folders, early: Mapping[str, str]) -> None:
        """Take up the answers that stood in Sent before the mail that they answer was known here."""
        box = self.store.mailbox
        validity = (box.sent_cursor() or (0, 0))[0] if early else 0
        for message_id, place in early.items():
            under, _, uid = place.partition("/")
            source = folders.sent_source(int(uid)) if int(under) == validity else b""
            if source and (mail := parse_header(source)):
                self._take(folders, place, SentMail(int(uid), len(source), source), mail)
            box.forget_early_answer(message_id)

    def _take(self, folders: Folders, place: str, sent: SentMail, mail: InboundEmail) -> None:
        readers = self._readers(mail)
        # All our own mail says that a machine wrote it, whatever Message-ID a server has given to its copy.
        if (mail.header("auto-submitted") or "no").partition(";")[0].strip().lower() != "no":
            return
        if known := self.store.threads.by_our_ids([mail.message_id] if mail.message_id else []):
            self._take_known(folders, sent, mail, *known[mail.message_id])
            return
        if begun := self._whose_beginning(mail, readers):
            whole, source = self._whole(folders, sent, mail)
            if self.is_like(begun, whole):
                self._sent_draft(begun, whole, source)
            return
        found = self._answered(mail, readers)
        if found is None:
            if ids := quoted_ids(mail):
                self.store.mailbox.note_early_answer(ids[0], place)
            return
        thread, answered = found
        if self._is_among_us(mail, readers, thread, answered):
            return
        whole, source = self._whole(folders, sent, mail)
        if answered and (record := self._whose_draft(folders, whole, answered)):
            self._sent_draft(record, whole, source)
        elif self.mode != "off":
            self._persons_turn(whole, source, thread, answered)

    def _take_known(
        self, folders: Folders, sent: SentMail, mail: InboundEmail, thread: str, id_: str
    ) -> None:
        """Take a mail with an id of ours: a draft that a person sent, or one that was taken before."""
        try:
            record = self.store.messages.get(id_)
        except NotFound:
            return
        if record.ingress == INGRESS:
            self.withdrawal.hold_newer(thread)  # an earlier look may have ended before that
        elif is_unsent(record):
            self._sent_draft(record, *self._whole(folders, sent, mail))

    def _readers(self, mail: InboundEmail) -> list[str]:
        hidden = parse_addresses(mail.header("bcc"))
        every = (address.key for address in (*mail.to, *mail.cc, *hidden))
        return [one for one in dict.fromkeys(every) if one and not is_own(one, self.own)][:200]

    def _answered(self, mail: InboundEmail, readers: Sequence[str]) -> tuple[str, Record | None] | None:
        """Return the thread that a mail belongs to and the record that it answers, None for none of ours."""
        quoted = quoted_ids(mail)[:MOST_IDS]
        ours = self.store.threads.by_our_ids(quoted)
        for message_id in quoted:
            if message_id in ours:
                thread, id_ = ours[message_id]
                return thread, what_is_answered(self.store, id_)
            records, _ = self.store.messages.page(message_id=message_id, limit=20)
            if records:
                people = {person(one) for one in readers}
                told = (one for one in records if person(one.from_address) in people)
                record = next(told, records[0])
                return record.thread_id, record
        named = next(iter(mail.references), "")
        if named and self.store.messages.page(thread_id=named, limit=1)[0]:
            return named, None
        return None

    def _is_among_us(
        self, mail: InboundEmail, readers: Sequence[str], thread: str, answered: Record | None
    ) -> bool:
        """Return whether no customer has got the mail: it was forwarded, or a colleague was asked."""
        people = {person(one) for one in self.store.threads.people([thread])[thread]}
        if answered:
            people |= {person(answered.from_address), *json.loads(answered.people or "[]")}
        if people & {person(one) for one in readers}:
            return False
        of_us = (*self.colleagues, *(f"@{domain}" for domain in own_domains(self.own)))
        return is_forward(mail.subject) or all(is_allowed(one, of_us) for one in readers)

    def _whole(self, folders: Folders, sent: SentMail, mail: InboundEmail) -> tuple[InboundEmail, bytes]:
        """Return the mail with its text where that can be had, and its source."""
        source = folders.sent_source(sent.uid) if sent.size <= self.max_bytes else b""
        try:
            return parse(source or sent.header), source or sent.header
        except UnreadableMessage:
            return mail, sent.header

    # --- a draft that was sent ------------------------------------------------------------------------------

    def _whose_draft(self, folders: Folders, mail: InboundEmail, answered: Record) -> Record | None:
        """Return the record whose draft this mail is, sent under another Message-ID, if it is one."""
        for id_, draft in self.store.drafts.of_thread(answered.thread_id).items():
            if not draft.answers or draft.answers != answered.message_id:
                continue
            record = self.store.messages.find(id_)
            if (
                record is None
                or record.state not in (State.REVIEW, State.SUBMITTING)
                or not is_unsent(record)
            ):
                continue
            if self.is_like(record, mail) or not is_there(folders, draft):
                return record
        # Somebody approved it at the same moment, so it was taken out while a client had it open.
        waits = answered.state is State.REVIEW
        waits |= answered.state is State.SUBMITTING and answered.decided == "approve"
        return answered if waits and is_unsent(answered) and self.is_like(answered, mail) else None

    def _whose_beginning(self, mail: InboundEmail, readers: Sequence[str]) -> Record | None:
        """Return the record whose draft begins a thread with these readers and this subject."""
        if mail.in_reply_to or mail.references:
            return None
        for id_, draft in self.store.drafts.all().items():
            if draft.answers:
                continue
            record = self.store.messages.find(id_)
            kept = self.store.messages.answer(id_) if record and is_unsent(record) else None
            if kept is None or {one.lower() for one in kept.recipients}.isdisjoint(readers):
                continue
            if (found := parse_header(kept.source)) and found.subject == mail.subject:
                return record
        return None

    def is_like(self, record: Record, mail: InboundEmail) -> bool:
        """Return whether the mail shares most of its words with the kept answer."""
        kept = self.store.messages.answer(record.id)
        if kept is None:
            return False
        draft, sent = Counter(_words(parse(kept.source).text)), Counter(_words(mail.text))
        common = (draft & sent).total()
        if draft and common >= SHARE_OF_DRAFT * draft.total():
            return True
        return sent.total() >= FEW_WORDS and common >= SHARE_OF_MAIL * sent.total()

    def _sent_draft(self, record: Record, mail: InboundEmail, source: bytes) -> None:
        kept = self.store.messages.answer(record.id)
        changed = kept is None or _words(parse(kept.source).full_text) != _words(mail.full_text)
        readers = self._readers(mail)
        fields: dict[str, str | int] = {"answered_by": MAILBOX}
        if changed:
            fields["answer_text"] = self._new_part(mail, record.thread_id, readers)
        sent = OutboundEmail(
            mail.message_id or record.reply_message_id, mail.from_address, tuple(readers), source
        )
        now = self.clock()
        effects = Effects(fields, pop=True, filing=now, drafting=now, answer=sent, people=readers)
        reason = f"{SENT_DRAFT}, changed" if changed else SENT_DRAFT
        self.withdrawal.move(record, State.REPLIED, reason, effects, (*OPEN, State.IGNORED))

    # --- an answer of a person's own ------------------------------------------------------------------------

    def _persons_turn(self, mail: InboundEmail, source: bytes, thread: str, answered: Record | None) -> None:
        """Withdraw our answers to what the person answered, and store the mail as a turn of the thread."""
        for record in self.withdrawal.open(thread):
            if answered.id >= record.id if answered else _arrived_before(record, mail):
                self.withdrawal.withdraw(record)
        crashpoint("takeover-before-store")
        now, readers = self.clock(), self._readers(mail)
        name = mail.message_id or f"<{hashlib.sha256(source).hexdigest()[:32]}@sent.invalid>"
        record = Record(
            id=new_id(now),
            state=State.REPLIED,
            reason="a person answered from the mailbox",
            thread_id=thread,
            received_at=now,
            updated_at=now,
            in_reply_to=next(iter(quoted_ids(mail)), ""),
            from_address=mail.from_address,
            to_address=next(iter(readers), ""),
            subject=mail.subject[:1000],
            ingress=INGRESS,
            answer_text=self._new_part(mail, thread, readers),
            reply_message_id=name,
            answered_by=MAILBOX,
            people=json.dumps(sorted({person(one) for one in readers})),
        )
        taken = self._taken(thread)
        keys = [(f"person:{thread}", taken, 0)] if taken else []
        sent = OutboundEmail(name, mail.from_address, tuple(readers), source)
        self.store.messages.accept(record, b"", Identity(f"sent:{name}"), readers, answer=sent, keys=keys)
        crashpoint("takeover-after-store")
        self.withdrawal.hold_newer(thread)

    def _taken(self, thread: str) -> str:
        return self.withdrawal.taken(thread, MAILBOX, "a person answered")

    def _new_part(self, mail: InboundEmail, thread: str, readers: Sequence[str]) -> str:
        among = [person(one) for one in readers[:1]]
        known = [turn.content for turn in self.store.threads.history(thread, but="", among=among)]
        cut = cut_new_part(
            mail.full_text, subject=mail.subject, replies=True, recipients=readers, known=known
        )
        return cut.text[:REMEMBERED]

    # --- \Answered ------------------------------------------------------------------------------------------

    def flagged(self, records: Sequence[Record]) -> list[Record]:
        r"""Return those whose mail in the inbox somebody else has flagged with ``\Answered``.

        Not those that a person has released: whoever did it knew of the flag.
        """
        at = {one.mailbox: one for one in records if one.mailbox and not one.released}
        at = {place: one for place, one in at.items() if one.state in STOPPABLE and is_unsent(one)}
        if not at or self.mode == "off":
            return []
        with self.folders.use() as folders:
            return [at[place] for place in folders.answered(at)]

    def answered_by_flag(self, record: Record) -> None:
        """Withdraw our answer, and the earlier ones of the thread."""
        thread = record.thread_id
        taken = self._taken(thread)
        for one in self.withdrawal.open(thread):
            if one.id < record.id:
                self.withdrawal.withdraw(one)
        self.withdrawal.withdraw(record, taken=taken)
        self.withdrawal.hold_newer(thread)


def is_there(folders: Folders, draft: Draft) -> bool:
    """Return whether the draft, or a copy that somebody saved anew, lies in Drafts, or may."""
    try:
        if draft.place and folders.drafts_there([draft.place]):
            return True
    except (RefusedForNow, RefusedForGood):
        return True
    return bool(folders.find_draft(draft.message_id, draft.answers))


def _arrived_before(record: Record, mail: InboundEmail) -> bool:
    return mail.date is None or record.received_at <= mail.date.timestamp() * 1000


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
