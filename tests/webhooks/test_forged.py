"""Hundreds of forged, stale, replayed, truncated and mutated requests: none of them leaves a record.

Each family is one way to be wrong, made for every way in. A request counts as accepted if it is answered with
success and is no duplicate, or if there is a record afterwards that was not there before.
"""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from flask.testing import FlaskClient

from tests.webhooks import samples
from tests.webhooks.conftest import Make
from tests.webhooks.samples import VALID, Request, Web, ec_key, mail, rsa_key, send

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SIGNATURE, STAMP = "X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp"
SIGNED_BODY = ["sendgrid", "ses", "ses-sha1", "resend", "signature", "signature-raw"]
BASIC = ["postmark", "cloudmailin", "brevo"]
DAY = 86_400


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def spread(length: int, count: int) -> list[int]:
    """``count`` positions over the whole length."""
    return sorted({length * step // count for step in range(count)})


def form_of(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True))


def mailgun_with(**changes: str | None) -> Request:
    fields = {k: v for k, v in {**form_of(VALID["mailgun"](1)), **changes}.items() if v is not None}
    return Request("/email/incoming/mailgun", urlencode(fields).encode(), samples.URLENCODED)


def json_with(request: Request, **changes: object) -> Request:
    data = {**json.loads(request.body), **changes}
    return replace(request, body=json.dumps(data).encode())


# --- families ----------------------------------------------------------------------------------------------


def signed_with_another_secret() -> Iterator[Request]:
    guesses = [
        "",
        "a",
        "key-mailgun-081",
        "key-mailgun-08155",
        "KEY-MAILGUN-0815",
        "old-webhook-secret-0815,webhook-secret-4711",
    ]
    for guess in guesses:
        yield samples.mailgun(mail(1), key=guess)
        yield samples.signed(samples.fields_body(1), secret=guess)
        yield samples.signed(mail(1), secret=guess, path="/email/incoming/raw")
        yield samples.resend(secret="whsec_" + base64.b64encode(guess.encode() or b"x").decode())
        for make in (samples.postmark, samples.cloudmailin):
            yield make(mail(1), pair=guess)
            yield make(mail(1), pair=f"postmark:{guess}")
        yield samples.brevo(authorization=samples.basic(guess))
        yield samples.brevo(authorization={"Authorization": f"Bearer {guess}"})
    for number in range(10):
        yield samples.sendgrid(mail(1), key=ec_key(f"stranger {number}"))
    for version in ("1", "2"):
        yield samples.ses(mail(1), key=rsa_key("stranger"), version=version)


def without_or_with_half_a_proof() -> Iterator[Request]:
    for name in ("timestamp", "token", "signature"):
        for value in (None, "", "0", "null", "x" * 64):
            yield mailgun_with(**{name: value})
    for name, headers in {
        "sendgrid": [SIGNATURE, STAMP],
        "resend": ["svix-id", "svix-timestamp", "svix-signature"],
        "postmark": ["Authorization"],
        "cloudmailin": ["Authorization"],
        "brevo": ["Authorization"],
        "signature": ["X-Cleo-Signature"],
        "signature-raw": ["X-Cleo-Signature"],
    }.items():
        for header in headers:
            for value in (None, "", "0", "null", "Bearer", "Basic", "v1,", "t=1,v1="):
                yield VALID[name](1).with_headers(**{header: value})
    for field in ("Signature", "SigningCertURL", "TopicArn", "Timestamp", "Type", "SignatureVersion"):
        for value in (None, "", "0", [], {"a": 1}, 1, True):
            yield json_with(VALID["ses"](1), **{field: value})


def cut_or_changed_signatures() -> Iterator[Request]:
    real = form_of(VALID["mailgun"](1))
    for at in spread(64, 12):
        mutated = (
            real["signature"][:at]
            + ("0" if real["signature"][at] != "0" else "1")
            + real["signature"][at + 1 :]
        )
        fields = {**real, "signature": mutated}
        yield Request("/email/incoming/mailgun", urlencode(fields).encode(), samples.URLENCODED)
        cut = {**real, "signature": real["signature"][:at]}
        yield Request("/email/incoming/mailgun", urlencode(cut).encode(), samples.URLENCODED)
    for name, header in (
        ("sendgrid", SIGNATURE),
        ("resend", "svix-signature"),
        ("signature", "X-Cleo-Signature"),
        ("signature-raw", "X-Cleo-Signature"),
    ):
        request = VALID[name](1)
        value = request.headers[header]
        begin = 4 if name == "resend" else len(value) - 64 if name.startswith("signature") else 0
        for at in (begin + place for place in spread(len(value) - begin - 4, 12)):
            other = "b" if value[at] != "b" else "c"
            yield request.with_headers(**{header: value[:at] + other + value[at + 1 :]})
            yield request.with_headers(**{header: value[:at]})
    request = VALID["ses"](1)
    signature = base64.b64decode(json.loads(request.body)["Signature"])
    for at in spread(len(signature), 12):
        yield json_with(request, Signature=base64.b64encode(flipped(signature, at)).decode())
        yield json_with(request, Signature=base64.b64encode(signature[:at]).decode())


def mutated_bodies() -> Iterator[Request]:
    """The proof is that of another body."""
    for name in SIGNED_BODY:
        request = VALID[name](1)
        for at in spread(len(request.body), 12):
            yield replace(request, body=flipped(request.body, at))
        for body in (request.body + request.body, b"x" + request.body, request.body + b"x", b"", b"{}"):
            yield replace(request, body=body)


def truncated_bodies() -> Iterator[Request]:
    for name in [*SIGNED_BODY, *BASIC, "mailgun-multipart", "mailgun-parsed", "postmark-parsed"]:
        request = VALID[name](1)
        for at in spread(len(request.body), 10):
            yield replace(request, body=request.body[:at])
    for name in VALID:  # the connection ends before the announced length
        yield replace(VALID[name](1), missing=10)


def stale_and_future() -> Iterator[Request]:
    now = time.time()
    for age in (8.6 * 3600, 9 * 3600, DAY, 30 * DAY, 3650 * DAY, now, -400, -3600, -DAY):
        yield samples.mailgun(mail(1), at=now - age)
    for age in (74 * 3600, 4 * DAY, 30 * DAY, now, -400, -DAY):
        yield samples.sendgrid(mail(1), at=now - age)
    for age in (2.1 * 3600, DAY, 30 * DAY, -400, -DAY):
        for version in ("1", "2"):
            yield samples.ses(mail(1), at=now - age, version=version)
    for age in (310, 3600, DAY, now, -310, -3600, -DAY):
        yield samples.resend(at=now - age)
        yield samples.signed(samples.fields_body(1), at=now - age)
        yield samples.signed(mail(1), at=now - age, path="/email/incoming/raw")
    for stamp in ("", "now", "1e9", "0x65", " 1700000000", "-1", "1700000000.5", "١٧٠٠٠٠٠٠٠٠", "9" * 30):
        token = "t" * 50
        proof = samples.mailgun_proof(token=token)
        yield samples.mailgun(mail(1), proof={**proof, "timestamp": stamp})
        yield sns_at(stamp)
        yield VALID["signature"](1).with_headers(
            X_Cleo_Signature=f"t={stamp.encode('ascii', 'ignore').decode()},v1={'a' * 64}"
        )


def sns_at(stamp: str) -> Request:
    return samples.sns({**samples.ses_message(mail(1)), "Timestamp": stamp})


def a_digit_moved_from_the_time_into_the_token() -> Iterator[Request]:
    """Time and token are signed as one string: the signature stays right, the time does not."""
    real = form_of(VALID["mailgun"](1))
    both = real["timestamp"] + real["token"]
    for length in (0, 1, 5, 9, 11, 12, 13, 20):
        fields = {**real, "timestamp": both[:length], "token": both[length:]}
        yield Request("/email/incoming/mailgun", urlencode(fields).encode(), samples.URLENCODED)


CERTIFICATE_URLS = [
    samples.CERTIFICATE_URL.replace("https:", "http:"),
    samples.CERTIFICATE_URL.replace("https:", "HTTPS:"),
    samples.CERTIFICATE_URL.replace(samples.REGION, "us-east-1"),
    samples.CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com.evil.test"),
    samples.CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com.cn"),
    samples.CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com:443"),
    samples.CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com:8443"),
    samples.CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com."),
    samples.CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com@evil.test"),
    samples.CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com%2eevil.test"),
    samples.CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com\\.evil.test"),
    samples.CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com\n.evil.test"),
    samples.CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.c\u043em"),
    samples.CERTIFICATE_URL.replace("https://sns.", "https://evil@sns."),
    samples.CERTIFICATE_URL.replace("https://sns.", "https://evil.sns."),
    samples.CERTIFICATE_URL.replace("https://sns.", "https://s3."),
    samples.CERTIFICATE_URL.replace("https://sns.", "https://SNS."),
    samples.CERTIFICATE_URL.replace("https://sns.", "//sns."),
    samples.CERTIFICATE_URL.replace("/Simple", "/../Simple"),
    samples.CERTIFICATE_URL.replace("/Simple", "/evil/Simple"),
    samples.CERTIFICATE_URL.replace(".pem", ".pem/../x"),
    samples.CERTIFICATE_URL.replace(".pem", ".txt"),
    samples.CERTIFICATE_URL + "\n",
    samples.CERTIFICATE_URL + "?",
    samples.CERTIFICATE_URL + "?x=1",
    samples.CERTIFICATE_URL + "#",
    samples.CERTIFICATE_URL + "#a",
    samples.CERTIFICATE_URL + ";x",
    " " + samples.CERTIFICATE_URL,
    f"https://sns.{samples.REGION}.amazonaws.com/?Action=GetTopicAttributes",
    f"https://evil.test/?x=https://sns.{samples.REGION}.amazonaws.com/SimpleNotificationService-1.pem",
    "https://169.254.169.254/SimpleNotificationService-1.pem",
    "https://localhost/SimpleNotificationService-1.pem",
    "file:///SimpleNotificationService-1.pem",
    "https://[::1]/SimpleNotificationService-1.pem",
    "https://[",
    "",
]


def certificates_from_elsewhere() -> Iterator[Request]:
    for url in CERTIFICATE_URLS:
        for version in ("1", "2"):
            yield json_with(
                samples.ses(mail(1), key=rsa_key("stranger"), version=version), SigningCertURL=url
            )
            yield json_with(samples.ses(mail(1), version=version), SigningCertURL=url)


def topics_of_strangers() -> Iterator[Request]:
    """Amazon signs for them as well."""
    for topic in (
        f"arn:aws:sns:{samples.REGION}:999999999999:mail",
        f"arn:aws:sns:{samples.REGION}:123456789012:Mail",
        "arn:aws:sns:us-east-1:123456789012:mail",
        f"{samples.TOPIC}x",
        f"{samples.TOPIC} ",
        samples.TOPIC.upper(),
        f"arn:aws:sns:{samples.REGION}.evil.test/:123456789012:mail",
        "",
    ):
        for version in ("1", "2"):
            yield samples.sns({**samples.ses_message(mail(1)), "TopicArn": topic}, version=version)
            yield samples.sns(samples.subscription(TopicArn=topic), version=version)


def one_kind_of_message_for_another() -> Iterator[Request]:
    notification, subscription = VALID["ses"](1), samples.sns(samples.subscription())
    for kind in ("SubscriptionConfirmation", "UnsubscribeConfirmation", "notification", "Other", ""):
        yield json_with(notification, Type=kind)
    for kind in ("Notification", "notification", "Other"):
        yield json_with(subscription, Type=kind)
    yield json_with(subscription, SubscribeURL="https://evil.test/")
    for version in ("0", "3", "", "1 ", 2, None):
        yield json_with(notification, SignatureVersion=version)
    yield json_with(samples.ses(mail(1), version="1"), SignatureVersion="2")
    yield json_with(samples.ses(mail(1), version="2"), SignatureVersion="1")


def one_providers_request_for_another() -> Iterator[Request]:
    names = ("mailgun", "postmark", "sendgrid", "ses", "cloudmailin", "resend", "brevo")
    for name in VALID:
        for other in names:
            request = VALID[name](1)
            if request.path != f"/email/incoming/{other}":
                yield replace(request, path=f"/email/incoming/{other}")
        for path in ("/email/incoming", "/email/incoming/raw"):
            if not name.startswith("signature"):
                yield replace(VALID[name](1), path=path)


def spellings_of_the_header() -> Iterator[Request]:
    value = VALID["signature"](1).headers["X-Cleo-Signature"]
    stamp, digest = (part.partition("=")[2] for part in value.split(","))
    for header in (
        digest,
        f"v1={digest}",
        f"t={stamp}",
        f"t={stamp},v0={digest}",
        f"t={stamp},v1={digest.upper()}",
        f"t={stamp},v1={digest}00",
        f"t={stamp},t={stamp},v1={digest}",
        f"t={stamp}0,v1={digest}",
        f"t= {stamp},v1={digest}x",
        f"t={stamp},v1=" + ",v1=".join(["0" * 64] * 50 + [digest]),
        "t=,v1=" + digest,
        "=" * 2000,
        "," * 2000,
    ):
        yield samples.signed(samples.fields_body(1)).with_headers(X_Cleo_Signature=header)
        # Nor does the plain secret help: whoever signs, signs rightly.
        wrong = samples.signed(samples.fields_body(1)).with_headers(X_Cleo_Signature=header)
        yield wrong.with_headers(X_Webhook_Secret=samples.SECRET)


FAMILIES: list[Callable[[], Iterator[Request]]] = [
    signed_with_another_secret,
    without_or_with_half_a_proof,
    cut_or_changed_signatures,
    mutated_bodies,
    truncated_bodies,
    stale_and_future,
    a_digit_moved_from_the_time_into_the_token,
    certificates_from_elsewhere,
    topics_of_strangers,
    one_kind_of_message_for_another,
    one_providers_request_for_another,
    spellings_of_the_header,
]


def count(client: FlaskClient) -> int:
    front = client.application.extensions["cleo_email"]
    return len(front.store.messages.page(limit=1000)[0])


def refused(client: FlaskClient, request: Request) -> bool:
    """Whether nothing came of it; a 5xx other than "come again" is a fault of ours."""
    answer = send(client, request)
    assert answer.status_code < 500 or answer.status_code == 503, (request.path, answer.json)
    assert set(answer.json) >= {"error"} or answer.status_code == 200
    return answer.status_code >= 400


def elsewhere(request: Request) -> Request:
    """From a caller who is not on this machine, whom alone a missing secret lets in."""
    return request.with_headers(X_Forwarded_For="203.0.113.9")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_none_of_a_family_is_accepted(
    client: FlaskClient, web: Web, family: Callable[[], Iterator[Request]]
) -> None:
    accepted = [request for request in family() if not refused(client, elsewhere(request))]
    assert accepted == []
    assert count(client) == 0
    assert {url for url, _ in web.asked} <= {samples.CERTIFICATE_URL}, "nobody leads us to other servers"


def replays(client: FlaskClient) -> Iterator[tuple[str, Request]]:
    """Of each way in: one request that was taken, then again, in the same and in other spellings."""
    for name in VALID:
        request = VALID[name](1)
        assert send(client, request).status_code in (200, 202)
        for _ in range(3):
            yield name, request
        for header, value in (("X-Extra", "1"), ("User-Agent", "curl"), ("X-Forwarded-For", "203.0.113.9")):
            yield name, request.with_headers(**{header: value})
        yield from ((name, other) for other in respelled(name, request))


def respelled(name: str, request: Request) -> Iterator[Request]:
    match name:
        case "mailgun":  # its signature does not cover the mail: another one with a used token
            fields = form_of(request)
            for number in range(2, 12):
                other = {**fields, "body-mime": mail(number).decode()}
                yield replace(request, body=urlencode(other).encode())
                both = fields["timestamp"] + fields["token"]
                moved = {**other, "timestamp": both[:9], "token": both[9:]}
                yield replace(request, body=urlencode(moved).encode())
        case "sendgrid":  # (r, n - s) is as right as (r, s)
            r, s = decode_dss_signature(base64.b64decode(request.headers[SIGNATURE]))
            twin = base64.b64encode(encode_dss_signature(r, P256_ORDER - s)).decode()
            yield request.with_headers(**{SIGNATURE: twin})
        case "resend":
            value = request.headers["svix-signature"]
            yield request.with_headers(svix_signature=f"v1,AAAA {value}")
            yield request.with_headers(svix_signature=f"{value} {value}")
        case "ses":
            data = json.loads(request.body)
            yield replace(request, body=json.dumps(data, indent=1).encode())
            yield replace(request, body=json.dumps({**data, "UnsubscribeURL": "x"}).encode())
        case "signature" | "signature-raw":
            value = request.headers["X-Cleo-Signature"]
            yield request.with_headers(X_Cleo_Signature=f"{value},v1={'0' * 64}")
            yield request.with_headers(X_Cleo_Signature=f" {value.replace(',', ' , ')}")
            yield request.with_headers(X_Envelope_From="boss@bank.test")


def test_a_replay_leaves_no_second_record(client: FlaskClient) -> None:
    kinds: Counter[str] = Counter()
    for name, request in replays(client):
        before = count(client)
        answer = send(client, request)
        kinds[name] += 1
        assert count(client) == before, name
        if name.startswith("signature"):
            assert answer.status_code == 403, "a signature is good for one request"
        elif answer.status_code == 200:
            assert answer.json["status"] == "duplicate", (name, answer.json)
    assert sum(kinds.values()) >= 100
    # Of the thirteen ways in several bring the same mail.
    assert count(client) == 5


def test_there_are_more_than_five_hundred_of_them() -> None:
    sizes = {family.__name__: sum(1 for _ in family()) for family in FAMILIES}
    assert all(size >= 8 for size in sizes.values()), sizes
    assert sum(sizes.values()) >= 900, sizes


UNSET = {"mailgun": 403, "resend": 403}  # they try again for hours; the others drop or bounce on any 4xx


@pytest.mark.parametrize("name", [name for name in VALID if not name.startswith("signature")])
def test_a_setting_that_is_missing_loses_no_mail(
    make: Make, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = make(**dict.fromkeys(samples.secrets_env(), None))
    for number in (1, 2):
        answer = send(client, VALID[name](number))
        assert answer.status_code == UNSET.get(name.partition("-")[0], 503)
        assert (answer.status_code == 503) == ("Retry-After" in answer.headers)
        assert "EMAIL_" in answer.json["error"]
    assert count(client) == 0
    assert len([one for one in caplog.messages if "is refused: " in one]) == 1


@pytest.mark.parametrize("name", VALID)
def test_nothing_is_taken_from_elsewhere_while_no_secret_is_set(make: Make, web: Web, name: str) -> None:
    client = make(**dict.fromkeys(samples.secrets_env(), None))
    assert refused(client, elsewhere(VALID[name](1)))
    assert count(client) == 0
    assert web.asked == []
