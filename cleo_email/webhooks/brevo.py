"""Brevo's inbound parsing: JSON with one or more mails taken apart, files to be fetched by a token.

There is no raw mail. Without EMAIL_BREVO_API_KEY a mail with files is held for a person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from cleo_email.mail.model import AttachedFile
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.runtime import Deadline
from cleo_email.webhooks.base import (
    HOUR_S,
    BasicProvider,
    JsonObject,
    NoMail,
    Unusable,
    WebhookRequest,
    bare_path,
    return_path,
)
from cleo_email.webhooks.fetch import Fetch
from cleo_email.webhooks.rebuild import file_part, header_pairs, mailboxes, rebuild

FILES_S = 20.0  # of one request; gunicorn ends one that takes a minute
FILES = "https://api.brevo.com/v3/inbound/attachments/"
_MOST_FILES = 20
_TOKEN = re.compile(r"[A-Za-z0-9._~=-]{1,2000}")


class Brevo(BasicProvider):
    """``secrets`` are ``user:password`` (in the URL that Brevo is given) or bearer tokens."""

    name: ClassVar[str] = "brevo"
    setting: ClassVar[str] = "EMAIL_BREVO_AUTH"
    remember_s: ClassVar[int] = 3 * 24 * HOUR_S

    def __init__(self, secrets: Sequence[str], api_key: str, fetch: Fetch, *, max_bytes: int) -> None:
        super().__init__(secrets)
        self._api_key = api_key
        self._fetch = fetch
        self._max_bytes = max_bytes

    def credentials(self, authorization: str) -> bytes | None:
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() == "bearer":
            return token.strip().encode("utf-8", "replace")
        return super().credentials(authorization)

    def event(self, request: WebhookRequest) -> str:
        return request.digest

    def extract(self, request: WebhookRequest) -> Sequence[IncomingMail]:
        items = request.json.objects("items")
        if not items:
            raise NoMail("Brevo's request has no items: it is about no mail that came in")
        deadline = Deadline(FILES_S)
        return [self._arrival(item, deadline) for item in items]

    def _arrival(self, item: JsonObject, deadline: Deadline) -> IncomingMail:
        headers = header_pairs(item.object("Headers"))
        missing = {
            "From": mailboxes([item.object("From")], "Address"),
            "To": mailboxes(item.objects("To"), "Address"),
            "Cc": mailboxes(item.objects("Cc"), "Address"),
            "Reply-To": mailboxes([item.object("ReplyTo")], "Address"),
            "Subject": item.text("Subject"),
            "Message-ID": item.text("MessageId"),
            "In-Reply-To": item.text("InReplyTo"),
            "Date": item.text("SentAtDate"),
        }
        text, html = item.text("RawTextBody"), item.text("RawHtmlBody")
        files, hold = self._files(item.objects("Attachments"), deadline)
        to = [one.text("Address") for one in item.objects("Recipients")]
        to += [value for name, value in headers if name.lower() == "delivered-to"]
        return IncomingMail(
            rebuild(headers, missing, text=text, html=html, files=files),
            self.name,
            envelope_from=return_path(headers),
            envelope_to=bare_path(to[0]) if to else "",
            hold=hold,
            same_for_s=HOUR_S,
        )

    def _files(self, wanted: Sequence[JsonObject], deadline: Deadline) -> tuple[list[AttachedFile], str]:
        """Return the files of a mail, and why they are not complete: then a person is to look at the mail."""
        if not wanted:
            return [], ""
        missing = f"Its {len(wanted)} files were not fetched"
        sizes = [one.get("ContentLength") for one in wanted]
        total = sum(size for size in sizes if isinstance(size, int) and size > 0)
        if not self._api_key:
            return [], f"{missing}: set EMAIL_BREVO_API_KEY."
        if total > self._max_bytes or len(wanted) > _MOST_FILES:
            limit = f"EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes})"
            return [], f"{missing}: more than {limit} or {_MOST_FILES} files."
        if not all(_TOKEN.fullmatch(one.text("DownloadToken")) for one in wanted):
            return [], f"{missing}: Brevo names no token for them."
        files: list[AttachedFile] = []
        for one in wanted:
            url, key = FILES + one.text("DownloadToken"), {"api-key": self._api_key}
            try:
                deadline.left()
                content = self._fetch(url, headers=key, max_bytes=self._max_bytes)
            except (TimeoutError, Unusable) as fault:
                return files, f"Not all of its {len(wanted)} files could be fetched: {fault}."
            name, kind = one.text("Name"), one.text("ContentType")
            files.append(file_part(name, kind, content, one.text("ContentID")))
        return files, ""
