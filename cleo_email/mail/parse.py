"""Parse the bytes of a mail into an InboundEmail, for every channel."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Final

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.body import HTML_TYPES, BodyReader
from cleo_email.mail.decoding import clean, decode, drop_tags, without_format
from cleo_email.mail.headers import (
    decode_header,
    decode_words,
    header_text,
    parse_addresses,
    parse_date,
    parse_message_ids,
)
from cleo_email.mail.mime import split
from cleo_email.mail.model import Address, AttachedFile, Body, InboundEmail, ParseLimits, Split
from cleo_email.mail.quotes import cut_new_part

_DEFAULT_LIMITS = ParseLimits()
MAX_RECIPIENTS = 200  # looked at as authors of what a mail quotes
_ONCE = "from sender reply-to to cc message-id in-reply-to references subject date".split()
# Written by servers, never with encoded words: decoding one would let a sender forge a server's verdict.
_VERBATIM = frozenset(
    ["authentication-results", "arc-authentication-results", "received", "received-spf", "dkim-signature"]
)


def parse(source: bytes, *, limits: ParseLimits = _DEFAULT_LIMITS) -> InboundEmail:
    """Read a mail (RFC 5322, MIME) or its header block alone.

    ``text`` is the new part by the marks in the text itself; where the earlier texts of the thread are known,
    ``quotes.cut_new_part`` finds more in ``full_text``. Raise UnreadableMessage for bytes beyond a cap.
    """
    root = split(source, limits)
    body = BodyReader(root, limits)
    # Encoded words are decoded only where they may stand.
    headers = [(name, header_text(value, body.charset)) for name, value in root.headers]

    values: dict[str, list[str]] = {}
    for key, value in headers:
        values.setdefault(key, []).append(value)

    def every(name: str) -> list[str]:
        return values.get(name, [])

    def first(name: str) -> str:
        # Some programs write an empty one and then the right one.
        return next(filter(None, every(name)), "")

    def addresses(name: str) -> tuple[Address, ...]:
        return tuple(address for value in every(name) for address in parse_addresses(value))

    notes = list(_remarks(values))
    if root.doubt:
        notes.insert(0, f"the header can be read in two ways ({root.doubt}): it proves nobody")
    if root.content_type.startswith("multipart/") and not root.children:
        notes.append("multipart without parts: read as text")
    subject, to, cc = without_format(decode_words(first("subject"))), addresses("to"), addresses("cc")
    in_reply_to = parse_message_ids(" ".join(every("in-reply-to")))
    references = parse_message_ids(" ".join(every("references")))

    def read() -> Body:
        found = body.read()
        return Body(found.text, found.attachments, (*notes, *found.notes))

    @cache
    def split_text() -> Split:
        replies = bool(in_reply_to or references)
        recipients = [address.addr for address in (*to, *cc)[:MAX_RECIPIENTS]]
        return cut_new_part(read().text, subject=subject, replies=replies, recipients=recipients)

    return InboundEmail(
        message_id=next(iter(parse_message_ids(first("message-id"))), ""),
        in_reply_to=in_reply_to,
        references=references,
        from_=addresses("from"),
        sender=next(iter(addresses("sender")), None),
        reply_to=addresses("reply-to"),
        to=to,
        cc=cc,
        subject=subject,
        date=next((date for value in every("date") if (date := parse_date(value))), None),
        content_type=root.content_type,
        headers=tuple(
            (name, decode_words(value)) if "=?" in value and name not in _VERBATIM else (name, value)
            for name, value in headers
        ),
        attached_types=body.attached_types,
        remarks=(*notes, *body.notes),
        doubt=root.doubt,
        unread=body.unread,
        read=read,
        split=split_text,
    )


def parse_header(source: bytes) -> InboundEmail | None:
    """Return the header of a mail, None where it cannot be read."""
    header = re.split(rb"\r?\n\r?\n", source, maxsplit=1)[0]
    try:
        return parse(header + b"\r\n\r\n")
    except UnreadableMessage:
        return None


def _remarks(values: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """Yield a remark for a missing sender and for each repeated header that RFC 5322 allows once."""
    for name in _ONCE:
        if (count := len(values.get(name, ()))) > 1:
            yield f"{count} {name.title()} headers"
    if "from" not in values:
        yield "no From header"


_TEXTUAL: Final = frozenset(
    "application/ics application/json application/xml application/x-yaml application/yaml"
    " message/delivery-status message/disposition-notification message/feedback-report"
    " message/global-delivery-status".split()
)
_ENCLOSED: Final = frozenset({"message/rfc822", "message/global"})
_SHOWN: Final = ("from", "to", "cc", "date", "subject")


def attachment_text(attachment: AttachedFile, *, limits: ParseLimits = _DEFAULT_LIMITS) -> str | None:
    """Return the text of ``attachment``, at most ``limits.text_bytes`` of it, or None where it has none.

    text/* (calendar entries too, HTML converted), reports of mail servers, JSON and XML have a text, and
    an enclosed mail (message/rfc822) has that of its main headers and its body. Never raises.
    """
    kind = attachment.content_type.partition(";")[0].strip().lower()
    if kind in _ENCLOSED:
        return _enclosed(attachment.content, limits)
    if not kind.startswith("text/") and kind not in _TEXTUAL:
        return None
    text = clean(decode(attachment.content[: limits.text_bytes], attachment.charset).text)
    if kind not in HTML_TYPES:
        return drop_tags(text)[0]
    from cleo_email.mail.html import html_to_text  # as body.py does

    return html_to_text(text).text


def _enclosed(source: bytes, limits: ParseLimits) -> str | None:
    try:
        root = split(source, limits)
    except UnreadableMessage:
        return None
    shown = [(name, decode_header(value)) for name, value in root.headers if name in _SHOWN]
    head = "\n".join(f"{name.title()}: {value}" for name, value in shown)
    return f"{head}\n\n{BodyReader(root, limits).read().text}".strip("\n")
