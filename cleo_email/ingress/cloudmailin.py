"""CloudMailin in its Raw format: a form with the mail in ``message`` and the envelope in ``envelope[…]``."""

from __future__ import annotations

import hashlib
from typing import ClassVar

from cleo_email.ingress.base import Extracted, NotNow, Posted
from cleo_email.ingress.basic import BasicIngress
from cleo_email.ingress.verdicts import aligned
from cleo_email.intake import Arrival

HOUR_S = 3600


class CloudMailin(BasicIngress):
    """Any 4xx makes it return the mail to its sender, any 5xx makes the sender's server try again."""

    name: ClassVar[str] = "cloudmailin"
    setting: ClassVar[str] = "EMAIL_CLOUDMAILIN_AUTH"
    remember_s: ClassVar[int] = 5 * 24 * HOUR_S  # as long as mail servers try (RFC 5321 section 4.5.4.1)

    def event(self, posted: Posted) -> str:
        source = posted.form.bytes("message")
        return hashlib.sha256(source).hexdigest() if source else ""

    def extract(self, posted: Posted) -> Extracted:
        form = posted.form
        source = form.bytes("message")
        if not source:
            raise NotNow("CloudMailin's request has no raw mail: choose the Raw format for this address")
        passed = [form.text("envelope[spf][domain]")] if form.text("envelope[spf][result]") == "pass" else []
        arrival = Arrival(
            source,
            self.name,
            envelope_from=form.text("envelope[from]").strip().strip("<>")
            if form.has("envelope[from]")
            else None,
            envelope_to=form.text("envelope[to]")[:320],
            authenticated=aligned(source, passed),
        )
        return Extracted((arrival,))
