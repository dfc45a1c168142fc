"""Answer a conversation: take its next message, ask the agent, compose the answer and keep it."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from cleo_email import errors
from cleo_email.agents.base import NO_FINAL_ANSWER, Agent, AgentAttachment, AgentMessage, AgentRequest
from cleo_email.agents.spec import NO_AGENT
from cleo_email.crashpoints import crashpoint
from cleo_email.mail.address import can_be_written_to, is_allowed, is_own, person
from cleo_email.mail.closing import NOTHING_BELOW, Closing
from cleo_email.mail.compose import compose_reply
from cleo_email.mail.headers import shown
from cleo_email.mail.language import language_of
from cleo_email.mail.message_id import Signer
from cleo_email.mail.model import Action, Address, Answer, AttachedFile, InboundEmail, OutboundEmail, Turn
from cleo_email.mail.parse import MAX_RECIPIENTS, attachment_text, parse
from cleo_email.mail.quotes import cut_new_part
from cleo_email.mail.thread import content_hash, fingerprint, own_threads, people_of
from cleo_email.pipeline.budget import Budget
from cleo_email.pipeline.callback import Callbacks
from cleo_email.pipeline.colleagues import Colleagues
from cleo_email.pipeline.deliver import Delivery, LockedRecord, joined
from cleo_email.pipeline.handoff import HandOver
from cleo_email.pipeline.question import Questions
from cleo_email.pipeline.receive import THROUGH_OUR_SERVER, colleague_reason
from cleo_email.pipeline.send import REMEMBERED
from cleo_email.pipeline.withdrawal import TAKEN, end_question
from cleo_email.pipeline.workflows import (
    INGRESS,
    Question,
    ThreadOpener,
    agent_request,
    is_first_answer,
    own_workflow,
)
from cleo_email.runtime import DAY, HOUR, MINUTE, AtWork, Clock, backoff_ms, now_ms
from cleo_email.screening.screen import Policy
from cleo_email.store import (
    AT_WORK,
    QUESTION,
    Effects,
    Head,
    Record,
    State,
    Store,
    ThreadFree,
    ThreadTaken,
    conversation_of,
    iso,
    later_of,
)
from cleo_email.store.messages import AGENT, AGENT_BOUNDS, HANDED_OVER, alone_of, timed
from cleo_email.store.queue import WakeQueue
from cleo_email.store.threads import Outlook, taken_by

if TYPE_CHECKING:  # it loads a resolver and more, which are needed where the worker checks signatures only
    from cleo_email.screening.dkim import SenderCheck

log = logging.getLogger(__name__)

MAX_CC = 50
MAX_READ = 4 * 1024 * 1024  # characters of all the files of a mail that are shown
MAX_READ_S = 1.0
MOST_WAITING = 100  # answers in review that one mail withdraws
HAND_OVER_MS = MINUTE  # after which somebody else sends the mail about a hand-over
MAX_TRIES = 6  # calls of the agent for one message
MAX_FAULTS = 12  # unexpected errors of this program for one message
MAX_DEATHS = 3  # workers that may die while they read one message
_ENDED = {"begun": 0}
PROOF_HORIZON_MS = 24 * HOUR  # if DNS gives no answer for so long, a person decides


def recipients_of(
    mail: InboundEmail, policy: Policy, *, reply_all: bool, members: Collection[str] | None = None
) -> tuple[Address, list[Address], str]:
    """Return the recipients (To), the copies (Cc), and whom the mail names and the answer leaves out.

    ``Reply-To`` and ``Cc`` prove nothing (RFC 5322 section 3.6): an address there is used only if it would be
    allowed as a sender. ``members`` are those who were on earlier mails with the sender (as
    ``mail.address.person``), None where there are none or the sender is proven. Nobody else gets the answer
    then, because From may be forged, and the answer tells of the thread. Where From is our own (a web form),
    there is nobody else to answer.
    """

    def why_not(address: Address) -> str:
        if why := _why_not(address, policy):
            return why
        newcomer = members is not None and person(address.addr) not in members
        return f"{shown(address.addr)} takes no part in this thread" if newcomer else ""

    to, notes = next(iter(mail.from_), Address("")), []
    named = [address for address in mail.reply_to if address.addr]
    # Some forms name the mailbox itself, and then the customer.
    wished = next(
        (one for one in named if not is_own(one.addr, policy.own_addresses)), next(iter(named), None)
    )
    if wished and wished.key != to.key:
        form = is_own(to.addr, policy.own_addresses)
        if why := _why_not(wished, policy) if form else why_not(wished):
            notes.append(f"answered to From, not to Reply-To: {why}")
        else:
            to = wished
    cc: dict[str, Address] = {}
    for address in (*mail.to, *mail.cc) if reply_all else ():
        if address.key != to.key and not _why_not(address, policy):
            if why := why_not(address):
                notes.append(f"no copy: {why}")
            else:
                cc.setdefault(address.key, address)
    return to, list(cc.values())[:MAX_CC], "; ".join(dict.fromkeys(notes))[:500]


def _why_not(address: Address, policy: Policy) -> str:
    if is_own(address.addr, policy.own_addresses):
        return f"{shown(address.addr)} is our own address"
    if policy.allowed_senders and not is_allowed(address.addr, policy.allowed_senders):
        return f"{shown(address.addr)} is not in EMAIL_ALLOWED_SENDERS"
    if not can_be_written_to(address):
        return f"{shown(address.addr)} is no address that mail can be sent to"
    return ""


def new_part(mail: InboundEmail, history: tuple[Turn, ...], added: Collection[str] = ()) -> str:
    """Return the new text of the mail, without quotes and without text that the thread has already.

    ``added`` was below our mails, and is in no history.
    """
    if not history:
        return mail.text
    answers = [*added, *(turn.content for turn in history if turn.role == "assistant")]
    return cut_new_part(
        mail.full_text,
        subject=mail.subject,
        replies=True,
        recipients=[address.addr for address in (*mail.to, *mail.cc)[:MAX_RECIPIENTS]],
        known=[*added, *(turn.content for turn in history)],
        answers=answers,
    ).text


def _shown(attachment: AttachedFile, limit: int) -> AgentAttachment:
    """Return a file within the limit with its content, a larger one by name, type and size only."""
    if attachment.size <= limit:
        return AgentAttachment.of(attachment)
    return AgentAttachment(
        filename=attachment.filename, content_type=attachment.content_type, size=attachment.size, content=""
    )


def _with_texts(mail: InboundEmail) -> str:
    """Return the full text, and after it the text of those attachments that are text.

    No further file is read after MAX_READ_S seconds, or MAX_READ characters.
    """
    texts, left, until = [mail.full_text], MAX_READ, time.monotonic() + MAX_READ_S
    for attachment in mail.attachments:
        if left <= 0 or time.monotonic() > until:
            texts.append("[the text of further files was not read: they are attached]")
            break
        if (text := attachment_text(attachment)) and text.strip():
            texts.append(f"[{attachment.filename}]\n{text}")
            left -= len(text)
    return "\n\n".join(texts)


@dataclass
class Answerer:
    """Handles the messages of a conversation one after the other, under its lock.

    ``agent`` is None where nobody is to answer: then mail is held. ``opening`` serves the starts of
    workflows, to which no mail has come in. ``review`` is EMAIL_REVIEW; with ``drafts`` an answer that waits
    is put into the mailbox.
    """

    store: Store
    agent: Agent | None
    delivery: Delivery
    wake: WakeQueue
    signer: Signer
    from_: Address
    policy: Policy
    _: KW_ONLY
    budget: Budget
    callbacks: Callbacks
    questions: Questions
    agent_timeout: float = 300.0  # seconds
    max_attachment_bytes: int = 10_485_760
    reply_all: bool = False
    closing: Closing = NOTHING_BELOW
    opening: ThreadOpener | None = None
    sender_check: SenderCheck | None = None
    review: str = "never"
    drafts: bool = False
    hand_over: HandOver | None = None
    colleagues: Colleagues | None = None
    at_work: AtWork = field(default_factory=lambda: AtWork(1))
    clock: Clock = now_ms

    def handle(self, thread_id: str) -> None:
        """Handle the message at the head of the conversation, if it is due and no other worker does.

        Raise StoreUnavailable; the sweeper wakes the conversation again.
        """
        with self.store.locks.hold_conversation(thread_id, self.clock) as head:
            if head is None:
                return
            crashpoint("answer-after-lock")
            try:
                self._handle_one(thread_id, head)
            except errors.LockLost:
                log.warning("message %s was taken over by another worker, or answered by callback", head.id)
        crashpoint("answer-before-next")
        # A message added while we held the lock woke a worker that found the lock taken.
        if head.goes_on:
            self.wake.wake_each([thread_id], fresh=True)  # whoever wrote again does not wait for a crowd

    def _handle_one(self, thread_id: str, head: Head) -> None:
        id_, lock = head.id, head.lock
        record = self.store.messages.loaded(id_, head.fields)
        is_rest = thread_id == later_of(id_)  # some recipients still are to get what others have
        is_alone = thread_id == alone_of(id_)
        at_work = record is not None and (
            record.state is State.REPLIED and record.pending if is_rest else record.state in AT_WORK
        )
        if record is None or not at_work or (is_alone and conversation_of(record) != thread_id):
            self.store.conversations.drop_head(thread_id, id_)
            return
        work = LockedRecord(self.store, record, lock, self.clock, thread_id if is_rest or is_alone else "")
        try:
            if is_rest:
                self.delivery.submit(work)
                return
            if record.question and record.state is State.RECEIVED:
                self._settle(work)
                return
            if record.state is not State.SUBMITTING:
                self._make_answer(work, head.source)
            if work.record.state is State.SUBMITTING:
                self.delivery.submit(work)
            if record.ingress == QUESTION:
                self.questions.submitted(work.reload())
            if record.ingress == INGRESS and self.opening:
                self.opening.release_files(work.reload())
        except (errors.LockLost, errors.StoreUnavailable):
            raise
        except errors.WrongState as error:
            # A person needs no lock to answer, or to take the thread.
            if work.reload().state in (State.ANSWERING, State.SUBMITTING):
                self._after_fault(work, f"unexpected {errors.place_of(error)}")
            else:
                log.info("message %s was withdrawn meanwhile: %s", id_, error)
        except Exception as error:  # noqa: BLE001 - the job's outermost edge: one bad message stops nothing
            what = errors.place_of(error)
            log.error("message %s: unexpected %s", id_, what)
            self._after_fault(work, f"unexpected {what}")

    def _settle(self, work: LockedRecord) -> None:
        """Let the reply to a question of the agent's resume it."""
        if self._begin(work) is not None:
            self.questions.settle(work, self.sender_check)

    def _rests(self, work: LockedRecord) -> bool:
        """Return whether the message waits for the agent, or for whom it asked; it fails at the deadline."""
        record = work.record
        if record.state is not State.ANSWERING or not record.waits_until:
            return False
        # Whoever ends the waiting, by an answer or a decision, sets it to 0.
        work.fence = ("waits_until", record.waits_until)
        if self.clock() >= record.waits_until:
            work.finish(State.FAILED, self.callbacks.over(record))
            end_question(self.store, record, self.clock)
        else:
            work.rest(record.waits_until, "", {}, quiet=True)
        return True

    def _make_answer(self, work: LockedRecord, source: bytes | None) -> None:
        record = work.record
        if self._rests(work):
            return
        work.fence = ("given", record.given)  # an answer by callback stands from the moment when it is taken
        if record.tries >= MAX_TRIES:
            why = record.reason or "the worker died during the last"
            work.finish(State.FAILED, f"given up after {MAX_TRIES} tries: {why}")
            return
        source = source or self.store.messages.source(record.id)
        if source is None:
            work.finish(State.FAILED, "the stored mail is gone")
            return
        outlook = self._begin(work)
        if outlook is None or not self._is_proven(work, source):
            return
        if record is not work.record:  # the proof may have taken seconds
            record, outlook = work.record, replace(outlook, is_alone=False)
            work.fence = ("given", record.given)
        if record.colleague and not record.released:
            self._end_of_colleague(work, parse(source))
            return
        if outlook.is_taken:
            with suppress(ThreadFree):
                self._leave_to_person(work, self._question(record, source, outlook).text)
                return
        if self.agent is None:
            work.finish(State.HELD, NO_AGENT)
            return
        given = self.callbacks.given(record) if record.given else None
        if given is None and (used := self.budget.before_asking(record)):
            work.finish(State.HELD, used.reason, resuming=used.resumes)
            return
        if outlook.has_reviews:
            self._supersede(record)
        question = self._question(record, source, outlook)
        known = record.given if given else ""
        fields: dict[str, str | int] = {"tries": record.tries + 1, "attempts": record.attempts + 1}
        fields |= {"given": known, **_ENDED}
        # Whoever takes the mail in does not read all of it, so the record says here what was not understood.
        notes = "" if record.tries else "; ".join(question.request.message.notes)[:500]
        work.move(State.ANSWERING, notes, Effects(fields=fields), quiet=given is not None)
        work.fence = ("given", known)
        text = {"text": question.text[:REMEMBERED]} if question.text else {}
        crashpoint("answer-before-agent")
        try:
            answer = given or self._ask_agent(self.agent, work, question)
        except errors.AgentUnavailable as error:
            self._ask_later(work, str(error), text)
            return
        except errors.AgentError as error:
            work.finish(State.FAILED, str(error), text)
            return
        crashpoint("answer-after-agent")
        try:
            self._take_answer(work, question, answer, text)
        except ThreadTaken:
            # Handed back by now, it is still at work: the agent is asked again, with what a person wrote.
            with suppress(ThreadFree):
                self._leave_to_person(work, question.text)

    def _ask_agent(self, agent: Agent, work: LockedRecord, question: Question) -> Answer:
        record, request, begun = work.record, question.request, time.monotonic()
        if agent.may_answer_later:
            resumed = json.loads(record.resumed) if record.resumed else None
            more = {"callback": self.callbacks.offer(record), "resumed": resumed}
            request = request.model_copy(update=more)
        try:
            with self.at_work.waiting():
                return agent.answer(request, deadline=self.agent_timeout)
        finally:
            work.counts |= timed("agent", AGENT_BOUNDS, round(1000 * (time.monotonic() - begun)))

    def _take_answer(
        self, work: LockedRecord, question: Question, answer: Answer, text: dict[str, str]
    ) -> None:
        """Do what the agent decided. Raise ThreadTaken where a person has the thread by now."""
        if answer.later:
            until, reason = self.callbacks.deadline()
            fields: dict[str, str | int] = {**text, "waits_until": until, "tries": 0}
            work.move(State.ANSWERING, reason, Effects(fields, due=until, unless_taken=True))
            crashpoint("callback-after-wait")
            return
        if answer.ask:
            review = partial(self._why_review, Answer(answer.ask.question))
            self.questions.ask(work, question, answer.ask, text, review)
            return
        if not answer.ignore and (answer.text or (answer.attachments and not answer.handoff)):
            self._keep(work, question, answer, text)
            return
        if answer.handoff:
            self._hand_over_silently(work, answer, text)
        else:
            work.finish(State.IGNORED, answer.ignore or NO_FINAL_ANSWER, text)

    def _supersede(self, record: Record) -> None:
        """Withdraw the answers of the thread that wait for a review: the agent is asked about both mails."""
        if record.ingress == INGRESS:
            return
        waiting, _ = self.store.messages.page(
            thread_id=record.thread_id, state=State.REVIEW, limit=MOST_WAITING
        )
        older = {id_ for one in waiting for id_ in (one.id, *json.loads(one.supersedes or "[]"))}
        if not older:
            return
        older |= set(json.loads(record.supersedes or "[]"))
        self.store.messages.note(record.id, "supersedes", json.dumps(sorted(older)))
        for one in waiting:
            with suppress(errors.NotFound, errors.WrongState):  # somebody has decided about it just now
                self.store.messages.move(
                    one.id,
                    State.IGNORED,
                    now=self.clock(),
                    reason=f"superseded by message {record.id}",
                    effects=Effects({"superseded_by": record.id}, drafting=self._drafting()),
                    only_from=[State.REVIEW],
                )

    def _drafting(self) -> int | None:
        """Return when the Drafts mailbox is to be brought into line, None without a mailbox."""
        return self.clock() if self.store.mailbox.is_configured else None

    def _end_of_colleague(self, work: LockedRecord, mail: InboundEmail) -> None:
        """End the mail of a colleague, who is proven by now, as a person's turn."""
        if self.colleagues:
            self.colleagues.complete(work.record.id, mail)
        text = {"text": mail.text[:REMEMBERED]}
        work.finish(State.IGNORED, colleague_reason(mail.from_address), text)

    def _leave_to_person(self, work: LockedRecord, text: str) -> None:
        """Hold the mail. Raise ThreadFree where the thread was handed back at the same moment."""
        fields: dict[str, str | int] = {"with_person": 1, **_ENDED}
        if text:
            fields["text"] = text[:REMEMBERED]
        effects = Effects(fields, pop=True, filing=self._drafting(), only_if_taken=True)
        work.move(State.HELD, TAKEN, effects)

    def _hand_over_silently(self, work: LockedRecord, answer: Answer, text: dict[str, str]) -> None:
        effects = Effects({**text, "with_person": 1}, pop=True, filing=self._drafting())
        effects = self._handing_over(work.record, answer, effects)
        work.move(State.HELD, f"handed over to a person: {answer.handoff}", effects)
        self._handed_over(work.record)

    def _handing_over(self, record: Record, answer: Answer, effects: Effects) -> Effects:
        """Return the effects with which the thread becomes a person's.

        The mail about it is asked for beforehand: an id without a hand-over comes to nothing.
        """
        now = self.clock()
        self.store.handing_over.add(record.id, now + HAND_OVER_MS)
        taken = taken_by(AGENT, f"the agent handed it over: {answer.handoff}", now)
        fields = {**effects.fields, "handoff": answer.handoff, "handoffs": record.handoffs + 1}
        counts = {HANDED_OVER: 1}
        return replace(effects, fields=fields, person=taken, unless_taken=True, counts=counts)

    def _handed_over(self, record: Record) -> None:
        log.info("message %s: the agent handed its thread over to people", record.id)
        crashpoint("handoff-after-keep")
        if self.hand_over:
            self.hand_over.complete(record.id)

    def _begin(self, work: LockedRecord) -> Outlook | None:
        """Record that the reading of the mail begins; hold it, and return None, if that was always the end.

        What strangers write may take time, memory or a fault of a library that ends the whole process, and
        then nobody is left to count the attempt. So it is counted beforehand, and taken back afterwards.
        """
        record = work.record
        if record.begun >= MAX_DEATHS:
            deaths = f"{record.begun} times a worker died, or lost the conversation, while it read this mail"
            work.finish(State.HELD, f"{deaths} or checked its sender: look at it before it is released")
            return None
        return self.store.threads.begin(record)

    def _is_proven(self, work: LockedRecord, source: bytes) -> bool:
        """Return whether the mail may go on; else it is held, or waits until DNS answers."""
        record = work.record
        if self.sender_check is None or record.ingress == INGRESS:
            return True
        mail = parse(source)
        known = record.authenticated == "1" or record.released
        if not known and not self._prove(work, self.sender_check, source, mail):
            return False
        if first := self._proven_before(record, mail, source):
            work.finish(State.IGNORED, f"a copy of message {first} that came in another form")
            return False
        return True

    def _prove(self, work: LockedRecord, check: SenderCheck, source: bytes, mail: InboundEmail) -> bool:
        from cleo_email.screening.dkim import Outcome

        record, now = work.record, self.clock()
        with self.at_work.waiting():  # for DNS
            finding = check.check(source, mail)
        if finding.outcome is Outcome.PROVEN:
            people = people_of(mail, self.policy.own_addresses)
            sender, own = mail.from_[0].key, own_threads(mail)
            thread = record.thread_id
            if not record.colleague:  # who takes no part, and whose mail is a turn of the thread all the same
                thread = self.store.threads.admit(record.id, sender, people, own, now)
            self.store.messages.note(record.id, "authenticated", 1)
            if thread != record.thread_id:  # the thread has other participants now: continue in a new one
                self.store.messages.note(record.id, "begun", 0)
                self.wake.wake(thread)
            work.reload()
            return thread == record.thread_id
        if finding.outcome is Outcome.UNKNOWN and now - record.received_at < PROOF_HORIZON_MS:
            due = now + backoff_ms(record.attempts + 1)
            fields = {"attempts": record.attempts + 1, **_ENDED}
            work.rest(due, f"{finding.reason}; asked again {iso(due)}", fields)
            return False
        to = State.HELD
        if finding.outcome is Outcome.UNPROVEN:
            self.store.messages.note(record.id, "authenticated", 0)
            if self.policy.refused is Action.IGNORE:
                to = State.IGNORED
        work.finish(to, finding.reason)
        return False

    def _proven_before(self, record: Record, mail: InboundEmail, source: bytes) -> str:
        """Return the id of a copy of the mail that went on before, '' for none.

        On its way a mail may get further signatures and fields. Such a copy counts as another mail until
        here, because a forged copy must not stand for the true one.
        """
        name = hashlib.sha256(
            f"{fingerprint(mail, source)} {content_hash(mail, source)}".encode()
        ).hexdigest()
        first = self.store.messages.first_value(f"proven:{name}", record.id, 100 * DAY // 1000)
        return first if first != record.id else ""

    def _question(self, record: Record, source: bytes, outlook: Outlook) -> Question:
        if record.ingress == INGRESS and self.opening is not None:
            return self.opening.question(record)
        mail = parse(source)
        sender = person(mail.from_address)
        earlier: tuple[Turn, ...] = ()
        if not outlook.is_alone:
            earlier = self.store.threads.history(record.thread_id, but=record.id, among=[sender])
        members = frozenset[str]().union(*(turn.people | turn.answered for turn in earlier))
        to, cc, note = recipients_of(
            mail,
            self.policy,
            reply_all=self.reply_all,
            members=members if earlier and record.authenticated != "1" else None,
        )
        # The answer may tell of whatever the agent is shown.
        readers = {sender, *(person(address.addr) for address in (to, *cc))}
        history = tuple(turn for turn in earlier if readers <= turn.people)
        strangers = readers - members - {sender}
        if self._is_signed(record):  # then the Reply-To is, too
            strangers -= {person(to.addr)}
        text = new_part(mail, history, self.closing.texts)
        own = own_workflow(outlook.workflow, readers)
        request = self._request(record, mail, text, history, own, strangers)

        def compose(answer: Answer) -> tuple[OutboundEmail, str]:
            return self._compose(record, mail, answer, to, cc, request.language), note

        return Question(request, text, compose)

    def _is_signed(self, record: Record) -> bool:
        """Return whether it was our own check of signatures that has proven the sender."""
        by_others = self.policy.authserv_id is not None or record.ingress not in THROUGH_OUR_SERVER
        return self.sender_check is not None and record.authenticated == "1" and not by_others

    def _request(
        self,
        record: Record,
        mail: InboundEmail,
        text: str,
        history: tuple[Turn, ...],
        workflow: dict[str, Any] | None,
        strangers: Collection[str],
    ) -> AgentRequest:
        limit = self.max_attachment_bytes
        proven, notes = {"1": True, "0": False}.get(record.authenticated), mail.notes
        if proven and strangers:
            # Whoever holds a signed mail can send it again with another Reply-To or Cc.
            names = ", ".join(sorted(shown(one) for one in strangers)[:5])
            notes = (*notes, f"the answer goes to {names}: From is proven, that they are to read it is not")
            proven = None
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
            authenticated=proven,
            attachments=tuple(_shown(attachment, limit) for attachment in mail.attachments),
            notes=notes,
        )
        return agent_request(record, message, history, workflow, language_of(mail, text))

    def _compose(
        self,
        record: Record,
        mail: InboundEmail,
        answer: Answer,
        to: Address,
        cc: list[Address],
        language: str | None,
    ) -> OutboundEmail:
        if is_own(to.addr, self.policy.own_addresses):  # released by a person, but no form
            raise errors.InvalidField(
                "from", f"{shown(to.addr)} is our own address: the answer would be a loop"
            )
        readers = {person(address.addr) for address in (to, *cc)}
        first = bool(self.closing.notices) and is_first_answer(self.store, record, readers)
        return compose_reply(
            mail,
            answer,
            from_=self.from_,
            to=[to],
            cc=cc,
            message_id=self.signer.new([to], record.thread_id),
            date=datetime.fromtimestamp(self.clock() / 1000, UTC),
            notice=self.closing.notice(language, answer.text) if first else "",
            signature=self.closing.signature(language, answer.text),
        )

    def _keep(self, work: LockedRecord, question: Question, answer: Answer, text: dict[str, str]) -> None:
        """Store the mail that will be sent: from here on the agent is not asked again."""
        answer = replace(answer, text=self.closing.without(answer.text))
        try:
            outbound, note = question.compose(answer)
        except errors.StoreUnavailable:
            raise
        except errors.AgentUnavailable as error:  # a workflow's file supplier failed; it may work later
            self._ask_later(work, str(error), text)
            return
        except errors.CleoError as error:
            work.finish(State.FAILED, f"the answer cannot be mailed: {error}", text)
            return
        crashpoint("answer-after-compose")
        fields = {"text": question.text[:REMEMBERED], "answer_text": answer.text[:REMEMBERED]}
        effects = Effects(fields=fields, answer=outbound, unless_taken=True)
        if answer.handoff:
            effects = self._handing_over(work.record, answer, effects)
        if why := self._why_review(answer, outbound):
            drafting = self._drafting() if self.drafts else None
            effects = replace(effects, pop=True, drafting=drafting)
            work.move(State.REVIEW, joined(why, note), effects)
            log.info("message %s waits for a person: %s", work.record.id, why)
            crashpoint("review-after-keep")
        else:
            work.move(State.SUBMITTING, note, effects)
            crashpoint("answer-after-keep")
        if answer.handoff:
            self._handed_over(work.record)

    def _why_review(self, answer: Answer, mail: OutboundEmail) -> str:
        """Return why a person is to see the answer before it leaves, '' for none."""
        if answer.review:
            return f"the agent asks for a review: {answer.review}"
        if self.review == "always":
            return "EMAIL_REVIEW=always"
        if self.review == "first":
            later = self.clock() + 1
            new = (one for one in mail.recipients if not self.store.threads.has_met(person(one), later))
            if one := next(new, ""):
                return f"EMAIL_REVIEW=first: nothing has gone out to {shown(one)} before"
        return ""

    def _ask_later(self, work: LockedRecord, why: str, text: dict[str, str]) -> None:
        record = work.reload()
        if record.state is not State.ANSWERING:
            raise errors.WrongState(f"message {record.id} is {record.state}")
        if record.tries >= MAX_TRIES:
            work.finish(State.FAILED, f"given up after {MAX_TRIES} tries: {why}", text)
            return
        due = self.clock() + backoff_ms(max(record.tries, 1))
        reason = f"try {record.tries} of {MAX_TRIES} failed, the next is due {iso(due)}: {why}"
        work.rest(due, reason, {})
        log.warning("message %s: %s", record.id, reason)

    def _after_fault(self, work: LockedRecord, why: str) -> None:
        """Try again after an error of this program, up to MAX_FAULTS times; errors of others do not count.

        After the end of DATA nothing is tried again, since the server may have the mail.
        """
        record = work.reload()
        if record.state not in AT_WORK and not (work.conversation and record.pending):
            return  # it was already finished when the error came
        if record.data_ended_at:
            self.delivery.call_uncertain(work, why)
            return
        faults = record.faults + 1
        if faults >= MAX_FAULTS:
            work.finish(State.FAILED, f"given up after {faults} unexpected faults: {why}")
            return
        due = self.clock() + backoff_ms(faults)
        fields = {"faults": faults, "attempts": record.attempts + 1, **_ENDED}
        work.rest(due, f"{why}; the next attempt is due {iso(due)}", fields)
