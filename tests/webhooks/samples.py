"""Requests as the providers document them, signed with keys of ours.

Each function gives the request for one mail; its keyword arguments make it a forged or a stale one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from cleo_email.webhooks.base import TooMuch, Unusable

AGENT = "agent@cleo.test"
SECRET = "webhook-secret-4711"
MAILGUN_KEY = "key-mailgun-0815"
POSTMARK = "postmark:postmark-pass:word-0815"
CLOUDMAILIN = "cloud:mailin-pass"
BREVO = "brevo:brevo-pass"
BREVO_TOKEN = "brevo-bearer-token"
RESEND_SECRET = "whsec_" + base64.b64encode(b"resend-signing-secret-32-bytes!!").decode()
RESEND_KEY = "re_api_key_1234"
BREVO_KEY = "xkeysib-1234"
REGION = "eu-central-1"
TOPIC = f"arn:aws:sns:{REGION}:123456789012:mail"
SNS = f"https://sns.{REGION}.amazonaws.com"
CERTIFICATE_URL = f"{SNS}/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"
SUBSCRIBE_URL = f"{SNS}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37f"
RAW_URL = "https://inbound-cdn.resend.com/raw/56761188?Signature=abc"

BASE = {
    "ENABLED_CLIENTS": "email",
    "EMAIL_SMTP_HOST": "127.0.0.1",
    "EMAIL_USER": AGENT,
    "EMAIL_PASSWORD": "mailbox-password",
}


@cache
def ec_key(name: str = "ours") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key(name: str = "ours") -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def public_key(key: ec.EllipticCurvePrivateKey) -> str:
    """As SendGrid shows it."""
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(key.public_key().public_bytes(serialization.Encoding.DER, kind)).decode()


def secrets_env() -> dict[str, str]:
    """Every provider set up."""
    return {
        "EMAIL_WEBHOOK_SECRET": f"old-webhook-secret-0815,{SECRET}",
        "EMAIL_MAILGUN_SIGNING_KEY": f"key-of-last-year,{MAILGUN_KEY}",
        "EMAIL_POSTMARK_AUTH": f"postmark:old-postmark-pass,{POSTMARK}",
        "EMAIL_SENDGRID_PUBLIC_KEY": f"{public_key(ec_key('old'))},{public_key(ec_key())}",
        "EMAIL_SES_TOPIC_ARN": f"arn:aws:sns:{REGION}:123456789012:other,{TOPIC}",
        "EMAIL_CLOUDMAILIN_AUTH": CLOUDMAILIN,
        "EMAIL_RESEND_SIGNING_SECRET": RESEND_SECRET,
        "EMAIL_RESEND_API_KEY": RESEND_KEY,
        "EMAIL_BREVO_AUTH": f"{BREVO},{BREVO_TOKEN}",
        "EMAIL_BREVO_API_KEY": BREVO_KEY,
    }


def mail(
    number: int = 1, *, sender: str = "Anna <anna@example.test>", extra: str = "", text: str = ""
) -> bytes:
    lines = [
        f"From: {sender}",
        f"To: {AGENT}",
        f"Subject: Question {number}",
        f"Message-ID: <m{number}@example.test>",
        "Date: Tue, 24 Nov 2026 09:00:00 +0100",
        *([extra] if extra else []),
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "",
        text or f"This is question {number}.",
        "",
    ]
    return "\r\n".join(lines).encode()


@dataclass(frozen=True)
class Request:
    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0  # bytes that are announced and never come

    def with_headers(self, **changes: str | None) -> Request:
        """``None`` takes a header away; underscores stand for hyphens."""
        headers = dict(self.headers)
        for name, value in changes.items():
            key = name.replace("_", "-")
            headers.pop(key, None)
            if value is not None:
                headers[key] = value
        return replace(self, headers=headers)


def send(client: FlaskClient, request: Request) -> TestResponse:
    length = {"CONTENT_LENGTH": str(len(request.body) + request.missing)}
    return client.post(
        request.path, data=request.body, headers=dict(request.headers), environ_overrides=length
    )


class Web:
    """What stands in for the other side's HTTPS servers: answers by URL, and the list of what was asked."""

    def __init__(self, answers: Mapping[str, bytes | Exception] | None = None) -> None:
        self.answers = dict(answers or {CERTIFICATE_URL: certificate(), SUBSCRIBE_URL: b"<ok/>"})
        self.asked: list[tuple[str, Mapping[str, str]]] = []

    def __call__(self, url: str, *, headers: Mapping[str, str], max_bytes: int) -> bytes:
        self.asked.append((url, dict(headers)))
        answer = self.answers.get(url, Unusable("404"))
        if isinstance(answer, Exception):
            raise answer
        if len(answer) > max_bytes:
            raise TooMuch("too much")
        return answer


# --- forms -----------------------------------------------------------------------------------------------


def multipart(
    fields: list[tuple[str, bytes | str | tuple[str, str, bytes]]], boundary: str = "xYzZY"
) -> bytes:
    """A file is (file name, content type, content)."""
    out = []
    for name, value in fields:
        if isinstance(value, tuple):
            filename, kind, content = value
            head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
            head += f"Content-Type: {kind}\r\n"
        else:
            content = value.encode() if isinstance(value, str) else value
            head = f'Content-Disposition: form-data; name="{name}"\r\n'
        out.append(f"--{boundary}\r\n{head}\r\n".encode() + content + b"\r\n")
    return b"".join(out) + f"--{boundary}--\r\n".encode()


FORM = {"Content-Type": "multipart/form-data; boundary=xYzZY"}
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json; charset=utf-8"}


# --- providers -------------------------------------------------------------------------------------------


def mailgun_proof(*, key: str = MAILGUN_KEY, at: float | None = None, token: str = "") -> dict[str, str]:
    stamp = str(int(time.time() if at is None else at))
    token = token or hashlib.sha256(str(time.perf_counter()).encode()).hexdigest()[:50]
    signature = hmac.new(key.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
    return {"timestamp": stamp, "token": token, "signature": signature}


def mailgun(
    source: bytes, *, proof: Mapping[str, str] | None = None, encoded: bool = True, **signing: Any
) -> Request:
    """A route whose URL ends in mime: https://documentation.mailgun.com (receive-http)."""
    fields: dict[str, bytes | str] = {
        "recipient": AGENT,
        "sender": "anna@example.test",
        "from": "Anna <anna@example.test>",
        "subject": "Question",
        "body-mime": source,
        **(mailgun_proof(**signing) if proof is None else proof),
    }
    if encoded:
        return Request("/email/incoming/mailgun", urlencode(fields).encode(), URLENCODED)
    return Request("/email/incoming/mailgun", multipart(list(fields.items())), FORM)


def mailgun_parsed(number: int = 1, headers: list[list[str]] | None = None) -> Request:
    """The fully parsed form, with a file and an inline picture."""
    given = headers or [
        ["Received", "by 10.0.0.1 with HTTP"],
        ["From", "Anna Öst <anna@example.test>"],
        ["To", AGENT],
        ["Subject", "Grüße"],
        ["Message-Id", f"<p{number}@example.test>"],
        ["In-Reply-To", "<before@example.test>"],
        ["Content-Type", 'multipart/mixed; boundary="abc"'],
        ["Mime-Version", "1.0"],
    ]
    return Request(
        "/email/incoming/mailgun",
        multipart(
            [
                ("recipient", AGENT),
                ("sender", "anna@example.test"),
                ("subject", "Grüße"),
                ("body-plain", "Hallo,\n\nwie geht es?\n"),
                ("body-html", "<p>Hallo, wie geht es?</p>"),
                ("message-headers", json.dumps(given)),
                ("attachment-count", "2"),
                ("content-id-map", json.dumps({"<logo>": "attachment-2"})),
                ("attachment-1", ("Bericht März.pdf", "application/pdf", b"%PDF-1.7\x00\xff")),
                ("attachment-2", ("logo.png", "image/png", b"\x89PNG")),
                *mailgun_proof().items(),
            ]
        ),
        FORM,
    )


def basic(pair: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def postmark(
    source: bytes, *, pair: str = POSTMARK, id_: str = "22c74902-a0c1-4511", **fields: Any
) -> Request:
    """https://postmarkapp.com/developer/webhooks/inbound-webhook, with the raw mail included."""
    data = {
        "FromName": "Anna",
        "MessageStream": "inbound",
        "From": "anna@example.test",
        "FromFull": {"Email": "anna@example.test", "Name": "Anna Öst", "MailboxHash": ""},
        "To": AGENT,
        "ToFull": [{"Email": AGENT, "Name": "Agent", "MailboxHash": ""}],
        "CcFull": [{"Email": "carl@example.test", "Name": "", "MailboxHash": ""}],
        "OriginalRecipient": AGENT,
        "Subject": "This is an inbound message",
        "MessageID": id_,
        "ReplyTo": "",
        "Date": "Tue, 24 Nov 2026 09:00:00 +01:00",
        "TextBody": "Ein Text.\n",
        "HtmlBody": "<p>Ein Text.</p>",
        "StrippedTextReply": "Ein Text.",
        "Headers": [
            {"Name": "Message-ID", "Value": "<pm1@example.test>"},
            {
                "Name": "Received-SPF",
                "Value": "Pass (sender SPF authorized) identity=mailfrom; client-ip=209.85.160.180; "
                f"helo=mail.example.test; envelope-from=anna@example.test; receiver={AGENT}",
            },
        ],
        "Attachments": [
            {
                "Name": "notes.txt",
                "Content": base64.b64encode(b"notes").decode(),
                "ContentType": "text/plain",
                "ContentLength": 5,
            }
        ],
        **({"RawEmail": source.decode()} if source else {}),
        **fields,
    }
    return Request("/email/incoming/postmark", json.dumps(data).encode(), {**JSON, **basic(pair)})


def sendgrid(
    source: bytes,
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    at: float | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Request:
    """Inbound Parse with "POST the raw, full MIME message" and a security policy that signs."""
    form: dict[str, Any] = {
        "email": source,
        "to": AGENT,
        "from": "Anna <anna@example.test>",
        "subject": "Question",
        "dkim": "{@example.test : pass}",
        "SPF": "pass",
        "envelope": json.dumps({"to": [AGENT], "from": "anna@example.test"}),
        "sender_ip": "192.0.2.1",
        "charsets": json.dumps({"to": "UTF-8", "subject": "UTF-8", "from": "UTF-8"}),
        **(fields or {}),
    }
    body = multipart([(name, value) for name, value in form.items() if value is not None])
    stamp = str(int(time.time() if at is None else at))
    signature = (key or ec_key()).sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    return Request(
        "/email/incoming/sendgrid",
        body,
        {
            **FORM,
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": stamp,
        },
    )


def sendgrid_by_url(source: bytes, secret: str = SECRET) -> Request:
    form = multipart(
        [("email", source), ("envelope", json.dumps({"to": [AGENT], "from": "anna@example.test"}))]
    )
    return Request(f"/email/incoming/sendgrid?secret={secret}", form, FORM)


def certificate(key: rsa.RSAPrivateKey | None = None, *, days: tuple[int, int] = (-1, 30)) -> bytes:
    key = key or rsa_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


def sns(message: Mapping[str, Any], *, key: rsa.RSAPrivateKey | None = None, version: str = "2") -> Request:
    """A message of Amazon SNS, signed (docs.aws.amazon.com/sns, verifying the signatures)."""
    names = (
        ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
        if message["Type"] == "Notification"
        else ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    )
    text = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    kind = hashes.SHA1() if version == "1" else hashes.SHA256()
    signature = (key or rsa_key()).sign(text.encode(), padding.PKCS1v15(), kind)
    data = {
        "SignatureVersion": version,
        "Signature": base64.b64encode(signature).decode(),
        "SigningCertURL": CERTIFICATE_URL,
        **message,
    }
    headers = {
        "Content-Type": "text/plain; charset=UTF-8",  # that is what SNS sends
        "x-amz-sns-message-type": message["Type"],
        "x-amz-sns-topic-arn": message.get("TopicArn", ""),
    }
    return Request("/email/incoming/ses", json.dumps(data).encode(), headers)


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ses_message(
    source: bytes, *, id_: str = "", at: float | None = None, dmarc: str = "PASS", encoding: str = "UTF-8"
) -> dict[str, Any]:
    """A receipt rule's SNS action (docs.aws.amazon.com/ses, notification examples)."""
    content = base64.b64encode(source).decode() if encoding == "BASE64" else source.decode()
    received = {
        "notificationType": "Received",
        "receipt": {
            "timestamp": "2026-11-24T08:00:00.000Z",
            "recipients": [AGENT],
            "spamVerdict": {"status": "PASS"},
            "virusVerdict": {"status": "PASS"},
            "spfVerdict": {"status": "PASS"},
            "dkimVerdict": {"status": "PASS"},
            **({"dmarcVerdict": {"status": dmarc}} if dmarc else {}),
            "action": {"type": "SNS", "topicArn": TOPIC, "encoding": encoding},
        },
        "mail": {
            "source": "anna@example.test",
            "messageId": "d6iitobk75ur44p8kdnnp7g2n800",
            "destination": [AGENT],
            "headersTruncated": False,
        },
        **({"content": content} if source else {}),
    }
    return {
        "Type": "Notification",
        "MessageId": id_ or hashlib.sha256(source).hexdigest()[:36],
        "TopicArn": TOPIC,
        "Subject": "Amazon SES Email Receipt Notification",
        "Message": json.dumps(received),
        "Timestamp": iso(time.time() if at is None else at),
    }


def ses(
    source: bytes, *, key: rsa.RSAPrivateKey | None = None, version: str = "2", **options: Any
) -> Request:
    return sns(ses_message(source, **options), key=key, version=version)


def subscription(**changes: Any) -> dict[str, Any]:
    return {
        "Type": "SubscriptionConfirmation",
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "Token": "2336412f37f",
        "TopicArn": TOPIC,
        "Message": f"You have chosen to subscribe to the topic {TOPIC}.",
        "SubscribeURL": SUBSCRIBE_URL,
        "Timestamp": iso(time.time()),
        **changes,
    }


def cloudmailin(source: bytes, *, pair: str = CLOUDMAILIN, spf: str = "pass") -> Request:
    """The Raw format (docs.cloudmailin.com/http_post_formats/raw)."""
    fields: list[tuple[str, Any]] = [
        ("envelope[to]", AGENT),
        ("envelope[recipients][0]", AGENT),
        ("envelope[from]", "anna@example.test"),
        ("envelope[helo_domain]", "mail.example.test"),
        ("envelope[remote_ip]", "192.0.2.1"),
        ("envelope[spf][result]", spf),
        ("envelope[spf][domain]", "example.test"),
        ("message", source),
    ]
    return Request("/email/incoming/cloudmailin", multipart(fields), {**FORM, **basic(pair)})


def svix(
    body: bytes, *, secret: str = RESEND_SECRET, id_: str = "msg_1", at: float | None = None
) -> dict[str, str]:
    stamp = str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{id_}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "svix-id": id_,
        "svix-timestamp": stamp,
        "svix-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def resend(*, kind: str = "email.received", email_id: str = "56761188-7520-42d8", **signing: Any) -> Request:
    """https://resend.com/docs/webhooks: metadata only."""
    event = {
        "type": kind,
        "created_at": "2026-11-24T08:00:00.000Z",
        "data": {
            "email_id": email_id,
            "created_at": "2026-11-24T08:00:00.000Z",
            "from": "Anna <anna@example.test>",
            "to": [AGENT],
            "cc": [],
            "bcc": [],
            "message_id": "<m1@example.test>",
            "subject": "Question 1",
            "attachments": [],
        },
    }
    body = json.dumps(event).encode()
    return Request("/email/incoming/resend", body, {**JSON, **svix(body, **signing)})


def resend_answers(source: bytes, email_id: str = "56761188-7520-42d8") -> dict[str, bytes | Exception]:
    """What Resend's API and its file server say of that mail."""
    received = {
        "object": "email",
        "id": email_id,
        "to": [AGENT],
        "from": "Anna <anna@example.test>",
        "subject": "Question 1",
        "html": None,
        "text": "This is question 1.",
        "headers": {"received": ["by mx1", "from there"]},
        "message_id": "<m1@example.test>",
        "raw": {"download_url": RAW_URL, "expires_at": "2026-11-25T08:00:00.000Z"},
        "attachments": [],
    }
    return {
        f"https://api.resend.com/emails/receiving/{email_id}": json.dumps(received).encode(),
        RAW_URL: source,
    }


def brevo(*items: dict[str, Any], authorization: Mapping[str, str] | None = None) -> Request:
    """https://developers.brevo.com/docs/inbound-parse-webhooks."""
    body = json.dumps({"items": list(items) or [brevo_item()]}).encode()
    proof = basic(BREVO) if authorization is None else dict(authorization)
    return Request("/email/incoming/brevo", body, {**JSON, **proof})


def brevo_item(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "Uuid": [f"aaaaaaaa-bbbb-cccc-dddd-{number:012}"],
        "MessageId": f"<b{number}@example.test>",
        "InReplyTo": None,
        "From": {"Name": "Anna", "Address": "anna@example.test"},
        "To": [{"Name": None, "Address": AGENT}],
        "Cc": [],
        "ReplyTo": None,
        "SentAtDate": "Tue, 24 Nov 2026 09:00:00 +0100",
        "Subject": "Frage",
        "Attachments": [],
        "Headers": {
            "Received": ["by outbound.example.test", "from [10.10.1.22]"],
            "From": "Anna <anna@example.test>",
            "To": AGENT,
            "Subject": "Frage",
            "Message-ID": f"<b{number}@example.test>",
            "Date": "Tue, 24 Nov 2026 09:00:00 +0100",
            "Content-Type": "multipart/alternative",
        },
        "SpamScore": 2.9,
        "ExtractedMarkdownMessage": "Ein Text.",
        "RawHtmlBody": "<div>Ein Text.</div>\r\n",
        "RawTextBody": "Ein Text.\r\n",
        **changes,
    }


# --- our own ---------------------------------------------------------------------------------------------


def signed(
    body: bytes, *, secret: str = SECRET, at: float | None = None, path: str = "/email/incoming"
) -> Request:
    stamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    kind = "application/json" if path == "/email/incoming" else "message/rfc822"
    return Request(path, body, {"Content-Type": kind, "X-Cleo-Signature": f"t={stamp},v1={digest}"})


def fields_body(number: int = 1) -> bytes:
    return json.dumps(
        {
            "from_address": "anna@example.test",
            "to_address": AGENT,
            "subject": "Hello",
            "body": "Are you there?",
            "message_id": f"<f{number}@example.test>",
        }
    ).encode()


# One valid request of each way in, by its number.
VALID: dict[str, Callable[[int], Request]] = {
    "mailgun": lambda n: mailgun(mail(n)),
    "mailgun-multipart": lambda n: mailgun(mail(n), encoded=False),
    "mailgun-parsed": mailgun_parsed,
    "postmark": lambda n: postmark(mail(n), id_=f"postmark-{n}"),
    "postmark-parsed": lambda n: postmark(b"", id_=f"postmark-parsed-{n}"),
    "sendgrid": lambda n: sendgrid(mail(n)),
    "ses": lambda n: ses(mail(n)),
    "ses-sha1": lambda n: ses(mail(n), version="1"),
    "cloudmailin": lambda n: cloudmailin(mail(n)),
    "resend": lambda n: resend(id_=f"msg_{n}"),
    "brevo": lambda n: brevo(brevo_item(n)),
    "signature": lambda n: signed(fields_body(n)),
    "signature-raw": lambda n: signed(mail(n), path="/email/incoming/raw"),
}
