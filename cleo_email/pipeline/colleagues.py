"""Mail of colleagues who answer customers from an address of their own, with this mailbox among the readers.

Such a mail in a known thread is a person's turn: it is never answered, the history shows it, and it takes the
thread over as an answer from the mailbox itself does.
"""

import functools
from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from importlib.resources import files

from cleo_email import screening
from cleo_email.errors import NotFound
from cleo_email.mail.address import a_label, distinct, is_allowed, is_own, person
from cleo_email.mail.model import Address, InboundEmail
from cleo_email.mail.thread import is_forward, quoted_ids
from cleo_email.pipeline.withdrawal import RECORDS, Withdrawal, what_is_answered
from cleo_email.runtime import DAY, Clock, now_ms
from cleo_email.store import Record, Store
from cleo_email.store.messages import UNASKED

COMPLETE = 2  # of Record.colleague
MOST_IDS = 50  # that a mail quotes
REMEMBER_S = 180 * DAY // 1000


def own_domains(own: Collection[str]) -> frozenset[str]:
    """Return the domains of our addresses on which only people of ours have one."""
    return frozenset(a_label(one.rpartition("@")[2]) for one in own) - _public_domains()


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
        if not domain or domain not in own_domains(self.own) or not self._outsiders(mail):
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
            if record.ingress not in UNASKED and not record.colleague
        }

    def readers(self, mail: InboundEmail, people: Sequence[str], ingress: str) -> Sequence[str]:
        """Return who was on the mail.

        A webhook with fields names one addressee, who is us: then the customer counts as another.
        """
        _, id_ = self.store.threads.known(quoted_ids(mail)[:MOST_IDS])
        if ingress != "webhook" or self._outsiders(mail) or not id_:
            return people
        answered = self.store.messages.find(id_)
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
        withdrawal = Withdrawal(self.store, mode=self.mode, clock=self.clock)
        _, quoted = self.store.threads.known(quoted_ids(mail)[:MOST_IDS])
        answered = what_is_answered(self.store, quoted) if quoted else None
        for one in withdrawal.open(record.thread_id):
            if one.id <= (answered or record).id:
                withdrawal.withdraw(one)
        if taken := withdrawal.taken(record.thread_id, record.from_address, "a colleague answered"):
            self.store.threads.take(record.thread_id, taken)
        if self.mode == "thread":
            withdrawal.hold_newer(record.thread_id)
