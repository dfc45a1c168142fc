"""A report belongs to the delivery that it reports on: its record says what became of the mail."""

from __future__ import annotations

import logging

from cleo_email.clock import Clock, now_ms
from cleo_email.errors import NotFound, WrongState
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.thread import quoted_ids
from cleo_email.screening.reports import Report, ReportKind, read_report
from cleo_email.store import Effects, Record, State, Store

log = logging.getLogger(__name__)

WORDS = {
    ReportKind.BOUNCE: "bounced",
    ReportKind.DELAY: "delayed",
    ReportKind.DELIVERED: "delivered",
    ReportKind.RELAYED: "relayed",
    ReportKind.FEEDBACK: "complained about",
    ReportKind.RECEIPT: "receipt",
}
# What only says that all is well must not hide a bounce that came before it.
_MILD = {ReportKind.DELIVERED, ReportKind.RELAYED, ReportKind.RECEIPT, ReportKind.DELAY}


class Bouncing:
    def __init__(self, store: Store, *, clock: Clock = now_ms) -> None:
        self._store = store
        self._clock = clock

    def note(self, source: bytes, mail: InboundEmail, envelope_from: str | None) -> bool:
        """Attach a report to the record of our mail; False where it is none, or about no mail of ours.

        Raises StoreUnavailable. Safe to repeat.
        """
        report = read_report(source, mail, envelope_from=envelope_from)
        if report is None:
            return False
        ids = [report.original_message_id, *quoted_ids(mail)]
        known = self._store.threads.by_our_ids([id_ for id_ in ids if id_][:50])
        for _, record_id in known.values():
            return self._attach(record_id, report)
        return False

    def settle(self, record_ids: list[str]) -> None:
        """Somebody answers mail of ours: where we did not know whether it was sent, now we do."""
        for id_ in record_ids:
            try:
                record = self._store.messages.get(id_)
                if record.state is State.UNCERTAIN:
                    self._move(record, "a reply to it shows that it was sent")
            except (NotFound, WrongState):
                continue

    def _attach(self, record_id: str, report: Report) -> bool:
        detail = " ".join(part for part in (report.status, report.recipient) if part)
        reason = ": ".join(part for part in (WORDS[report.kind], detail, report.diagnostic) if part)
        try:
            record = self._store.messages.get(record_id)
            if record.reason == reason:
                return True
            if report.kind in _MILD and record.reason.startswith(WORDS[ReportKind.BOUNCE]):
                return True
            self._move(record, reason)
        except (NotFound, WrongState) as error:
            log.info("a report could not be attached: %s", error)
            return False
        log.warning("message %s: %s", record_id, reason)
        return True

    def _move(self, record: Record, reason: str) -> None:
        """A report or a reply also proves that an uncertain mail was sent: then the mailbox is told of it."""
        effects = Effects()
        if record.state is State.UNCERTAIN and self._store.mailbox.is_configured:
            now = self._clock()
            # As if our copy had been begun: Sent is searched first, for the server's own or an earlier one.
            effects = Effects(filing=now, fields={"filing_begun": now})
        self._store.messages.move(
            record.id,
            State.REPLIED,
            now=self._clock(),
            reason=reason,
            only_from=[State.REPLIED, State.UNCERTAIN],
            effects=effects,
        )
