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
    Extracted,
    JsonObject,
    Unusable,
    WebhookRequest,
    bare_path,
    return_path,
)
from cleo_email.webhooks.fetch import Fetch
from cleo_email.webhooks.rebuild import file_part, header_pairs, mailbox, mailboxes, rebuild, with_missing

FILES_S = 20.0  # of one request; gunicorn ends one that takes a minute
FILES = "https://api.brevo.com/v3/inbound/attachments/"
_MOST_FILES = 20
_TOKEN = re.compile(r"[A-Za-z0-9._~=-]{1,2000}", re.ASCII)


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

    def extract(self, request: WebhookRequest) -> Extracted:
        items = request.json.objects("items")
        if not items:
            return Extracted(note="Brevo's request has no items: it tells of no mail that came in")
        deadline = Deadline(FILES_S)
        return Extracted(tuple(self._arrival(item, deadline) for item in items))

    def _arrival(self, item: JsonObject, deadline: Deadline) -> IncomingMail:
        headers = _headers(item)
        files, hold = self._files(item, deadline)
        recipients = [one.text("Address") for one in item.objects("Recipients")]
        to = [*recipients, *(value for name, value in headers if name.lower() == "delivered-to"), ""]
        return IncomingMail(
            rebuild(
                headers,
                text=item.text("RawTextBody"),
                html=item.text("RawHtmlBody"),
                files=files,
            ),
            self.name,
            envelope_from=return_path(headers),
            envelope_to=bare_path(to[0]),
            hold=hold,
            same_for_s=HOUR_S,
        )

    def _files(self, item: JsonObject, deadline: Deadline) -> tuple[list[AttachedFile], str]:
        """The files of a mail, and why they are not all there: then a person is to look at it."""
        wanted = item.objects("Attachments")
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
        files = []
        for one in wanted:
            try:
                deadline.left()
                files.append(self._file(one))
            except (TimeoutError, Unusable) as fault:
                return files, f"Not all of its {len(wanted)} files could be fetched: {fault}."
        return files, ""

    def _file(self, one: JsonObject) -> AttachedFile:
        token = one.text("DownloadToken")
        content = self._fetch(FILES + token, headers={"api-key": self._api_key}, max_bytes=self._max_bytes)
        kind, content_id = one.text("ContentType"), one.text("ContentID")
        return file_part(one.text("Name"), kind, content, content_id)


def _headers(item: JsonObject) -> list[tuple[str, str]]:
    fields = [
        ("From", mailbox(item.object("From"), "Address")),
        ("To", mailboxes(item.objects("To"), "Address")),
        ("Cc", mailboxes(item.objects("Cc"), "Address")),
        ("Reply-To", mailbox(item.object("ReplyTo"), "Address")),
        ("Subject", item.text("Subject")),
        ("Message-ID", item.text("MessageId")),
        ("In-Reply-To", item.text("InReplyTo")),
        ("Date", item.text("SentAtDate")),
    ]
    return with_missing(header_pairs(item.object("Headers")), fields)
