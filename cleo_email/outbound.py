"""Cleo speaks first: a mail that answers nobody, on the same durable path as answers."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cleo_email.clock import Clock, now_ms
from cleo_email.errors import CleoError, InvalidField, NotFound
from cleo_email.intake import Intake
from cleo_email.mail.compose import compose_message, new_message_id
from cleo_email.mail.model import Address, Attachment, OutboundEmail
from cleo_email.store import Identity, Record, State, Store, new_id

MAX_RECIPIENTS = 50
KEY_REMEMBERED_S = 86_400


class KeyReused(CleoError):
    """The idempotency key was used for another mail within 24 hours."""


@dataclass(frozen=True)
class SentMail:
    """A mail that is stored and will be submitted. ``id`` is its record's."""

    id: str
    message_id: str
    thread_id: str


@dataclass(frozen=True)
class Draft:
    """A mail to send. ``body`` is Markdown; ``thread_id`` continues a thread."""

    to: Sequence[Address]
    subject: str
    body: str
    cc: Sequence[Address] = ()
    attachments: Sequence[Attachment] = ()
    thread_id: str = ""

    def digest(self) -> str:
        """The same for the same mail, whatever its key."""
        parts = [
            [(a.name, a.addr) for a in self.to],
            [(a.name, a.addr) for a in self.cc],
            self.subject,
            self.body,
            self.thread_id,
            [(a.filename, a.content_type, hashlib.sha256(a.content).hexdigest()) for a in self.attachments],
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Outbound:
    def __init__(
        self, store: Store, intake: Intake, from_: Address, *, max_bytes: int, clock: Clock = now_ms
    ) -> None:
        self._store = store
        self._intake = intake
        self._from = from_
        self._max_bytes = max_bytes
        self._clock = clock

    def send(self, draft: Draft, *, idempotency_key: str = "") -> SentMail:
        """Store a mail for submission. With a key, the same call within 24 hours gives the same mail.

        Raises InvalidField, NotFound (no such thread), KeyReused, StoreUnavailable (nothing was stored).
        """
        count = len(draft.to) + len(draft.cc)
        if not draft.to:
            raise InvalidField("to", "no recipient: give at least one address")
        if count > MAX_RECIPIENTS:
            raise InvalidField("to", f"{count} recipients: at most {MAX_RECIPIENTS} are allowed in one mail")
        mail, thread, parent = self._compose(draft)
        if len(mail.source) > self._max_bytes:
            limit = f"EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes})"
            raise InvalidField("attachments", f"the mail has {len(mail.source)} bytes, more than {limit}")
        now = self._clock()
        digest = draft.digest()
        record = Record(
            id=new_id(now),
            state=State.SUBMITTING,
            thread_id=thread,
            received_at=now,
            updated_at=now,
            in_reply_to=parent,
            from_address=self._from.addr,
            to_address=draft.to[0].addr,
            subject=draft.subject[:1000],
            ingress="send",
            reply_message_id=mail.message_id,
            answer_text=draft.body,
            outbound=digest,
        )
        key = hashlib.sha256(idempotency_key.encode()).hexdigest() if idempotency_key else record.id
        identity = Identity(f"send:{key}", remember_s=KEY_REMEMBERED_S)
        people = [address.lower() for address in mail.recipients]
        accepted = self._store.messages.accept(record, b"", identity, people, answer=mail)
        if accepted.duplicate:
            return self._first(accepted.id, digest)
        self._intake.wake(thread)
        return SentMail(record.id, mail.message_id, thread)

    def _first(self, id_: str, digest: str) -> SentMail:
        first = self._store.messages.get(id_)
        if first.outbound != digest:
            raise KeyReused("this Idempotency-Key was used for another mail within the last 24 hours")
        return SentMail(first.id, first.reply_message_id, first.thread_id)

    def _compose(self, draft: Draft) -> tuple[OutboundEmail, str, str]:
        """The mail, its thread and the message that it follows ('' for a new thread)."""
        domain = self._from.addr.rpartition("@")[2]
        message_id = new_message_id(domain, token=f"cleo-{secrets.token_hex(16)}")
        parent = self._last_id(draft.thread_id) if draft.thread_id else ""
        root = [draft.thread_id] if draft.thread_id.startswith("<") else []
        mail = compose_message(
            from_=self._from,
            to=draft.to,
            cc=draft.cc,
            subject=draft.subject,
            markdown=draft.body,
            attachments=draft.attachments,
            message_id=message_id,
            date=datetime.fromtimestamp(self._clock() / 1000, UTC),
            in_reply_to=parent,
            references=list(dict.fromkeys([*root, parent])) if parent else [],
        )
        return mail, draft.thread_id or message_id, parent

    def _last_id(self, thread_id: str) -> str:
        """The newest Message-ID of the thread: ours where we answered, else the last mail's."""
        records, _ = self._store.messages.page(thread_id=thread_id, limit=1)
        if not records:
            raise NotFound(f"there is no thread {thread_id[:200]!r}; leave thread_id out to start one")
        return records[0].reply_message_id or records[0].message_id
