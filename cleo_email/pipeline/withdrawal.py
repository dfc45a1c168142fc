"""What follows where a person has answered: our answers are withdrawn, and the thread may be the person's.

It needs no mailbox, as the web process takes in the mail of colleagues.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from typing import Any

from cleo_email.errors import LockLost, NotFound, UnreadableMessage, WrongState
from cleo_email.mail.parse import parse
from cleo_email.pipeline.send import REMEMBERED
from cleo_email.runtime import Clock, now_ms
from cleo_email.store import AT_WORK, QUESTION, Effects, Record, State, Store, ThreadFree
from cleo_email.store.messages import MAILBOX, NO_ANSWERS
from cleo_email.store.threads import taken_by

log = logging.getLogger(__name__)

INGRESS = "person"  # of the record of a mail that a person sent
ANSWERED = "answered by a person"
TAKEN = "a person has this thread"
NO_LONGER = "no message waits for the answer to it any more"
# In which an answer of ours may still be stopped, and what a person's answer makes superfluous.
STOPPABLE = (State.REVIEW, *sorted(AT_WORK))
OPEN = (*STOPPABLE, State.HELD, State.FAILED)
RECORDS = 500  # of a thread


def is_unsent(record: Record) -> bool:
    """Return whether certainly nothing of the record's answer was ever handed over for delivery by us.

    A colleague's mail is a turn and gets no answer, unless it was released.
    """
    if record.ingress in NO_ANSWERS or (record.colleague and not record.released):
        return False
    if record.data_ended_at or record.pending or record.bounced:
        return False
    return record.state in OPEN or record.state is State.IGNORED


def what_is_answered(store: Store, id_: str) -> Record | None:
    """Return the record that a reply to the mail of record ``id_`` answers, None where it is gone.

    It is that record; of the mail about a hand-over, or of a question back, it is what they are about.
    """
    record = store.messages.find(id_)
    if record and record.ingress in ("handoff", QUESTION):
        return store.messages.find(record.outbound)
    return record


def asking_of(store: Store, question: Record) -> Record | None:
    """Return the message that waits for the answer to this question, None where none does."""
    record = store.messages.find(question.outbound)
    waits = record and record.state is State.ANSWERING and record.asking == question.id
    return record if waits else None


def end_question(store: Store, asking: Record, clock: Clock) -> None:
    """End the agent's question that a review holds back: the message ``asking`` waits for it no longer."""
    if not asking.asking:
        return
    with suppress(NotFound, WrongState, LockLost):
        store.messages.move(
            asking.asking,
            State.IGNORED,
            now=clock(),
            reason=NO_LONGER,
            effects=Effects(),
            only_from=[State.HELD],
        )


def new_text(store: Store, record: Record) -> str:
    """Return the new part of the record's mail, '' where it is gone, or cannot be read."""
    if record.text or record.outbound:
        return record.text
    source = store.messages.source(record.id)
    try:
        return parse(source).text[:REMEMBERED] if source else ""
    except UnreadableMessage:
        return ""


@dataclass
class Withdrawal:
    """Withdraws and holds what has not left; ``mode`` is EMAIL_TAKEOVER. Each step may be done twice.

    Every method raises StoreUnavailable.
    """

    store: Store
    _: KW_ONLY
    mode: str = "thread"
    clock: Clock = now_ms

    def open(self, thread: str) -> list[Record]:
        """Return the records of the thread that nobody has been answered to, oldest first."""
        records, _ = self.store.messages.page(thread_id=thread, limit=RECORDS)
        return [one for one in reversed(records) if one.state in OPEN and is_unsent(one)]

    def taken(self, thread: str, by: str, reason: str) -> str:
        """Return with what the thread becomes the person's; '' where it stays whose it is."""
        if self.mode != "thread" or self.store.threads.person(thread):
            return ""
        return taken_by(by, reason, self.clock())

    def withdraw(self, record: Record, *, taken: str = "") -> None:
        """End the record as answered by a person; with ``taken`` the thread is the person's from then on."""
        fields = {"answered_by": MAILBOX, **self._text(record)}
        self.move(record, State.IGNORED, ANSWERED, self._effects(fields, person=taken), OPEN)

    def hold_newer(self, thread: str) -> None:
        """Hold what is at work in a thread that a person has, but what was approved and the last word."""
        if self.store.threads.person(thread) is None:
            return
        for record in self.open(thread):
            if record.state in STOPPABLE and not record.handoff and record.decided != "approve":
                self.hold(record)

    def hold(
        self, record: Record, *, reason: str = TAKEN, by: str = MAILBOX, decided: str = "", taken: str = ""
    ) -> None:
        """Hold the record as long as a person has its thread; one who has ``decided`` so, from HELD too.

        With ``taken`` the thread is the person's from then on, else nothing is held where nobody has it.
        """
        fields: dict[str, str | int] = {"with_person": 1, "answered_by": "", **self._text(record)}
        fields |= {"decided": decided} if decided else {}
        effects = self._effects(fields, drop_answer=True, only_if_taken=not taken, person=taken)
        from_ = (*STOPPABLE, State.HELD) if decided else STOPPABLE
        self.move(record, State.HELD, reason, effects, from_, by=by)

    def move(
        self,
        record: Record,
        to: State,
        reason: str,
        effects: Effects,
        only_from: Sequence[State],
        *,
        by: str = MAILBOX,
        quiet: bool = False,
    ) -> bool:
        """Move the record, and return True, unless its answer has left, or is leaving, or others were first.

        The mark before the final dot of DATA is the fence, as the mail may be with its readers from there on.
        """
        try:
            self.store.messages.move(
                record.id,
                to,
                now=self.clock(),
                reason=reason,
                effects=effects,
                only_from=only_from,
                given=("data_ended_at", 0),
                quiet=quiet,
                by=by,
            )
        except (NotFound, WrongState, LockLost, ThreadFree) as error:
            log.info("too late for message %s (%s): %s", record.id, reason, error)
            return False
        end_question(self.store, record, self.clock)
        if not quiet:
            log.info("message %s %s: %s", record.id, to, reason)
        return True

    def _effects(self, fields: Mapping[str, str | int], **more: Any) -> Effects:
        now = self.clock() if self.store.mailbox.is_configured else None
        return Effects(fields, pop=True, filing=now, drafting=now, **more)

    def _text(self, record: Record) -> dict[str, str | int]:
        """Return the field with the customer's words, where the history does not have them yet."""
        try:
            text = new_text(self.store, self.store.messages.get(record.id))
        except NotFound:
            return {}
        return {"text": text} if text else {}
