"""Mailgun Routes with ``forward()``: a form, signed over time and token but not over its content.

The signature of one request would fit another body: therefore each token is accepted once, and stored for
longer than it is valid. Mailgun sends the raw mail (``body-mime``) if the route's URL ends in ``mime``.
"""

import hmac

from cleo_email.scrub import read_json
from cleo_email.webhooks import base
from cleo_email.webhooks.base import HOUR_S, NotNow, Unusable, WebhookRequest
from cleo_email.webhooks.forms import Form
from cleo_email.webhooks.rebuild import file_part, rebuild

_TWICE = "Mailgun's form has two different values of one field: the mail may be a forgery."


class Mailgun(base.WebhookProvider):
    name = "mailgun"
    setting = "EMAIL_MAILGUN_SIGNING_KEY"
    gives_up_with = 406
    unset_status = 403
    fresh_s = 8 * HOUR_S + 1800  # it repeats a request for 8 hours
    remember_s = fresh_s + HOUR_S
    same_for_s = HOUR_S

    def prove(self, request: WebhookRequest) -> None:
        form = request.short_fields("timestamp", "token", "signature")
        stamp, token = form.text("timestamp"), form.text("token")
        wanted = [hmac.digest(key, f"{stamp}{token}".encode(), "sha256").hex() for key in self._secrets]
        given = form.text("signature").encode()
        if not token or not base.equals_one(given, [one.encode() for one in wanted]):
            raise self.unsigned()
        base.require_fresh(stamp, request.now, past_s=self.fresh_s)

    def event(self, request: WebhookRequest) -> str:
        # Time and token are signed as one string, and the place where the time ends is not signed.
        return request.form.text("timestamp") + request.form.text("token")

    def extract(self, request: WebhookRequest) -> base.Mails:
        form = request.form
        if form.has("message-url") and not form.has("body-mime"):
            raise NotNow("the Mailgun route stores the mail: use forward() with a URL that ends in mime")
        source = form.bytes("body-mime") or _rebuilt(form)
        path = form.text("sender") if form.has("sender") else None
        # Mailgun merges headers of the mail into the form: one may have the name of a Mailgun field.
        hold = _TWICE if form.is_ambiguous("body-mime", "message-headers", "sender") else ""
        return [self.mail(source, path, form.text("recipient"), hold=hold, authenticated=_judged(source))]


def _judged(source: bytes) -> bool | None:
    """Return False if both checks failed, else None: a pass in the mail's own headers proves nothing."""
    headers = {name: value.strip().lower() for name, value in base.read_header(source).headers}
    spf, dkim = headers.get("x-mailgun-spf"), headers.get("x-mailgun-dkim-check-result")
    return False if spf in ("fail", "softfail") and dkim == "fail" else None


def _rebuilt(form: Form) -> bytes:
    try:
        pairs = read_json(form.text("message-headers") or "[]")  # [[name, value], …]
    except ValueError as error:
        raise Unusable(f"Mailgun's message-headers: {error}") from None
    headers = [
        (pair[0], pair[1])
        for pair in (pairs if isinstance(pairs, list) else [])
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
    ]
    if not headers:
        raise Unusable("Mailgun's request has neither body-mime nor message-headers: it holds no mail")
    # Files are attachment-1 and so on; content-id-map has the inline ones: {"<id>": "attachment-1"}.
    places = form.json("content-id-map")
    ids = {places.text(id_): id_ for id_ in places}
    files = [
        file_part(file.filename or "", file.content_type, file.content, ids.get(file.name, ""))
        for file in form.files
        if file.name.startswith("attachment-")
    ]
    return rebuild(headers, text=form.text("body-plain"), html=form.text("body-html"), files=files)
