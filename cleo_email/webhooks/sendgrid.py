"""SendGrid's Inbound Parse: a form, with the raw mail in ``email`` where "POST the raw" is switched on.

Signed with ECDSA over the time and the whole body where a security policy is attached to the setting
(EMAIL_SENDGRID_PUBLIC_KEY); else the secret stands in the URL (``?secret=…``, one of EMAIL_WEBHOOK_SECRET).
"""

import base64
import re
from collections.abc import Sequence

from pydantic import SecretStr

from cleo_email.mail.address import split_address
from cleo_email.mail.model import AttachedFile
from cleo_email.webhooks import base
from cleo_email.webhooks.base import HOUR_S, Fetch, Unusable, WebhookRequest, read_header
from cleo_email.webhooks.forms import Form
from cleo_email.webhooks.rebuild import file_part, rebuild

SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"
_DKIM = re.compile(r"\{@([A-Za-z0-9.-]{1,253}) : pass\}")


class SendGrid(base.WebhookProvider):
    name = "sendgrid"
    setting = "EMAIL_SENDGRID_PUBLIC_KEY or EMAIL_WEBHOOK_SECRET"
    fresh_s = 73 * HOUR_S  # it repeats a request for 3 days
    remember_s = fresh_s + HOUR_S
    same_for_s = HOUR_S

    def __init__(self, public_keys: Sequence[str], secrets: Sequence[SecretStr], fetch: Fetch) -> None:
        """``public_keys``: base64 DER of elliptic-curve keys, as the settings have checked."""
        super().__init__(secrets, fetch)
        self._keys = [base64.b64decode(key) for key in public_keys]

    @property
    def is_set_up(self) -> bool:
        return bool(self._keys or self._secrets)

    def prove(self, request: WebhookRequest) -> None:
        if not self._keys:
            given = request.query.get("secret", "").encode("utf-8", "replace")
            if not base.equals_one(given, self._secrets):
                raise base.Unproven("?secret= in the URL is missing or wrong (EMAIL_WEBHOOK_SECRET)")
            return
        stamp = request.header(TIMESTAMP)
        signature = base.decoded(request.header(SIGNATURE))
        message = stamp.encode("utf-8", "replace") + request.body
        if not signature or not any(_is_signed(key, signature, message) for key in self._keys):
            raise self.unsigned()
        base.require_fresh(stamp, request.now, past_s=self.fresh_s)

    # Its event is the hash of the body: a signature can be rewritten by any reader (r, n - s).

    def extract(self, request: WebhookRequest) -> base.Mails:
        form = request.form
        envelope = form.json("envelope")
        source = form.bytes("email") or _rebuilt(form)
        passed = base.aligned(source, _passed(form, envelope.text("from"), source))
        to = next(iter(envelope.texts("to")), "")
        return [self.mail(source, envelope.get("from"), to, authenticated=passed)]


def _is_signed(der: bytes, signature: bytes, message: bytes) -> bool:
    # It is large, and few installations need it.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    key = load_der_public_key(der)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _passed(form: Form, envelope_from: str, source: bytes) -> list[str]:
    """Return the domains for which SendGrid saw SPF or DKIM pass; its fields stand outside of the mail.

    DKIM counts only where there was a single signature, as the domains of several stand in one string and
    each was written by its signer; and only a signature over the whole body (no ``l=``).
    """
    passed = []
    if form.text("SPF") == "pass" and (parts := split_address(base.bare_path(envelope_from))):
        passed.append(parts[1])
    found = _DKIM.fullmatch(form.text("dkim"))
    signatures = read_header(source).header_all("dkim-signature")
    if found and len(signatures) == 1 and not re.search(r"(^|;)\s*l\s*=", signatures[0]):
        passed.append(found[1])
    return passed


def _rebuilt(form: Form) -> bytes:
    if not form.has("headers"):
        raise Unusable("SendGrid's request has neither email nor headers: it holds no mail")
    headers = read_header(form.bytes("headers").strip() + b"\r\n\r\n").headers
    return rebuild(headers, text=_text(form, "text"), html=_text(form, "html"), files=_files(form))


def _text(form: Form, name: str) -> str:
    """Return a field in the charset that the JSON in ``charsets`` names for it."""
    try:
        return form.bytes(name).decode(form.json("charsets").text(name) or "utf-8", "replace")
    except (LookupError, ValueError):
        return form.text(name)


def _files(form: Form) -> list[AttachedFile]:
    """Return ``attachment1`` and so on, which the JSON in ``attachment-info`` describes."""
    described = form.json("attachment-info")
    files = []
    for key in sorted(described):
        file, info = form.file(key), described.object(key)
        if file is None:
            raise Unusable("a file that attachment-info names is not in SendGrid's request")
        name, kind = file.filename or info.text("filename"), file.content_type or info.text("type")
        files.append(file_part(name, kind, file.content, info.text("content-id")))
    return files
