"""Answer a conversation: take its next message, ask the agent, compose the answer and keep it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cleo_email.agents.base import Agent, AgentAttachment, AgentMessage, AgentRequest, HistoryTurn
from cleo_email.crashpoints import crashpoint
from cleo_email.errors import (
    AgentError,
    AgentUnavailable,
    CleoError,
    LockLost,
    NotFound,
    StoreUnavailable,
    place_of,
)
from cleo_email.mail.address import can_be_written_to, is_allowed, is_own
from cleo_email.mail.compose import compose_reply
from cleo_email.mail.headers import shown
from cleo_email.mail.message_id import Signer
from cleo_email.mail.model import Action, Address, Answer, AttachedFile, InboundEmail, OutboundEmail, Turn
from cleo_email.mail.parse import attachment_text, parse
from cleo_email.mail.quotes import cut_new_part
from cleo_email.mail.thread import own_threads, people_of
from cleo_email.pipeline.budget import Budget
from cleo_email.pipeline.deliver import Delivery
from cleo_email.pipeline.workflows import INGRESS, ThreadOpener
from cleo_email.runtime import HOUR, Clock, backoff_ms, now_ms
from cleo_email.screening.dkim import Outcome, SenderCheck
from cleo_email.screening.screen import Policy
from cleo_email.store import AT_WORK, Effects, Lock, Record, State, Store, iso
from cleo_email.store.queue import WakeQueue

MAX_CC = 50


@dataclass(frozen=True)
class Recipients:
    to: tuple[Address, ...]
    cc: tuple[Address, ...] = ()
    note: str = ""


def recipients_of(
    mail: InboundEmail, policy: Policy, *, reply_all: bool, members: frozenset[str] | None = None
) -> Recipients:
    """To: Reply-To where we may write to it, else From, with the reason.

    ``Reply-To`` is never an identity (RFC 5322 section 3.6.2 makes it a wish): an address that could not
    have written to us must not be answered either. ``members`` take part in the thread so far; None where the
    mail begins it or its sender is proven. Nobody else is sent what the thread holds: From may be forged, and
    then only the owner of the address gets the answer. With ``reply_all`` the other allowed ones get a copy.
    """
    to, note = mail.from_[:1], ""
    wished = next((address for address in mail.reply_to if address.addr), None)
    if wished and wished.key != mail.from_[0].key:
        note = _why_not(wished, policy)
        if not note and members is not None and wished.key not in members:
            note = f"{shown(wished.addr)} takes no part in this thread"
        if note:
            note = f"answered to From, not to Reply-To: {note}"
        else:
            to = (wished,)
    cc: dict[str, Address] = {}
    if reply_all:
        for address in (*mail.to, *mail.cc):
            if address.key != to[0].key and not _why_not(address, policy):
                cc.setdefault(address.key, address)
    return Recipients(tuple(to), tuple(cc.values())[:MAX_CC], note)


def _why_not(address: Address, policy: Policy) -> str:
    """Why nothing may be sent to ``address``, '' where it may."""
    if is_own(address.addr, policy.own_addresses):
        return f"{shown(address.addr)} is our own address"
    if policy.allowed_senders and not is_allowed(address.addr, policy.allowed_senders):
        return f"{shown(address.addr)} is not in EMAIL_ALLOWED_SENDERS"
    if not can_be_written_to(address):
        return f"{shown(address.addr)} is no address that mail can be sent to"
    return ""


@dataclass(frozen=True)
class Rules:
    """What the operator set for answers. ``agent_timeout`` in seconds."""

    from_: Address
    policy: Policy
    agent_timeout: float = 300.0
    max_attachment_bytes: int = 10_485_760
    reply_all: bool = False


@dataclass(frozen=True)
class Question:
    """What the agent is asked, and what to do with its answer.

    ``text`` is what the thread's history keeps of the question; ``compose`` gives the mail and a note for the
    record; ``done`` is called once the agent will not be asked again.
    """

    request: AgentRequest
    text: str
    compose: Callable[[Answer], tuple[OutboundEmail, str]]
    done: Callable[[], None] = lambda: None


class Questions:
    """``opening`` serves the starts of workflows, to which no mail has come in."""

    def __init__(
        self,
        store: Store,
        signer: Signer,
        rules: Rules,
        *,
        opening: ThreadOpener | None = None,
        clock: Clock = now_ms,
    ) -> None:
        self._store = store
        self._signer = signer
        self._rules = rules
        self._opening = opening
        self._clock = clock

    def question(self, record: Record, source: bytes) -> Question:
        """Raises StoreUnavailable, NotFound."""
        if record.ingress == INGRESS and self._opening is not None:
            opening = self._opening
            return Question(
                opening.question(record),
                "",
                lambda answer: (opening.compose(record, answer), ""),
                lambda: opening.done(record),
            )
        mail = parse(source)
        history = self._store.threads.history(record.thread_id, but=record.id)
        text = new_part(mail, history)
        request = self._request(record, mail, text, history)
        members = self._members(record) if history and record.authenticated != "1" else None
        return Question(request, text, lambda answer: self._compose(record, mail, answer, members))

    def _members(self, record: Record) -> frozenset[str]:
        return self._store.threads.people([record.thread_id]).get(record.thread_id, frozenset())

    def _compose(
        self, record: Record, mail: InboundEmail, answer: Answer, members: frozenset[str] | None
    ) -> tuple[OutboundEmail, str]:
        rules = self._rules
        who = recipients_of(mail, rules.policy, reply_all=rules.reply_all, members=members)
        outbound = compose_reply(
            mail,
            answer,
            from_=self._rules.from_,
            to=who.to,
            cc=who.cc,
            message_id=self._signer.new(who.to, record.thread_id),
            date=datetime.fromtimestamp(self._clock() / 1000, UTC),
        )
        return outbound, who.note

    def _request(
        self, record: Record, mail: InboundEmail, text: str, history: tuple[Turn, ...]
    ) -> AgentRequest:
        limit = self._rules.max_attachment_bytes
        came_in = datetime.fromtimestamp(record.received_at / 1000, UTC)
        message = AgentMessage(
            message_id=mail.message_id,
            from_address=mail.from_address,
            from_name=mail.from_name,
            to_address=record.to_address,
            cc=tuple(address.addr for address in mail.cc),
            subject=mail.subject,
            text=text,
            full_text=_with_texts(mail),
            date=(mail.date or came_in).isoformat(),
            authenticated={"1": True, "0": False}.get(record.authenticated),
            attachments=tuple(_shown(attachment, limit) for attachment in mail.attachments),
        )
        workflow = self._store.threads.workflow(record.thread_id)
        return AgentRequest(
            id=record.id,
            thread_id=record.thread_id,
            message=message,
            history=tuple(HistoryTurn(role=turn.role, content=turn.content) for turn in history),
            workflow=workflow,
            language=(workflow or {}).get("language"),
            model=(workflow or {}).get("model"),
        )


def new_part(mail: InboundEmail, history: tuple[Turn, ...]) -> str:
    """What the sender wrote now: text that the thread already holds counts as quoted, marked or not."""
    if not history:
        return mail.text
    known = [turn.content for turn in history]
    return cut_new_part(mail.full_text, subject=mail.subject, replies=True, known=known).text


def _shown(attachment: AttachedFile, limit: int) -> AgentAttachment:
    """A file within the limit with its content, a larger one by name, type and size only."""
    if attachment.size <= limit:
        return AgentAttachment.of(attachment)
    return AgentAttachment(
        filename=attachment.filename, content_type=attachment.content_type, size=attachment.size, content=""
    )


def _with_texts(mail: InboundEmail) -> str:
    """The full text, and after it the text of those attachments that are text."""
    parts = [mail.full_text]
    for attachment in mail.attachments:
        text = attachment_text(attachment)
        if text and text.strip():
            parts.append(f"[{attachment.filename}]\n{text}")
    return "\n\n".join(parts)


log = logging.getLogger(__name__)

MAX_TRIES = 6
MAX_FAULTS = 12  # unexpected ones, of our own
PROOF_HORIZON_MS = 24 * HOUR  # DNS that says nothing for so long: a person decides
REMEMBERED = 100_000  # characters of a mail and of an answer that a thread's history keeps


class Answerer:
    """``opening`` serves the starts of workflows, to which no mail has come in."""

    def __init__(
        self,
        store: Store,
        agent: Agent,
        delivery: Delivery,
        wake: WakeQueue,
        signer: Signer,
        rules: Rules,
        *,
        budget: Budget,
        opening: ThreadOpener | None = None,
        sender_check: SenderCheck | None = None,
        clock: Clock = now_ms,
    ) -> None:
        self._store = store
        self._sender_check = sender_check
        self._budget = budget
        self._questions = Questions(store, signer, rules, opening=opening, clock=clock)
        self._refused = rules.policy.refused
        self._agent = agent
        self._delivery = delivery
        self._wake = wake
        self._rules = rules
        self._clock = clock

    def handle(self, thread_id: str) -> None:
        """Handle the message at the head of the thread's conversation, if it is due and nobody else does.

        Raises StoreUnavailable; the sweeper wakes the conversation again.
        """
        with self._store.locks.hold(f"conversation:{thread_id}") as lock:
            if lock is None:
                return
            crashpoint("answer-after-lock")
            id_ = self._store.conversations.head(thread_id, self._clock())
            if id_ is None:
                return
            crashpoint("answer-after-head")
            try:
                self._one(thread_id, id_, lock)
            except LockLost:
                log.warning("message %s was taken over by another worker", id_)
        crashpoint("answer-before-next")
        # Whoever added a message while we held the lock woke a worker that found it held: look once more.
        if self._store.conversations.head(thread_id, self._clock()) is not None:
            self._wake.wake(thread_id)

    def _one(self, thread_id: str, id_: str, lock: Lock) -> None:
        try:
            record = self._store.messages.get(id_)
        except NotFound:
            self._store.conversations.drop_head(thread_id, id_)
            return
        if record.state not in AT_WORK:
            self._store.conversations.drop_head(thread_id, id_)
            return
        try:
            if record.state is not State.SUBMITTING:
                self._think(record, lock)
                record = self._store.messages.get(id_)
            if record.state is State.SUBMITTING:
                self._delivery.submit(record, lock)
        except (LockLost, StoreUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - the job's outermost edge: one bad message stops nothing
            what = place_of(error)
            log.error("message %s: unexpected %s", id_, what)
            self._stumbled(self._store.messages.get(id_), lock, f"unexpected {what}")

    def _think(self, record: Record, lock: Lock) -> None:
        if record.tries >= MAX_TRIES:
            self._finish(record, State.FAILED, f"given up after {MAX_TRIES} tries: {record.reason}", lock)
            return
        source = self._store.messages.source(record.id)
        if source is None:
            self._finish(record, State.FAILED, "the stored mail is gone", lock)
            return
        if not self._is_proven(record, source, lock):
            return
        record = self._store.messages.get(record.id)
        if used := self._budget.before_asking(record):
            self._hold(record, used, lock)
            return
        fields = {"tries": record.tries + 1, "attempts": record.attempts + 1}
        self._move(record, State.ANSWERING, "", lock, Effects(fields=fields))
        question = self._questions.question(record, source)
        text = question.text
        crashpoint("answer-before-agent")
        try:
            answer = self._agent.answer(question.request, deadline=self._rules.agent_timeout)
        except AgentUnavailable as error:
            self._again(self._store.messages.get(record.id), lock, str(error), text)
            return
        except AgentError as error:
            self._finish(record, State.FAILED, str(error), lock, text)
            return
        crashpoint("answer-after-agent")
        if answer.ignore or not (answer.text or answer.attachments):
            self._finish(record, State.IGNORED, answer.ignore or "the agent gave no final answer", lock, text)
            question.done()
            return
        self._keep(record, question, answer, lock)

    def _is_proven(self, record: Record, source: bytes, lock: Lock) -> bool:
        """Whether the mail may go on; else it is held, or waits until DNS answers."""
        known = record.authenticated == "1" or record.released or record.ingress == INGRESS
        if self._sender_check is None or known:
            return True
        mail = parse(source)
        finding = self._sender_check.check(source, mail)
        if finding.outcome is Outcome.PROVEN:
            people = people_of(mail, self._rules.policy.own_addresses)
            sender, own = mail.from_[0].key, own_threads(mail)
            thread = self._store.threads.admit(record.id, sender, people, own, self._clock())
            self._store.messages.note(record.id, "authenticated", 1)
            if thread != record.thread_id:  # that of others by now: it goes on in a conversation of its own
                self._wake.wake(thread)
            return thread == record.thread_id
        if finding.outcome is Outcome.UNKNOWN and self._clock() - record.received_at < PROOF_HORIZON_MS:
            due = self._clock() + backoff_ms(record.attempts + 1)
            fields = {"attempts": record.attempts + 1}
            reason = f"{finding.reason}; asked again {iso(due)}"
            self._move(record, record.state, reason, lock, Effects(fields=fields, due=due))
            return False
        if finding.outcome is Outcome.UNPROVEN:
            self._store.messages.note(record.id, "authenticated", 0)
            if self._refused is Action.IGNORE:
                self._finish(record, State.IGNORED, finding.reason, lock)
                return False
        self._hold(record, finding.reason, lock)
        return False

    def _keep(self, record: Record, question: Question, answer: Answer, lock: Lock) -> None:
        """From here on the agent is not asked again: what is sent are these bytes."""
        text = question.text
        try:
            outbound, note = question.compose(answer)
        except StoreUnavailable:
            raise
        except AgentUnavailable as error:  # whoever supplies a file of the workflow may do so later
            self._again(self._store.messages.get(record.id), lock, str(error), text)
            return
        except CleoError as error:
            self._finish(record, State.FAILED, f"the answer cannot be mailed: {error}", lock, text)
            return
        crashpoint("answer-after-compose")
        fields: dict[str, str | int] = {"text": text[:REMEMBERED], "answer_text": answer.text[:REMEMBERED]}
        self._move(record, State.SUBMITTING, note, lock, Effects(fields=fields, answer=outbound))
        crashpoint("answer-after-keep")
        question.done()

    def _again(self, record: Record, lock: Lock, why: str, text: str = "") -> None:
        if record.tries >= MAX_TRIES:
            self._finish(record, State.FAILED, f"given up after {MAX_TRIES} tries: {why}", lock, text)
            return
        due = self._clock() + backoff_ms(max(record.tries, 1))
        reason = f"try {record.tries} of {MAX_TRIES} failed, the next is due {iso(due)}: {why}"
        self._move(record, record.state, reason, lock, Effects(due=due))
        log.warning("message %s: %s", record.id, reason)

    def _stumbled(self, record: Record, lock: Lock, why: str) -> None:
        """A fault of ours. From the end of DATA on the server may have it: nobody may try again."""
        if record.state not in AT_WORK:  # it had come to its end before the fault
            return
        if record.data_ended_at:
            self._delivery.call_uncertain(record, lock, why)
        else:
            self._stumble(record, lock, why)

    def _stumble(self, record: Record, lock: Lock, why: str) -> None:
        """Tried again a bounded number of times, then a person's. What others did to it is not counted."""
        faults = record.faults + 1
        if faults >= MAX_FAULTS:
            self._finish(record, State.FAILED, f"given up after {faults} unexpected faults: {why}", lock)
            return
        due = self._clock() + backoff_ms(faults)
        effects = Effects(fields={"faults": faults, "attempts": record.attempts + 1}, due=due)
        self._move(record, record.state, f"{why}; the next attempt is due {iso(due)}", lock, effects)

    def _hold(self, record: Record, reason: str, lock: Lock) -> None:
        """Not logged one by one: there may be thousands, and the budget has said that it is used up."""
        filing = self._clock() if record.mailbox else None
        self._move(record, State.HELD, reason, lock, Effects(pop=True, filing=filing))

    def _finish(self, record: Record, to: State, reason: str, lock: Lock, text: str = "") -> None:
        fields = {"text": text[:REMEMBERED]} if text else {}
        filing = self._clock() if record.mailbox and to is not State.IGNORED else None
        self._move(record, to, reason, lock, Effects(fields=fields, pop=True, filing=filing))
        log.log(
            logging.ERROR if to is State.FAILED else logging.INFO, "message %s %s: %s", record.id, to, reason
        )

    def _move(self, record: Record, to: State, reason: str, lock: Lock, effects: Effects) -> None:
        self._store.messages.move(record.id, to, now=self._clock(), reason=reason, lock=lock, effects=effects)
