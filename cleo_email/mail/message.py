"""Bytes to an InboundEmail: the one way in which every mail is read.

Nothing a sender writes can raise anything but UnreadableMessage here, take longer than 2 seconds or more than
300 MB. Where a mail breaks a rule it is read as it was probably meant, and the notes say so.
"""

from __future__ import annotations

from collections.abc import Iterable

from cleo_email.mail.addresses import parse_addresses
from cleo_email.mail.dates import parse_date
from cleo_email.mail.identifiers import parse_message_ids
from cleo_email.mail.limits import Limits
from cleo_email.mail.mime import Part, RawHeaders, split
from cleo_email.mail.model import Address, InboundEmail
from cleo_email.mail.new_part import cut_new_part
from cleo_email.mail.parts import read_content
from cleo_email.mail.text_of import attachment_text
from cleo_email.mail.words import decode_words, header_text

__all__ = ["Limits", "attachment_text", "parse"]

_DEFAULT_LIMITS = Limits()
_MAX_RECIPIENTS = 200  # looked at as authors of what a mail quotes
_ONCE = (
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "message-id",
    "in-reply-to",
    "references",
    "subject",
    "date",
)


def parse(source: bytes, *, limits: Limits = _DEFAULT_LIMITS) -> InboundEmail:
    """Read a mail (RFC 5322, MIME) or its header block alone.

    ``text`` is the new part by the marks in the text itself; whoever knows the earlier texts of the thread
    can call new_part.cut_new_part on ``full_text`` again. Raises UnreadableMessage for bytes beyond a cap.
    """
    root = split(source, limits)
    headers = _Headers(root.headers)
    content = read_content(root, limits)
    subject = decode_words(headers.first("subject"))
    in_reply_to, references = headers.identifiers("in-reply-to"), headers.identifiers("references")
    to, cc = headers.addresses("to"), headers.addresses("cc")
    cut = cut_new_part(
        content.text,
        subject=subject,
        replies=bool(in_reply_to or references),
        recipients=[address.addr for address in (*to, *cc)[:_MAX_RECIPIENTS]],
    )
    sender = headers.addresses("sender")
    return InboundEmail(
        message_id=next(iter(parse_message_ids(headers.first("message-id"))), ""),
        in_reply_to=in_reply_to,
        references=references,
        from_=headers.addresses("from"),
        sender=sender[0] if sender else None,
        reply_to=headers.addresses("reply-to"),
        to=to,
        cc=cc,
        subject=subject,
        date=next((date for value in headers.all("date") if (date := parse_date(value))), None),
        text=cut.text,
        full_text=content.text,
        quoted=cut.quoted,
        content_type=root.content_type,
        headers=headers.decoded(),
        attachments=tuple(content.attachments),
        notes=(*headers.remarks(), *_structure_remarks(root), *content.notes),
    )


# Written by servers, never with encoded words: decoding one would let a sender forge a server's verdict.
_VERBATIM = frozenset(
    ["authentication-results", "arc-authentication-results", "received", "received-spf", "dkim-signature"]
)


class _Headers:
    """The top-level headers, unfolded; encoded words are decoded only where they may stand."""

    def __init__(self, raw: RawHeaders) -> None:
        self._items = tuple((name, header_text(value)) for name, value in raw)

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(value for key, value in self._items if key == name)

    def first(self, name: str) -> str:
        """The first that is not empty: some programs write an empty one and then the right one."""
        return next((value for value in self.all(name) if value), "")

    def addresses(self, name: str) -> tuple[Address, ...]:
        """The mailboxes of every header of that name, in order."""
        return tuple(address for value in self.all(name) for address in parse_addresses(value))

    def identifiers(self, name: str) -> tuple[str, ...]:
        return parse_message_ids(" ".join(self.all(name)))

    def decoded(self) -> tuple[tuple[str, str], ...]:
        return tuple(
            (name, value if name in _VERBATIM else decode_words(value)) for name, value in self._items
        )

    def remarks(self) -> Iterable[str]:
        """Name what RFC 5322 section 3.6 wants once and is there more often, and a missing sender."""
        names = [name for name, _ in self._items]
        for name in _ONCE:
            if (count := names.count(name)) > 1:
                yield f"{count} {name.title()} headers"
        if "from" not in names:
            yield "no From header"


def _structure_remarks(root: Part) -> Iterable[str]:
    if root.content_type.startswith("multipart/") and not root.children:
        yield "multipart without parts: read as text"
