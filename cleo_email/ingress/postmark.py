"""Postmark's inbound stream: JSON, with the raw mail in ``RawEmail`` if the stream is set to include it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, ClassVar

from cleo_email.ingress.base import (
    Extracted,
    Posted,
    Unusable,
    as_bytes,
    list_of,
    object_of,
    return_path,
    text_of,
)
from cleo_email.ingress.basic import BasicIngress
from cleo_email.ingress.rebuilding import rebuild
from cleo_email.intake import Arrival
from cleo_email.mail.base64_text import decode_base64
from cleo_email.mail.envelope import quoted_mailbox
from cleo_email.mail.model import Attachment

HOUR_S = 3600
_ENVELOPE_FROM = re.compile(r"envelope-from=\"?<?([^\s;>\"]*)", re.ASCII)


class Postmark(BasicIngress):
    name: ClassVar[str] = "postmark"
    setting: ClassVar[str] = "EMAIL_POSTMARK_AUTH"
    gives_up_with: ClassVar[int] = 403  # and it repeats after a 401, so that a wrong password loses no mail
    remember_s: ClassVar[int] = 12 * HOUR_S  # it repeats for 10.5 hours

    def event(self, posted: Posted) -> str:
        # Two mails of one id are two: the password proves both, and a retry brings the same bytes.
        return f"{text_of(posted.json.get('MessageID'))}:{hashlib.sha256(posted.body).hexdigest()}"

    def extract(self, posted: Posted) -> Extracted:
        data = posted.json
        kind = text_of(data.get("RecordType")) or "Inbound"
        if kind != "Inbound":
            return Extracted(note=f"Postmark tells of a {kind[:40]}, not of a mail that came in")
        raw = text_of(data.get("RawEmail"))
        headers = list(_pairs(data.get("Headers")))
        if not raw and not object_of(data.get("FromFull")) and not headers:
            raise Unusable("Postmark's request has neither RawEmail nor FromFull: it holds no mail")
        spf = [value for name, value in headers if name.lower() == "received-spf"]
        arrival = Arrival(
            as_bytes(raw) if raw else _rebuilt(data, headers),
            self.name,
            envelope_from=_envelope_from(headers, spf),
            envelope_to=text_of(data.get("OriginalRecipient"))[:320],
            authenticated=_judged(spf),
            same_for_s=HOUR_S,
        )
        return Extracted((arrival,))


def _judged(spf: list[str]) -> bool | None:
    """Postmark's verdict stands in a header of the mail: it counts against it, never for it."""
    return False if len(spf) == 1 and spf[0].strip().lower().startswith("fail") else None


def _envelope_from(headers: list[tuple[str, str]], spf: list[str]) -> str | None:
    """The envelope sender, which Postmark tells in headers that it adds; RawEmail does not have them."""
    path = return_path(headers)
    if path is not None:
        return path
    found = _ENVELOPE_FROM.search(spf[0]) if len(spf) == 1 else None
    return found.group(1)[:320] if found and found.group(1) else None


def _rebuilt(data: dict[str, Any], headers: list[tuple[str, str]]) -> bytes:
    """Postmark takes these headers out of ``Headers`` into fields of their own."""
    there = {name.lower() for name, _ in headers}
    taken_out = [
        ("From", _address(data.get("FromFull"))),
        ("To", ", ".join(_address(item) for item in list_of(data.get("ToFull")))),
        ("Cc", ", ".join(_address(item) for item in list_of(data.get("CcFull")))),
        ("Subject", text_of(data.get("Subject"))),
        ("Date", text_of(data.get("Date"))),
        ("Reply-To", text_of(data.get("ReplyTo"))),
    ]
    added = [(name, value) for name, value in taken_out if value and name.lower() not in there]
    return rebuild(
        [*headers, *added],
        text=text_of(data.get("TextBody")),
        html=text_of(data.get("HtmlBody")),
        files=list(_files(data.get("Attachments"))),
    )


def _pairs(value: object) -> Iterator[tuple[str, str]]:
    for item in map(object_of, list_of(value)):
        yield text_of(item.get("Name")), text_of(item.get("Value"))


def _address(value: object) -> str:
    item = object_of(value)
    return quoted_mailbox(text_of(item.get("Name")), text_of(item.get("Email")))


def _files(value: object) -> Iterator[Attachment]:
    for item in map(object_of, list_of(value)):
        content_id = text_of(item.get("ContentID")).strip("<>")
        yield Attachment(
            text_of(item.get("Name")),
            text_of(item.get("ContentType")),
            _content(text_of(item.get("Content"))),
            content_id=content_id,
            inline=bool(content_id),
        )


def _content(text: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError:
        raise Unusable("an attachment of Postmark's request is no base64") from None
