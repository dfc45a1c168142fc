"""Brevo's inbound parsing: JSON with the fields of one or more mails; their files are fetched by a token.

There is no raw mail. Without EMAIL_BREVO_API_KEY a mail with files is held for a person.
"""

import re
from collections.abc import Sequence

from cleo_email.mail.model import AttachedFile
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.runtime import Deadline
from cleo_email.scrub import JsonObject
from cleo_email.webhooks import base
from cleo_email.webhooks.base import HOUR_S, NoMail, Unusable, WebhookRequest, return_path
from cleo_email.webhooks.rebuild import file_part, header_pairs, mailboxes, rebuild

FILES_S = 20.0  # of one request; gunicorn ends one that takes a minute
FILES = "https://api.brevo.com/v3/inbound/attachments/"
_MOST_FILES = 20
_TOKEN = re.compile(r"[A-Za-z0-9._~=-]{1,2000}")


class Brevo(base.BasicProvider):
    """``secrets`` are ``user:password`` (in the URL that Brevo is given) or bearer tokens."""

    name = "brevo"
    setting = "EMAIL_BREVO_AUTH"
    remember_s = 3 * 24 * HOUR_S
    same_for_s = HOUR_S

    def credentials(self, scheme: str, written: str) -> bytes | None:
        return (
            written.encode("utf-8", "replace") if scheme == "bearer" else super().credentials(scheme, written)
        )

    def extract(self, request: WebhookRequest) -> base.Mails:
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
        source = rebuild(headers, missing, text=text, html=html, files=files)
        return self.mail(source, return_path(headers), to[0] if to else "", hold=hold)

    def _files(self, wanted: Sequence[JsonObject], deadline: Deadline) -> tuple[list[AttachedFile], str]:
        """Return the files of a mail, and why some are missing, in which case the mail is held."""
        files: list[AttachedFile] = []
        missing = f"Its {len(wanted)} files were not fetched"
        sizes = [one.get("ContentLength") for one in wanted]
        total = sum(size for size in sizes if isinstance(size, int) and size > 0)
        if wanted and not self._api_key:
            return files, f"{missing}: set EMAIL_BREVO_API_KEY."
        if total > self._max_bytes or len(wanted) > _MOST_FILES:
            limit = f"EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes})"
            return files, f"{missing}: more than {limit} or {_MOST_FILES} files."
        if not all(_TOKEN.fullmatch(one.text("DownloadToken")) for one in wanted):
            return files, f"{missing}: Brevo names no token for them."
        for one in wanted:
            url, key = FILES + one.text("DownloadToken"), {"api-key": self._api_key}
            try:
                deadline.left()
                content = self._fetch(url, headers=key, max_bytes=self._max_bytes)
            except (TimeoutError, Unusable) as fault:
                return files, f"Not all of its {len(wanted)} files could be fetched: {fault}."
            files.append(file_part(one.text("Name"), one.text("ContentType"), content, one.text("ContentID")))
        return files, ""
