"""Receive a mail: parse and screen it, choose its thread, store it once, wake a worker."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from types import MappingProxyType

from cleo_email.agents.spec import NO_AGENT
from cleo_email.crashpoints import crashpoint
from cleo_email.errors import NotFound, UnreadableMessage, WrongState
from cleo_email.mail.address import person
from cleo_email.mail.headers import shown
from cleo_email.mail.message_id import Signer
from cleo_email.mail.model import Action, InboundEmail, Verdict
from cleo_email.mail.parse import parse
from cleo_email.mail.thread import (
    by_sender,
    choose_thread,
    content_hash,
    fingerprint,
    people_of,
    quoted_ids,
    threads_in_question,
)
from cleo_email.pipeline.colleagues import Colleagues
from cleo_email.pipeline.question import give_up, reply_to_question
from cleo_email.pipeline.send import REMEMBERED
from cleo_email.runtime import DAY, Clock, now_ms
from cleo_email.screening.authentication import authenticated
from cleo_email.screening.reports import Report, ReportKind, read_report
from cleo_email.screening.screen import Policy, screen
from cleo_email.store import (
    AT_WORK,
    QUESTION,
    Accepted,
    Effects,
    Identity,
    Record,
    State,
    Store,
    ThreadClosed,
    conversation_of,
    new_id,
)
from cleo_email.store.messages import MAILBOX
from cleo_email.store.queue import WakeQueue

log = logging.getLogger(__name__)
_SENT = (State.REPLIED, State.UNCERTAIN)


@dataclass
class ReportDesk:
    """Records bounces, other reports and replies on the record of the mail that they are about."""

    store: Store
    clock: Clock = now_ms

    def note(self, source: bytes, mail: InboundEmail, envelope_from: str | None) -> bool:
        """Attach a report to the record of our mail; return False if it is no report about a mail of ours.

        Raise StoreUnavailable. Safe to repeat.
        """
        report = read_report(source, mail, envelope_from=envelope_from)
        if report is None:
            return False
        ids = [report.original_message_id, *quoted_ids(mail)]
        known = self.store.threads.by_our_ids([id_ for id_ in ids if id_][:50])
        for _, id_ in known.values():
            return self._attach(id_, report)
        return False

    def settle(self, record_ids: list[str]) -> None:
        """Mark uncertain mails as sent once a reply to them proves it, and those that were said to bounce."""
        for id_ in record_ids:
            try:
                record = self.store.messages.get(id_)
                if record.state is State.UNCERTAIN and not record.pending:
                    self._move(record, State.REPLIED, "a reply to it shows that it was sent")
                elif record.state is State.FAILED and record.bounced:
                    self._move(record, State.REPLIED, "a reply to it shows that it arrived", {"bounced": ""})
            except (NotFound, WrongState):
                continue

    def _attach(self, record_id: str, report: Report) -> bool:
        try:
            record = self.store.messages.get(record_id)
            if record.answered_by == MAILBOX:  # a mail that a person sent is for people to see to
                return True
            if record.reason == report.reason or not report.may_replace(record.reason):
                return True
            state, bounced = self._came_back(record, report)
            self._move(record, state, report.reason, {"bounced": json.dumps(bounced)} if bounced else {})
        except (NotFound, WrongState) as error:
            log.info("a report could not be attached: %s", error)
            return False
        log.warning("message %s: %s", record_id, report.reason)
        if state is State.FAILED and record.ingress == QUESTION:
            give_up(self.store, record, report.reason, self.clock)
        return True

    def _came_back(self, record: Record, report: Report) -> tuple[State, list[str]]:
        """Return the state of the record after the report, and the recipients from whom the mail came back.

        It is failed once it came back from all of them. A bounce names the address that it was forwarded to
        where its sender did not know better: it is about a lone recipient all the same.
        """
        recipients, before = record.addresses("recipients"), record.addresses("bounced")
        otherwise = record.state if before or record.pending else State.REPLIED
        if report.kind is not ReportKind.BOUNCE:
            return otherwise, before
        named = {address.lower() for address in (report.recipient, *report.failed)}
        bounced = [one for one in recipients if one in before or one.lower() in named]
        if len(recipients) == 1:
            bounced = recipients
        return State.FAILED if bounced == recipients else otherwise, bounced

    def _move(
        self, record: Record, to: State, reason: str, fields: Mapping[str, str | int] = MappingProxyType({})
    ) -> None:
        """Write ``reason``; an uncertain mail becomes sent. Then people see it in the mailbox, too."""
        effects = Effects(fields=fields)
        if record.state is not to and self.store.mailbox.is_configured:
            now = self.clock()
            # With ``filing_begun`` set, Sent is searched first, as it may hold a copy already.
            effects = Effects(filing=now, fields={**fields, "filing_begun": now})
        only_from = [State.REPLIED, State.UNCERTAIN, State.FAILED] if record.bounced else _SENT
        self.store.messages.move(
            record.id, to, now=self.clock(), reason=reason, only_from=only_from, effects=effects
        )


def colleague_reason(sender: str) -> str:
    return f"a colleague's mail: {shown(sender)} answered"


# Ways on which a mail has passed the operator's own mail server, whose Authentication-Results may count.
THROUGH_OUR_SERVER = frozenset({"imap", "raw"})
_BECOMES = {Action.ANSWER: State.RECEIVED, Action.IGNORE: State.IGNORED, Action.HOLD: State.HELD}


@dataclass(frozen=True)
class IncomingMail:
    """A mail that has arrived: its bytes, and the facts known from the channel it came by."""

    source: bytes
    ingress: str
    envelope_from: str | None = None  # None: unknown; "": the null sender (RFC 5321 section 4.5.5)
    envelope_to: str = ""
    hold: str = ""  # why the mail is to be held for a person in any case
    partial: bool = False  # ``source`` is a header only
    mailbox: str = ""  # UIDVALIDITY/UID of a polled mail
    unread: bool = False  # it is not \\Seen there
    fingerprint: str = ""
    same_for_s: int | None = None  # how long an equal mail without a Message-ID counts as the same
    authenticated: bool | None = None  # whether the sender is proven, None where that is unknown


def unfetched(mailbox: str) -> IncomingMail:
    """Return a polled mail of which only the place in the mailbox is known (UIDVALIDITY/UID)."""
    return IncomingMail(b"", "imap", mailbox=mailbox, partial=True, fingerprint=f"uid:{mailbox}")


@dataclass
class Receiver:
    """Accepts incoming mail. Every method raises StoreUnavailable."""

    store: Store
    wake: WakeQueue
    policy: Policy
    signer: Signer
    _: KW_ONLY
    max_age_days: int
    retention_days: int
    verifies: bool = False  # the worker checks the DKIM signatures of a mail before it is answered
    has_agent: bool = True
    colleagues: Colleagues | None = None  # whose mail is a person's turn
    clock: Clock = now_ms

    def __post_init__(self) -> None:
        self._reports = ReportDesk(self.store, self.clock)
        # A mail must be recognised as long as it can still lie in the inbox.
        self._remember_s = (max(self.max_age_days, self.retention_days) + 14) * DAY // 1000

    def accept(self, incoming: IncomingMail) -> Accepted:
        """Store a mail durably, once. Raise StoreUnavailable where nothing was stored."""
        try:
            mail = parse(incoming.source)
        except UnreadableMessage as error:
            return self.quarantine(incoming, f"the mail cannot be read: {error}")
        reply = reply_to_question(self.store, mail) if mail.in_reply_to or mail.references else None
        asked = reply if reply and reply.answers else None
        among = self.colleagues.thread_of(mail) if self.colleagues and not asked else ""
        verdict, trusted = self._judge(mail, incoming, by_colleague=bool(among or asked))
        if (
            reply
            and reply.hold
            and verdict.action is Action.ANSWER
            and not self._is_for_customer(mail, among)
        ):
            verdict = Verdict(Action.HOLD, reply.hold)
        if verdict.action is not Action.ANSWER:
            among = ""
        if verdict.action is Action.IGNORE:
            self._reports.note(incoming.source, mail, incoming.envelope_from)
        identity = self._identity(mail, incoming, trusted)
        # The people named in a mail whose sender may be forged do not take part in its thread yet.
        proven = not self._waits_for_proof(trusted)
        admitted = verdict.action is Action.ANSWER and proven and not among and not asked
        people = people_of(mail, self.policy.own_addresses) if admitted else ()
        crashpoint("accept-before-store")
        while True:
            record = self._record(mail, incoming, verdict, trusted)
            # A thread named after the sender is always open to the sender.
            sender = mail.from_[0].key if mail.from_ and record.thread_id != by_sender(mail) else ""
            if among:
                record, sender = self._of_colleague(record, mail, among, proven=proven), ""
            elif asked and verdict.action is not Action.IGNORE:
                thread, id_ = asked.question.thread_id, asked.question.id
                record, sender = replace(record, thread_id=thread, question=id_), ""
                self._reports.settle([id_])
            try:
                store = self.store.messages.accept
                accepted = store(record, incoming.source, identity, people, sender=sender)
                break
            except ThreadClosed:
                continue  # others have begun this thread meanwhile: choose another
        crashpoint("accept-after-store")
        if among and proven and self.colleagues:
            self.colleagues.complete(accepted.id, mail)
        if accepted.duplicate:
            return self._found_in_mailbox(accepted, incoming) if incoming.mailbox else accepted
        why = f" ({record.reason})" if record.reason and record.state is not State.RECEIVED else ""
        log.info("message %s accepted by %s: %s%s", accepted.id, incoming.ingress, record.state, why)
        if accepted.state is State.RECEIVED:
            self.wake.wake(conversation_of(record))
            crashpoint("accept-after-wake")
        return accepted

    def foresee(self, incoming: IncomingMail) -> tuple[bool, State]:
        """Return whether the mail is known, and the state that ``accept`` would give it. Store nothing.

        Raise StoreUnavailable.
        """
        try:
            mail = parse(incoming.source)
        except UnreadableMessage:
            identity, state = Identity(incoming.fingerprint or _unreadable(incoming)), State.FAILED
        else:
            verdict, trusted = self._judge(mail, incoming)
            identity, state = self._identity(mail, incoming, trusted), _BECOMES[verdict.action]
        return self.store.messages.first_of(identity) is not None, state

    def _is_for_customer(self, mail: InboundEmail, among: str) -> bool:
        """Return whether a colleague wrote it to somebody of the thread, and not to us alone."""
        people = self.store.threads.people([among])[among] if among else frozenset()
        return any(address.key in people for address in (*mail.to, *mail.cc))

    def _of_colleague(self, record: Record, mail: InboundEmail, thread: str, *, proven: bool) -> Record:
        """Return the record of a colleague's mail in that thread: a person's turn, where it is proven."""
        people = people_of(mail, self.policy.own_addresses)
        if self.colleagues:
            people = self.colleagues.readers(mail, people, record.ingress)
        names = json.dumps(sorted({person(one) for one in people}))
        record = replace(record, thread_id=thread, colleague=1, people=names)
        if not proven:
            return record
        reason = colleague_reason(mail.from_address)
        return replace(record, state=State.IGNORED, reason=reason, text=mail.text[:REMEMBERED], marked=0)

    def _identity(self, mail: InboundEmail, incoming: IncomingMail, trusted: bool | None) -> Identity:
        key, date = fingerprint(mail, incoming.source)
        kind = (
            "signed"
            if self.verifies
            else incoming.ingress
            if incoming.ingress in THROUGH_OUR_SERVER
            else "fields"
        )
        if incoming.partial:
            kind, content = "part", ""
        elif self.verifies:
            # One blank more, or one field, and the signature of a copy no longer holds. The worker tells
            # which copies are one mail, once their senders are proven.
            content = hashlib.sha256(incoming.source).hexdigest()
        else:
            content = content_hash(mail, incoming.source)
        return Identity(
            incoming.fingerprint or key,
            date,
            *(kind, content),
            proven=trusted is True,
            remember_s=(not mail.message_id and incoming.same_for_s) or self._remember_s,
        )

    def _found_in_mailbox(self, accepted: Accepted, incoming: IncomingMail) -> Accepted:
        """Record where a known mail lies in the mailbox; return it with its state, by which it is flagged.

        A change of state after this asks for the flags by itself. A record that is gone was over long ago.
        """
        self.store.messages.note(accepted.id, "mailbox", incoming.mailbox)
        try:
            state = self.store.messages.get(accepted.id).state
        except NotFound:
            state = State.IGNORED
        if incoming.unread and state in AT_WORK:
            self.store.messages.note(accepted.id, "marked", 1)
        return replace(accepted, state=state)

    def _judge(
        self, mail: InboundEmail, incoming: IncomingMail, *, by_colleague: bool = False
    ) -> tuple[Verdict, bool | None]:
        trusted = incoming.authenticated
        if trusted is None and self.policy.authserv_id:
            # Providers pass on forged headers of a sender; the operator's own server removes them.
            own = incoming.ingress in THROUGH_OUR_SERVER
            trusted = authenticated(mail, self.policy.authserv_id) if own else False
        if trusted and mail.doubt:  # whoever vouches for it may have read other fields
            trusted = False
        policy = self.policy
        if self._waits_for_proof(trusted):
            policy = replace(policy, authserv_id=None)
        if by_colleague:  # who may write to the agent is another question
            policy = replace(policy, allowed_senders=())
        verdict = screen(mail, envelope_from=incoming.envelope_from, policy=policy, authenticated=trusted)
        if incoming.hold and verdict.action is not Action.IGNORE:
            verdict = Verdict(Action.HOLD, incoming.hold)
        # A polled mail is held at once: nothing is to look as if somebody saw to it. Of other mail the worker
        # decides, because the web process may do without CLEO_AGENT, and who releases it need not judge the
        # sender.
        decided = incoming.ingress == "imap" and not self._waits_for_proof(trusted)
        if not self.has_agent and decided and not by_colleague and verdict.action is Action.ANSWER:
            verdict = Verdict(Action.HOLD, NO_AGENT)
        return verdict, trusted

    def _waits_for_proof(self, trusted: bool | None) -> bool:
        """Return whether the worker is to ask DNS, which takes too long for a webhook or a poll."""
        return self.verifies and trusted is not True

    def _record(
        self, mail: InboundEmail, incoming: IncomingMail, verdict: Verdict, trusted: bool | None
    ) -> Record:
        now = self.clock()
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
            to_address=incoming.envelope_to or (mail.to[0].addr if mail.to else ""),
            subject=mail.subject[:1000],
            ingress=incoming.ingress,
            authenticated="" if trusted is None else str(int(trusted)),
            mailbox=incoming.mailbox,
            marked=int(incoming.unread and verdict.action is Action.ANSWER),
            partial=int(incoming.partial),
            people=json.dumps(sorted({person(one) for one in people_of(mail, self.policy.own_addresses)})),
        )

    def _thread(self, mail: InboundEmail) -> str:
        known = self.store.threads.by_our_ids(quoted_ids(mail)[:200])
        ours = {message_id: thread for message_id, (thread, _) in known.items()}
        proof = self.signer.judge(mail, quoted_ids(mail)[:200])
        people = self.store.threads.people(threads_in_question(mail, ours, proof))
        thread = choose_thread(mail, ours, people, proof)
        self._reports.settle([id_ for _, (of, id_) in known.items() if of == thread])
        return thread

    def quarantine(
        self, incoming: IncomingMail, why: str, *, from_address: str = "", subject: str = ""
    ) -> Accepted:
        """Record a mail that cannot be fetched or read as failed, where a person finds it."""
        now = self.clock()
        key = incoming.fingerprint or _unreadable(incoming)
        record = Record(
            id=new_id(now),
            state=State.FAILED,
            reason=why,
            # It gets a thread of its own, so that it appears in nobody else's history.
            thread_id=f"unreadable:{hashlib.sha256(key.encode()).hexdigest()[:32]}",
            received_at=now,
            updated_at=now,
            ingress=incoming.ingress,
            mailbox=incoming.mailbox,
            partial=int(incoming.partial),
            from_address=from_address,
            to_address=incoming.envelope_to,
            subject=subject[:1000],
        )
        identity = Identity(key, remember_s=self._remember_s)
        accepted = self.store.messages.accept(record, incoming.source, identity, ())
        return replace(accepted, state=State.FAILED)


def _unreadable(incoming: IncomingMail) -> str:
    return f"bytes:{hashlib.sha256(incoming.source).hexdigest()}"
