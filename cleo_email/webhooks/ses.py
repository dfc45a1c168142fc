"""Amazon SES: a receipt rule's SNS action posts the mail itself (up to 150 kB) through a topic.

A message of the Simple Notification Service is proved by the certificate that Amazon signs with. The
certificate's URL stands in the message, so that only URLs of Amazon's own are fetched: those of the SNS host
of the region in which our topic lives. Only topics that the operator names (EMAIL_SES_TOPIC_ARN) are
accepted, as Amazon signs for every customer's topics. ``cryptography`` is large, and loaded by what uses it.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import SecretStr

from cleo_email.pipeline.receive import IncomingMail
from cleo_email.scrub import JsonObject
from cleo_email.webhooks import base
from cleo_email.webhooks.base import HOUR_S, Fetch, NoMail, Unproven, Unusable, WebhookRequest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

log = logging.getLogger(__name__)

CERTIFICATE_BYTES = 64 * 1024
KEEP_KEY_S = 3600
KEEP_FAULT_S = 60
_MOST_KEYS = 32
_ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z0-9-]{3,32}):[0-9]{12}:[A-Za-z0-9_.-]{1,260}")
_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[A-Za-z0-9_-]{1,80}\.pem")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}Z")
# The fields that are signed, in this order.
_SUBSCRIPTION = "Message MessageId SubscribeURL Timestamp Token TopicArn Type".split()
_SIGNED = {
    "Notification": "Message MessageId Subject Timestamp TopicArn Type".split(),
    "SubscriptionConfirmation": _SUBSCRIPTION,
    "UnsubscribeConfirmation": _SUBSCRIPTION,
}
_HASHES = {"1": "SHA1", "2": "SHA256"}  # by the version of the signature
_NO_CONTENT = (
    "the SES notification has no content: give the receipt rule an SNS action with this topic "
    "(an S3 action keeps the mail in the bucket, from where it is not fetched)"
)


class Ses(base.WebhookProvider):
    name = "ses"
    setting = "EMAIL_SES_TOPIC_ARN"
    fresh_s = 2 * HOUR_S  # a delivery policy may spread its retries over an hour
    remember_s = fresh_s + HOUR_S
    max_body = 1024 * 1024  # a message of SNS has 256 KiB at most; JSON takes many times its size in memory

    def __init__(self, topics: Sequence[str], fetch: Fetch) -> None:
        super().__init__([SecretStr(topic) for topic in topics], fetch)
        self._topics = frozenset(topics)
        self._keys: dict[str, tuple[float, rsa.RSAPublicKey | None]] = {}
        self._guard = threading.Lock()

    def prove(self, request: WebhookRequest) -> None:
        try:
            message = request.json
        except Unusable:
            message = JsonObject()
        if message.text("Type") not in _SIGNED:
            raise Unproven("the request is no message of Amazon SNS")
        if message.text("TopicArn") not in self._topics:
            raise Unproven("the message is of no topic in EMAIL_SES_TOPIC_ARN")
        if not -self.fresh_s <= _seconds(message.text("Timestamp")) - request.now <= base.FUTURE_S:
            raise Unproven("the message is too old, or this machine's clock is wrong")
        url = message.text("SigningCertURL")
        if not _CERTIFICATE_PATH.fullmatch(_path_on_host(url, message.text("TopicArn"))):
            raise Unproven("SigningCertURL is not a certificate of Amazon SNS in the topic's region")
        algorithm = _HASHES.get(message.text("SignatureVersion"))
        signature = base.decoded(message.text("Signature"))
        fields = [(name, message[name]) for name in _SIGNED[message["Type"]] if name in message]
        if not algorithm or not signature or not all(isinstance(value, str) for _, value in fields):
            raise self.unsigned()
        signed = "".join(f"{name}\n{value}\n" for name, value in fields).encode("utf-8", "replace")
        if not _is_signed(self._key(url, request.now), signature, signed, algorithm):
            raise self.unsigned()

    def event(self, request: WebhookRequest) -> str:
        return request.json.text("MessageId")

    def extract(self, request: WebhookRequest) -> base.Mails:
        message = request.json
        match message["Type"]:
            case "SubscriptionConfirmation":
                url = message.text("SubscribeURL")
                if not _path_on_host(url, message.text("TopicArn")):
                    text = "SubscribeURL does not lead to Amazon SNS in the topic's region: it is not visited"
                    raise Unusable(text)
                self._fetch(url, headers={}, max_bytes=CERTIFICATE_BYTES)
                log.info("the subscription to %s is confirmed", message["TopicArn"])
                raise NoMail("the subscription is confirmed")
            case "UnsubscribeConfirmation":
                log.warning("Amazon SNS has ended the subscription to %s", message["TopicArn"])
                raise NoMail("the subscription has ended")
            case _:
                return [self._received(message.text("Message"))]

    def _received(self, text: str) -> IncomingMail:
        is_object = text.lstrip().startswith("{")  # a topic greets with a sentence
        notification = base.json_object(text, "the SES notification") if is_object else JsonObject()
        if notification.get("notificationType") != "Received":
            raise NoMail("a notification that is no receipt of a mail")
        receipt, mail = notification.object("receipt"), notification.object("mail")
        content = notification.text("content")
        if not content:
            raise Unusable(_NO_CONTENT)
        if receipt.object("action").text("encoding").upper() == "BASE64":
            source = base.base64_content(content, "the content of the SES notification")
        else:
            source = content.encode("utf-8", "replace")
        verdicts = {"PASS": bool(base.from_domain(source)), "FAIL": False}
        passed = verdicts.get(receipt.object("dmarcVerdict").text("status").upper())
        to = next(iter(receipt.texts("recipients")), "")
        return self.mail(source, mail.get("source"), to, authenticated=passed)

    def _key(self, url: str, now: float) -> rsa.RSAPublicKey:
        """Return the key of the certificate at ``url``, which is kept for a while, safely among threads."""
        with self._guard:
            until, key = self._keys.get(url, (0.0, None))
        if now >= until:
            key = self._fetched_key(url, now)
            with self._guard:
                if len(self._keys) >= _MOST_KEYS:  # only a stranger makes up so many
                    self._keys.clear()
                self._keys[url] = (now + (KEEP_KEY_S if key else KEEP_FAULT_S), key)
        if key is None:
            raise self.unsigned()
        return key

    def _fetched_key(self, url: str, now: float) -> rsa.RSAPublicKey | None:
        """Return None where there is no usable certificate at that URL."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import rsa

        try:
            pem = self._fetch(url, headers={}, max_bytes=CERTIFICATE_BYTES)
            certificate = x509.load_pem_x509_certificate(pem)
            key = certificate.public_key()
        except (Unusable, ValueError):
            return None
        today = datetime.fromtimestamp(now, UTC)
        valid = certificate.not_valid_before_utc <= today <= certificate.not_valid_after_utc
        return key if valid and isinstance(key, rsa.RSAPublicKey) else None


def _is_signed(key: rsa.RSAPublicKey, signature: bytes, message: bytes, algorithm: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    try:
        key.verify(signature, message, padding.PKCS1v15(), getattr(hashes, algorithm)())
    except InvalidSignature:
        return False
    return True


def _path_on_host(url: str, topic: str) -> str:
    """Return the path of a URL that begins with exactly ``https://`` and the SNS host of the topic's region.

    '' for any other: with a port, a user or another spelling of the host.
    """
    found = _ARN.fullmatch(topic)
    if found is None or not url.isascii() or not url.isprintable() or set(url) & {" ", "\\"}:
        return ""
    origin = f"https://sns.{found[2]}.amazonaws.com" + (".cn" if found[1] == "aws-cn" else "")
    return url.removeprefix(origin) if url.startswith(f"{origin}/") else ""


def _seconds(timestamp: str) -> float:
    """Return a time such as ``2026-11-24T09:00:00.000Z`` (ISO 8601 in UTC) since 1970, 0 for any other."""
    try:
        return datetime.fromisoformat(timestamp).timestamp() if _TIMESTAMP.fullmatch(timestamp) else 0.0
    except ValueError:
        return 0.0
