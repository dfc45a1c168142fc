"""Tell people that the agent has handed a thread over to them: one mail to EMAIL_HANDOFF_TO."""

import functools
import hashlib
import logging
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import InvalidField, NotFound, UnreadableMessage
from cleo_email.mail import wire
from cleo_email.mail.address import can_be_written_to, is_own, quoted_mailbox
from cleo_email.mail.compose import MAX_SUBJECT, compose_message
from cleo_email.mail.enclosed import enclosed_mail
from cleo_email.mail.language import detect, language_of
from cleo_email.mail.message_id import Signer
from cleo_email.mail.model import Address, InboundEmail, OutboundEmail
from cleo_email.mail.parse import parse
from cleo_email.runtime import DAY, MINUTE, Clock, now_ms
from cleo_email.store import Identity, Record, State, Store, new_id
from cleo_email.store.queue import WakeQueue

log = logging.getLogger(__name__)

INGRESS = "handoff"
RETRY_MS = 5 * MINUTE
REMEMBER_S = 100 * DAY // 1000
# Characters of a thread that the mail shows: the end of it, and of each turn the beginning.
MOST_OF_THREAD, MOST_OF_TURN = 60_000, 10_000


@functools.cache
def _words(language: str) -> dict[str, str]:
    """Return the words of the mail, English where there are none of the language."""
    found = tomllib.loads(files(__package__).joinpath("handoff.toml").read_text("utf-8"))
    return dict(found.get(language) or found["en"])


@dataclass
class HandOver:
    """Stores the mail about a hand-over for submission, once for each hand-over.

    ``to`` is EMAIL_HANDOFF_TO; where it is empty nobody is told by mail. Raises StoreUnavailable.
    """

    store: Store
    wake: WakeQueue
    signer: Signer
    from_: Address
    to: Sequence[Address]
    _: KW_ONLY
    own: frozenset[str]
    max_bytes: int
    clock: Clock = now_ms

    def run_due(self) -> None:
        """Complete the hand-overs of processes that ended in between."""
        for id_ in self.store.handing_over.due(self.clock()):
            # One that always fails must not keep the others from being told.
            self.store.handing_over.put_off([id_], self.clock() + RETRY_MS)
            self.complete(id_)

    def complete(self, id_: str) -> None:
        """Send the mail about message ``id_``, where its thread was handed over and it was not sent yet."""
        try:
            record = self.store.messages.get(id_)
        except NotFound:
            self.store.handing_over.done(id_)
            return
        if not record.handoff and record.state is State.ANSWERING:
            # Whoever has asked for this may be about to hand it over.
            self.store.handing_over.put_off([id_], self.clock() + MINUTE)
            return
        if record.handoff and self.to:
            self._tell(record)
            crashpoint("handoff-after-store")
        self.store.handing_over.done(id_)

    def _tell(self, record: Record) -> None:
        try:
            mail = self._compose(record)
        except InvalidField as error:
            log.error("nobody can be told of the hand-over of message %s: %s", record.id, error)
            return
        now = self.clock()
        told = Record(
            id=new_id(now),
            state=State.SUBMITTING,
            thread_id=record.thread_id,
            received_at=now,
            updated_at=now,
            from_address=self.from_.addr,
            to_address=self.to[0].addr,
            subject=record.subject,
            ingress=INGRESS,
            reply_message_id=mail.message_id,
            outbound=record.id,
        )
        identity = Identity(f"{INGRESS}:{record.id}:{record.handoffs}", remember_s=REMEMBER_S)
        # Those who are told take no part in the thread.
        accepted = self.store.messages.accept(told, b"", identity, (), answer=mail)
        if not accepted.duplicate:
            log.info("message %s tells people of the hand-over of message %s", told.id, record.id)
        self.wake.wake(record.thread_id)

    def _compose(self, record: Record) -> OutboundEmail:
        """Return the mail. Raise InvalidField."""
        source = self.store.messages.source(record.id) or b""
        mail = _parsed(source)
        words = _words(self._language(record, mail))
        customer = self._customer(record, mail)
        message_id = self.signer.new(self.to, record.thread_id)
        subject = wire.clean_header(record.subject)
        references = [*mail.references, mail.message_id] if mail.message_id else list(mail.references)
        composed = compose_message(
            from_=self.from_,
            to=self.to,
            subject=f"[{words['subject']}] {subject}"[:MAX_SUBJECT],
            markdown="",
            message_id=message_id,
            date=datetime.fromtimestamp(self.clock() / 1000, UTC),
            in_reply_to=mail.message_id,
            references=references,
            reply_to=[customer] if can_be_written_to(customer) else [],
            content=self._content(words, record, customer, source, message_id),
        )
        if len(composed.source) > self.max_bytes and source:
            content = self._content(words, record, customer, b"", message_id, too_large=True)
            head = composed.source.partition(b"MIME-Version: 1.0\r\n")
            return replace(composed, source=head[0] + head[1] + content)
        return composed

    def _content(
        self,
        words: dict[str, str],
        record: Record,
        customer: Address,
        source: bytes,
        message_id: str,
        *,
        too_large: bool = False,
    ) -> bytes:
        text = "\n".join(self._lines(words, record, customer, too_large=too_large))
        part = wire.text_part("plain", wire.clean_text(text))
        if not source:
            return part
        boundary = f"=_h_{hashlib.sha256(message_id.encode('ascii') + source).hexdigest()[:32]}"
        return wire.multipart("mixed", boundary, [part, enclosed_mail(source, "mail.eml")])

    def _lines(
        self, words: dict[str, str], record: Record, customer: Address, *, too_large: bool
    ) -> Iterator[str]:
        yield from (words["intro"], "")
        yield f"{words['reason']}: {record.handoff}"
        yield f"{words['customer']}: {quoted_mailbox(customer.name, customer.addr)}"
        yield f"{words['about']}: {wire.clean_header(record.subject)}"
        yield from ("", words["how"].format(us=self.from_.addr))
        yield from ("", f"    cleo-email messages handback {record.id}", "")
        if too_large:
            yield from (words["large"], "")
        yield from (f"--- {words['thread']} ---", "")
        turns: list[str] = []
        left = MOST_OF_THREAD
        for who, said in reversed(list(self._turns(words, record))):
            said = said if len(said) <= MOST_OF_TURN else f"{said[:MOST_OF_TURN]}\n{words['short']}"
            left -= len(said)
            if turns and left < 0:
                turns.append(words["cut"])
                break
            turns.append(f"{who}:\n\n{said.strip()}\n")
        yield "\n".join(reversed(turns))

    def _turns(self, words: dict[str, str], record: Record) -> Iterator[tuple[str, str]]:
        for turn in self.store.threads.history(record.thread_id, but=record.id, among=()):
            yield words[turn.role], turn.content
        if record.text:
            yield words["user"], record.text
        if record.answer_text:
            yield words["review" if record.state is State.REVIEW else "sent"], record.answer_text

    def _language(self, record: Record, mail: InboundEmail) -> str:
        return language_of(mail, record.text) or detect(f"{record.answer_text}\n{record.subject}")

    def _customer(self, record: Record, mail: InboundEmail) -> Address:
        """Return who wrote the mail, or whom a web form names, or to whom a workflow writes."""
        if not mail.from_:
            theirs = record.from_address if not is_own(record.from_address, self.own) else record.to_address
            return Address(theirs)
        wished = next((one for one in mail.reply_to if not is_own(one.addr, self.own)), None)
        return wished if wished and can_be_written_to(wished) else mail.from_[0]


def _parsed(source: bytes) -> InboundEmail:
    try:
        return parse(source) if source else InboundEmail()
    except UnreadableMessage:
        return InboundEmail()
