"""Mail of colleagues who answer customers from an address of their own, with this mailbox among the readers.

Such a mail in a known thread is a person's turn: it is never answered, the history shows it, and it takes the
thread over as an answer from the mailbox itself does.
"""

import functools
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from importlib.resources import files
from typing import Final

from cleo_email import screening
from cleo_email.errors import LockLost, NotFound, UnreadableMessage, WrongState
from cleo_email.mail.address import a_label, distinct, is_allowed, is_own, person
from cleo_email.mail.model import Address, InboundEmail
from cleo_email.mail.parse import parse
from cleo_email.mail.thread import is_forward, quoted_ids
from cleo_email.pipeline.send import REMEMBERED
from cleo_email.runtime import DAY, Clock, now_ms
from cleo_email.store import LOGIN, Effects, Record, State, Store
from cleo_email.store.messages import BEGUN_HERE, MAILBOX
from cleo_email.store.threads import taken_by

log = logging.getLogger(__name__)

COMPLETE = 2  # of Record.colleague
MOST_IDS = 50  # that a mail quotes
RECORDS = 500  # of a thread
REMEMBER_S = 180 * DAY // 1000
# Records of mail that answers nobody's mail.
_AT_WORK: Final = (State.RECEIVED, State.ANSWERING, State.REVIEW, State.SUBMITTING)
_OPEN: Final = (*_AT_WORK, State.HELD, State.FAILED)


@functools.cache
def _public_domains() -> frozenset[str]:
    return frozenset(files(screening).joinpath("public_domains.txt").read_text("ascii").split())


@dataclass
class Colleagues:
    """Knows colleagues' mail, and what follows from it. Every method raises StoreUnavailable.

    ``own`` are our addresses, ``named`` those and the ``@domain``s of colleagues, ``mode`` is EMAIL_TAKEOVER.
    """

    store: Store
    own: frozenset[str]
    named: Sequence[str] = ()
    _: KW_ONLY
    mode: str = "thread"
    clock: Clock = now_ms

    def thread_of(self, mail: InboundEmail) -> str:
        """Return the thread in which the mail is a person's turn, '' where it is a mail like any other."""
        writers = distinct([address.addr for address in mail.from_])
        if len(writers) != 1 or is_own(writers[0], self.own):
            return ""
        named = is_allowed(writers[0], self.named)
        if not named and not self._is_copied_by_us(mail, writers[0]):
            return ""
        thread, _ = self.store.threads.known(quoted_ids(mail)[:MOST_IDS])
        if not thread:
            return ""
        wrote = self._writers(thread)
        if named:
            # A colleague may be the agent's customer, too.
            return "" if person(writers[0]) in wrote and not self._outsiders(mail) else thread
        return thread if wrote & {person(address.addr) for address in mail.to} else ""

    def _is_copied_by_us(self, mail: InboundEmail, sender: str) -> bool:
        """Return whether somebody of our own domain wrote to others, with a copy to the mailbox."""
        domain = a_label(sender.rpartition("@")[2])
        ours = {a_label(one.rpartition("@")[2]) for one in self.own} - _public_domains()
        if not domain or domain not in ours or not self._outsiders(mail):
            return False
        return self._has_us(mail.cc) and not self._has_us(mail.to)

    def _has_us(self, addresses: Sequence[Address]) -> bool:
        return any(is_own(address.addr, self.own) for address in addresses)

    def _outsiders(self, mail: InboundEmail) -> list[str]:
        """Return who got the mail beside us and our colleagues."""
        readers = [address.addr for address in (*mail.to, *mail.cc)]
        return [one for one in readers if not is_own(one, self.own) and not is_allowed(one, self.named)]

    def _writers(self, thread: str) -> set[str]:
        """Return those who wrote to the agent in the thread, as of ``mail.address.person``."""
        records, _ = self.store.messages.page(thread_id=thread, limit=RECORDS)
        return {
            person(record.from_address)
            for record in records
            if record.ingress not in BEGUN_HERE and not record.colleague
        }

    def readers(self, mail: InboundEmail, people: Sequence[str], ingress: str) -> Sequence[str]:
        """Return who was on the mail.

        A webhook with fields names one addressee, who is us: then the customer counts as another.
        """
        _, id_ = self.store.threads.known(quoted_ids(mail)[:MOST_IDS])
        if ingress != "webhook" or self._outsiders(mail) or not id_:
            return people
        answered = next(iter(self.store.messages.load([id_])), None)
        return [*people, answered.from_address] if answered and answered.from_address else people

    # --- what follows ---------------------------------------------------------------------------------------

    def complete(self, id_: str, mail: InboundEmail) -> None:
        """Withdraw what the agent was about to answer, and take the thread over; once, and safe to repeat.

        ``mail`` is that of record ``id_``.
        """
        try:
            record = self.store.messages.get(id_)
        except NotFound:
            return
        if not record.colleague or record.colleague == COMPLETE:
            return
        if mail.message_id:  # a customer's client may quote nothing else
            self.store.threads.lead(mail.message_id, record.thread_id, id_, REMEMBER_S)
        if self.mode != "off" and not (is_forward(mail.subject) and not self._outsiders(mail)):
            self._take_over(record, mail)
        self.store.messages.note(id_, "colleague", COMPLETE)

    def _take_over(self, record: Record, mail: InboundEmail) -> None:
        _, answered = self.store.threads.known(quoted_ids(mail)[:MOST_IDS])
        thread = record.thread_id
        for found in self.store.messages.load([answered] if answered else []):
            if found.ingress == "handoff":  # then what was handed over is answered
                answered = found.outbound
        for one in self._open(thread, record.id):
            if one.id <= (answered or record.id):
                fields: dict[str, str | int] = {"answered_by": MAILBOX, **self._text(one)}
                self._move(one, State.IGNORED, "answered by a person", fields, _OPEN)
        if self.mode != "thread":
            return
        self.store.threads.take(thread, taken_by(record.from_address, "a colleague answered", self.clock()))
        for one in self._open(thread, record.id):
            if one.state in _AT_WORK and not one.handoff and one.decided != "approve":
                fields = {"with_person": 1, **self._text(one)}
                self._move(one, State.HELD, "a person has this thread", fields, _AT_WORK)

    def _open(self, thread: str, but: str) -> list[Record]:
        """Return the mails of the thread that nobody has been answered to, oldest first."""
        records, _ = self.store.messages.page(thread_id=thread, limit=RECORDS)
        return [
            one
            for one in reversed(records)
            if one.state in _OPEN
            and not (one.data_ended_at or one.pending or one.bounced or one.colleague)
            and one.ingress not in ("send", "handoff", "person", LOGIN)
            and one.id != but
        ]

    def _text(self, record: Record) -> dict[str, str | int]:
        """Return the field with the customer's words, where the history does not have them yet."""
        with suppress(NotFound, UnreadableMessage):
            if not self.store.messages.get(record.id).text:
                source = self.store.messages.source(record.id)
                return {"text": parse(source).text[:REMEMBERED]} if source else {}
        return {}

    def _move(
        self, record: Record, to: State, reason: str, fields: dict[str, str | int], only_from: Sequence[State]
    ) -> None:
        now = self.clock() if self.store.mailbox.is_configured else None
        held = to is State.HELD
        effects = Effects(fields=fields, pop=True, filing=now, drafting=now, drop_answer=held)
        try:
            self.store.messages.move(
                record.id,
                to,
                now=self.clock(),
                reason=reason,
                effects=effects,
                only_from=only_from,
                # From the mark before the final dot of DATA on it may have been sent.
                given=("data_ended_at", 0),
                by=MAILBOX,
            )
        except (NotFound, WrongState, LockLost) as error:
            log.info("too late for message %s (%s): %s", record.id, reason, error)
        else:
            log.info("message %s %s: %s", record.id, to, reason)
