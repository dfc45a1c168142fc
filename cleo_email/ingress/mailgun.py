"""Mailgun Routes with ``forward()``: a form, signed over time and token but not over its content.

Who has seen one signed request could send another body with its signature: therefore each token is taken
once, remembered for longer than it is fresh. The raw mail comes (``body-mime``) if the route's URL ends in
``mime``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import ClassVar

from cleo_email.ingress.base import (
    Extracted,
    Ingress,
    NotNow,
    Posted,
    Unproven,
    Unusable,
    object_of,
    text_of,
)
from cleo_email.ingress.forms import Form
from cleo_email.ingress.proofs import equals_one, hmac_sha256, is_fresh
from cleo_email.ingress.rebuilding import rebuild
from cleo_email.ingress.verdicts import read_header
from cleo_email.intake import Arrival
from cleo_email.mail.model import Attachment

HOUR_S = 3600
FRESH_S = 8 * HOUR_S + 1800  # it repeats a request for 8 hours
_SIGNED = ("timestamp", "token", "signature")


class Mailgun(Ingress):
    name: ClassVar[str] = "mailgun"
    gives_up_with: ClassVar[int] = 406
    unset_status: ClassVar[int] = 403
    remember_s: ClassVar[int] = FRESH_S + HOUR_S

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    @property
    def is_set_up(self) -> bool:
        return bool(self._keys)

    @property
    def unset(self) -> str:
        return "no EMAIL_MAILGUN_SIGNING_KEY is set: mail by Mailgun is not taken"

    def prove(self, posted: Posted) -> None:
        form = posted.form
        stamp, token, signature = (form.text(name) for name in _SIGNED)
        message = f"{stamp}{token}".encode()
        wanted = [hmac_sha256(key, message).hex().encode() for key in self._keys]
        if not token or not equals_one(signature.encode(), wanted):
            raise Unproven("the signature is missing or wrong (EMAIL_MAILGUN_SIGNING_KEY)")
        if not is_fresh(stamp, posted.now, past_s=FRESH_S):
            raise Unproven("the signature is too old, or this machine's clock is wrong")

    def event(self, posted: Posted) -> str:
        # Time and token are signed as one string: where the one ends is not.
        return posted.form.text("timestamp") + posted.form.text("token")

    def extract(self, posted: Posted) -> Extracted:
        form = posted.form
        if form.has("message-url") and not form.has("body-mime"):
            raise NotNow("the Mailgun route stores the mail: use forward() with a URL that ends in mime")
        source = form.bytes("body-mime") or _rebuilt(form)
        # Mailgun merges headers of the mail into the form: one may be called like a field of its own.
        doubtful = form.is_ambiguous("body-mime", "message-headers", "sender")
        arrival = Arrival(
            source,
            self.name,
            envelope_from=form.text("sender").strip().strip("<>") if form.has("sender") else None,
            envelope_to=form.text("recipient")[:320],
            hold="Mailgun's form has two different values of one field: the mail may be a forgery."
            if doubtful
            else "",
            authenticated=_judged(source),
            same_for_s=HOUR_S,
        )
        return Extracted((arrival,))


def _judged(source: bytes) -> bool | None:
    """False where both checks failed. Mailgun writes them into the mail, so that they never count for it."""
    headers = {
        name: value.strip().lower()
        for name, value in read_header(source).headers
        if name in ("x-mailgun-spf", "x-mailgun-dkim-check-result")
    }
    spf, dkim = headers.get("x-mailgun-spf"), headers.get("x-mailgun-dkim-check-result")
    return False if spf in ("fail", "softfail") and dkim == "fail" else None


def _rebuilt(form: Form) -> bytes:
    headers = list(_headers(form.text("message-headers")))
    if not headers:
        raise Unusable("Mailgun's request has neither body-mime nor message-headers: it holds no mail")
    return rebuild(
        headers, text=form.text("body-plain"), html=form.text("body-html"), files=list(_files(form))
    )


def _headers(text: str) -> Iterator[tuple[str, str]]:
    """``[[name, value], …]``."""
    try:
        value = json.loads(text or "[]")
    except (ValueError, RecursionError):
        raise Unusable("Mailgun's message-headers are no JSON") from None
    for pair in value if isinstance(value, list) else []:
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair):
            yield pair[0], pair[1]


def _files(form: Form) -> Iterator[Attachment]:
    """``attachment-1`` and so on; ``content-id-map`` has the inline ones: ``{"<id>": "attachment-1"}``."""
    try:
        ids = object_of(json.loads(form.text("content-id-map") or "{}"))
    except (ValueError, RecursionError):
        ids = {}
    named = {text_of(place): id_.strip("<>") for id_, place in ids.items()}
    for key, file in form.files:
        if key.startswith("attachment-"):
            content_id = named.get(key, "")
            yield Attachment(
                file.filename, file.content_type, file.content, content_id=content_id, inline=bool(content_id)
            )
