"""Messages of the Amazon Simple Notification Service, proved by the certificate that Amazon signs with.

The certificate's URL stands in the message, so that only URLs of Amazon's own are fetched: those of the SNS
host of the region in which our topic lives. Only topics that the operator names (EMAIL_SES_TOPIC_ARN) are
heard, as anybody can have a topic that Amazon signs for.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from cleo_email.webhooks.base import FUTURE_S, Unproven, Unusable, WebhookRequest, decoded
from cleo_email.webhooks.fetch import Fetch

FRESH_S = 2 * 3600  # a delivery policy may spread its retries over an hour
CERTIFICATE_BYTES = 64 * 1024
KEEP_KEY_S = 3600
KEEP_FAULT_S = 60
_MOST_KEYS = 32
_ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z0-9-]{3,32}):[0-9]{12}:[A-Za-z0-9_.-]{1,260}")
_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[A-Za-z0-9_-]{1,80}\.pem")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}
_SIGNED["UnsubscribeConfirmation"] = _SIGNED["SubscriptionConfirmation"]
_HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {"1": hashes.SHA1, "2": hashes.SHA256}
_WRONG = "the signature is missing or wrong (EMAIL_SES_TOPIC_ARN)"


def host_of(arn: str) -> str:
    """The SNS host of a topic's region; '' for what is no topic."""
    found = _ARN.fullmatch(arn)
    if found is None:
        return ""
    return f"sns.{found[2]}.amazonaws.com" + (".cn" if found[1] == "aws-cn" else "")


def is_url_of(url: str, host: str) -> bool:
    """Whether ``url`` begins with exactly ``https://host/``: no port, no user, no other spelling of it."""
    plain = url.isascii() and url.isprintable() and not set(url) & {" ", "\\"}
    return bool(host) and plain and url.startswith(f"https://{host}/")


class Notifications:
    """Checks messages; safe to use from many threads."""

    def __init__(self, topics: Sequence[str], fetch: Fetch) -> None:
        self._topics = frozenset(topics)
        self._fetch = fetch
        self._keys: dict[str, tuple[float, rsa.RSAPublicKey | None]] = {}
        self._guard = threading.Lock()

    def verify(self, request: WebhookRequest) -> None:
        """Raises Unproven, or NotNow where the certificate cannot be fetched at this moment."""
        message = self._strings(request)
        url, host = message.get("SigningCertURL", ""), host_of(message.get("TopicArn", ""))
        if message.get("TopicArn") not in self._topics:
            raise Unproven("the message is of no topic in EMAIL_SES_TOPIC_ARN")
        if not _is_fresh(message.get("Timestamp", ""), request.now):
            raise Unproven("the message is too old, or this machine's clock is wrong")
        if not is_url_of(url, host) or not _CERTIFICATE_PATH.fullmatch(url.removeprefix(f"https://{host}")):
            raise Unproven("SigningCertURL is not a certificate of Amazon SNS in the topic's region")
        algorithm = _HASHES.get(message.get("SignatureVersion", ""))
        signature = decoded(message.get("Signature", ""))
        if algorithm is None or not signature:
            raise Unproven(_WRONG)
        key = self._key(url, request.now)
        try:
            key.verify(signature, _signed_text(message), padding.PKCS1v15(), algorithm())
        except InvalidSignature:
            raise Unproven(_WRONG) from None

    @staticmethod
    def _strings(request: WebhookRequest) -> dict[str, str]:
        try:
            values = request.json
        except Unusable:
            raise Unproven("the request is no message of Amazon SNS") from None
        if not isinstance(values.get("Type"), str) or values["Type"] not in _SIGNED:
            raise Unproven("the request is no message of Amazon SNS")
        names = (*_SIGNED[values["Type"]], "SigningCertURL", "Signature", "SignatureVersion")
        if not all(isinstance(values.get(name, ""), str) for name in names):
            raise Unproven(_WRONG)
        return {name: value for name, value in values.items() if isinstance(value, str)}

    def _key(self, url: str, now: float) -> rsa.RSAPublicKey:
        with self._guard:
            until, key = self._keys.get(url, (0.0, None))
        if now >= until:
            key = self._fetched(url, now)
            with self._guard:
                if len(self._keys) >= _MOST_KEYS:  # only a stranger makes up so many
                    self._keys.clear()
                self._keys[url] = (now + (KEEP_KEY_S if key else KEEP_FAULT_S), key)
        if key is None:
            raise Unproven(_WRONG)
        return key

    def _fetched(self, url: str, now: float) -> rsa.RSAPublicKey | None:
        """None where there is no usable certificate at that URL."""
        try:
            pem = self._fetch(url, headers={}, max_bytes=CERTIFICATE_BYTES)
            certificate = x509.load_pem_x509_certificate(pem)
            key = certificate.public_key()
        except (Unusable, ValueError):
            return None
        today = datetime.fromtimestamp(now, UTC)
        valid = certificate.not_valid_before_utc <= today <= certificate.not_valid_after_utc
        return key if valid and isinstance(key, rsa.RSAPublicKey) else None


def _signed_text(message: Mapping[str, str]) -> bytes:
    names = [name for name in _SIGNED[message["Type"]] if name in message]
    return "".join(f"{name}\n{message[name]}\n" for name in names).encode("utf-8", "replace")


def _is_fresh(timestamp: str, now: float) -> bool:
    """Of ISO 8601 in UTC, such as ``2026-11-24T09:00:00.000Z``."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}Z", timestamp, re.ASCII):
        return False
    try:
        at = datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        return False
    return -FRESH_S <= at - now <= FUTURE_S


def confirm(message: Mapping[str, object], fetch: Fetch) -> None:
    """Visit the SubscribeURL of a proved SubscriptionConfirmation. Raises NotNow or Unusable."""
    url, topic = message.get("SubscribeURL"), message.get("TopicArn")
    if not isinstance(url, str) or not isinstance(topic, str) or not is_url_of(url, host_of(topic)):
        raise Unusable("SubscribeURL does not lead to Amazon SNS in the topic's region: it is not visited")
    fetch(url, headers={}, max_bytes=CERTIFICATE_BYTES)
