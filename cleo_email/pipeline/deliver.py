"""Submit a kept answer, at most once knowingly, and record what became of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import (
    LockLost,
    StoreUnavailable,
    SubmissionError,
    SubmissionLoginRefused,
    SubmissionUnavailable,
    SubmissionUncertain,
    WrongState,
)
from cleo_email.mail.model import OutboundEmail, Receipt
from cleo_email.pipeline.budget import Budget
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
from cleo_email.store import Effects, Lock, Record, State, Store, iso

if TYPE_CHECKING:
    from cleo_email.smtp.pool import Submitter

log = logging.getLogger(__name__)

HORIZON_MS = 72 * HOUR
PROBE_MS = MINUTE
# A login fault is everybody's: those who wait for its end look again so often, and use up no attempt.
LOGIN_PAUSE_MS = 20 * SECOND
# Large mails go out a few at a time; who waits longer than SENDING_TURN_S rests for so long.
LARGE_AT_ONCE = 2
LARGE_PAUSE_MS = 5 * SECOND


@dataclass
class _Attempt:
    """One submission. ``marked``: the time noted in the record before the end of DATA; 0 before that."""

    record: Record
    lock: Lock
    marked: int = 0


class Delivery:
    def __init__(
        self,
        store: Store,
        submitter: Submitter,
        *,
        has_mailbox: bool,
        budget: Budget,
        clock: Clock = now_ms,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._submitter = submitter
        self._has_mailbox = has_mailbox
        self._budget = budget
        self._clock = clock
        self._sleep = sleep
        self._large = LargeWork(LARGE_AT_ONCE)

    def submit(self, record: Record, lock: Lock) -> None:
        """Submit the kept answer of a record that is ``submitting``.

        Raises LockLost, StoreUnavailable; every outcome of SMTP ends in a state or a later try.
        """
        attempt = _Attempt(record, lock)
        if record.data_ended_at:
            self._uncertain(attempt, "the process ended after the end of DATA and before its answer")
            return
        fault = self._store.health.read().submission_fault
        if fault and not self._store.ticks.tick("submission-probe", PROBE_MS):
            self._wait(attempt, fault, LOGIN_PAUSE_MS)
            return
        size = self._store.messages.answer_size(record.id)
        with self._large.turn(size, patience=SENDING_TURN_S) as now:
            if now:
                self._submit_kept(attempt, fault)
            else:
                self._wait(attempt, "other large mails are being sent", LARGE_PAUSE_MS)

    def call_uncertain(self, record: Record, lock: Lock, why: str) -> None:
        """Nobody knows any more whether the server has the mail of this record: ``uncertain``.

        Raises LockLost, StoreUnavailable; the record's ``data_ended_at`` says it then, too.
        """
        self._uncertain(_Attempt(record, lock), why)

    def _submit_kept(self, attempt: _Attempt, fault: str) -> None:
        record = attempt.record
        mail = self._store.messages.answer(record.id)
        if mail is None:
            self._fail(attempt, "the kept answer is gone; nothing was sent")
            return
        if used := self._budget.before_sending(record, mail):
            filing = self._clock() if record.mailbox else None
            self._move(attempt, State.HELD, used, Effects(pop=True, filing=filing))
            return
        self._hand_over(attempt, mail, fault)

    def _hand_over(self, attempt: _Attempt, mail: OutboundEmail, fault: str) -> None:
        crashpoint("submit-before-data")
        try:
            receipt = self._submitter.submit(mail, before_end_of_data=lambda: self._mark(attempt))
        except SubmissionLoginRefused as error:
            why = str(error)
            log.error("nothing can be sent: %s", why)
            self._insist(lambda: self._store.health.submission_fault(why))
            self._wait(attempt, why, LOGIN_PAUSE_MS)
        except SubmissionUnavailable as error:
            self._later(attempt, str(error))
        except SubmissionUncertain as error:
            self._uncertain(attempt, str(error))
        except SubmissionError as error:
            self._fail(attempt, str(error))
        else:
            crashpoint("submit-after-250")
            self._sent(attempt.record, mail, receipt, fault)
            crashpoint("submit-after-record")

    def _mark(self, attempt: _Attempt) -> None:
        crashpoint("submit-before-end-of-data")
        now = self._clock()
        try:
            self._store.messages.mark_data_end(attempt.record.id, attempt.lock, now)
        except StoreUnavailable:
            # Whether the mark is there nobody can say; the end of DATA is not sent, so it must not stay.
            attempt.marked = now
            with suppress(LockLost, WrongState):
                self._move(attempt, State.SUBMITTING, "", Effects(fields={"data_ended_at": 0}), quiet=True)
            raise
        attempt.marked = now
        crashpoint("submit-after-mark")

    def _sent(self, record: Record, mail: OutboundEmail, receipt: Receipt, fault: str) -> None:
        """The server has it: a fact, so neither a lost lock nor a short absence of Redis may hide it."""
        reason = "; ".join(f"{who} was refused: {words}" for who, words in receipt.refused.items())
        effects = Effects(
            pop=True,
            filing=self._clock() if self._has_mailbox else None,
            people=[address.lower() for address in mail.recipients],
        )
        self._insist(
            lambda: self._store.messages.move(
                record.id,
                State.REPLIED,
                now=self._clock(),
                reason=reason,
                effects=effects,
                only_from=[State.SUBMITTING, State.UNCERTAIN],
            )
        )
        log.info("message %s replied%s", record.id, f" ({reason})" if reason else "")
        if fault:
            self._store.health.submission_fault("")

    def _wait(self, attempt: _Attempt, why: str, pause_ms: int) -> None:
        """Not an attempt: the record stays as it is and its conversation rests."""
        now = self._clock()
        effects = Effects(fields={"data_ended_at": 0}, due=now + pause_ms)
        quiet = attempt.record.reason.startswith("waiting: ")
        self._move(attempt, State.SUBMITTING, f"waiting: {why}", effects, quiet=quiet)

    def _later(self, attempt: _Attempt, why: str) -> None:
        record, now = attempt.record, self._clock()
        since = record.sends_since or now
        sends = record.sends + 1
        if now - since > HORIZON_MS:
            self._fail(attempt, f"given up after 72 h: {why}")
            return
        due = now + backoff_ms(sends)
        fields = {
            "sends": sends,
            "sends_since": since,
            "attempts": record.attempts + 1,
            "data_ended_at": 0,
        }
        reason = f"submission {sends} failed, the next is due {iso(due)}: {why}"
        self._move(attempt, State.SUBMITTING, reason, Effects(fields=fields, due=due))
        log.warning("message %s: %s", record.id, reason)

    def _uncertain(self, attempt: _Attempt, why: str) -> None:
        record = attempt.record
        reason = f"it may have been sent or not ({why}); "
        settling = None
        if self._has_mailbox:
            settling = self._clock()
            reason += f"Sent is searched for {record.reply_message_id}"
        else:
            reason += "without EMAIL_IMAP_HOST nobody can look into Sent"
        # A submission that a person has asked for again is searched for as often as the first one.
        effects = Effects(fields={"looks": 0}, pop=True, settling=settling)
        self._move(attempt, State.UNCERTAIN, reason, effects)
        log.warning("message %s is uncertain: %s", record.id, why)

    def _fail(self, attempt: _Attempt, why: str) -> None:
        record = attempt.record
        fields = {"data_ended_at": 0}
        filing = self._clock() if record.mailbox else None
        self._move(attempt, State.FAILED, why, Effects(fields=fields, pop=True, filing=filing))
        log.error("message %s failed: %s", record.id, why)

    def _move(
        self, attempt: _Attempt, to: State, reason: str, effects: Effects, *, quiet: bool = False
    ) -> None:
        """Record it under the lock. What came after the mark is recorded even if Redis was away and the lock
        went to another worker: all that this one can have done is to call the message uncertain."""

        def locked() -> None:
            self._store.messages.move(
                attempt.record.id,
                to,
                now=self._clock(),
                reason=reason,
                lock=attempt.lock,
                effects=effects,
                quiet=quiet,
            )

        def known() -> None:
            self._store.messages.move(
                attempt.record.id,
                to,
                now=self._clock(),
                reason=reason,
                effects=replace(effects, push=not effects.pop),
                only_from=[State.SUBMITTING, State.UNCERTAIN],
                given=("data_ended_at", attempt.marked),
                quiet=quiet,
            )

        if not attempt.marked:
            locked()
            return
        until = time.monotonic() + RECORD_S
        try:
            self._insist(locked, until)
        except (LockLost, WrongState):
            self._insist(known, until)

    def _insist(self, record: Callable[[], None], until: float | None = None) -> None:
        """A fact that is known here alone waits for Redis, for RECORD_S or until then (monotonic), and is
        tried once in any case. Raises StoreUnavailable after that."""
        until = time.monotonic() + RECORD_S if until is None else until
        while True:
            try:
                record()
            except StoreUnavailable:
                if time.monotonic() > until:
                    raise
                self._sleep(1)
            else:
                return
