"""Postmark's inbound stream: JSON, with the raw mail in ``RawEmail`` if the stream is set to include it."""

import re

from cleo_email.scrub import JsonObject
from cleo_email.webhooks import base
from cleo_email.webhooks.base import HOUR_S, NoMail, Unusable, WebhookRequest
from cleo_email.webhooks.rebuild import file_part, mailboxes, rebuild

_ENVELOPE_FROM = re.compile(r"envelope-from=\"?<?([^\s;<>\"]+)", re.ASCII)
_ATTACHMENT = "an attachment of Postmark's request"


class Postmark(base.BasicProvider):
    name = "postmark"
    setting = "EMAIL_POSTMARK_AUTH"
    gives_up_with = 403  # and it repeats after a 401, so that a wrong password loses no mail
    remember_s = 12 * HOUR_S  # it repeats for 10.5 hours
    same_for_s = HOUR_S

    def event(self, request: WebhookRequest) -> str:
        # The body is part of the id: two mails may share a MessageID, and a retry has the same bytes.
        return f"{request.json.text('MessageID')}:{super().event(request)}"

    def extract(self, request: WebhookRequest) -> base.Mails:
        data = request.json
        kind = data.text("RecordType") or "Inbound"
        if kind != "Inbound":
            raise NoMail(f"Postmark reports a {kind[:40]}, not a mail that came in")
        raw = data.text("RawEmail")
        headers = [(item.text("Name"), item.text("Value")) for item in data.objects("Headers")]
        if not raw and not data.object("FromFull") and not headers:
            raise Unusable("Postmark's request has neither RawEmail nor FromFull: it holds no mail")
        source = raw.encode("utf-8", "replace") if raw else _rebuilt(data, headers)
        results = [value for name, value in headers if name.lower() == "received-spf"]
        spf = results[0].strip() if len(results) == 1 else ""
        # RawEmail lacks the headers that Postmark adds, of which these name the envelope's sender.
        path, named = base.return_path(headers), _ENVELOPE_FROM.search(spf)
        path = named[1] if path is None and named else path
        # The verdict stands in a header of the mail, so only a fail counts.
        passed = False if spf.lower().startswith("fail") else None
        return [self.mail(source, path, data.text("OriginalRecipient"), authenticated=passed)]


def _rebuilt(data: JsonObject, headers: list[tuple[str, str]]) -> bytes:
    missing = {
        "From": mailboxes([data.object("FromFull")], "Email"),
        "To": mailboxes(data.objects("ToFull"), "Email"),
        "Cc": mailboxes(data.objects("CcFull"), "Email"),
        "Subject": data.text("Subject"),
        "Date": data.text("Date"),
        "Reply-To": data.text("ReplyTo"),
    }
    files = []
    for item in data.objects("Attachments"):
        content = base.base64_content(item.text("Content"), _ATTACHMENT)
        files.append(file_part(item.text("Name"), item.text("ContentType"), content, item.text("ContentID")))
    return rebuild(headers, missing, text=data.text("TextBody"), html=data.text("HtmlBody"), files=files)
