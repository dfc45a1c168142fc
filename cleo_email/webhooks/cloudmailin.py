"""CloudMailin in its Raw format: a form with the mail in ``message`` and the envelope in ``envelope[…]``."""

import hashlib

from cleo_email.webhooks.base import HOUR_S, BasicProvider, Mails, NotNow, WebhookRequest, aligned


class CloudMailin(BasicProvider):
    """Any 4xx makes it return the mail to its sender, any 5xx makes the sender's server try again."""

    name = "cloudmailin"
    setting = "EMAIL_CLOUDMAILIN_AUTH"
    remember_s = 5 * 24 * HOUR_S  # as long as mail servers try (RFC 5321 section 4.5.4.1)

    def event(self, request: WebhookRequest) -> str:
        source = request.form.bytes("message")
        return hashlib.sha256(source).hexdigest() if source else ""

    def extract(self, request: WebhookRequest) -> Mails:
        form, sender = request.form, "envelope[from]"
        source = form.bytes("message")
        if not source:
            raise NotNow("CloudMailin's request has no raw mail: choose the Raw format for this address")
        passed = [form.text("envelope[spf][domain]")] if form.text("envelope[spf][result]") == "pass" else []
        path = form.text(sender) if form.has(sender) else None
        return [self.mail(source, path, form.text("envelope[to]"), authenticated=aligned(source, passed))]
