"""Receive a mail: parse and screen it, choose its thread, store it once, wake a worker."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from types import MappingProxyType

from cleo_email.agents.spec import NO_AGENT
from cleo_email.crashpoints import crashpoint
from cleo_email.errors import NotFound, UnreadableMessage, WrongState
from cleo_email.mail.address import person
from cleo_email.mail.headers import shown
from cleo_email.mail.message_id import Signer, is_of_alert
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
    Arrival,
    Effects,
    Identity,
    Record,
    State,
    Store,
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
        for record in self.store.messages.load(record_ids) if record_ids else ():
            try:
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
ANSWERS_ALERT = "It answers an alert of this mailbox: alerts are sent by a program, and nobody reads answers."
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
    form: str = ""  # in which form the content is, where not in that of other mails of its way
    same_for_s: int | None = None  # how long an equal mail without a Message-ID counts as the same
    authenticated: bool | None = None  # whether the sender is proven, None where that is unknown
    packed: bytes | None = field(default=None, repr=False)  # ``source`` as it is stored, where it is made


def unfetched(mailbox: str) -> IncomingMail:
    """Return a polled mail of which only the place in the mailbox is known (UIDVALIDITY/UID)."""
    return IncomingMail(b"", "imap", mailbox=mailbox, partial=True, fingerprint=f"uid:{mailbox}")


@dataclass
class _Arriving:
    """What is known of a mail while it is accepted."""

    incoming: IncomingMail
    mail: InboundEmail
    quoted: Sequence[str]
    wakes: bool = False  # a worker, in the step that stores it
    known: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # those quoted that are ours
    people: Mapping[str, frozenset[str]] = field(default_factory=dict)  # of threads
    among: str = ""  # the thread in which it is a colleague's turn
    verdict: Verdict = field(init=False)
    trusted: bool | None = None
    asked: Record | None = None  # the agent's question that it answers
    arrival: Arrival = field(init=False)
    accepted: Accepted = field(init=False)
    is_to_be_answered: bool = False

    def threads(self) -> list[str]:
        """Return the threads that the mail itself names."""
        return threads_in_question(self.mail, {})

    def relations(self) -> set[str]:
        """Return what it has in common with every mail on which its thread, or its fate, may depend."""
        return {*self.threads(), *self.quoted, *(thread for thread, _ in self.known.values())}


def _without_relations(waiting: Sequence[_Arriving]) -> tuple[list[_Arriving], list[_Arriving]]:
    """Return the mails that may be stored together, and those that depend on one before them."""
    together: list[_Arriving] = []
    rest: list[_Arriving] = []
    met: set[str] = set()
    for one in waiting:
        relations = one.relations()
        (rest if relations & met else together).append(one)
        met |= relations
    return together, rest


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
        return self.accept_each([incoming])[0]

    def accept_each(self, mails: Sequence[IncomingMail], *, backlog: bool = False) -> list[Accepted]:
        """Store mails durably, each once, in their order. ``backlog``: more of it waits than can be answered.

        Raise StoreUnavailable where not all could be stored; what was stored is a duplicate the next time.
        """
        arriving: list[_Arriving] = []
        found: list[Accepted | _Arriving] = []
        at_once = len(mails) == 1 and not backlog  # of several one wake-up serves a whole conversation
        for incoming in mails:
            try:
                mail = parse(incoming.source)
            except UnreadableMessage as error:
                found.append(self.quarantine(incoming, f"the mail cannot be read: {error}"))
            else:
                arriving.append(_Arriving(incoming, mail, quoted_ids(mail)[:200], at_once))
                found.append(arriving[-1])
        waiting, woken, last = arriving, dict[str, None](), ""
        while waiting:
            self._look_up(waiting)
            together, waiting = _without_relations(waiting)
            last = self._accept_together(together, last)
            woken.update(
                (conversation_of(one.arrival.record), None) for one in together if one.is_to_be_answered
            )
        if woken and not at_once:
            self.wake.wake_each(list(woken), backlog=backlog, fresh=not backlog)
        for _ in woken:
            crashpoint("accept-after-wake")
        return [one.accepted if isinstance(one, _Arriving) else one for one in found]

    def _look_up(self, waiting: Sequence[_Arriving]) -> None:
        """Read in one go what the choice of the threads needs.

        A mail that quotes none begins a thread, which nobody is in: the store tells where that is not so.
        """
        quoted = list(dict.fromkeys(id_ for one in waiting for id_ in one.quoted))
        in_question = (one for one in waiting if one.quoted or not one.mail.from_)
        threads = dict.fromkeys(name for one in in_question for name in one.threads())
        known, people = self.store.threads.by_our_ids_and_people(quoted, list(threads))
        for one in waiting:
            one.known = {id_: known[id_] for id_ in one.quoted if id_ in known}
        others = {of: None for of, _ in known.values() if of not in people}
        if others:
            people |= self.store.threads.people(list(others))
        for one in waiting:
            one.people = people

    def _accept_together(self, arriving: Sequence[_Arriving], last: str) -> str:
        """Store mails that have nothing to do with each other. Return the highest id, ``last`` at least."""
        for one in arriving:
            self._prepare(one)
            crashpoint("accept-before-store")
        for one in arriving:
            one.arrival = self._arrival(one, last)
            last = one.arrival.record.id
        stored = self.store.messages.accept_each([one.arrival for one in arriving])
        for one, accepted in zip(arriving, stored, strict=True):
            while accepted is None:  # others have begun this thread meanwhile: choose another
                self._look_up([one])
                one.people = {**one.people, **self.store.threads.people(one.threads())}
                one.arrival = self._arrival(one, last)
                last = one.arrival.record.id
                (accepted,) = self.store.messages.accept_each([one.arrival])
            one.accepted = self._accepted(one, accepted)
        return last

    def _prepare(self, one: _Arriving) -> None:
        """Judge the mail, and note it where it is a report."""
        mail, incoming = one.mail, one.incoming
        reply = reply_to_question(self.store, mail, one.quoted, one.known)
        one.asked = reply.question if reply and reply.answers else None
        one.among = self.colleagues.thread_of(mail) if self.colleagues and not one.asked else ""
        one.verdict, one.trusted = self._judge(mail, incoming, by_colleague=bool(one.among or one.asked))
        held = reply is not None and reply.hold and one.verdict.action is Action.ANSWER
        if reply and held and not self._is_for_customer(mail, one.among):
            one.verdict = Verdict(Action.HOLD, reply.hold)
        if one.verdict.action is not Action.ANSWER:
            one.among = ""
        if one.verdict.action is Action.IGNORE:
            self._reports.note(incoming.source, mail, incoming.envelope_from)

    def _arrival(self, one: _Arriving, last: str) -> Arrival:
        """Return what is to be stored of a mail, with an id behind ``last``."""
        mail, incoming = one.mail, one.incoming
        # The people named in a mail whose sender may be forged do not take part in its thread yet.
        proven = not self._waits_for_proof(one.trusted)
        admitted = one.verdict.action is Action.ANSWER and proven and not one.among and not one.asked
        people = people_of(mail, self.policy.own_addresses) if admitted else ()
        record = self._record(one, last)
        # A thread named after the sender is always open to the sender.
        sender = mail.from_[0].key if mail.from_ and record.thread_id != by_sender(mail) else ""
        if one.among:
            record, sender = self._of_colleague(record, mail, one.among, proven=proven), ""
        elif one.asked and one.verdict.action is not Action.IGNORE:
            record = replace(record, thread_id=one.asked.thread_id, question=one.asked.id)
            sender = ""
            self._reports.settle([one.asked.id])
        identity = self._identity(mail, incoming, one.trusted)
        wakes = one.wakes and record.state is State.RECEIVED
        wake = self.wake.job(conversation_of(record), fresh=True) if wakes else ()
        return Arrival(record, incoming.source, identity, people, sender, incoming.packed, wake)

    def _accepted(self, one: _Arriving, accepted: Accepted) -> Accepted:
        """Do what follows once a mail is stored, but the wake-up, and return what became of it."""
        incoming, record = one.incoming, one.arrival.record
        crashpoint("accept-after-store")
        if one.among and self.colleagues and not self._waits_for_proof(one.trusted):
            self.colleagues.complete(accepted.id, one.mail)
        if accepted.duplicate:
            return self._found_in_mailbox(accepted, incoming) if incoming.mailbox else accepted
        why = f" ({record.reason})" if record.reason and record.state is not State.RECEIVED else ""
        log.info("message %s accepted by %s: %s%s", accepted.id, incoming.ingress, record.state, why)
        one.is_to_be_answered = accepted.state is State.RECEIVED
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
        kind = incoming.form or (incoming.ingress if incoming.ingress in THROUGH_OUR_SERVER else "fields")
        if incoming.partial:
            kind, content = "part", ""
        elif self.verifies:
            # One blank more, or one field, and the signature of a copy no longer holds. The worker tells
            # which copies are one mail, once their senders are proven.
            kind, content = "signed", hashlib.sha256(incoming.source).hexdigest()
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
        if verdict.action is not Action.IGNORE and any(map(is_of_alert, quoted_ids(mail)[:10])):
            # Nothing is held either: an alert must not lead to another one.
            verdict = Verdict(Action.IGNORE, ANSWERS_ALERT)
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

    def _record(self, one: _Arriving, last: str) -> Record:
        now, mail, incoming = self.clock(), one.mail, one.incoming
        verdict, trusted = one.verdict, one.trusted
        notes = "; ".join(mail.remarks)
        return Record(
            id=new_id(now, last),
            state=_BECOMES[verdict.action],
            reason=verdict.reason or notes[:500],
            thread_id=self._thread(one),
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

    def _thread(self, one: _Arriving) -> str:
        ours = {message_id: thread for message_id, (thread, _) in one.known.items()}
        proof = self.signer.judge(one.mail, one.quoted)
        people = one.people
        if proof.thread and proof.thread not in people:
            people = {**people, **self.store.threads.people([proof.thread])}
        thread = choose_thread(one.mail, ours, people, proof)
        self._reports.settle([id_ for _, (of, id_) in one.known.items() if of == thread])
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
