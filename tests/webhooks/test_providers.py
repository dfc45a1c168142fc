"""Each provider's documented request becomes a stored mail, once, answered with the code it understands."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from flask.testing import FlaskClient

from cleo_email.errors import StoreUnavailable
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.parse import parse
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.store import Accepted, Record
from cleo_email.webhooks.base import NotNow, Unusable
from tests.support.web import app_of
from tests.webhooks import samples
from tests.webhooks.conftest import Make
from tests.webhooks.samples import (
    AGENT,
    BREVO_KEY,
    BREVO_TOKEN,
    CERTIFICATE_URL,
    RAW_URL,
    RESEND_KEY,
    SUBSCRIBE_URL,
    VALID,
    Request,
    Web,
    mail,
    send,
)


def records(client: FlaskClient) -> list[Record]:
    return app_of(client).store.messages.page(limit=1000)[0]


@pytest.fixture
def envelope_senders(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """What each request says of the envelope sender of its mail."""
    seen: list[str | None] = []
    receiver = app_of(client).receiver
    accept = receiver.accept

    def noted(incoming: IncomingMail) -> Accepted:
        seen.append(incoming.envelope_from)
        return accept(incoming)

    monkeypatch.setattr(receiver, "accept", noted)
    return seen


def stored(client: FlaskClient, request: Request) -> tuple[Record, InboundEmail]:
    """The one record that a request leaves, and its mail."""
    before = {record.id for record in records(client)}
    answer = send(client, request)
    assert (answer.status_code, answer.json["status"]) == (200, "accepted"), answer.json
    (record,) = [record for record in records(client) if record.id not in before]
    assert answer.json == {"id": record.id, "thread_id": record.thread_id, "status": "accepted"}
    source = app_of(client).store.messages.source(record.id)
    assert source is not None
    return record, parse(source)


@pytest.mark.parametrize("name", [name for name in VALID if not name.startswith("signature")])
def test_a_documented_request_is_stored_once(client: FlaskClient, name: str) -> None:
    request = VALID[name](1)
    record, read = stored(client, request)
    assert record.state == "received"
    assert record.from_address == "anna@example.test"
    assert record.to_address == AGENT
    assert record.ingress == name.partition("-")[0]
    assert read.message_id.endswith("@example.test>")
    assert read.full_text.strip()
    again = send(client, request)
    assert (again.status_code, again.json["status"], again.json["id"]) == (200, "duplicate", record.id)
    assert len(records(client)) == 1


RAW = {
    "mailgun": samples.mailgun,
    "mailgun-multipart": lambda source: samples.mailgun(source, encoded=False),
    "sendgrid": samples.sendgrid,
    "cloudmailin": samples.cloudmailin,
    "ses": lambda source: samples.ses(source, encoding="BASE64"),
}


@pytest.mark.parametrize("name", RAW)
def test_a_raw_mail_arrives_byte_for_byte(client: FlaskClient, name: str) -> None:
    """Also one that is not UTF-8, and one that looks like a part of the form."""
    source = mail(1).replace(b"question 1.", b"caf\xe9 &=%41+ \xff\x00\r\n--xYzZ\r\n\r\nend  ") + b"\r\n"
    record, _ = stored(client, RAW[name](source))
    assert app_of(client).store.messages.source(record.id) == source


def test_the_same_mail_from_two_providers_is_one(client: FlaskClient) -> None:
    ids = {send(client, VALID[name](7)).json["id"] for name in ("mailgun", "postmark", "ses", "cloudmailin")}
    assert len(ids) == 1
    assert len(records(client)) == 1


def test_a_mail_that_postmark_took_apart_is_the_one_that_came_by_imap(client: FlaskClient) -> None:
    """Postmark writes the zone of its Date with a colon: read as UTC it would be another mail."""
    first = send(client, samples.postmark(b"", Subject="Question 1", Headers=[_id_of(1)]))
    again = app_of(client).receiver.accept(IncomingMail(mail(1), "imap"))
    assert (again.duplicate, again.id) == (True, first.json["id"])


def _id_of(number: int) -> dict[str, str]:
    return {"Name": "Message-ID", "Value": f"<m{number}@example.test>"}


def test_raw_wins_over_parsed_fields(client: FlaskClient) -> None:
    record, read = stored(
        client, samples.postmark(mail(3), Subject="Something else", TextBody="Another text")
    )
    assert (record.subject, read.text.strip()) == ("Question 3", "This is question 3.")
    proof = samples.mailgun_proof()
    fields = [("body-plain", "Another"), ("body-mime", mail(4)), ("message-headers", "[]"), *proof.items()]
    record, read = stored(client, Request("/email/incoming/mailgun", samples.multipart(fields), samples.FORM))
    assert (record.subject, read.text.strip()) == ("Question 4", "This is question 4.")


# --- mails taken apart -----------------------------------------------------------------------------------


def test_mailgun_parsed(client: FlaskClient, envelope_senders: list[str | None]) -> None:
    record, read = stored(client, samples.mailgun_parsed(1))
    assert (record.subject, envelope_senders) == ("Grüße", ["anna@example.test"])
    assert (read.from_name, read.in_reply_to) == ("Anna Öst", ("<before@example.test>",))
    assert read.text.strip() == "Hallo,\n\nwie geht es?"
    assert [(a.filename, a.content_type, a.content) for a in read.attachments] == [
        ("Bericht März.pdf", "application/pdf", b"%PDF-1.7\x00\xff"),
        ("logo.png", "image/png", b"\x89PNG"),
    ]
    assert (read.attachments[1].content_id, read.attachments[1].inline) == ("logo", True)


def test_postmark_parsed(client: FlaskClient, envelope_senders: list[str | None]) -> None:
    record, read = stored(client, samples.postmark(b""))
    assert (record.message_id, envelope_senders) == ("<pm1@example.test>", ["anna@example.test"])
    assert (read.from_name, read.from_address) == ("Anna Öst", "anna@example.test")
    assert [one.addr for one in read.cc] == ["carl@example.test"]
    assert read.subject == "This is an inbound message"
    assert read.date is not None
    assert [(a.filename, a.content) for a in read.attachments] == [("notes.txt", b"notes")]


def postmark_file(content: str) -> Request:
    file = {"Name": "a.bin", "Content": content, "ContentType": "application/octet-stream"}
    return samples.postmark(b"", Attachments=[file])


@pytest.mark.parametrize("content", ["*&^", "YWJj*", "YWJ", "YWJjZA", "YW=JjZA=", "ü"])
def test_postmark_with_a_file_that_is_no_base64_is_not_taken(client: FlaskClient, content: str) -> None:
    answer = send(client, postmark_file(content))
    assert (answer.status_code, "base64" in answer.json["error"]) == (403, True)
    assert records(client) == []


def test_base64_may_be_broken_into_lines(client: FlaskClient) -> None:
    data = bytes(range(256))
    _, read = stored(client, postmark_file(base64.encodebytes(data).decode()))
    assert [file.content for file in read.attachments] == [data]
    message = samples.ses_message(mail(2), encoding="BASE64")
    received = json.loads(message["Message"])
    received["content"] = base64.encodebytes(mail(2)).replace(b"\n", b"\r\n").decode()
    record, _ = stored(client, samples.sns({**message, "Message": json.dumps(received)}))
    assert app_of(client).store.messages.source(record.id) == mail(2)


def test_sendgrid_parsed_in_the_charsets_it_names(client: FlaskClient) -> None:
    fields = {
        "email": None,
        "headers": "From: anna@example.test\nSubject: x\nMessage-ID: <sg1@example.test>\nX-Fold: a\n b\n",
        "text": "Café".encode("iso-8859-1"),
        "html": "<p>Café</p>".encode(),
        "charsets": json.dumps({"text": "iso-8859-1", "html": "utf-8"}),
        "attachment-info": json.dumps({"attachment1": {"filename": "a.txt", "type": "text/plain"}}),
        "attachment1": ("a.txt", "text/plain", b"file"),
    }
    record, read = stored(client, samples.sendgrid(b"", fields=fields))
    assert (record.message_id, read.text.strip()) == ("<sg1@example.test>", "Café")
    assert [(a.filename, a.content) for a in read.attachments] == [("a.txt", b"file")]


def test_brevo_with_several_mails_and_files(client: FlaskClient, web: Web) -> None:
    web.answers["https://api.brevo.com/v3/inbound/attachments/tok.en-1"] = b"\x00picture"
    file = {
        "Name": "p.png",
        "ContentType": "image/png",
        "ContentLength": 8,
        "ContentID": "abc",
        "DownloadToken": "tok.en-1",
    }
    answer = send(client, samples.brevo(samples.brevo_item(1, Attachments=[file]), samples.brevo_item(2)))
    assert answer.status_code == 200
    assert [one["status"] for one in answer.json["messages"]] == ["accepted", "accepted"]
    first = app_of(client).store.messages.source(answer.json["messages"][0]["id"])
    assert first is not None
    assert [(a.filename, a.content) for a in parse(first).attachments] == [("p.png", b"\x00picture")]
    assert web.asked == [("https://api.brevo.com/v3/inbound/attachments/tok.en-1", {"api-key": BREVO_KEY})]
    bearer = samples.brevo(samples.brevo_item(3), authorization={"Authorization": f"Bearer {BREVO_TOKEN}"})
    assert send(client, bearer).json["status"] == "accepted"


def test_brevo_without_a_key_holds_a_mail_whose_files_it_cannot_fetch(make: Make) -> None:
    client = make(EMAIL_BREVO_API_KEY=None)
    file = {"Name": "p.png", "ContentType": "image/png", "ContentLength": 8, "DownloadToken": "t"}
    record, _ = stored(client, samples.brevo(samples.brevo_item(1, Attachments=[file])))
    assert record.state == "held"
    assert "EMAIL_BREVO_API_KEY" in record.reason


@pytest.mark.parametrize(
    "change",
    [{"DownloadToken": None}, {"DownloadToken": "../x"}, {"DownloadToken": "gone"}, {"ContentLength": 10**9}],
)
def test_brevo_holds_a_mail_of_which_a_file_is_missing(client: FlaskClient, change: dict[str, Any]) -> None:
    file = {"Name": "p.png", "ContentType": "image/png", "ContentLength": 8, "DownloadToken": "t", **change}
    record, read = stored(client, samples.brevo(samples.brevo_item(1, Attachments=[file])))
    assert record.state == "held"
    assert "files" in record.reason
    assert read.text.strip() == "Ein Text."


def test_a_bounce_taken_apart_is_still_a_bounce(client: FlaskClient) -> None:
    headers = [
        ["From", "Mail Delivery <postmaster@example.test>"],
        ["To", AGENT],
        ["Subject", "Zustellung"],
        ["Message-Id", "<bounce@example.test>"],
        ["Content-Type", 'multipart/report; report-type=delivery-status; boundary="b"'],
    ]
    record, _ = stored(client, samples.mailgun_parsed(1, headers))
    assert record.state == "ignored"


def test_no_header_can_be_smuggled_into_a_mail_made_anew(client: FlaskClient) -> None:
    headers = [
        ["From", "anna@example.test"],
        ["Subject", "a\r\nFrom: boss@example.test\r\n\r\nbody"],
        ["X-Evil\r\nFrom: boss@example.test\r\nX", "y"],
        ["Bad Name", "z"],
        ["Message-Id", "<i@example.test>"],
    ]
    _, read = stored(client, samples.mailgun_parsed(1, headers))
    assert [one.addr for one in read.from_] == ["anna@example.test"]
    assert read.subject == "a From: boss@example.test body"


# --- Resend fetches --------------------------------------------------------------------------------------


def test_resend_fetches_the_raw_mail_with_the_key(client: FlaskClient, web: Web) -> None:
    record, _ = stored(client, samples.resend())
    assert app_of(client).store.messages.source(record.id) == mail(1)
    assert web.asked == [
        (
            "https://api.resend.com/emails/receiving/56761188-7520-42d8",
            {"Authorization": f"Bearer {RESEND_KEY}"},
        ),
        (RAW_URL, {}),  # the key goes to the API alone
    ]


def test_resend_without_a_key_says_so_and_is_asked_to_come_again(make: Make) -> None:
    client = make(EMAIL_RESEND_API_KEY=None)
    answer = send(client, samples.resend())
    assert answer.status_code == 503
    assert "EMAIL_RESEND_API_KEY" in answer.json["error"]
    assert records(client) == []


def test_a_fault_while_fetching_is_503_and_the_same_event_is_taken_later(
    client: FlaskClient, web: Web
) -> None:
    there = dict(web.answers)
    for url in (RAW_URL, "https://api.resend.com/emails/receiving/56761188-7520-42d8"):
        web.answers[url] = NotNow("no connection")
        answer = send(client, samples.resend())
        assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True)
        assert records(client) == []
        web.answers.update(there)
    assert send(client, samples.resend()).json["status"] == "accepted"


def test_resend_without_a_raw_mail_uses_its_fields_and_holds_missing_files(
    client: FlaskClient, web: Web
) -> None:
    url = "https://api.resend.com/emails/receiving/56761188-7520-42d8"
    data = json.loads(bytes(web.answers[url]))  # type: ignore[arg-type]
    data |= {"raw": None}
    web.answers[url] = json.dumps(data).encode()
    record, read = stored(client, samples.resend(id_="msg_a"))
    assert (record.state, record.message_id, read.text.strip()) == (
        "received",
        "<m1@example.test>",
        "This is question 1.",
    )
    data |= {"attachments": [{"id": "a"}], "message_id": "<other@example.test>", "headers": {}}
    web.answers[url] = json.dumps(data).encode()
    record, _ = stored(client, samples.resend(id_="msg_b"))
    assert record.state == "held"


@pytest.mark.parametrize("id_", ["", "../../domains", "a/b", "x" * 65, "é"])
def test_resend_asks_for_no_other_path(client: FlaskClient, web: Web, id_: str) -> None:
    assert send(client, samples.resend(email_id=id_)).status_code == 422
    assert web.asked == []


# --- Amazon SNS ------------------------------------------------------------------------------------------


def test_a_subscription_of_our_topic_is_confirmed_once(client: FlaskClient, web: Web) -> None:
    answer = send(client, samples.sns(samples.subscription()))
    assert (answer.status_code, answer.json["reason"]) == (200, "the subscription is confirmed")
    assert [url for url, _ in web.asked] == [CERTIFICATE_URL, SUBSCRIBE_URL]
    assert send(client, samples.sns(samples.subscription())).status_code == 200
    assert [url for url, _ in web.asked].count(SUBSCRIBE_URL) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-central-1.amazonaws.com/?Token=1",
        "https://sns.us-east-1.amazonaws.com/?Token=1",
        "https://sns.eu-central-1.amazonaws.com.evil.test/",
        "https://sns.eu-central-1.amazonaws.com:8443/",
        "https://user@sns.eu-central-1.amazonaws.com/",
        "https://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "",
        None,
    ],
)
def test_a_subscribe_url_that_leads_elsewhere_is_not_visited(client: FlaskClient, web: Web, url: Any) -> None:
    message = samples.subscription(SubscribeURL=url)
    if url is None:
        del message["SubscribeURL"]
    assert send(client, samples.sns(message)).status_code == 422
    assert [url for url, _ in web.asked] == [CERTIFICATE_URL]


def test_the_certificate_is_fetched_once(client: FlaskClient, web: Web) -> None:
    for number in range(3):
        assert send(client, samples.ses(mail(number))).status_code == 200
    assert [url for url, _ in web.asked] == [CERTIFICATE_URL]


def test_a_certificate_that_cannot_be_fetched_now_is_503(client: FlaskClient, web: Web) -> None:
    web.answers[CERTIFICATE_URL] = NotNow("no connection")
    assert send(client, VALID["ses"](1)).status_code == 503
    web.answers[CERTIFICATE_URL] = samples.certificate()
    assert send(client, VALID["ses"](1)).status_code == 200


@pytest.mark.parametrize(
    "pem",
    [
        samples.certificate(days=(-30, -1)),
        samples.certificate(days=(1, 30)),
        samples.certificate(samples.rsa_key("other")),
        b"no certificate",
        b"",
        Unusable("404"),
    ],
)
def test_another_or_outdated_certificate_proves_nothing(client: FlaskClient, web: Web, pem: Any) -> None:
    web.answers[CERTIFICATE_URL] = pem
    for number in range(2):
        assert send(client, VALID["ses"](number)).status_code == 403
    assert len(web.asked) == 1, "a wrong certificate is not fetched again for each forged request"


def test_ses_without_content_points_to_the_rule(client: FlaskClient) -> None:
    answer = send(client, samples.ses(b""))
    assert answer.status_code == 422
    assert "S3" in answer.json["error"]
    assert "SNS action" in answer.json["error"]


@pytest.mark.parametrize(
    "text",
    ["Successfully validated SNS topic for Amazon SES event publishing.", '{"notificationType": "Bounce"}'],
)
def test_other_notifications_are_acknowledged_and_leave_no_record(client: FlaskClient, text: str) -> None:
    answer = send(client, samples.sns({**samples.ses_message(mail(1)), "Message": text}))
    assert (answer.status_code, answer.json["status"]) == (200, "ignored")
    assert records(client) == []


def test_events_that_are_no_mail_are_acknowledged(client: FlaskClient) -> None:
    for request in (
        samples.resend(kind="email.delivered"),
        samples.postmark(b"", RecordType="Bounce"),
        samples.brevo({}),
    ):
        answer = send(client, request)
        assert (answer.status_code, answer.json["status"]) == (200, "ignored"), answer.json
    assert records(client) == []


# --- what cannot be used, and what cannot be stored ------------------------------------------------------


def test_what_is_of_no_use_is_answered_with_the_code_on_which_each_gives_up(client: FlaskClient) -> None:
    nothing = [("subject", "x"), *samples.mailgun_proof().items()]
    assert (
        send(client, Request("/email/incoming/mailgun", samples.multipart(nothing), samples.FORM)).status_code
        == 406
    )
    proof = {**samples.JSON, **samples.basic(samples.POSTMARK)}
    for body in (b"{}", b"[]", b"{", b"\xff", b"[" * 100_000):
        assert send(client, Request("/email/incoming/postmark", body, proof)).status_code == 403
    assert send(client, samples.sendgrid(b"", fields={"email": None})).status_code == 422


def test_what_the_operator_can_mend_is_to_come_again(client: FlaskClient) -> None:
    form = samples.multipart([("plain", "text"), ("headers[from]", "x")])
    proof = {**samples.FORM, **samples.basic(samples.CLOUDMAILIN)}
    answer = send(client, Request("/email/incoming/cloudmailin", form, proof))
    assert (answer.status_code, "Raw format" in answer.json["error"]) == (503, True)
    store = [("message-url", "https://storage"), *samples.mailgun_proof().items()]
    answer = send(client, Request("/email/incoming/mailgun", samples.multipart(store), samples.FORM))
    assert (answer.status_code, "forward()" in answer.json["error"]) == (503, True)


@pytest.mark.parametrize("name", VALID)
def test_what_could_not_be_stored_is_503_and_taken_when_it_comes_again(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    request = VALID[name](1)
    with monkeypatch.context() as patch:

        def down(*_: object, **__: object) -> None:
            raise StoreUnavailable("Redis is away")

        patch.setattr(app_of(client).store.messages, "accept_each", down)
        answer = send(client, request)
        assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True)
    assert send(client, request).json["status"] == "accepted"
    assert len(records(client)) == 1


def test_a_request_that_is_being_stored_is_not_stored_beside_itself(client: FlaskClient) -> None:
    request = VALID["mailgun"](1)
    posted = dict(field.split("=") for field in request.body.decode().split("&"))
    claims = app_of(client).store.claims
    claim = claims.claim(f"mailgun:{posted['timestamp']}{posted['token']}")
    assert claim.is_ours
    assert send(client, request).status_code == 503
    claims.release(claim)
    assert send(client, request).json["status"] == "accepted"


def test_a_mail_that_is_too_large_leaves_a_held_record_with_its_header(make: Make) -> None:
    client = make(EMAIL_MAX_MESSAGE_BYTES="2000")
    record, read = stored(client, samples.mailgun(mail(1, text="x" * 2500)))
    assert (record.state, record.partial, read.subject) == ("held", 1, "Question 1")
    assert "EMAIL_MAX_MESSAGE_BYTES" in record.reason
    for request, code in (
        (samples.mailgun(mail(2, text="x" * 90_000)), 406),
        (samples.postmark(mail(2, text="x" * 90_000)), 403),
        (samples.sendgrid(mail(2, text="x" * 90_000)), 422),
    ):
        assert send(client, request).status_code == code
    assert len(records(client)) == 1


def test_an_unknown_provider_is_404_and_get_is_405(client: FlaskClient) -> None:
    answer = client.post("/email/incoming/unheard-of", data=b"x")
    assert answer.status_code == 404
    assert "mailgun" in answer.json["error"]
    assert client.get("/email/incoming/mailgun").status_code == 405


# --- secrets ---------------------------------------------------------------------------------------------

UNSET = {
    "mailgun": "EMAIL_MAILGUN_SIGNING_KEY",
    "postmark": "EMAIL_POSTMARK_AUTH",
    "ses": "EMAIL_SES_TOPIC_ARN",
    "cloudmailin": "EMAIL_CLOUDMAILIN_AUTH",
    "resend": "EMAIL_RESEND_SIGNING_SECRET",
    "brevo": "EMAIL_BREVO_AUTH",
}


@pytest.mark.parametrize("name", UNSET)
def test_a_provider_whose_secret_is_unset_is_refused_with_the_settings_name(
    make: Make, web: Web, name: str
) -> None:
    client = make(**{UNSET[name]: None})
    answer = send(client, VALID[name](1))
    assert answer.status_code in (403, 503)
    assert UNSET[name] in answer.json["error"]
    assert records(client) == []
    assert web.asked == []


def test_sendgrid_by_the_secret_in_its_url(make: Make) -> None:
    client = make(EMAIL_SENDGRID_PUBLIC_KEY=None)
    for secret in ("", "wrong", "old-webhook-secret-0815,webhook-secret-4711", "%C3%BC"):
        assert send(client, samples.sendgrid_by_url(mail(1), secret)).status_code == 403
    assert send(client, samples.sendgrid_by_url(mail(1), "old-webhook-secret-0815")).status_code == 200
    client = make(EMAIL_SENDGRID_PUBLIC_KEY=None, EMAIL_WEBHOOK_SECRET=None)
    answer = send(client, samples.sendgrid_by_url(mail(1)))
    assert (answer.status_code, "EMAIL_SENDGRID_PUBLIC_KEY" in answer.json["error"]) == (503, True)


def test_with_a_key_the_secret_in_the_url_is_not_enough(client: FlaskClient) -> None:
    assert send(client, samples.sendgrid_by_url(mail(1))).status_code == 403


@pytest.mark.parametrize("name", ["postmark", "cloudmailin", "brevo"])
def test_a_wrong_password_is_401_with_a_challenge_so_that_it_comes_again(
    client: FlaskClient, name: str
) -> None:
    for proof in (None, "", "Basic", "Basic !!!", "Basic " + base64.b64encode(b"a:b").decode(), "Bearer x"):
        answer = send(client, VALID[name](1).with_headers(Authorization=proof))
        assert answer.status_code == 401, proof
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert records(client) == []


def test_every_live_secret_is_taken(client: FlaskClient) -> None:
    requests = [
        samples.mailgun(mail(1), key="key-of-last-year"),
        samples.postmark(mail(2), pair="postmark:old-postmark-pass"),
        samples.sendgrid(mail(3), key=samples.ec_key("old")),
        samples.signed(samples.fields_body(4), secret="old-webhook-secret-0815"),
    ]
    assert [send(client, request).json["status"] for request in requests] == ["accepted"] * 4


# --- what providers know of the sender -------------------------------------------------------------------

TWO_FROM = mail(1, extra="From: boss@bank.test")
DKIM_WHOLE = "DKIM-Signature: v=1; a=rsa-sha256; d=example.test; s=s; h=From; bh=x; b=y"
DKIM_PART = "DKIM-Signature: v=1; a=rsa-sha256; d=example.test; s=s; l=100; h=From; bh=x; b=y"


def sendgrid_with(spf: str, dkim: str, source: bytes, envelope: str = "anna@example.test") -> Request:
    fields = {"SPF": spf, "dkim": dkim, "envelope": json.dumps({"to": [AGENT], "from": envelope})}
    return samples.sendgrid(source, fields=fields)


@pytest.mark.parametrize(
    ("make_request", "wanted"),
    [
        (lambda: samples.ses(mail(1), dmarc="PASS"), "1"),
        (lambda: samples.ses(mail(1), dmarc="FAIL"), "0"),
        (lambda: samples.ses(mail(1), dmarc="GRAY"), ""),
        (lambda: samples.ses(mail(1), dmarc=""), ""),
        (lambda: samples.ses(TWO_FROM, dmarc="PASS"), "0"),
        (lambda: samples.ses(mail(1, sender="a@x.test, b@y.test"), dmarc="PASS"), "0"),
        (lambda: samples.ses(mail(1, extra="From: anna@example.test"), dmarc="PASS"), "0"),
        (lambda: samples.ses(mail(1, extra="From:"), dmarc="PASS"), "0"),
        (lambda: sendgrid_with("pass", "none", mail(1)), "1"),
        (lambda: sendgrid_with("pass", "none", mail(1), envelope="bounce@mailer.test"), ""),
        (lambda: sendgrid_with("pass", "none", mail(1), envelope="x@sub.example.test"), ""),
        (lambda: sendgrid_with("fail", "none", mail(1)), ""),
        (lambda: sendgrid_with("softfail", "{@example.test : pass}", mail(1, extra=DKIM_WHOLE)), "1"),
        (lambda: sendgrid_with("none", "{@example.test : pass}", mail(1)), ""),
        (lambda: sendgrid_with("none", "{@example.test : pass}", mail(1, extra=DKIM_PART)), ""),
        (
            lambda: sendgrid_with(
                "none", "{@example.test : pass}", mail(1, extra=f"{DKIM_WHOLE}\r\n{DKIM_WHOLE}")
            ),
            "",
        ),
        (lambda: sendgrid_with("none", "{@evil.test : pass}", mail(1, extra=DKIM_WHOLE)), ""),
        (
            lambda: sendgrid_with(
                "none", "{@example.test : pass, @evil.test : fail}", mail(1, extra=DKIM_WHOLE)
            ),
            "",
        ),
        (lambda: sendgrid_with("pass", "{@example.test : pass}", TWO_FROM), ""),
        (lambda: samples.cloudmailin(mail(1)), "1"),
        (lambda: samples.cloudmailin(mail(1), spf="fail"), ""),
        (lambda: samples.cloudmailin(mail(1, sender="boss@bank.test")), ""),
        (
            lambda: samples.mailgun(
                mail(1, extra="X-Mailgun-Spf: Pass\r\nX-Mailgun-Dkim-Check-Result: Pass")
            ),
            "",
        ),
        (
            lambda: samples.mailgun(
                mail(1, extra="X-Mailgun-Spf: Fail\r\nX-Mailgun-Dkim-Check-Result: Fail")
            ),
            "0",
        ),
        (lambda: samples.postmark(mail(1)), ""),
        (lambda: samples.postmark(mail(1), Headers=[{"Name": "Received-SPF", "Value": "Fail (no)"}]), "0"),
        (lambda: samples.resend(), ""),
        (lambda: samples.brevo(), ""),
    ],
)
def test_only_an_aligned_pass_that_stands_outside_of_the_mail_counts_for_it(
    client: FlaskClient, make_request: Callable[[], Request], wanted: str
) -> None:
    record, _ = stored(client, make_request())  # now: some proofs grow old in five minutes
    assert record.authenticated == wanted


def test_a_senders_header_that_is_called_like_a_field_of_the_form_makes_the_mail_wait(
    client: FlaskClient,
) -> None:
    real = [("body-mime", mail(1, sender="boss@bank.test")), ("body-mime", mail(1))]
    fields = [*real, ("recipient", AGENT), *samples.mailgun_proof().items()]
    record, _ = stored(client, Request("/email/incoming/mailgun", samples.multipart(fields), samples.FORM))
    assert record.state == "held"


PATH = {"Name": "Return-Path", "Value": "<>"}
NO_SPF = {"Name": "Received-SPF", "Value": "None (no SPF) identity=helo; helo=mail.example.test"}
ENVELOPE = {"envelope": json.dumps({"to": [AGENT], "from": ""})}


def ses_from_nobody() -> Request:
    message = samples.ses_message(mail(1))
    received = json.loads(message["Message"])
    received["mail"]["source"] = "<>"
    return samples.sns({**message, "Message": json.dumps(received)})


def cloudmailin_from_nobody() -> Request:
    given = samples.cloudmailin(mail(1))
    field = b'name="envelope[from]"\r\n\r\n'
    assert given.body.count(field + b"anna@example.test") == 1
    return replace(given, body=given.body.replace(field + b"anna@example.test", field))


@pytest.mark.parametrize(
    "request_",
    [
        samples.postmark(mail(1), Headers=[PATH, NO_SPF]),
        samples.postmark(mail(1), Headers=[PATH, {**PATH, "Value": "<anna@example.test>"}]),
        samples.postmark(b"", Headers=[PATH]),
        samples.sendgrid(mail(1), fields=ENVELOPE),
        ses_from_nobody(),
        cloudmailin_from_nobody(),
        samples.brevo(samples.brevo_item(1, Headers={"Return-Path": ["<>", "<anna@example.test>"]})),
    ],
    ids=["postmark", "postmark-two", "postmark-parsed", "sendgrid", "ses", "cloudmailin", "brevo"],
)
def test_the_null_sender_is_seen_outside_of_the_mail(
    client: FlaskClient, request_: Request, envelope_senders: list[str | None]
) -> None:
    record, _ = stored(client, request_)
    assert (record.state, envelope_senders) == ("ignored", [""])


@pytest.mark.parametrize("raw", [True, False])
def test_resend_tells_the_null_sender_among_the_headers(
    client: FlaskClient, web: Web, raw: bool, envelope_senders: list[str | None]
) -> None:
    url = next(url for url in web.answers if "/receiving/" in url)
    received = json.loads(cast("bytes", web.answers[url]))
    received["headers"]["return-path"] = "<>"
    received["raw"] = received["raw"] if raw else None
    web.answers[url] = json.dumps(received).encode()
    record, _ = stored(client, samples.resend())
    assert (record.state, envelope_senders) == ("ignored", [""])


def test_a_null_sender_is_told(client: FlaskClient, envelope_senders: list[str | None]) -> None:
    proof = samples.mailgun_proof()
    fields = [("sender", ""), ("body-mime", mail(1)), *proof.items()]
    record, _ = stored(client, Request("/email/incoming/mailgun", samples.multipart(fields), samples.FORM))
    assert (record.state, envelope_senders) == ("ignored", [""])


def test_events_are_remembered_as_long_as_each_provider_repeats_them(client: FlaskClient) -> None:
    wanted = {
        "mailgun": 8 * 3600,
        "postmark": 10.5 * 3600,
        "sendgrid": 72 * 3600,
        "ses": 3600,
        "resend": 28 * 3600,
    }
    redis = app_of(client).redis
    for name, seconds in wanted.items():
        known = set(redis.keys("cleo:event:*"))
        assert send(client, VALID[name](1)).status_code == 200
        (key,) = set(redis.keys("cleo:event:*")) - known
        assert seconds <= redis.ttl(key) <= seconds * 2 + 7200, name


def test_it_is_quick(client: FlaskClient) -> None:
    requests = [samples.mailgun(mail(number)) for number in range(100)]
    begun = time.process_time()
    assert {send(client, request).status_code for request in requests} == {200}
    assert time.process_time() - begun < 5
