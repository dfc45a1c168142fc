"""Questions in which the agent asks back by mail, and the replies with which it goes on.

A question is a record of its own in a conversation of its own, as its thread waits for what comes of it. So
is the reply, until it has resumed the agent.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import CleoError, LockLost, NotFound, StoreUnavailable, WrongState
from cleo_email.mail import wire
from cleo_email.mail.address import is_allowed, is_own, person
from cleo_email.mail.closing import NOTHING_BELOW, Closing
from cleo_email.mail.compose import MAX_SUBJECT, compose_message
from cleo_email.mail.headers import shown
from cleo_email.mail.message_id import Signer
from cleo_email.mail.model import Address, Answer, Ask, InboundEmail, OutboundEmail
from cleo_email.mail.parse import parse
from cleo_email.mail.quotes import cut_new_part
from cleo_email.pipeline.colleagues import COMPLETE
from cleo_email.pipeline.send import REMEMBERED
from cleo_email.pipeline.withdrawal import NO_LONGER, asking_of
from cleo_email.runtime import DAY, HOUR, Clock, backoff_ms, now_ms
from cleo_email.store import QUESTION, Effects, Record, State, Store, conversation_of, iso, new_id
from cleo_email.store.queue import WakeQueue

if TYPE_CHECKING:
    from cleo_email.pipeline.deliver import LockedRecord
    from cleo_email.pipeline.workflows import Question
    from cleo_email.screening.dkim import SenderCheck

log = logging.getLogger(__name__)

MAX_ASKS = 5  # questions back about one message
SAYS_NOTHING = (
    "it answers the agent's question about message {}, and has no text of its own, only what it quotes or "
    "attaches; the question stays open. Release it to have it count as the answer"
)
_NOT_BEGUN = {"begun": 0}
_WORD = "So"


@dataclass(frozen=True)
class QuestionReply:
    """What a mail is to the question that it quotes: its answer, or in ``hold`` why it is not."""

    question: Record
    hold: str = ""

    @property
    def answers(self) -> bool:
        return not self.hold


def reply_to_question(
    store: Store, mail: InboundEmail, quoted: Sequence[str], ours: Mapping[str, tuple[str, str]]
) -> QuestionReply | None:
    """Return what the mail is to the question that it answers, None where it is a mail like any other.

    The question is the nearest mail of ``ours`` (thread and record by Message-ID) among those that it quotes,
    by an id that only its readers know.
    """
    nearest = next((ours[one][1] for one in quoted if one in ours), "")
    light = store.messages.find(nearest) if nearest else None
    if light is None or light.ingress != QUESTION:
        return None
    try:
        question = store.messages.get(light.id)
    except NotFound:
        return None
    by_asked = person(mail.from_address) in json.loads(question.people or "[]")
    what = f"it answers the question about message {question.outbound}"
    if asking_of(store, question) is not None:
        other = f"{what}, which was put to {shown(question.to_address)}; {shown(mail.from_address)} wrote it"
        return QuestionReply(question, "" if by_asked else other)
    if by_asked and not _takes_part(store, question.thread_id, mail.from_address):
        return QuestionReply(question, f"{what}, and {NO_LONGER}")
    return None


def give_up(store: Store, question: Record, why: str, clock: Clock) -> None:
    """Fail the message that waits for the answer to a question which did not reach its reader."""
    now = clock()
    effects = Effects(pop=True, filing=now if store.mailbox.is_configured else None)
    reason = f"the agent's question did not reach {shown(question.to_address)}: {why}"
    with suppress(NotFound, WrongState, LockLost):
        store.messages.move(
            question.outbound,
            State.FAILED,
            now=now,
            reason=reason,
            effects=effects,
            only_from=[State.ANSWERING],
            given=("asking", question.id),
        )


def _takes_part(store: Store, thread: str, address: str) -> bool:
    return address.lower() in store.threads.people([thread])[thread]


@dataclass
class Questions:
    """Mails the agent's questions, and lets it go on with the replies. Every method raises StoreUnavailable.

    ``allowed`` are the addresses and ``@domain``s that may be asked beside the customer: CLEO_OPERATORS and
    EMAIL_ASK_ALLOWED.
    """

    store: Store
    wake: WakeQueue
    signer: Signer
    from_: Address
    allowed: Sequence[str] = ()
    _: KW_ONLY
    own: frozenset[str] = frozenset()
    closing: Closing = NOTHING_BELOW
    deadline_ms: int = 24 * HOUR
    clock: Clock = now_ms

    # --- asking ---------------------------------------------------------------------------------------------

    def ask(
        self,
        work: LockedRecord,
        question: Question,
        ask: Ask,
        text: dict[str, str],
        review: Callable[[OutboundEmail], str],
    ) -> None:
        """Store the question for submission, and let the message wait for the answer, in one step.

        ``review`` tells why a person is to see a mail to a customer first, '' where none is.
        """
        if why := self._why_not(work.record, ask):
            work.finish(State.FAILED, why, text)
            return
        try:
            mail, people = self._compose(work.record, question, ask)
        except StoreUnavailable:
            raise
        except CleoError as error:
            work.finish(State.FAILED, f"the agent's question cannot be mailed: {error}", text)
            return
        held = "" if ask.to else review(mail)
        asked = self._record(work.record, mail, ask, people, held)
        until = self.clock() + self.deadline_ms
        fields: dict[str, str | int] = {**text, "asking": asked.id, "asks": work.record.asks + 1}
        fields |= {"waits_until": until, "tries": 0}
        self.store.messages.ask(
            work.record.id,
            asked,
            mail,
            (),  # those who are asked take no part in the thread by that
            reason=f"asked {shown(asked.to_address)}; waits until {iso(until)}",
            lock=work.lock,
            effects=Effects(fields, due=until, unless_taken=True),
            given=work.fence or ("given", work.record.given),
        )
        log.info("message %s: the agent asks back by message %s", work.record.id, asked.id)
        crashpoint("question-after-keep")
        self.wake.wake(conversation_of(asked))

    def _why_not(self, record: Record, ask: Ask) -> str:
        if record.asks >= MAX_ASKS:
            return f"the agent has asked back {MAX_ASKS} times about this message, that is the most"
        if ask.to is None:
            return ""
        if is_own(ask.to.addr, self.own):
            return f"the agent asks {shown(ask.to.addr)}, which is our own address"
        if not is_allowed(ask.to.addr, self.allowed):
            return (
                f"the agent asks {shown(ask.to.addr)}, who is not allowed: "
                "list the address in EMAIL_ASK_ALLOWED or CLEO_OPERATORS"
            )
        return ""

    def _compose(self, record: Record, question: Question, ask: Ask) -> tuple[OutboundEmail, list[str]]:
        """Return the mail, and who may answer it. Raise CleoError."""
        body = self.closing.without(ask.question)
        if ask.to is None and record.message_id + record.from_address and not record.workflow:
            mail, _ = question.compose(Answer(body))
            return mail, [person(mail.recipients[0]), person(record.from_address)]
        to = ask.to or Address(record.to_address)  # of a workflow's start: the one to whom it writes
        mail = compose_message(
            from_=self.from_,
            to=[to],
            subject=(wire.clean_header(record.subject) or "Question")[:MAX_SUBJECT],
            markdown=body,
            message_id=self.signer.new([to], record.thread_id),
            date=datetime.fromtimestamp(self.clock() / 1000, UTC),
            signature=self.closing.signature(question.request.language or "", body),
        )
        return mail, [person(to.addr)]

    def _record(
        self, about: Record, mail: OutboundEmail, ask: Ask, people: Sequence[str], held: str
    ) -> Record:
        now = self.clock()
        return Record(
            id=new_id(now),
            state=State.HELD if held else State.SUBMITTING,
            reason=f"{held}; release it to have the question asked" if held else "",
            thread_id=about.thread_id,
            received_at=now,
            updated_at=now,
            in_reply_to="" if ask.to else about.message_id,
            from_address=self.from_.addr,
            to_address=ask.to.addr if ask.to else mail.recipients[0],
            subject=about.subject,
            ingress=QUESTION,
            reply_message_id=mail.message_id,
            answer_text=ask.question[:REMEMBERED],
            outbound=about.id,
            people=json.dumps(sorted({*people})),
            context=ask.context,
        )

    def submitted(self, question: Record) -> None:
        """Fail what waits for the answer, where the server refused the question."""
        if question.state is State.FAILED:
            give_up(self.store, question, question.reason, self.clock)

    # --- going on -------------------------------------------------------------------------------------------

    def settle(self, work: LockedRecord, check: SenderCheck | None) -> bool:
        """Let the agent go on with the reply of ``work``. Return False where it is a mail like any other."""
        record = work.record
        question = asking = None
        with suppress(NotFound):
            question = self.store.messages.get(record.question)
            asking = self.store.messages.get(question.outbound)
        if asking and record.id in asking.resumed_by.split():  # an earlier try ended here
            self._end(work, asking, "")
            return True
        if question is None or asking is None or asking_of(self.store, question) is None:
            return self._too_late(work)
        source = self.store.messages.source(record.id)
        if source is None:
            work.finish(State.FAILED, "the stored mail is gone")
            return True
        mail = parse(source)
        if not self._is_proven(work, check, source, mail):
            return True
        text = self._text(mail, question)
        if not (text or record.released):  # sent too early, or a file, which the agent would not see
            work.finish(State.HELD, SAYS_NOTHING.format(asking.id), _NOT_BEGUN)
            return True
        try:
            self._resume(record, question, asking, text)
        except (LockLost, WrongState, NotFound):
            return self._too_late(work)
        crashpoint("question-after-resume")
        self.wake.wake(asking.thread_id)
        self._end(work, asking, text)
        return True

    def _text(self, mail: InboundEmail, question: Record) -> str:
        """Return what the reply says, '' where that is nothing but the quote: the question is no answer."""
        recipients = [address.addr for address in (*mail.to, *mail.cc)][:50]

        def own(text: str) -> str:
            known = [question.answer_text]
            cut = cut_new_part(text, subject=mail.subject, replies=True, recipients=recipients, known=known)
            return cut.text

        # A mail with nothing above its quote is left whole; a word above shows where the quote begins.
        if own(f"{_WORD}\n\n{mail.full_text}").strip() == _WORD:
            return ""
        return own(mail.full_text)[:REMEMBERED]

    def _resume(self, record: Record, question: Record, asking: Record, text: str) -> None:
        """Have the agent asked again, with the answer. The fence is the open question."""
        resumed = {
            "question": question.answer_text,
            "answer": text,
            "from_address": record.from_address,
            "context": json.loads(question.context) if question.context else None,
        }
        now = self.clock()
        fields: dict[str, str | int] = {"asked": asking.asked + 1, "asking": "", "given": "", "tries": 0}
        fields |= {"waits_until": 0, "resumed": json.dumps(resumed)}
        fields["resumed_by"] = f"{asking.resumed_by} {record.id}".strip()
        self.store.messages.move(
            asking.id,
            State.ANSWERING,
            now=now,
            reason=f"{shown(record.from_address)} has answered the agent's question",
            effects=Effects(fields, due=now),
            only_from=[State.ANSWERING],
            given=("asking", question.id),
        )

    def _end(self, work: LockedRecord, asking: Record, text: str) -> None:
        fields: dict[str, str | int] = {"marked": 0, **_NOT_BEGUN}  # it stays read: somebody has seen to it
        if text:
            fields["text"] = text
        if not _takes_part(self.store, asking.thread_id, work.record.from_address):
            fields["colleague"] = COMPLETE  # a turn of a person of ours
        work.finish(State.IGNORED, f"answers the agent's question about message {asking.id}", fields)

    def _too_late(self, work: LockedRecord) -> bool:
        """Treat the reply as a mail of the thread, or hold it where its author takes no part in that."""
        record = work.record
        if not _takes_part(self.store, record.thread_id, record.from_address):
            why = f"it answers a question of the agent's, and {NO_LONGER}"
            work.finish(State.HELD, why, {"question": "", **_NOT_BEGUN})
            return True
        self.store.messages.move(
            record.id,
            State.RECEIVED,
            now=self.clock(),
            reason="the agent's question is answered already: a mail like any other",
            effects=Effects({"question": "", **_NOT_BEGUN}, push=True),
            only_from=[State.RECEIVED],
            given=("question", record.question),
        )
        self.wake.wake(record.thread_id)
        return False

    def _is_proven(
        self, work: LockedRecord, check: SenderCheck | None, source: bytes, mail: InboundEmail
    ) -> bool:
        """Return whether the sender is proven, where that is asked for; else the reply waits, or is held."""
        record, now = work.record, self.clock()
        if check is None or record.authenticated == "1" or record.released:
            return True
        from cleo_email.screening.dkim import Outcome

        finding = check.check(source, mail)
        if finding.outcome is Outcome.PROVEN:
            self.store.messages.note(record.id, "authenticated", 1)
            return True
        if finding.outcome is Outcome.UNKNOWN and now - record.received_at < DAY:
            due = now + backoff_ms(record.attempts + 1)
            fields = {"attempts": record.attempts + 1, **_NOT_BEGUN}
            work.rest(due, f"{finding.reason}; asked again {iso(due)}", fields)
            return False
        work.finish(State.HELD, finding.reason, _NOT_BEGUN)
        return False
