"""The decisions that people take: what becomes of a message that waits, and who has a thread.

Each may be repeated, by the same person or by another at the same moment: what was decided already is no
error. What the state does not allow is refused with the state, who decided it, and what can be done instead.
``by`` is "cli", an operator's address or the name of an API token.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, datetime

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import InvalidField, LockLost, NotFound, UnreadableMessage, WrongState
from cleo_email.mail.closing import Closing
from cleo_email.mail.edit import closing_of, with_date, with_subject, with_text
from cleo_email.mail.model import OutboundEmail
from cleo_email.mail.parse import parse
from cleo_email.mail.thread import own_threads, people_of
from cleo_email.mail.wire import clean_text
from cleo_email.pipeline.question import give_up
from cleo_email.pipeline.send import REMEMBERED
from cleo_email.pipeline.withdrawal import TAKEN, Withdrawal, end_question
from cleo_email.runtime import Clock, now_ms
from cleo_email.screening.screen import Policy
from cleo_email.scrub import one_line
from cleo_email.store import (
    AT_WORK,
    QUESTION,
    WAITING,
    Effects,
    Record,
    State,
    Store,
    conversation_of,
    later_of,
)
from cleo_email.store.messages import AGENT, MAILBOX, NO_ANSWERS, UNASKED
from cleo_email.store.queue import WakeQueue
from cleo_email.store.threads import taken_by

# The counters that limit the work on a message start again at the decision.
BEGUN_ANEW = ("tries", "faults", "sends", "sends_since", "data_ended_at", "begun", "waits_until", "asks")
# And where the agent is asked anew, nobody has answered, nor handed the thread over.
_ASKED_ANEW = {
    "answered_by": "",
    "handoff": "",
    "superseded_by": "",
    "given": "",
    "asking": "",
    "resumed": "",
}
RACES = 20  # changes by others, one after the other, that a decision meets
MAX_REASON = 500  # characters
PAGE = 500  # records that are read at once
# The states that follow from a decision: to repeat it changes nothing there.
_SENT = frozenset({State.SUBMITTING, State.REPLIED, State.UNCERTAIN})
_GONE_ON = frozenset({State.RECEIVED, State.ANSWERING, State.REVIEW, State.SUBMITTING, State.REPLIED})
_FOLLOWS = {
    "approve": _SENT,
    "discard": frozenset({State.IGNORED}),
    "dismiss": frozenset({State.IGNORED}),
    "release": _GONE_ON,
    "retry": _GONE_ON,
}
_OPEN = (State.REVIEW, *AT_WORK)
_AT_WORK = "the agent is at work on it; take the thread over to stop that"
_INSTEAD = {
    State.RECEIVED: _AT_WORK,
    State.ANSWERING: _AT_WORK,
    State.REVIEW: "approve or discard it",
    State.SUBMITTING: "its answer is on its way; take the thread over to stop what has not left yet",
    State.REPLIED: "its answer has been sent",
    State.IGNORED: "release it to have it answered after all",
    State.HELD: "release or dismiss it",
    State.FAILED: "retry or dismiss it",
    State.UNCERTAIN: "look whether it arrived, then retry or dismiss it",
}
_HAND_IT_BACK = "hand it back to have the agent answer"


class _Refused(WrongState):
    """The decision cannot be taken, and another try would find the same."""


@dataclass
class Decisions:
    """Every method raises NotFound, WrongState and StoreUnavailable, and returns the record as it is then.

    A ``reason`` is a person's words for the record. ``max_bytes``: the size of a mail that is edited.
    """

    store: Store
    wake: WakeQueue
    policy: Policy
    _: KW_ONLY
    max_bytes: int = 26_214_400
    clock: Clock = now_ms

    # --- answers that wait for a review ---------------------------------------------------------------------

    def approve(self, id_: str, *, by: str, body: str | None = None, subject: str | None = None) -> Record:
        """Have the answer sent, with another text (Markdown) or subject where one is given.

        Raise InvalidField too: an empty ``body`` or ``subject``, or one that is too large.
        """
        if body is not None and not clean_text(body).strip():
            raise InvalidField("body", "body: it is empty; discard the message to send nothing")
        given = "" if body is None and subject is None else json.dumps([body, subject])
        as_ = given and hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()

        def attempt(record: Record) -> None:
            if record.state is State.REVIEW:
                self._approve(record, by, body, subject, as_)
            elif not _was(record, "approve") or record.decided_as != as_:
                other = "it was approved with another text" if _was(record, "approve") else ""
                raise self._refusal(record, other or "only what is in review can be approved")

        return self._settle(id_, attempt)

    def _approve(self, record: Record, by: str, body: str | None, subject: str | None, as_: str) -> None:
        draft = self.store.drafts.get(record.id)
        if draft is not None and draft.edited and body is None:
            text = "send it from there, or approve with the text to send as body"
            raise _Refused(f"the draft of message {record.id} was edited in the mail client: {text}")
        fields: dict[str, str | int] = dict.fromkeys(BEGUN_ANEW, 0)
        fields |= {"decided": "approve", "decided_as": as_, "answered_by": by, "released": 1}
        mail, text = self._edited(record, body, subject)
        if as_:
            fields["answer_text"] = text[:REMEMBERED]
        mail = with_date(mail, datetime.fromtimestamp(self.clock() / 1000, UTC))
        effects = Effects(fields=fields, answer=mail, push=True, drafting=self._drafting(record))
        # The fence is the answer's Message-ID: what is approved is the answer that was read above.
        self._move(
            *(record, State.SUBMITTING, f"approved by {by}" + (", changed" if as_ else ""), by, effects),
            given=("reply_message_id", record.reply_message_id),
        )
        self.wake.wake(record.thread_id)

    def _edited(self, record: Record, body: str | None, subject: str | None) -> tuple[OutboundEmail, str]:
        """Return the kept answer with what is given in place of its own, and its text."""
        mail, text = self.store.messages.answer(record.id), record.answer_text
        if mail is None:
            raise _Refused(f"the answer of message {record.id} is gone; discard the message")
        if subject is not None:
            mail = with_subject(mail, subject)
        if body is not None:
            try:
                notice, signature = closing_of(mail, text if len(text) < REMEMBERED else None)
                text = Closing({"": signature} if signature else {}).without(body)
                mail = with_text(mail, text, notice, signature)
            except UnreadableMessage as fault:
                raise _Refused(f"message {record.id} cannot be edited: {fault}; discard it") from None
            if len(mail.source) > self.max_bytes:
                limit = f"EMAIL_MAX_MESSAGE_BYTES ({self.max_bytes})"
                raise InvalidField("body", f"body: the mail has {len(mail.source)} bytes, more than {limit}")
        return mail, text

    def preview(self, id_: str, *, body: str | None, subject: str | None) -> OutboundEmail:
        """Return the mail that ``approve`` would have sent. Raise InvalidField too."""
        return self._edited(self.store.messages.get(id_), body, subject)[0]

    def discard(self, id_: str, *, by: str, reason: str = "") -> Record:
        """End a message whose answer waits for a review as ``ignored``: nothing is sent."""

        def attempt(record: Record) -> None:
            if record.state is State.REVIEW:
                self._end(record, "discard", _told(f"discarded by {by}", reason), by)
            elif not _was(record, "discard"):
                raise self._refusal(record, "only what is in review can be discarded")

        return self._settle(id_, attempt)

    # --- other messages that wait ---------------------------------------------------------------------------

    def dismiss(self, id_: str, *, by: str, reason: str = "") -> Record:
        """End a message that waits, as ``ignored``: a person has seen it, and nothing is sent."""

        def attempt(record: Record) -> None:
            if record.state is State.REVIEW:
                self._end(record, "discard", _told(f"discarded by {by}", reason), by)
            elif record.state in WAITING:
                before = f"before that {record.state}: {record.reason}"
                self._end(record, "dismiss", f"{_told('dismissed by a person', reason)}; {before}", by)
                if record.ingress == QUESTION:
                    give_up(self.store, record, "a person dismissed it", self.clock)
            elif not (_was(record, "dismiss") or _was(record, "discard")):
                waiting = ", ".join(str(state) for state in State if state in WAITING)
                raise self._refusal(record, f"only what waits for a person ({waiting}) can be dismissed")

        return self._settle(id_, attempt)

    def release(self, id_: str, *, by: str, reason: str = "") -> Record:
        """Let a held or ignored message through.

        An answer that waited for a review before is not sent then: the agent is asked anew.
        """

        def attempt(record: Record) -> None:
            if record.state not in (State.HELD, State.IGNORED):
                if not _was(record, "release"):
                    raise self._refusal(record, "only held and ignored ones can be released")
                return
            if record.data_ended_at:  # dismissed as uncertain
                raise _Refused(
                    f"the answer to message {id_} may have been sent already; it is not sent again"
                )
            if record.with_person and self.store.threads.person(record.thread_id):
                raise self._refusal(record, "it cannot be released")
            self._again(record, "release", _told("released by a person", reason), by)

        return self._settle(id_, attempt)

    def retry(self, id_: str, *, by: str, reason: str = "") -> Record:
        """Try a failed or uncertain message again: a stored answer is sent as it is, else the agent is asked.

        An uncertain message that was sent after all would then arrive twice, with the same Message-ID. One
        that bounced goes to those from whom it came back. A message that waits for its next try, or for some
        of its recipients, is tried now.
        """

        def attempt(record: Record) -> None:
            if record.state is State.ANSWERING and record.waits_until:
                self._ask_anew(record, _told("retried by a person", reason), by)
                return
            rest = record.state is State.REPLIED and bool(record.pending)
            waits = later_of(id_) if rest else conversation_of(record)
            if record.state in AT_WORK or rest:
                self.store.health.submission_rests_no_more()
                if self.store.conversations.hurry(waits, self.clock()):
                    self.wake.wake(waits)
                    return
                if record.reason and record.attempts:
                    return  # another retry was faster: it is being tried
            came_back = record.state is State.REPLIED and record.bounced
            if record.state in (State.FAILED, State.UNCERTAIN) or came_back:
                self._again(record, "retry", _told("retried by a person", reason), by)
            elif not _was(record, "retry"):
                which = "only failed and uncertain ones, and what bounced, can be retried"
                raise self._refusal(record, which)

        return self._settle(id_, attempt)

    def _ask_anew(self, record: Record, reason: str, by: str) -> None:
        """Have the agent asked once more, for whose answer the message waits: what it was asked is void."""
        fields: dict[str, str | int] = {"asked": record.asked + 1, **_ASKED_ANEW}
        fields |= {"waits_until": 0, "tries": 0, "asks": 0}
        effects = Effects(fields=fields, due=self.clock())
        fence = ("waits_until", record.waits_until)
        self._move(record, State.ANSWERING, reason, by, effects, given=fence)
        end_question(self.store, record, self.clock)
        self.wake.wake(record.thread_id)

    def _end(self, record: Record, decision: str, reason: str, by: str) -> None:
        fields = {"decided": decision, "decided_as": ""}
        effects = Effects(fields=fields, filing=self._filing(record), drafting=self._drafting(record))
        self._move(record, State.IGNORED, reason, by, effects)

    def _again(self, record: Record, decision: str, reason: str, by: str) -> None:
        thread = record.thread_id
        released = decision == "release"
        kept = self.store.messages.answer_size(record.id) > 0
        if record.bounced and not kept:
            raise _Refused(
                f"message {record.id} bounced, and its bytes were dropped by then: they are kept for 7 days"
            )
        # What was withdrawn, discarded, or answered by a person since is no answer that anybody let through.
        withdrawn = record.state is State.IGNORED and record.decided != "dismiss"
        anew = released and bool(withdrawn or record.with_person)
        kept = kept and not anew
        fields: dict[str, str | int] = dict.fromkeys(BEGUN_ANEW, 0)
        fields |= {"decided": decision, "decided_as": "", "with_person": 0}
        if not kept:
            fields |= {**_ASKED_ANEW, "asked": record.asked + 1}
        elif record.answered_by == MAILBOX:  # what leaves now is ours
            fields["answered_by"] = ""
        if record.bounced:
            fields |= {"pending": record.bounced, "bounced": ""}
        if released:
            fields["released"] = 1
            thread = thread if record.question else self._admit(record, kept=kept)
        alone = conversation_of(record)
        alone = "" if alone == record.thread_id else alone
        fetch = bool(record.partial) and not kept
        filing = self._filing(record)
        effects = Effects(fields=fields, push=not fetch, filing=filing, drop_answer=anew, conversation=alone)
        self._move(record, State.SUBMITTING if kept else State.RECEIVED, reason, by, effects)
        self._go_on(record, alone or thread, fetch=fetch)

    def _go_on(self, record: Record, thread: str, *, fetch: bool) -> None:
        if fetch:
            self.store.fetching.add(record.id, self.clock())
        else:
            self.wake.wake(thread)

    def _admit(self, record: Record, *, kept: bool) -> str:
        """Add the people named in a released mail to its thread, as with any accepted mail.

        Return the thread's id, a new one if the thread has other participants by now.
        """
        source = self.store.messages.source(record.id)
        if source is None and not kept:
            raise _Refused(f"message {record.id} can no longer be answered: its source was dropped")
        if source is None or record.ingress in UNASKED:
            return record.thread_id  # a mail that Cleo writes first names only its recipients
        try:
            mail = parse(source)
        except UnreadableMessage:
            return record.thread_id
        sender = mail.from_[0].key if mail.from_ else ""
        # If the sender is not who he says, those whom he names in Cc are of his choice.
        people = people_of(mail, self.policy.own_addresses) if record.authenticated != "0" else [sender]
        return self.store.threads.admit(record.id, sender, people, own_threads(mail), self.clock())

    # --- who has a thread -----------------------------------------------------------------------------------

    def take_over(self, id_: str, *, by: str, reason: str = "") -> Record:
        """Give the message's thread to a person: what the agent has not sent in it yet is held.

        Its further mail is held too, until the thread is handed back.
        """
        thread = self.store.messages.get(id_).thread_id
        taken = taken_by(by, _told("a person took it over", reason), self.clock())
        # The first that is held takes the thread in the same step: no answer leaves if this dies on its way.
        self._hold(thread, by, reason, taken=taken)
        self.store.threads.take(thread, taken)
        crashpoint("decide-after-thread")
        # From here on no answer is kept in the thread. What was kept in between is held, too.
        self._hold(thread, by, reason)
        self.wake.wake(thread)  # for what an application sends in it
        return self.store.messages.get(id_)

    def _hold(self, thread: str, by: str, reason: str, *, taken: str = "") -> None:
        """Hold what has not left in a thread that a person has, or gets with ``taken``."""
        withdrawal = Withdrawal(self.store, clock=self.clock)
        records = self._of_thread(thread)
        for record in sorted(records, key=lambda one: one.state is not State.SUBMITTING):  # it leaves first
            open_ = record.state in _OPEN or self._is_kept_back(record)
            unsent = not (record.data_ended_at or record.pending)
            if open_ and unsent and record.ingress not in NO_ANSWERS:
                person = taken if taken and self.store.threads.person(thread) is None else ""
                told = _told(TAKEN, reason)
                withdrawal.hold(record, decided="takeover", reason=told, by=by, taken=person)
                crashpoint("decide-after-move")

    def _is_kept_back(self, record: Record) -> bool:
        """Return whether a limit holds an answer that would leave later."""
        held = record.state is State.HELD and not record.with_person
        return held and self.store.messages.answer_size(record.id) > 0

    def hand_back(self, id_: str, *, by: str, reason: str = "") -> Record:
        """Give the message's thread to the agent again, and it the mail that was held for a person."""
        thread = self.store.messages.get(id_).thread_id
        self.store.threads.hand_back(thread)
        crashpoint("decide-after-thread")
        fields: dict[str, str | int] = {**dict.fromkeys(BEGUN_ANEW, 0), **_ASKED_ANEW, "with_person": 0}
        for record in self._of_thread(thread):
            if record.state is not State.HELD or not record.with_person:
                continue
            fetch = bool(record.partial)
            filing = self._filing(record)
            effects = Effects(fields=fields, push=not fetch, drop_answer=True, filing=filing)
            with suppress(NotFound, LockLost, WrongState):  # somebody else was faster
                told = _told("handed back by a person", reason)
                anew = {**effects.fields, "asked": record.asked + 1}
                effects = replace(effects, fields=anew)
                self._move(record, State.RECEIVED, told, by, effects, given=("with_person", 1))
                self._go_on(record, thread, fetch=fetch)
        return self.store.messages.get(id_)

    def _of_thread(self, thread_id: str) -> list[Record]:
        """Return the records of the thread in order of arrival."""
        found: list[Record] = []
        cursor: str | None = ""
        while cursor is not None:
            records, cursor = self.store.messages.page(thread_id=thread_id, limit=PAGE, cursor=cursor)
            found += records
        return found[::-1]

    # --- every decision -------------------------------------------------------------------------------------

    def _settle(self, id_: str, attempt: Callable[[Record], None]) -> Record:
        """Decide about the record as it is; if somebody else changes it at the same moment, once more."""
        for _ in range(RACES):
            try:
                attempt(self.store.messages.get(id_))
            except _Refused:
                raise
            except (WrongState, LockLost):
                continue
            return self.store.messages.get(id_)
        raise WrongState(f"message {id_} is changed by others again and again; look at it and try again")

    def _move(
        self,
        record: Record,
        to: State,
        reason: str,
        by: str,
        effects: Effects,
        *,
        only_from: Sequence[State] = (),
        given: tuple[str, int | str] | None = None,
    ) -> None:
        from_, now = only_from or [record.state], self.clock()
        move = self.store.messages.move
        move(record.id, to, now=now, reason=reason, by=by, effects=effects, only_from=from_, given=given)
        crashpoint("decide-after-move")

    def _filing(self, record: Record) -> int | None:
        """Return when the mail in the mailbox is to be flagged by its new state, None where there is none."""
        return self.clock() if record.mailbox else None

    def _drafting(self, record: Record) -> int | None:
        """Return when the draft is to be looked after, None where there is no mailbox or no draft."""
        in_review = record.state is State.REVIEW and self.store.mailbox.is_configured
        return self.clock() if in_review else None

    def _refusal(self, record: Record, which: str) -> _Refused:
        people = [step for step in self.store.messages.history(record.id) if step["by"] != AGENT]
        why = record.reason
        # What the agent did after a retry or a release is not the person's doing.
        follows = record.state in _FOLLOWS.get(record.decided, {record.state} if record.decided else ())
        if people and (follows or people[-1]["by"] == MAILBOX):
            why = "{reason} (by {by}, {at})".format(**people[-1])
        taken = record.state is State.HELD and record.with_person
        return _Refused(
            f"message {record.id} is {record.state}{': ' * bool(why)}{why}; {which}; "
            f"{_HAND_IT_BACK if taken else _INSTEAD[record.state]}"
        )


# By the names that people and programs call them. ``approve`` takes body and subject, all others a reason.
DECISIONS: dict[str, Callable[..., Record]] = {
    "approve": Decisions.approve,
    "discard": Decisions.discard,
    "release": Decisions.release,
    "dismiss": Decisions.dismiss,
    "retry": Decisions.retry,
    "takeover": Decisions.take_over,
    "handback": Decisions.hand_back,
}


def _was(record: Record, decision: str) -> bool:
    """Return whether this was decided before, and is still what the record's state follows from."""
    here = record.decided == decision and record.answered_by != MAILBOX
    return here and record.state in _FOLLOWS[decision]


def _told(what: str, reason: str) -> str:
    return f"{what}: {one_line(reason, MAX_REASON)}" if reason.strip() else what
