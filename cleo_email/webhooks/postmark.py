"""Postmark's inbound stream: JSON, with the raw mail in ``RawEmail`` if the stream is set to include it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from cleo_email.mail.model import AttachedFile
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.webhooks.base import (
    HOUR_S,
    BasicProvider,
    Extracted,
    JsonObject,
    Unusable,
    WebhookRequest,
    as_bytes,
    bare_path,
    base64_content,
    return_path,
)
from cleo_email.webhooks.rebuild import file_part, mailbox, mailboxes, rebuild, with_missing

_ENVELOPE_FROM = re.compile(r"envelope-from=\"?<?([^\s;>\"]*)", re.ASCII)


class Postmark(BasicProvider):
    name: ClassVar[str] = "postmark"
    setting: ClassVar[str] = "EMAIL_POSTMARK_AUTH"
    gives_up_with: ClassVar[int] = 403  # and it repeats after a 401, so that a wrong password loses no mail
    remember_s: ClassVar[int] = 12 * HOUR_S  # it repeats for 10.5 hours

    def event(self, request: WebhookRequest) -> str:
        # Two mails of one id are two: the password proves both, and a retry brings the same bytes.
        return f"{request.json.text('MessageID')}:{request.digest}"

    def extract(self, request: WebhookRequest) -> Extracted:
        data = request.json
        kind = data.text("RecordType") or "Inbound"
        if kind != "Inbound":
            return Extracted(note=f"Postmark tells of a {kind[:40]}, not of a mail that came in")
        raw = data.text("RawEmail")
        headers = [(item.text("Name"), item.text("Value")) for item in data.objects("Headers")]
        if not raw and not data.object("FromFull") and not headers:
            raise Unusable("Postmark's request has neither RawEmail nor FromFull: it holds no mail")
        spf = [value for name, value in headers if name.lower() == "received-spf"]
        arrival = IncomingMail(
            as_bytes(raw) if raw else _rebuilt(data, headers),
            self.name,
            envelope_from=_envelope_from(headers, spf),
            envelope_to=bare_path(data.text("OriginalRecipient")),
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
    return bare_path(found.group(1)) if found and found.group(1) else None


def _rebuilt(data: JsonObject, headers: list[tuple[str, str]]) -> bytes:
    fields = [
        ("From", mailbox(data.object("FromFull"), "Email")),
        ("To", mailboxes(data.objects("ToFull"), "Email")),
        ("Cc", mailboxes(data.objects("CcFull"), "Email")),
        ("Subject", data.text("Subject")),
        ("Date", data.text("Date")),
        ("Reply-To", data.text("ReplyTo")),
    ]
    return rebuild(
        with_missing(headers, fields),
        text=data.text("TextBody"),
        html=data.text("HtmlBody"),
        files=list(_files(data)),
    )


def _files(data: JsonObject) -> Iterator[AttachedFile]:
    for item in data.objects("Attachments"):
        content = base64_content(item.text("Content"), "an attachment of Postmark's request")
        kind, content_id = item.text("ContentType"), item.text("ContentID")
        yield file_part(item.text("Name"), kind, content, content_id)
