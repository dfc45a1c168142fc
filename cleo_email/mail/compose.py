"""Compose outgoing mail as finished bytes, so that a retry sends exactly the same mail."""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from cleo_email.errors import InvalidField
from cleo_email.mail import wire
from cleo_email.mail.address import ascii_address
from cleo_email.mail.attachment import attachment_part
from cleo_email.mail.decoding import decode_base64_strict
from cleo_email.mail.model import Address, Answer, AttachedFile, InboundEmail, OutboundEmail
from cleo_email.mail.thread import normalise_subject

MAX_SUBJECT = 2000  # characters
_KEPT_REFERENCES = 21  # the first, which names the thread, and the last 20
_MESSAGE_ID = re.compile(r"<[\x21-\x3b\x3d\x3f-\x7e]{1,990}>\Z")  # fits on a line, has no blank
_FIELD_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,70}\Z")  # RFC 5322 section 3.6.8
_OURS = frozenset(
    "date from to cc bcc sender subject message-id in-reply-to references auto-submitted mime-version"
    " content-type content-transfer-encoding".split()
)


def compose_reply(
    inbound: InboundEmail,
    answer: Answer,
    *,
    from_: Address,
    to: Sequence[Address],
    cc: Sequence[Address] = (),
    message_id: str,
    date: datetime,
    notice: str = "",
    signature: str = "",
) -> OutboundEmail:
    """Return the one answer to ``inbound``, threaded by RFC 5322 section 3.6.4, marked by RFC 3834 section 5.

    ``date`` is aware. Raise InvalidField for an address that cannot be used: ``from``, ``to`` or ``cc``.
    """
    return compose_message(
        from_=from_,
        to=to,
        cc=cc,
        subject=f"Re: {normalise_subject(wire.clean_header(inbound.subject))}"[:MAX_SUBJECT],
        markdown=answer.text,
        attachments=answer.attachments,
        message_id=message_id,
        date=date,
        in_reply_to=_usable_id(inbound.message_id),
        references=_reply_references(inbound),
        notice=notice,
        signature=signature,
        auto_submitted="auto-replied",
        extra_headers=_outlook_headers(inbound, date, message_id),
    )


def compose_message(
    *,
    from_: Address,
    to: Sequence[Address],
    cc: Sequence[Address] = (),
    subject: str,
    markdown: str,
    notice: str = "",
    signature: str = "",
    attachments: Sequence[AttachedFile] = (),
    message_id: str,
    date: datetime,
    in_reply_to: str = "",
    references: Sequence[str] = (),
    auto_submitted: str = "auto-generated",
    extra_headers: Sequence[tuple[str, str]] = (),
    reply_to: Sequence[Address] = (),
    content: bytes = b"",
) -> OutboundEmail:
    """Return a mail with ``markdown`` as text/plain and text/html, or with a finished MIME part, ``content``.

    ``notice`` and ``signature``, Markdown too, stand below it, the signature after a line ``-- `` (RFC 3676
    section 4.3).
    ``message_id``, ``in_reply_to`` and ``references`` have angle brackets; ids that no header can carry are
    left out, and more than 21 references become the first and the last 20. An empty ``auto_submitted`` leaves
    that header out. The recipients of the envelope are ``to`` and ``cc``, each once.

    Raise InvalidField: an address that cannot be used, no recipient, a subject longer than 2,000 characters,
    a Message-ID without ``<…@…>``, a header name that is none or is set here. ValueError: naive ``date``.
    """
    sender = ascii_address("from", from_)
    to_ascii = [ascii_address("to", address) for address in to]
    cc_ascii = [ascii_address("cc", address) for address in cc]
    recipients: dict[str, str] = {}
    for address in to_ascii + cc_ascii:
        recipients.setdefault(address.key, address.addr)
    if not recipients:
        raise InvalidField("to", "to: at least one recipient is needed")
    subject = wire.clean_header(subject)
    if len(subject) > MAX_SUBJECT:
        raise InvalidField("subject", f"subject: longer than {MAX_SUBJECT} characters")
    if _usable_id(message_id) != message_id or "@" not in message_id:
        raise InvalidField("message_id", "message_id: expected <token@domain>")

    quoted = {"In-Reply-To": trimmed_references([in_reply_to]), "References": trimmed_references(references)}
    # Exchange sends no absence note in answer to a mail that has the second field (MS-OXCMAIL).
    marks = {"Auto-Submitted": auto_submitted, "X-Auto-Response-Suppress": "OOF, AutoReply"}
    head = [
        wire.field("Date", [date_of(date)]),
        wire.address_field("From", [sender]),
        wire.address_field("To", to_ascii),
        wire.address_field("Cc", cc_ascii),
        wire.address_field("Reply-To", [ascii_address("reply-to", address) for address in reply_to]),
        wire.text_field("Subject", subject),
        wire.field("Message-ID", [message_id]),
        *(wire.field(name, ids) for name, ids in quoted.items() if ids),
        *(wire.text_field(name, value) for name, value in marks.items() if auto_submitted),
        *_extra_fields(extra_headers),
        wire.field("MIME-Version", ["1.0"]),
    ]
    content = content or _content([markdown, notice, signature], attachments, message_id)
    source = "".join(head).encode("ascii") + content
    return OutboundEmail(message_id, sender.addr, tuple(recipients.values()), source)


def trimmed_references(references: Iterable[str]) -> list[str]:
    """Return the usable ids, each once; the first and the last 20 of them if there are more than 21."""
    ids = list(dict.fromkeys(filter(None, map(_usable_id, references))))
    return ids if len(ids) <= _KEPT_REFERENCES else [ids[0], *ids[1 - _KEPT_REFERENCES :]]


def _reply_references(inbound: InboundEmail) -> list[str]:
    """Return its references, or where there are none its only In-Reply-To, and its own id at the end."""
    parent = _usable_id(inbound.message_id)
    before: Sequence[str] = inbound.references
    if not before and len(inbound.in_reply_to) == 1:
        before = inbound.in_reply_to
    # Some programs list a message among its own references. The first id names the thread: it stays.
    ids = [id_ for number, id_ in enumerate(before) if number == 0 or id_ != parent]
    return [*ids, parent] if parent else ids


def _usable_id(message_id: str) -> str:
    message_id = message_id.strip(" \t\r\n")
    return message_id if _MESSAGE_ID.match(message_id) else ""


def _extra_fields(headers: Sequence[tuple[str, str]]) -> list[str]:
    for name, _ in headers:
        if not _FIELD_NAME.match(name) or name.lower() in _OURS:
            raise InvalidField("extra_headers", f"extra_headers: {name[:80]!a} cannot be set")
    # Base64 has no blank to fold at and must stay in one piece.
    return [
        wire.field(name, [value]) if name == "Thread-Index" else wire.text_field(name, value)
        for name, value in headers
    ]


def date_of(date: datetime) -> str:
    offset = date.utcoffset()
    if offset is None:
        raise ValueError("date must have a time zone")
    # RFC 5322 section 3.3 has no seconds in a zone.
    return format_datetime(date if not offset.total_seconds() % 60 else date.astimezone(UTC))


def _content(parts: Sequence[str], attachments: Sequence[AttachedFile], message_id: str) -> bytes:
    content = alternative(parts, message_id)
    if attachments:
        files = [attachment_part(file, number) for number, file in enumerate(attachments, 1)]
        content = wire.multipart("mixed", _boundary("m", message_id), [content, *files])
    return content


def alternative(parts: Sequence[str], message_id: str) -> bytes:
    """Return Markdown, notice and signature as a whole part, of text/plain and text/html."""
    from cleo_email.mail.markdown import to_html  # large, and whoever only takes mail in does without it

    markdown, notice, signature = (wire.clean_text(part).rstrip("\n") for part in parts)
    closing = f"-- \n{signature}" if signature else ""
    text = "\n\n".join(filter(None, (markdown, notice, closing))) + "\n"
    page = to_html(markdown, *filter(None, (notice, closing.replace("-- ", "--&nbsp;", 1))))
    halves = [wire.text_part("plain", text), wire.text_part("html", page)]
    return wire.multipart("alternative", _boundary("a", message_id), halves)


def _boundary(kind: str, message_id: str) -> str:
    return f"=_{kind}_{hashlib.sha256(message_id.encode('ascii')).hexdigest()[:32]}"


# --- Outlook's threading (MS-OXOMSG section 2.2.1.3) ------------------------------------------------------

_INDEX_HEADER = 22  # bytes: 0x01, five of time, a GUID
_INDEX_LEVEL = 5  # bytes for each response
_LONGEST_INDEX = 22 + 5 * 110  # keeps the field on one line of less than 998 characters
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_HIGH_BITS_OF_1_7_YEARS = 0x00FE_0000_0000_0000


def _outlook_headers(inbound: InboundEmail, date: datetime, message_id: str) -> list[tuple[str, str]]:
    headers = []
    if topic := wire.clean_header(inbound.header("thread-topic")):
        headers.append(("Thread-Topic", topic[:MAX_SUBJECT]))
    nibble = hashlib.sha256(message_id.encode("utf-8", "replace")).digest()[0] >> 4
    if index := child_index(inbound.header("thread-index"), date, nibble):
        headers.append(("Thread-Index", index))
    return headers


def child_index(thread_index: str, date: datetime, nibble: int = 0) -> str:
    """Return ``thread_index`` (base64) with one response level more, or "" where it is not valid.

    ``date`` is aware; ``nibble`` (0 to 15) keeps two answers of the same moment apart.
    """
    try:
        index = decode_base64_strict(thread_index)
    except ValueError:
        return ""
    levels, rest = divmod(len(index) - _INDEX_HEADER, _INDEX_LEVEL)
    if levels < 0 or rest or len(index) > _LONGEST_INDEX or index[0] != 1:
        return ""
    now = (date - _EPOCH) // timedelta(microseconds=1) * 10
    elapsed = max(now - _started(index), 0)
    if elapsed & _HIGH_BITS_OF_1_7_YEARS:
        delta = 1 << 31 | (elapsed >> 23) & 0x7FFF_FFFF
    else:
        delta = (elapsed >> 18) & 0x7FFF_FFFF
    level = delta.to_bytes(4, "big") + bytes([(nibble & 0xF) << 4])
    return base64.b64encode(index + level).decode("ascii")


def _started(index: bytes) -> int:
    """Return the FILETIME of the header.

    Outlook writes the upper six bytes of it; Exchange, as specified, a byte 0x01 and the upper five. In the
    second form the next byte is 0x01 too, which in the first was the year 1829.
    """
    if index[1] == 1:
        return int.from_bytes(index[1:6], "big") << 24
    return int.from_bytes(index[0:6], "big") << 16
