"""Receive a mail: parse it, judge it, choose its thread, store it once, wake a worker."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import NotFound, UnreadableMessage, WrongState
from cleo_email.mail.message_id import Signer
from cleo_email.mail.model import Action, InboundEmail, Verdict
from cleo_email.mail.parse import parse
from cleo_email.mail.thread import (
    by_sender,
    choose_thread,
    fingerprint,
    people_of,
    quoted_ids,
    threads_in_question,
)
from cleo_email.runtime import Clock, now_ms
from cleo_email.screening.authentication import authenticated
from cleo_email.screening.reports import Report, read_report
from cleo_email.screening.screen import Policy, screen
from cleo_email.store import AT_WORK, Accepted, Effects, Identity, Record, State, Store, ThreadClosed, new_id
from cleo_email.store.queue import WakeQueue

log = logging.getLogger(__name__)


class ReportDesk:
    """Notes what a report or a reply tells about mail of ours on the record of that mail."""

    def __init__(self, store: Store, *, clock: Clock = now_ms) -> None:
        self._store = store
        self._clock = clock

    def note(self, source: bytes, mail: InboundEmail, envelope_from: str | None) -> bool:
        """Attach a report to the record of our mail; return False where it is none, or about no mail of ours.

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
        """Note a reply to mail of ours: where we did not know whether that mail was sent, now we do."""
        for id_ in record_ids:
            try:
                record = self._store.messages.get(id_)
                if record.state is State.UNCERTAIN:
                    self._move(record, "a reply to it shows that it was sent")
            except (NotFound, WrongState):
                continue

    def _attach(self, record_id: str, report: Report) -> bool:
        try:
            record = self._store.messages.get(record_id)
            if record.reason == report.reason or not report.may_replace(record.reason):
                return True
            self._move(record, report.reason)
        except (NotFound, WrongState) as error:
            log.info("a report could not be attached: %s", error)
            return False
        log.warning("message %s: %s", record_id, report.reason)
        return True

    def _move(self, record: Record, reason: str) -> None:
        """Write ``reason``; an uncertain mail was sent after all, and is now filed in the mailbox."""
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


DAY_S = 86_400
# Ways on which a mail has passed the operator's own mail server, whose Authentication-Results may count.
THROUGH_OUR_SERVER = frozenset({"imap", "raw"})
_BECOMES = {Action.ANSWER: State.RECEIVED, Action.IGNORE: State.IGNORED, Action.HOLD: State.HELD}


@dataclass(frozen=True)
class IncomingMail:
    """A mail that has arrived: its bytes and what the way it took says about it.

    ``envelope_from`` is None where the way does not tell it, '' for the null sender (RFC 5321 section 4.5.5).
    ``hold`` is a reason to keep it for a person whatever it says. ``partial`` bytes are a header only.
    ``same_for_s`` bounds how long an equal mail without a Message-ID counts as the same.
    ``authenticated`` is what that way knows of the sender, None for nothing.
    """

    source: bytes
    ingress: str
    envelope_from: str | None = None
    envelope_to: str = ""
    hold: str = ""
    partial: bool = False
    mailbox: str = ""
    fingerprint: str = ""
    same_for_s: int | None = None
    authenticated: bool | None = None


def unfetched(mailbox: str) -> IncomingMail:
    """A polled mail of which nothing is known but where it lies (UIDVALIDITY/UID)."""
    return IncomingMail(b"", "imap", mailbox=mailbox, partial=True, fingerprint=f"uid:{mailbox}")


class Receiver:
    def __init__(
        self,
        store: Store,
        wake: WakeQueue,
        policy: Policy,
        signer: Signer,
        *,
        max_age_days: int,
        retention_days: int,
        verifies: bool = False,
        clock: Clock = now_ms,
    ) -> None:
        """``verifies``: the worker looks at the signatures of a mail before anybody answers it."""
        self._verifies = verifies
        self._signer = signer
        self._store = store
        self._wake = wake
        self._policy = policy
        self._clock = clock
        self._bouncing = ReportDesk(store, clock=clock)
        # As long as a mail can still lie in the inbox, it must be known again.
        self._remember_s = (max(max_age_days, retention_days) + 14) * DAY_S

    def accept(self, arrival: IncomingMail) -> Accepted:
        """Store a mail durably, once. Raises StoreUnavailable: then nothing was stored."""
        try:
            mail = parse(arrival.source)
        except UnreadableMessage as error:
            return self.quarantine(arrival, f"the mail cannot be read: {error}")
        verdict, trusted = self._judge(mail, arrival)
        if verdict.action is Action.IGNORE:
            self._bouncing.note(arrival.source, mail, arrival.envelope_from)
        key, date = fingerprint(mail, arrival.source)
        identity = Identity(
            arrival.fingerprint or key,
            date,
            remember_s=(not mail.message_id and arrival.same_for_s) or self._remember_s,
        )
        # Who is named in a mail whose sender may be forged takes part in nothing yet.
        open_ = verdict.action is Action.ANSWER and not self._waits_for_proof(trusted)
        people = people_of(mail, self._policy.own_addresses) if open_ else ()
        crashpoint("accept-before-store")
        while True:
            record = self._record(mail, arrival, verdict, trusted)
            # A thread named by the sender is open to the sender, whatever happens meanwhile.
            sender = mail.from_[0].key if mail.from_ and record.thread_id != by_sender(mail) else ""
            try:
                accepted = self._store.messages.accept(
                    record, arrival.source, identity, people, sender=sender
                )
                break
            except ThreadClosed:
                continue  # others have begun the thread since it was chosen: it is not chosen again
        crashpoint("accept-after-store")
        if not accepted.duplicate:
            log.info(
                "message %s accepted by %s: %s%s", accepted.id, arrival.ingress, record.state, _why(record)
            )
        if accepted.duplicate and arrival.mailbox:
            self._found_in_mailbox(accepted.id, arrival.mailbox)
        if accepted.state is State.RECEIVED and not accepted.duplicate:
            self._wake.wake(accepted.thread_id)
            crashpoint("accept-after-wake")
        return accepted

    def foresee(self, arrival: IncomingMail) -> tuple[bool, State]:
        """Whether the mail is known, and what ``accept`` would make of it if not. Stores nothing.

        Raises StoreUnavailable.
        """
        try:
            mail = parse(arrival.source)
        except UnreadableMessage:
            (key, date), state = (_unreadable(arrival), ""), State.FAILED
        else:
            key, date = fingerprint(mail, arrival.source)
            state = _BECOMES[self._judge(mail, arrival)[0].action]
        return self._store.messages.first_of(arrival.fingerprint or key, date) is not None, state

    def _found_in_mailbox(self, id_: str, where: str) -> None:
        """A mail that came by webhook lies in the mailbox too: people see there what became of it."""
        self._store.messages.note(id_, "mailbox", where)
        try:
            # Only now: an answer that was sent before the note was made finds no mail to be flagged.
            state = self._store.messages.get(id_).state
        except NotFound:
            return
        if state not in AT_WORK:
            self._store.filing.add(id_, self._clock())

    def _judge(self, mail: InboundEmail, arrival: IncomingMail) -> tuple[Verdict, bool | None]:
        trusted = arrival.authenticated
        if trusted is None and self._policy.authserv_id:
            # A mail provider hands on whatever header a stranger has written; our own server's strips it.
            own = arrival.ingress in THROUGH_OUR_SERVER
            trusted = authenticated(mail, self._policy.authserv_id) if own else False
        policy = self._policy
        if self._waits_for_proof(trusted):
            policy = replace(policy, authserv_id=None)
        verdict = screen(mail, envelope_from=arrival.envelope_from, policy=policy, authenticated=trusted)
        if arrival.hold and verdict.action is not Action.IGNORE:
            verdict = Verdict(Action.HOLD, arrival.hold)
        return verdict, trusted

    def _waits_for_proof(self, trusted: bool | None) -> bool:
        """Asking DNS takes too long for who posts or polls: the worker does it, and holds what is forged."""
        return self._verifies and trusted is not True

    def _record(
        self, mail: InboundEmail, arrival: IncomingMail, verdict: Verdict, trusted: bool | None
    ) -> Record:
        now = self._clock()
        notes = "; ".join(mail.notes)
        return Record(
            id=new_id(now),
            state=_BECOMES[verdict.action],
            reason=verdict.reason or notes[:500],
            thread_id=self._thread(mail),
            received_at=now,
            updated_at=now,
            message_id=mail.message_id,
            in_reply_to=mail.in_reply_to[0] if mail.in_reply_to else "",
            from_address=mail.from_address,
            to_address=arrival.envelope_to or (mail.to[0].addr if mail.to else ""),
            subject=mail.subject[:1000],
            ingress=arrival.ingress,
            envelope_from=arrival.envelope_from or "",
            envelope_known=int(arrival.envelope_from is not None),
            authenticated="" if trusted is None else str(int(trusted)),
            mailbox=arrival.mailbox,
            partial=int(arrival.partial),
        )

    def _thread(self, mail: InboundEmail) -> str:
        known = self._store.threads.by_our_ids(quoted_ids(mail)[:200])
        ours = {message_id: thread for message_id, (thread, _) in known.items()}
        proof = self._signer.judge(mail, quoted_ids(mail)[:200])
        people = self._store.threads.people(threads_in_question(mail, ours, proof))
        thread = choose_thread(mail, ours, people, proof)
        self._bouncing.settle([id_ for _, (of, id_) in known.items() if of == thread])
        return thread

    def quarantine(self, arrival: IncomingMail, why: str) -> Accepted:
        """A mail that cannot be fetched or read is recorded as failed, where a person finds it."""
        now = self._clock()
        key = arrival.fingerprint or _unreadable(arrival)
        record = Record(
            id=new_id(now),
            state=State.FAILED,
            reason=why,
            # A thread of its own: nobody's mail may be read in the history of another's.
            thread_id=f"unreadable:{hashlib.sha256(key.encode()).hexdigest()[:32]}",
            received_at=now,
            updated_at=now,
            ingress=arrival.ingress,
            mailbox=arrival.mailbox,
            partial=int(arrival.partial),
            to_address=arrival.envelope_to,
        )
        identity = Identity(key, remember_s=self._remember_s)
        accepted = self._store.messages.accept(record, arrival.source, identity, ())
        return replace(accepted, state=State.FAILED)


def _unreadable(arrival: IncomingMail) -> str:
    return f"bytes:{hashlib.sha256(arrival.source).hexdigest()}"


def _why(record: Record) -> str:
    return f" ({record.reason})" if record.reason and record.state is not State.RECEIVED else ""
