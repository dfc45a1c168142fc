"""One message of a conversation, from its record to its kept answer, and on to delivery."""

from __future__ import annotations

import logging

from cleo_email.agents import Agent
from cleo_email.asking import Asking, Question, Rules
from cleo_email.backoff import HOUR, backoff_ms
from cleo_email.budget import Budget
from cleo_email.clock import Clock, now_ms
from cleo_email.crashpoints import reach
from cleo_email.delivery import Delivery
from cleo_email.errors import (
    AgentError,
    AgentUnavailable,
    CleoError,
    LockLost,
    NotFound,
    StoreUnavailable,
    place_of,
)
from cleo_email.intake import Intake
from cleo_email.mail.message import parse
from cleo_email.mail.model import Action, Answer
from cleo_email.mail.thread import own_threads, people_of
from cleo_email.screening.dkim import Outcome, SenderCheck
from cleo_email.store import AT_WORK, Effects, Lock, Record, State, Store, iso
from cleo_email.workflows.opening import Opening
from cleo_email.workflows.starting import INGRESS

log = logging.getLogger(__name__)

MAX_TRIES = 6
MAX_FAULTS = 12  # unexpected ones, of our own
PROOF_HORIZON_MS = 24 * HOUR  # DNS that says nothing for so long: a person decides
REMEMBERED = 100_000  # characters of a mail and of an answer that a thread's history keeps


class Answering:
    """``opening`` serves the starts of workflows, to which no mail has come in."""

    def __init__(
        self,
        store: Store,
        agent: Agent,
        delivery: Delivery,
        intake: Intake,
        rules: Rules,
        *,
        budget: Budget,
        opening: Opening | None = None,
        sender_check: SenderCheck | None = None,
        clock: Clock = now_ms,
    ) -> None:
        self._store = store
        self._sender_check = sender_check
        self._budget = budget
        self._asking = Asking(store, intake, rules, opening=opening, clock=clock)
        self._refused = rules.policy.refused
        self._agent = agent
        self._delivery = delivery
        self._intake = intake
        self._rules = rules
        self._clock = clock

    def handle(self, thread_id: str) -> None:
        """Handle the message at the head of the thread's conversation, if it is due and nobody else does.

        Raises StoreUnavailable; the sweeper wakes the conversation again.
        """
        with self._store.locks.hold(f"conversation:{thread_id}") as lock:
            if lock is None:
                return
            reach("answer-after-lock")
            id_ = self._store.conversations.head(thread_id, self._clock())
            if id_ is None:
                return
            reach("answer-after-head")
            try:
                self._one(thread_id, id_, lock)
            except LockLost:
                log.warning("message %s was taken over by another worker", id_)
        reach("answer-before-next")
        # Whoever added a message while we held the lock woke a worker that found it held: look once more.
        if self._store.conversations.head(thread_id, self._clock()) is not None:
            self._intake.wake(thread_id)

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
        question = self._asking.question(record, source)
        text = question.text
        reach("answer-before-agent")
        try:
            answer = self._agent.answer(question.request, deadline=self._rules.agent_timeout)
        except AgentUnavailable as error:
            self._again(self._store.messages.get(record.id), lock, str(error), text)
            return
        except AgentError as error:
            self._finish(record, State.FAILED, str(error), lock, text)
            return
        reach("answer-after-agent")
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
                self._intake.wake(thread)
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
        reach("answer-after-compose")
        fields: dict[str, str | int] = {"text": text[:REMEMBERED], "answer_text": answer.text[:REMEMBERED]}
        self._move(record, State.SUBMITTING, note, lock, Effects(fields=fields, answer=outbound))
        reach("answer-after-keep")
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
