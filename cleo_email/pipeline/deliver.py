"""Submit a stored answer by SMTP, never twice on purpose, and record the outcome."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cleo_email import errors
from cleo_email.crashpoints import crashpoint
from cleo_email.mail.address import person
from cleo_email.mail.model import OutboundEmail, Receipt
from cleo_email.pipeline.budget import Budget
from cleo_email.pipeline.withdrawal import NO_LONGER, asking_of
from cleo_email.runtime import (
    HOUR,
    MINUTE,
    RECORD_S,
    SECOND,
    SENDING_TURN_S,
    Clock,
    LargeWork,
    backoff_ms,
    now_ms,
)
from cleo_email.store import QUESTION, Effects, Lock, Record, State, Store, ThreadTaken, iso
from cleo_email.store.mailbox import filing_due

if TYPE_CHECKING:
    from cleo_email.pipeline.last_look import LastLook
    from cleo_email.smtp.pool import Submitter

log = logging.getLogger(__name__)

HORIZON_MS = 72 * HOUR
PROBE_MS = MINUTE
# A refused login concerns every mail: each is tried again so often, and this counts as no attempt.
LOGIN_PAUSE_MS = 20 * SECOND
# After a limit of the account that the server calls permanent; the pause grows to an hour.
LIMIT_PAUSE_MS = MINUTE
# Large mails go out a few at a time; one that waits longer than SENDING_TURN_S is put off for so long.
LARGE_AT_ONCE = 2
LARGE_PAUSE_MS = 5 * SECOND
# When an answer is tried again that waits until nobody else can send it.
PEOPLE_PAUSE_MS = 2 * SECOND
MOST_REMEMBERED = 256 * 1024  # bytes of an answer that waits in memory for its submission
UNMARKED = {"data_ended_at": 0}


class _MustWait(errors.CleoError):
    """A person may be sending the answer just now."""


class _NotWanted(errors.CleoError):
    """A question of the agent's has become void."""


@dataclass
class LockedRecord:
    """A record whose conversation this worker has locked; every change is made under that lock.

    ``conversation`` is the record's own, where it waits for some recipients only; '' for its thread's.
    ``move``, ``rest`` and ``finish`` raise LockLost, StoreUnavailable, and WrongState where a person, who
    needs no lock, has decided meanwhile what becomes of it.
    """

    store: Store
    record: Record
    lock: Lock
    clock: Clock
    conversation: str = ""
    answer: OutboundEmail | None = None  # a small one that was stored under this lock
    counts: dict[str, int] = field(default_factory=dict)  # what the next move adds to the totals
    fence: tuple[str, int | str] | None = None  # a field of the record, and the value that it must still have

    def reload(self) -> Record:
        """Read the record again. Raise NotFound if it was removed."""
        self.record = self.store.messages.get(self.record.id)
        return self.record

    def move(self, to: State, reason: str, effects: Effects, *, quiet: bool = False) -> None:
        self.store.messages.move(
            self.record.id,
            to,
            now=self.clock(),
            reason=reason,
            lock=self.lock,
            effects=replace(
                effects, conversation=self.conversation, counts={**self.counts, **effects.counts}
            ),
            only_from=[self.record.state],
            given=self.fence,
            quiet=quiet,
        )
        # What this worker has changed it need not read again; what people change, each move finds out.
        changed: dict[str, Any] = {"state": to, **effects.fields} | ({} if quiet else {"reason": reason})
        if (mail := effects.answer) is not None:
            changed |= {"reply_message_id": mail.message_id, "recipients": json.dumps(mail.recipients)}
            self.answer = mail if len(mail.source) <= MOST_REMEMBERED else None
        self.record, self.counts = replace(self.record, **changed), {}

    def rest(self, due: int, reason: str, fields: Mapping[str, str | int], *, quiet: bool = False) -> None:
        """Keep the state and continue the conversation at ``due`` (ms)."""
        self.move(self.record.state, reason, Effects(fields=fields, due=due), quiet=quiet)

    def finish(
        self,
        to: State,
        reason: str,
        fields: Mapping[str, str | int] | None = None,
        *,
        resuming: int | None = None,
    ) -> None:
        """Take the record off its conversation, and flag the mail so that people see its state."""
        # Where the mail lies may have been found meanwhile, so this asks the store and not the record.
        filing = self.clock() if self.store.mailbox.is_configured else None
        self.move(to, reason, Effects(fields=fields or {}, pop=True, filing=filing, resuming=resuming))
        if to is not State.HELD:  # there may be thousands, and the budget has logged the full limit
            level = logging.ERROR if to is State.FAILED else logging.INFO
            log.log(level, "message %s %s: %s", self.record.id, to, reason)


@dataclass
class _Submission(LockedRecord):
    """A record whose answer is being submitted. ``marked`` is ``data_ended_at`` of this try, 0 before."""

    _: KW_ONLY
    insist: Callable[[Callable[[], None], float], None]
    marked: int = 0

    @property
    def is_rest(self) -> bool:
        """Return whether others have the mail already, so that the record stays ``replied``."""
        return self.record.state is State.REPLIED

    def reason(self, why: str) -> str:
        """Return ``why`` with what remains true of the other recipients."""
        if not self.is_rest:
            return why
        of_others = self.record.reason if self.record.reason.startswith("bounced") else self.record.refused
        return joined(of_others, f"{', '.join(self.record.addresses('pending'))}: {why}")

    def finish(
        self,
        to: State,
        reason: str,
        fields: Mapping[str, str | int] | None = None,
        *,
        resuming: int | None = None,
    ) -> None:
        if not self.is_rest:
            super().finish(to, reason, fields, resuming=resuming)
            return
        effects = Effects(fields={**(fields or {}), "pending": "", "refused": ""}, pop=True)
        self.move(State.REPLIED, self.reason(reason), effects)
        log.error("message %s did not reach every recipient: %s", self.record.id, self.reason(reason))

    def move(self, to: State, reason: str, effects: Effects, *, quiet: bool = False) -> None:
        """Record the outcome. After the mark it is recorded even if Redis was away and another worker got
        the lock, because that worker can only have called the message uncertain."""
        under_lock = partial(super().move, to, reason, effects, quiet=quiet)
        if not self.marked:
            under_lock()
            return
        until = time.monotonic() + RECORD_S
        try:
            self.insist(under_lock, until)
        except (errors.LockLost, errors.WrongState):
            as_marked = partial(
                self.store.messages.move,
                self.record.id,
                to,
                now=self.clock(),
                reason=reason,
                effects=replace(
                    effects, push=not effects.pop, conversation=self.conversation, counts=self.counts
                ),
                only_from=[self.record.state, State.UNCERTAIN],
                given=("data_ended_at", self.marked),
                quiet=quiet,
            )
            self.insist(as_marked, until)


def joined(*sentences: str) -> str:
    return "; ".join(filter(None, sentences))


@dataclass
class Delivery:
    """Submits stored answers. ``has_mailbox``: Sent can be searched and our copies put there.

    ``people`` tells at the last moment whether a person has answered.
    """

    store: Store
    submitter: Submitter
    _: KW_ONLY
    has_mailbox: bool
    budget: Budget
    people: LastLook | None = None
    clock: Clock = now_ms
    sleep: Callable[[float], None] = time.sleep
    _large: LargeWork = field(init=False, default_factory=lambda: LargeWork(LARGE_AT_ONCE))

    def submit(self, work: LockedRecord) -> None:
        """Submit the stored answer of a record that is ``submitting``, or ``replied`` with some pending.

        Raise LockLost, StoreUnavailable; every outcome of SMTP ends in a state or a later try.
        """
        try:
            self._submit(work)
        except errors.WrongState as error:
            log.info("message %s is not submitted: %s", work.record.id, error)

    def _submit(self, work: LockedRecord) -> None:
        record = work.record
        submission = _Submission(
            work.store, record, work.lock, work.clock, work.conversation, work.answer, insist=self._insist
        )
        if record.data_ended_at:
            self.call_uncertain(submission, "the process ended after the end of DATA and before its answer")
            return
        health, now = self.store.health.read(), self.clock()
        fault = health.submission_fault
        if fault and now < health.submission_rests_until:
            self._wait(submission, fault, health.submission_rests_until - now)
            return
        if fault and not self.store.ticks.tick("submission-probe", PROBE_MS):
            self._wait(submission, fault, LOGIN_PAUSE_MS)
            return
        kept = submission.answer
        size = len(kept.source) if kept else self.store.messages.answer_size(record.id)
        with self._large.turn(size, patience=SENDING_TURN_S) as turn:
            if turn:
                self._submit_kept(submission, fault)
            else:
                self._wait(submission, "other large mails are being sent", LARGE_PAUSE_MS)

    def call_uncertain(self, work: LockedRecord, why: str) -> None:
        """Record that the server may have the mail. Raise LockLost, StoreUnavailable."""
        record = work.record
        work.counts |= {"submission:uncertain": 1}
        if record.pending:
            # Our copy in Sent, and what it proves, is of the first submission.
            who = ", ".join(record.addresses("pending"))
            reason = joined(record.refused, f"it may have been sent to {who} or not ({why}); others have it")
            work.move(State.UNCERTAIN, reason, Effects(pop=True))
            log.warning("message %s is uncertain: %s", record.id, reason)
            return
        search = "without EMAIL_IMAP_HOST nobody can look into Sent"
        if self.has_mailbox:
            search = f"Sent is searched for {record.reply_message_id}"
        settling = self.clock() if self.has_mailbox else None
        reason = f"it may have been sent or not ({why}); {search}"
        # After a person's retry Sent is searched as often as after the first submission.
        work.move(State.UNCERTAIN, reason, Effects(fields={"looks": 0}, pop=True, settling=settling))
        log.warning("message %s is uncertain: %s", record.id, why)

    def _submit_kept(self, submission: _Submission, fault: str) -> None:
        record = submission.record
        mail = submission.answer or self.store.messages.answer(record.id)
        if mail is None:
            submission.finish(State.FAILED, "the kept answer is gone; nothing was sent", UNMARKED)
            return
        mail = replace(mail, recipients=tuple(record.addresses("pending")) or mail.recipients)
        if self.people and self.people.concerns(record):
            if why := (cleared := self.people.clear(record)):
                self._wait(submission, why, PEOPLE_PAUSE_MS)
                return
            if cleared is not None and submission.reload().state is not record.state:
                return
        if not submission.is_rest and (used := self.budget.before_sending(record, mail)):
            submission.finish(State.HELD, used.reason, resuming=used.resumes)
        else:
            self._hand_over(submission, mail, fault)

    def _hand_over(self, submission: _Submission, mail: OutboundEmail, fault: str) -> None:
        crashpoint("submit-before-data")
        try:
            receipt = self.submitter.submit(mail, before_end_of_data=lambda: self._mark(submission))
        except _MustWait as error:
            self._wait(submission, str(error), PEOPLE_PAUSE_MS)
        except (_NotWanted, ThreadTaken) as error:
            submission.finish(State.IGNORED, str(error), UNMARKED)
        except errors.SubmissionLoginRefused as error:
            why = str(error)
            log.error("nothing can be sent: %s", why)
            self._insist(lambda: self.store.health.submission_fault(why))
            submission.counts = {"submission:temporary": 1}
            self._wait(submission, why, LOGIN_PAUSE_MS)
        except errors.SubmissionLimited as error:
            self._limited(submission, error)
        except errors.SubmissionUnavailable as error:
            self._later(submission, str(error))
        except errors.SubmissionUncertain as error:
            self.call_uncertain(submission, str(error))
        except errors.SubmissionError as error:
            submission.counts = {"submission:permanent": 1}
            submission.finish(State.FAILED, str(error), UNMARKED)
        else:
            crashpoint("submit-after-250")
            self._sent(submission, mail, receipt, fault)
            crashpoint("submit-after-record")

    def _mark(self, submission: _Submission) -> None:
        crashpoint("submit-before-end-of-data")
        of_question = submission.record.ingress == QUESTION
        if self.people and (of_question or self.people.concerns(submission.record)):
            if why := self.people.look(self._asking(submission) if of_question else submission.record):
                raise _MustWait(why)
            crashpoint("submit-after-look")
        if of_question:
            self._asking(submission)  # a person may have answered, as Sent shows by now
        now = self.clock()
        try:
            conversation = submission.conversation
            self.store.messages.mark_data_end(
                submission.record, submission.lock, now, conversation=conversation
            )
        except errors.StoreUnavailable:
            # Redis may have stored the mark. The end of DATA was not sent, so the mark must be removed.
            submission.marked = now
            with suppress(errors.LockLost, errors.WrongState):
                submission.move(submission.record.state, "", Effects(fields=UNMARKED), quiet=True)
            raise
        submission.marked = now
        crashpoint("submit-after-mark")

    def _asking(self, submission: _Submission) -> Record:
        """Return the message about which a question is. Raise _NotWanted where it does not wait for it."""
        if (found := asking_of(self.store, submission.record)) is None:
            raise _NotWanted(NO_LONGER)
        return found

    def _sent(self, submission: _Submission, mail: OutboundEmail, receipt: Receipt, fault: str) -> None:
        """Record who has the mail, even if the lock is lost or Redis is away for a short time.

        The deferred recipients get it later, in a conversation of its own: a full mailbox of one of them must
        not keep the thread waiting. Who has it is recorded in the same step, so nobody gets it twice.
        """
        record, now = submission.record, self.clock()
        refused = joined(
            record.refused if submission.is_rest else "",
            *(f"{who} was refused: {words}" for who, words in receipt.refused.items()),
        )
        due, waiting = 0, ""
        fields: dict[str, str | int] = {"pending": "", "refused": ""}
        if receipt.deferred:
            due = now + backoff_ms(1)
            fields |= {"pending": json.dumps(list(receipt.deferred)), "refused": refused, **UNMARKED}
            fields |= {"sends": 1, "sends_since": record.sends_since if submission.is_rest else now}
            words = ", ".join(f"{who}: {said}" for who, said in receipt.deferred.items())
            waiting = f"refused for now, the next try is due {iso(due)}: {words}"
        bounced = record.reason if submission.is_rest and record.reason.startswith("bounced") else ""
        reason = joined(bounced or refused, waiting)
        people = [address.lower() for address in mail.recipients]
        if submission.is_rest:
            effects = Effects(fields, not due, due=due, conversation=submission.conversation, people=people)
        else:
            filing = filing_due(now - record.received_at) if self.has_mailbox else None
            effects = Effects(fields, pop=True, later=due or None, filing=filing, people=people)
            if record.ingress == QUESTION:  # who is asked takes no part in the thread by that
                effects = replace(effects, people=(), conversation=submission.conversation)
        met = [person(one) for one in mail.recipients]
        effects = replace(effects, met=met, counts={"submission:sent": 1})
        self._insist(
            lambda: self.store.messages.move(
                record.id,
                State.REPLIED,
                now=self.clock(),
                reason=reason,
                effects=effects,
                only_from=[record.state, State.UNCERTAIN],
            )
        )
        log.info("message %s replied%s", record.id, f" ({reason})" if reason else "")
        if fault:
            self.store.health.submission_fault("")

    def _wait(self, submission: _Submission, why: str, pause_ms: int) -> None:
        """Put the conversation off for a while; this counts as no attempt."""
        quiet = submission.record.reason.startswith("waiting: ") or submission.is_rest
        submission.rest(self.clock() + pause_ms, f"waiting: {why}", UNMARKED, quiet=quiet)

    def _limited(self, submission: _Submission, error: errors.SubmissionLimited) -> None:
        """Let all mail wait: the limit is the account's, and each further try could prolong it."""
        why = f"the server limits this account, all mail waits: {error}"
        log.error("nothing can be sent for now: %s", why)
        now = self.clock()
        until: list[int] = []
        least = LIMIT_PAUSE_MS if error.permanent else 0
        self._insist(lambda: until.append(self.store.health.submission_limited(why, now, least)))
        self._later(submission, str(error), until[-1] - now)

    def _later(self, submission: _Submission, why: str, pause_ms: int = 0) -> None:
        record, now = submission.record, self.clock()
        submission.counts = {"submission:temporary": 1}
        since, sends = record.sends_since or now, record.sends + 1
        if now - since > HORIZON_MS:
            submission.finish(State.FAILED, f"given up after 72 h: {why}", UNMARKED)
            return
        due = now + (pause_ms or backoff_ms(sends))
        fields = {"sends": sends, "sends_since": since, "attempts": record.attempts + 1, **UNMARKED}
        reason = f"submission {sends} failed, the next is due {iso(due)}: {why}"
        submission.rest(due, submission.reason(reason), fields)
        log.warning("message %s: %s", record.id, reason)

    def _insist(self, record: Callable[[], None], until: float | None = None) -> None:
        """Call ``record`` once in any case, and while it fails again for RECORD_S or until ``until``
        (monotonic), because only this process knows the outcome. Then raise StoreUnavailable."""
        until = time.monotonic() + RECORD_S if until is None else until
        while True:
            try:
                record()
            except errors.StoreUnavailable:
                if time.monotonic() > until:
                    raise
                self.sleep(1)
            else:
                return
