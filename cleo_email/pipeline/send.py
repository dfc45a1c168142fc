"""Send a mail that is no answer, on the same durable path as answers.

A file's content is bytes or an open binary file. A path is refused: otherwise a caller that passes on a
stranger's text could mail any file of this machine.
"""

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime
from os import PathLike
from typing import BinaryIO

from cleo_email.errors import InvalidField, KeyReused, NotFound
from cleo_email.mail import model
from cleo_email.mail.address import validate_address
from cleo_email.mail.attachment import checked_filename, make_file
from cleo_email.mail.closing import NOTHING_BELOW, Closing
from cleo_email.mail.compose import compose_message
from cleo_email.mail.message_id import Signer
from cleo_email.mail.model import Address, AttachedFile, OutboundEmail
from cleo_email.mail.wire import clean_header
from cleo_email.runtime import Clock, now_ms
from cleo_email.scrub import no_surrogates
from cleo_email.store import LOGIN, QUESTION, Identity, Record, State, Store, new_id
from cleo_email.store.queue import WakeQueue


@dataclass(frozen=True, init=False)
class Attachment:
    """A file for ``send_message``. ``content`` is bytes, or a binary file object that is read at once.

    Without ``content_type`` the type is guessed from the name. Raises TypeError for a path or a text file as
    content, InvalidField for a name with path parts or line ends.
    """

    filename: str
    content: bytes = field(repr=False)
    content_type: str | None

    def __init__(self, filename: str, content: bytes | BinaryIO, content_type: str | None = None) -> None:
        if not isinstance(filename, str):
            raise TypeError(f"filename is {type(filename).__name__}, expected a string")
        if content_type is not None and not isinstance(content_type, str):
            raise TypeError(f"content_type is {type(content_type).__name__}, expected a string or None")
        object.__setattr__(self, "filename", checked_filename("filename", filename))
        object.__setattr__(self, "content", read_content(content))
        object.__setattr__(self, "content_type", content_type)

    def file(self) -> model.AttachedFile:
        return make_file(self.filename, self.content, self.content_type)


def read_content(content: object) -> bytes:
    """Return bytes, or the rest of a binary file. Raise TypeError for anything else, a path above all."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, (bytearray, memoryview)):
        return bytes(content)
    if isinstance(content, (str, PathLike)):
        raise TypeError(
            "content is a path or a text: no path is ever opened here. "
            "Give bytes, or a file opened in binary mode: open(path, 'rb')"
        )
    read = getattr(content, "read", None)
    if not callable(read):
        raise TypeError(f"content is {type(content).__name__}, expected bytes or a binary file object")
    data = read()
    if not isinstance(data, bytes):
        raise TypeError("content is a file opened in text mode: open it in binary mode, open(path, 'rb')")
    return data


MAX_RECIPIENTS = 50
MAX_KEY = 255  # characters
KEY_REMEMBERED_S = 86_400
REMEMBERED = 100_000  # characters of a mail, and of an answer, that a thread's history keeps
# How many records are searched for the last mail of a thread; some have none (ignored starts).
LOOK_BACK = 50
SENT = frozenset({State.SUBMITTING, State.REPLIED, State.UNCERTAIN})


@dataclass(frozen=True)
class SentMessage:
    """A mail that is stored and will be submitted. ``id`` is its record's; the others are in ``<…>``."""

    id: str
    message_id: str
    thread_id: str


@dataclass(frozen=True)
class NewMail:
    """A mail to send. ``body`` is Markdown; ``thread_id`` continues a thread."""

    to: Sequence[Address]
    subject: str
    body: str
    cc: Sequence[Address] = ()
    attachments: Sequence[AttachedFile] = ()
    thread_id: str = ""

    def digest(self) -> str:
        """Return a hash of the mail without its idempotency key."""
        people = [[(a.name, a.addr) for a in addresses] for addresses in (self.to, self.cc)]
        parts = [*people, self.subject, self.body, self.thread_id, digests(self.attachments)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def digests(files: Sequence[AttachedFile]) -> list[tuple[str, str, str]]:
    return [(a.filename, a.content_type, hashlib.sha256(a.content).hexdigest()) for a in files]


def read_addresses(field: str, value: str | Sequence[str]) -> tuple[Address, ...]:
    """Return one address or several, each ``a@b`` or ``Name <a@b>``. Raise InvalidField."""
    texts = [value] if isinstance(value, str) else list(value)
    if len(texts) > MAX_RECIPIENTS:
        raise _too_many(field, len(texts))
    return tuple(validate_address(field, text) for text in texts)


def key_digest(idempotency_key: str) -> str:
    """Return the hash of a key that is stored. Raise InvalidField for a key that is too long."""
    if len(idempotency_key) > MAX_KEY:
        raise InvalidField("Idempotency-Key", f"longer than {MAX_KEY} characters: use a UUID, for example")
    return hashlib.sha256(idempotency_key.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass
class Sender:
    """Stores mail for submission, at most ``max_bytes`` each."""

    store: Store
    wake: WakeQueue
    signer: Signer
    from_: Address
    _: KW_ONLY
    max_bytes: int
    closing: Closing = NOTHING_BELOW
    clock: Clock = now_ms

    def send(self, draft: NewMail, *, idempotency_key: str = "", ingress: str = "send") -> SentMessage:
        """Store a mail for submission. With a key, the same call within 24 hours gives the same mail.

        The text of one with the ingress LOGIN stands in its bytes alone: whoever reads it is logged in.

        Raise InvalidField, NotFound (no such thread), KeyReused, StoreUnavailable (nothing was stored).
        """
        if not draft.to:
            raise InvalidField("to", "to: no recipient; give at least one address")
        if (count := len(draft.to) + len(draft.cc)) > MAX_RECIPIENTS:
            raise _too_many("to", count)
        draft = replace(draft, subject=clean_header(draft.subject), body=no_surrogates(draft.body))
        digest = draft.digest()
        draft = replace(draft, body=self.closing.without(draft.body))
        key = key_digest(idempotency_key) if idempotency_key else secrets.token_hex(16)
        mail, parent = self.compose(draft)
        thread = draft.thread_id or mail.message_id
        now = self.clock()
        record = Record(
            id=new_id(now),
            state=State.SUBMITTING,
            thread_id=thread,
            received_at=now,
            updated_at=now,
            in_reply_to=parent,
            from_address=self.from_.addr,
            to_address=draft.to[0].addr,
            subject=draft.subject[:1000],
            ingress=ingress,
            reply_message_id=mail.message_id,
            answer_text="" if ingress == LOGIN else draft.body[:REMEMBERED],
            outbound=digest,
        )
        identity = Identity(f"send:{key}", remember_s=KEY_REMEMBERED_S)
        people = [address.lower() for address in mail.recipients]
        accepted = self.store.messages.accept(record, b"", identity, people, answer=mail)
        if accepted.duplicate:
            first = self.store.messages.get(accepted.id)
            if first.outbound != digest:
                raise KeyReused("this Idempotency-Key was used for another mail within the last 24 hours")
            return SentMessage(first.id, first.reply_message_id, first.thread_id)
        self.wake.wake(thread)
        return SentMessage(record.id, mail.message_id, thread)

    def compose(
        self, draft: NewMail, *, message_id: str = "", language: str = "", notice: bool = False
    ) -> tuple[OutboundEmail, str]:
        """Return the mail, and the message that it follows ('' for a new thread).

        Its signature, and with ``notice`` the line that a machine wrote it, are in ``language`` or its own.

        Raise NotFound (no such thread), InvalidField (of ``body`` or ``attachments`` for too large a mail).
        """
        parent = self._last_id(draft.thread_id) if draft.thread_id else ""
        root = draft.thread_id if draft.thread_id.startswith("<") else ""
        mail = compose_message(
            from_=self.from_,
            to=draft.to,
            cc=draft.cc,
            subject=draft.subject,
            markdown=draft.body,
            notice=self.closing.notice(language, draft.body) if notice else "",
            signature=self.closing.signature(language, draft.body),
            attachments=draft.attachments,
            message_id=message_id or self.signer.new(draft.to, draft.thread_id),
            date=datetime.fromtimestamp(self.clock() / 1000, UTC),
            in_reply_to=parent,
            references=[id_ for id_ in dict.fromkeys([root, parent]) if id_],
        )
        if len(mail.source) > self.max_bytes:
            limit = f"EMAIL_MAX_MESSAGE_BYTES ({self.max_bytes})"
            files = sum(len(file.content) for file in draft.attachments)
            field = "attachments" if files > len(draft.body) else "body"  # the larger of the two
            raise InvalidField(field, f"the mail has {len(mail.source)} bytes, more than {limit}")
        return mail, parent

    def _last_id(self, thread_id: str) -> str:
        """Return the newest mail of the thread, ours or theirs, '' if it has none yet."""
        records, _ = self.store.messages.page(thread_id=no_surrogates(thread_id), limit=LOOK_BACK)
        if not records:
            raise NotFound(f"there is no thread {thread_id[:200]!r}; leave thread_id out to start one")
        for record in records:
            if record.ingress in ("handoff", QUESTION):
                continue  # it went to our own people, or waits for its own answer
            if record.reply_message_id and (record.bounced or record.state in SENT):
                return record.reply_message_id
            if record.message_id:
                return record.message_id
        return ""


def _too_many(field: str, count: int) -> InvalidField:
    return InvalidField(field, f"{field}: {count} recipients, at most {MAX_RECIPIENTS} may get one mail")
