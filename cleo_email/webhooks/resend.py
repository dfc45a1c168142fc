"""Resend: the event ``email.received`` names a mail, which is fetched from Resend's API.

Svix signs it: HMAC-SHA256 over ``id.time.body``. Each try has a time of its own, so ``fresh_s`` is short.
"""

import base64
import hmac
import re
from typing import Any

from cleo_email.scrub import JsonObject
from cleo_email.webhooks import base
from cleo_email.webhooks.base import HOUR_S, NoMail, NotNow, TooMuch, Unusable, WebhookRequest
from cleo_email.webhooks.rebuild import header_pairs, rebuild

API = "https://api.resend.com/emails/receiving/"
API_BYTES = 16 * 1024 * 1024
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Resend(base.WebhookProvider):
    """``secrets`` are ``whsec_`` and base64, as Resend shows them."""

    name = "resend"
    setting = "EMAIL_RESEND_SIGNING_SECRET"
    unset_status = 403
    remember_s = 36 * HOUR_S  # it repeats a request for about 28 hours
    max_body = 1024 * 1024  # the event names the mail, which is fetched

    def prove(self, request: WebhookRequest) -> None:
        id_, stamp = request.header("svix-id"), request.header("svix-timestamp")
        message = f"{id_}.{stamp}.".encode("utf-8", "replace") + request.body
        keys = [base64.b64decode(secret.removeprefix(b"whsec_")) for secret in self._secrets]
        wanted = [hmac.digest(key, message, "sha256") for key in keys]
        words = request.header("svix-signature").split(" ")[:20]
        given = [base.decoded(word.removeprefix("v1,")) for word in words if word.startswith("v1,")]
        if not id_ or not any(base.equals_one(one, wanted) for one in given if one):
            raise self.unsigned()
        base.require_fresh(stamp, request.now, past_s=self.fresh_s)

    def event(self, request: WebhookRequest) -> str:
        return request.header("svix-id")

    def extract(self, request: WebhookRequest) -> base.Mails:
        kind, data = request.json.text("type"), request.json.object("data")
        if kind != "email.received":
            raise NoMail(f"Resend reports {kind[:40] or 'nothing'}, not a mail that came in")
        id_ = data.text("email_id")
        if not _ID.fullmatch(id_):
            raise Unusable("Resend's event names no email_id")
        if not self._api_key:
            raise NotNow("Resend sends no mail with its events: set EMAIL_RESEND_API_KEY to have it fetched")
        bearer = {"Authorization": f"Bearer {self._api_key}"}
        mail = base.json_object(
            self._fetch(API + id_, headers=bearer, max_bytes=API_BYTES), "Resend's answer"
        )
        path = base.return_path(header_pairs(mail.object("headers")))
        source, facts = self._source(mail)
        return [self.mail(source, path, next(iter(data.texts("to")), ""), **facts)]

    def _source(self, mail: JsonObject) -> tuple[bytes, dict[str, Any]]:
        """Return the mail, and further fields: why it is held if these are not the original bytes."""
        url = mail.object("raw").text("download_url")
        if not url:
            # Without its source the files are missing too.
            hold = "Resend gave no raw mail: its attachments are missing." if mail.get("attachments") else ""
            return _rebuilt(mail), {"hold": hold}
        try:
            return self._fetch(url, headers={}, max_bytes=self._max_bytes), {}
        except TooMuch:
            limit = f"EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes})"
            hold = f"it has more bytes than {limit}: not downloaded"
            return _rebuilt(mail), {"hold": hold, "partial": True}


def _rebuilt(mail: JsonObject) -> bytes:
    missing = {
        "From": mail.text("from"),
        "To": ", ".join(mail.texts("to")),
        "Cc": ", ".join(mail.texts("cc")),
        "Reply-To": ", ".join(mail.texts("reply_to")),
        "Subject": mail.text("subject"),
        "Message-ID": mail.text("message_id"),
    }
    headers = header_pairs(mail.object("headers"))
    return rebuild(headers, missing, text=mail.text("text"), html=mail.text("html"))
