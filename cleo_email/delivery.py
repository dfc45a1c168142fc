"""Sends a kept answer, at most once knowingly, and says what became of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from cleo_email.backoff import HOUR, MINUTE, SECOND, backoff_ms
from cleo_email.budget import Budget
from cleo_email.clock import Clock, now_ms
from cleo_email.crashpoints import reach
from cleo_email.errors import (
    StoreUnavailable,
    SubmissionError,
    SubmissionLoginRefused,
    SubmissionUnavailable,
    SubmissionUncertain,
)
from cleo_email.mail.model import OutboundEmail, Receipt
from cleo_email.store import Effects, Lock, Record, State, Store, iso

log = logging.getLogger(__name__)

HORIZON_MS = 72 * HOUR
PROBE_MS = MINUTE
# A login fault is everybody's: those who wait for its end look again so often, and use up no attempt.
LOGIN_PAUSE_MS = 20 * SECOND
RECORD_FOR_S = 120


class Submitter(Protocol):
    def submit(self, mail: OutboundEmail, *, before_end_of_data: Callable[[], None]) -> Receipt: ...


class Delivery:
    def __init__(
        self,
        store: Store,
        submitter: Submitter,
        *,
        has_mailbox: bool,
        budget: Budget | None = None,
        clock: Clock = now_ms,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._submitter = submitter
        self._has_mailbox = has_mailbox
        self._budget = budget
        self._clock = clock
        self._sleep = sleep

    def submit(self, record: Record, lock: Lock) -> None:
        """Submit the kept answer of a record that is ``submitting``.

        Raises LockLost, StoreUnavailable; every outcome of SMTP ends in a state or a later try.
        """
        if record.data_ended_at:
            self._uncertain(record, "the process ended after the end of DATA and before its answer", lock)
            return
        fault = self._store.pulse.health().submission_fault
        if fault and not self._store.pulse.tick("submission-probe", PROBE_MS):
            self._wait(record, lock, fault, LOGIN_PAUSE_MS)
            return
        mail = self._store.messages.answer(record.id)
        if mail is None:
            self._fail(record, lock, "the kept answer is gone; nothing was sent")
            return
        if self._budget and (used := self._budget.before_sending(record, mail)):
            filing = self._clock() if record.mailbox else None
            self._move(record, State.HELD, used, lock, Effects(pop=True, filing=filing))
            return
        reach("submit-before-data")
        try:
            receipt = self._submitter.submit(mail, before_end_of_data=lambda: self._mark(record, lock))
        except SubmissionLoginRefused as error:
            log.error("nothing can be sent: %s", error)
            self._store.pulse.submission_fault(str(error))
            self._wait(record, lock, str(error), LOGIN_PAUSE_MS)
        except SubmissionUnavailable as error:
            self._later(record, lock, str(error))
        except SubmissionUncertain as error:
            self._uncertain(record, str(error), lock)
        except SubmissionError as error:
            self._fail(record, lock, str(error))
        else:
            reach("submit-after-250")
            self._sent(record, mail, receipt, fault)
            reach("submit-after-record")

    def _mark(self, record: Record, lock: Lock) -> None:
        reach("submit-before-end-of-data")
        self._store.messages.mark_data_end(record.id, lock, self._clock())
        reach("submit-after-mark")

    def _sent(self, record: Record, mail: OutboundEmail, receipt: Receipt, fault: str) -> None:
        """The server has it: a fact, so neither a lost lock nor a short absence of Redis may hide it."""
        reason = "; ".join(f"{who} was refused: {words}" for who, words in receipt.refused.items())
        effects = Effects(
            pop=True,
            filing=self._clock() if self._has_mailbox else None,
            people=[address.lower() for address in mail.recipients],
        )
        until = time.monotonic() + RECORD_FOR_S
        while True:
            try:
                self._store.messages.move(
                    record.id,
                    State.REPLIED,
                    now=self._clock(),
                    reason=reason,
                    effects=effects,
                    only_from=[State.SUBMITTING, State.UNCERTAIN],
                )
                break
            except StoreUnavailable:
                if time.monotonic() > until:
                    raise
                self._sleep(1)
        log.info("message %s replied%s", record.id, f" ({reason})" if reason else "")
        if fault:
            self._store.pulse.submission_fault("")

    def _wait(self, record: Record, lock: Lock, why: str, pause_ms: int) -> None:
        """Not an attempt: the record stays as it is and its conversation rests."""
        now = self._clock()
        effects = Effects(fields={"data_ended_at": 0}, due=now + pause_ms)
        self._move(
            record,
            State.SUBMITTING,
            f"waiting: {why}",
            lock,
            effects,
            quiet=record.reason.startswith("waiting: "),
        )

    def _later(self, record: Record, lock: Lock, why: str) -> None:
        now = self._clock()
        since = record.sends_since or now
        sends = record.sends + 1
        if now - since > HORIZON_MS:
            self._fail(record, lock, f"given up after 72 h: {why}")
            return
        due = now + backoff_ms(sends)
        fields = {
            "sends": sends,
            "sends_since": since,
            "attempts": record.attempts + 1,
            "data_ended_at": 0,
        }
        reason = f"submission {sends} failed, the next is due {iso(due)}: {why}"
        self._move(record, State.SUBMITTING, reason, lock, Effects(fields=fields, due=due))
        log.warning("message %s: %s", record.id, reason)

    def _uncertain(self, record: Record, why: str, lock: Lock) -> None:
        reason = f"it may have been sent or not ({why}); "
        settling = None
        if self._has_mailbox:
            settling = self._clock()
            reason += f"Sent is searched for {record.reply_message_id}"
        else:
            reason += "without EMAIL_IMAP_HOST nobody can look into Sent"
        self._move(record, State.UNCERTAIN, reason, lock, Effects(pop=True, settling=settling))
        log.warning("message %s is uncertain: %s", record.id, why)

    def _fail(self, record: Record, lock: Lock, why: str) -> None:
        fields = {"data_ended_at": 0}
        filing = self._clock() if record.mailbox else None
        self._move(record, State.FAILED, why, lock, Effects(fields=fields, pop=True, filing=filing))
        log.error("message %s failed: %s", record.id, why)

    def _move(
        self, record: Record, to: State, reason: str, lock: Lock, effects: Effects, *, quiet: bool = False
    ) -> None:
        self._store.messages.move(
            record.id, to, now=self._clock(), reason=reason, lock=lock, effects=effects, quiet=quiet
        )
