"""SendGrid's Inbound Parse: a form, with the raw mail in ``email`` where "POST the raw" is switched on.

Signed with ECDSA over the time and the whole body where a security policy is attached to the setting
(EMAIL_SENDGRID_PUBLIC_KEY); else the secret stands in the URL (``?secret=…``, one of EMAIL_WEBHOOK_SECRET).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cleo_email.ingress.base import (
    Extracted,
    Ingress,
    Posted,
    Unproven,
    Unusable,
    list_of,
    object_of,
    text_of,
)
from cleo_email.ingress.forms import Form
from cleo_email.ingress.proofs import decoded, equals_one, is_fresh
from cleo_email.ingress.rebuilding import rebuild
from cleo_email.ingress.verdicts import aligned, domain_of, read_header
from cleo_email.intake import Arrival
from cleo_email.mail.model import Attachment

HOUR_S = 3600
FRESH_S = 73 * HOUR_S  # it repeats a request for 3 days
SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"
_DKIM = re.compile(r"\{@([A-Za-z0-9.-]{1,253}) : pass\}", re.ASCII)


class SendGrid(Ingress):
    name: ClassVar[str] = "sendgrid"
    remember_s: ClassVar[int] = FRESH_S + HOUR_S

    def __init__(self, public_keys: Sequence[str], secrets: Sequence[str]) -> None:
        """``public_keys``: base64 DER of P-256 keys. Raises ValueError for anything else."""
        self._keys = [_public_key(key) for key in public_keys]
        self._secrets = [secret.encode() for secret in secrets]

    @property
    def is_set_up(self) -> bool:
        return bool(self._keys or self._secrets)

    @property
    def unset(self) -> str:
        return (
            "neither EMAIL_SENDGRID_PUBLIC_KEY nor EMAIL_WEBHOOK_SECRET is set: mail by SendGrid is not taken"
        )

    def prove(self, posted: Posted) -> None:
        if self._keys:
            self._verify_signature(posted)
        elif not equals_one(posted.query.get("secret", "").encode("utf-8", "replace"), self._secrets):
            raise Unproven("?secret= in the URL is missing or wrong (EMAIL_WEBHOOK_SECRET)")

    def _verify_signature(self, posted: Posted) -> None:
        stamp = posted.header(TIMESTAMP)
        signature = decoded(posted.header(SIGNATURE))
        message = stamp.encode("utf-8", "replace") + posted.body
        if not signature or not any(_is_signed(key, signature, message) for key in self._keys):
            raise Unproven("the signature is missing or wrong (EMAIL_SENDGRID_PUBLIC_KEY)")
        if not is_fresh(stamp, posted.now, past_s=FRESH_S):
            raise Unproven("the signature is too old, or this machine's clock is wrong")

    def event(self, posted: Posted) -> str:
        # SendGrid names no event, and a signature can be rewritten by everybody (r, n - s).
        return hashlib.sha256(posted.body).hexdigest()

    def extract(self, posted: Posted) -> Extracted:
        form = posted.form
        envelope = _json(form, "envelope")
        to = list_of(envelope.get("to"))
        source = form.bytes("email") or _rebuilt(form)
        sender = envelope.get("from")
        arrival = Arrival(
            source,
            self.name,
            envelope_from=sender.strip().strip("<>") if isinstance(sender, str) else None,
            envelope_to=text_of(to[0])[:320] if to else "",
            authenticated=aligned(source, _passed(form, text_of(sender), source)),
            same_for_s=HOUR_S,
        )
        return Extracted((arrival,))


def _passed(form: Form, envelope_from: str, source: bytes) -> Iterator[str]:
    """The domains for which SendGrid saw SPF or DKIM pass; its fields stand outside of the mail.

    DKIM counts only where there was a single signature, as the domains of several stand in one string and
    each was written by whoever signed; and only a signature over the whole body (no ``l=``).
    """
    if form.text("SPF") == "pass":
        yield domain_of(envelope_from)
    found = _DKIM.fullmatch(form.text("dkim"))
    signatures = read_header(source).header_all("dkim-signature")
    if found and len(signatures) == 1 and not re.search(r"(^|;)\s*l\s*=", signatures[0]):
        yield found.group(1)


def _public_key(text: str) -> ec.EllipticCurvePublicKey:
    key = load_der_public_key(base64.b64decode(text, validate=True))
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("no elliptic-curve key")  # noqa: TRY004  (a wrong value, not a wrong type, to us)
    return key


def _is_signed(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _json(form: Form, name: str) -> dict[str, Any]:
    try:
        return object_of(json.loads(form.text(name) or "{}"))
    except (ValueError, RecursionError):
        return {}


def _rebuilt(form: Form) -> bytes:
    if not form.has("headers"):
        raise Unusable("SendGrid's request has neither email nor headers: it holds no mail")
    charsets = _json(form, "charsets")
    return rebuild(
        _headers(form.bytes("headers")),
        text=_decoded(form.bytes("text"), charsets.get("text")),
        html=_decoded(form.bytes("html"), charsets.get("html")),
        files=list(_files(form)),
    )


def _headers(block: bytes) -> list[tuple[str, str]]:
    return list(read_header(block.strip() + b"\r\n\r\n").headers)


def _decoded(data: bytes, charset: object) -> str:
    try:
        return data.decode(text_of(charset) or "utf-8", "replace")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")


def _files(form: Form) -> Iterator[Attachment]:
    """``attachment1`` and so on, described by the JSON in ``attachment-info``."""
    for key, value in sorted(_json(form, "attachment-info").items()):
        file, info = form.file(key), object_of(value)
        if file is None:
            raise Unusable("a file that attachment-info names is not in SendGrid's request")
        content_id = text_of(info.get("content-id")).strip("<>")
        yield Attachment(
            file.filename or text_of(info.get("filename")),
            file.content_type or text_of(info.get("type")),
            file.content,
            content_id=content_id,
            inline=bool(content_id),
        )
