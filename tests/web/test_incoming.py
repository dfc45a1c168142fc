"""Webhooks: every answer of the contract, in the contract's order."""

from __future__ import annotations

import hashlib
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from cleo_email.mail.parse import parse
from cleo_email.settings import read_settings
from cleo_email.store.connection import connect_web
from cleo_email.web.app import create_app
from cleo_email.web.models import IncomingFields
from tests.support.redis_server import RedisServer
from tests.support.web import BASE, MAIL, Make, app_of, web_maker


@pytest.fixture
def client(redis_url: str) -> Make:
    return web_maker(redis_url)


def post(client: FlaskClient, body: Any = None, **options: Any) -> TestResponse:
    data = body if isinstance(body, bytes) else json.dumps(MAIL if body is None else body)
    headers = options.pop("headers", {})
    options.setdefault("content_type", "application/json")
    return client.post("/email/incoming", data=data, headers=headers, **options)


def test_a_mail_is_accepted_once(client: Make) -> None:
    web = client()
    first = post(web)
    assert first.status_code == 202
    assert first.json == {"id": first.json["id"], "thread_id": "<a1@example.test>", "status": "accepted"}
    again = post(web, {**MAIL, "subject": "AW: Hello"})
    assert again.status_code == 200
    assert again.json == {**first.json, "status": "duplicate"}


def test_two_mails_that_share_a_message_id_are_two(client: Make) -> None:
    web = client()
    ids = {
        post(web, {**MAIL, **change}).json["id"]
        for change in ({}, {"subject": "Other"}, {"from_address": "b@x.test"})
    }
    assert len(ids) == 3


def test_a_repeated_request_is_answered_with_its_own_record(client: Make) -> None:
    web = client()
    texts = ("One", "Two", "Three " + "x" * 1000)
    ids = [post(web, {**MAIL, "body": text}).json["id"] for text in texts]
    assert len(set(ids)) == 3
    again = [post(web, {**MAIL, "body": text}) for text in texts]
    assert [(one.status_code, one.json["id"]) for one in again] == [(200, id_) for id_ in ids]


def test_without_a_message_id_the_same_fields_within_an_hour_are_one(client: Make) -> None:
    web = client()
    bare = {k: v for k, v in MAIL.items() if k != "message_id"}
    first = post(web, bare)
    assert (first.status_code, first.json["thread_id"]) == (202, "email:anna@example.test")
    assert post(web, bare).status_code == 200
    assert post(web, {**bare, "body": "Something else"}).status_code == 202


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"from_address": None}, "from_address"),
        ({"from_address": 7}, "from_address"),
        ({"from_address": "nobody"}, "from_address"),
        ({"from_address": "a@b.test\r\nBcc: c@d.test"}, "from_address"),
        ({"from_address": "ä@b.test"}, "from_address"),
        ({"to_address": ["a@b.test"]}, "to_address"),
        ({"to_address": ""}, "to_address"),
        ({"subject": {"a": 1}}, "subject"),
        ({"body": 3.5}, "body"),
        ({"message_id": "<two words@x>"}, "message_id"),
        ({"message_id": ["<a@b>"]}, "message_id"),
        ({"references": ["<a@b>"]}, "references"),
        ({"references": "<a@b> bad\x00id"}, "references"),
        ({"in_reply_to": 1}, "in_reply_to"),
    ],
)
def test_each_bad_field_has_its_line(client: Make, change: dict[str, Any], field: str) -> None:
    answer = post(client(), {**MAIL, **change})
    assert answer.status_code == 422, answer.json
    assert list(answer.json["fields"]) == [field]
    assert field in answer.json["error"]


@pytest.mark.parametrize("field", ["subject", "body", "message_id", "in_reply_to", "references"])
def test_null_is_a_field_that_the_mail_does_not_have(client: Make, field: str) -> None:
    web = client()
    answer = post(web, {**MAIL, field: None})
    assert answer.status_code == 202, answer.json
    assert post(web, {**MAIL, field: ""}).json == {**answer.json, "status": "duplicate"}


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}, "203.0.113.9 (as X-Forwarded-For says)"),
        ({"X-Forwarded-For": "203.0.113.9:51234"}, "203.0.113.9 (as X-Forwarded-For says)"),
        ({"X-Real-IP": "203.0.113.9"}, "203.0.113.9 (as X-Real-IP says)"),
        ({"Forwarded": "for=198.51.100.1, for=203.0.113.9;proto=https"}, "203.0.113.9 (as Forwarded says)"),
        ({"Forwarded": 'proto=https;For="[2001:db8:1:2::7]:4711"'}, "2001:db8:1:2::/64 (as Forwarded says)"),
        ({"Forwarded": "for=_hidden", "X-Real-IP": "unknown"}, "127.0.0.1: "),
        ({"X-Forwarded-For": "a\tb; DROP"}, "127.0.0.1: "),
        ({}, "127.0.0.1: "),
    ],
)
def test_a_refusal_behind_a_proxy_names_the_caller_and_who_says_so(
    client: Make, headers: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    web = client(EMAIL_WEBHOOK_SECRET="right")
    assert post(web, headers={**headers, "X-Webhook-Secret": "wrong"}).status_code == 403
    (line,) = [text for text in caplog.messages if "refused a request" in text]
    assert line.startswith(f"refused a request from {said}")
    if headers:  # the networks of a machine, of containers and of hosting services
        for near in ("10.0.0.7", "172.17.0.1", "100.64.0.3", "fd00::1", ""):
            caplog.clear()
            post(web, headers={**headers, "X-Webhook-Secret": "wrong"}, environ_base={"REMOTE_ADDR": near})
            assert ("says)" in caplog.text) is ("says)" in said)
    caplog.clear()
    public = {"REMOTE_ADDR": "8.8.8.8"}  # one that says of itself whatever it likes
    assert post(web, headers={**headers, "X-Webhook-Secret": "wrong"}, environ_base=public).status_code == 403
    assert "from 8.8.8.8: " in caplog.text


def test_missing_fields_are_told_all_at_once(client: Make) -> None:
    answer = post(client(), {})
    assert answer.status_code == 422
    assert set(answer.json["fields"]) == {"from_address", "to_address", "subject", "body"}


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"\xff\xfe\x00", b'{"a":' * 100_000, b"[" * 100_000])
def test_what_is_no_json_is_400(client: Make, body: bytes) -> None:
    answer = post(client(), body)
    assert (answer.status_code, set(answer.json)) == (400, {"error", "fields"})


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"null", b"1"])
def test_json_that_is_no_object_is_422(client: Make, body: bytes) -> None:
    assert post(client(), body).status_code == 422


def test_an_unusual_but_valid_body_goes_through(client: Make) -> None:
    web = client()
    odd = {
        **MAIL,
        "body": "lone \ud800 surrogate, NUL \x00, ünï",
        "subject": "folded\r\n header",
        "extra": {"x": [1]},
    }
    assert post(web, odd).status_code == 202
    (record,) = web.get("/email/messages").json["messages"]
    assert record["subject"] == "folded header"
    ids = {
        **MAIL,
        "message_id": "bare@example.test",
        "references": "<r1@x><r2@x>\n <r3@x>",
        "in_reply_to": None,
    }
    answer = post(web, ids)
    assert (answer.status_code, answer.json["thread_id"]) == (202, "<r1@x>")


def test_another_content_type_is_415_and_a_json_suffix_is_not(client: Make) -> None:
    assert post(client(), content_type="text/plain").status_code == 415
    assert post(client(), content_type="application/vnd.x+json; charset=utf-8").status_code == 202


def test_too_large_is_413_even_without_an_announced_length(client: Make) -> None:
    web = client(EMAIL_MAX_MESSAGE_BYTES="1000")
    big = {**MAIL, "body": "x" * 2000}
    assert post(web, big).status_code == 413
    assert "EMAIL_MAX_MESSAGE_BYTES" in post(web, big).json["error"]
    assert post(web, b"x" * 5000, content_type="text/plain").status_code == 413, "413 comes before 415"


def test_the_secret_is_checked_before_the_body(client: Make) -> None:
    web = client(EMAIL_WEBHOOK_SECRET="old,new")
    for headers in (
        {},
        {"X-Webhook-Secret": "wrong"},
        {"X-Webhook-Secret": "old,new"},
        {"X-Webhook-Secret": "ö"},
    ):
        answer = post(web, b"{", headers=headers)
        assert answer.status_code == 403
        assert "EMAIL_WEBHOOK_SECRET" in answer.json["error"]
    for secret in ("old", "new"):
        assert post(web, headers={"X-Webhook-Secret": secret}).status_code in (200, 202)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_without_a_secret_only_direct_loopback_callers_are_heard(client: Make, header: str) -> None:
    web = client()
    assert post(web).status_code == 202
    assert post(web, headers={header: "127.0.0.1"}).status_code == 403
    for address in ("10.0.0.7", "", "::ffff:10.0.0.7"):
        assert post(web, environ_base={"REMOTE_ADDR": address}).status_code == 403
    for address in ("::1", "::ffff:127.0.0.1"):
        assert post(web, environ_base={"REMOTE_ADDR": address}).status_code == 200


def test_a_channel_that_is_not_enabled_is_404_with_the_reason_before_all_else(redis_url: str) -> None:
    settings = read_settings({"ENABLED_CLIENTS": "teams", "REDIS_URL": redis_url}, dotenv=None)
    web = create_app(settings).test_client()
    for call in (
        post(web, b"{"),
        web.get("/email/messages"),
        web.get("/email/nothing"),
        web.post("/workflows"),
    ):
        assert call.status_code == 404
        assert "ENABLED_CLIENTS" in call.json["error"]
    assert web.get("/healthz").status_code == 200
    assert web.get("/readyz").status_code == 503


def test_raw_mail_with_its_envelope(client: Make) -> None:
    web = client()
    source = b"From: anna@example.test\r\nSubject: raw\r\nMessage-ID: <r@example.test>\r\n\r\nhello\r\n"

    def raw(data: bytes, **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.post("/email/incoming/raw", data=data, headers=named, content_type="message/rfc822")

    assert (
        raw(source, X_Envelope_From="anna@example.test", X_Envelope_To="agent@cleo.test").status_code == 202
    )
    assert raw(source).status_code == 200
    bounce = raw(source.replace(b"<r@", b"<bounce@"), X_Envelope_From="<>")
    assert bounce.status_code == 202
    record = web.get(f"/email/messages/{bounce.json['id']}").json
    assert record["state"] == "ignored"
    assert record["reason"]
    assert raw(b"  \r\n").status_code == 422


def test_an_absent_redis_is_503_and_tells_to_try_again(tmp_path: Path) -> None:
    settings = read_settings({**BASE, "REDIS_URL": f"unix://{tmp_path}/nothing.sock"}, dotenv=None)
    web = create_app(settings).test_client()
    answer = post(web)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert web.get("/readyz").status_code == 503
    assert web.get("/healthz").status_code == 200


def test_a_hung_redis_costs_a_caller_at_most_five_seconds(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        web = create_app(read_settings({**BASE, "REDIS_URL": redis.url}, dotenv=None)).test_client()
        assert post(web).status_code == 202
        redis.freeze()
        try:
            begun = time.monotonic()
            answers = [post(web, {**MAIL, "message_id": "<late@example.test>"}) for _ in range(20)]
            answers.append(web.get("/metrics"))
            # One waits; those who queue behind it are not kept, each for as long again. A busy machine is
            # allowed for; what is set is below.
            assert time.monotonic() - begun < 10
            assert {answer.status_code for answer in answers} == {503}
        finally:
            redis.thaw()
        begun = time.monotonic()
        while (status := post(web, {**MAIL, "message_id": "<late@example.test>"}).status_code) == 503:
            assert time.monotonic() - begun < 10
            time.sleep(0.05)
        assert status in (200, 202)
        pool = connect_web(redis.url).connection_pool
        tries = 1 + pool.connection_kwargs["retry"].get_retries()
        assert tries * pool.connection_kwargs["socket_timeout"] < 5
        # A health check of a connection that has rested would wait for the hung server once more.
        assert pool.connection_kwargs["health_check_interval"] == 0


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_only_python_takes_for_json_is_none(client: Make, word: str) -> None:
    assert (
        post(client(), json.dumps({**MAIL, "extra": 0}).replace("0}", word + "}").encode()).status_code == 400
    )


def test_unknown_paths_and_methods_answer_in_json(client: Make) -> None:
    web = client()
    for call, status in (
        (web.get("/nothing"), 404),
        (web.delete("/email/incoming"), 405),
        (web.get("/email/incoming"), 405),
    ):
        assert call.status_code == status
        assert set(call.json) == {"error", "fields"}


def test_half_a_character_in_a_subject_is_no_reason_to_lose_a_mail(client: Make) -> None:
    """A sender that cuts a subject by UTF-16 units leaves a lone surrogate at its end."""
    web = client(EMAIL_WEBHOOK_SECRET="")
    body = json.dumps({**MAIL, "subject": "Hello \N{GRINNING FACE}"}).replace("\\ude00", "").encode()
    assert b"\\ud83d" in body
    answer = post(web, body)
    assert answer.status_code == 202, answer.json
    assert web.get(f"/email/messages/{answer.json['id']}").json["subject"] == "Hello"
    too_long = post(web, {**MAIL, "subject": "x" * 10_001})
    assert (too_long.status_code, list(too_long.json["fields"])) == (422, ["subject"])


def test_references_may_be_separated_by_commas(client: Make) -> None:
    answer = post(client(), {**MAIL, "references": "<r1@x.test>,<r2@x.test>, <r3@x.test>"})
    assert (answer.status_code, answer.json["thread_id"]) == (202, "<r1@x.test>")


# --- the bytes that are made of the fields ---------------------------------------------------------------

ODD_LINES = st.sampled_from(
    [
        *(
            "From here on",
            ".",
            "--",
            "--=_x",
            "begin 644 a.txt",
            "-----BEGIN PGP MESSAGE-----",
            "=3D",
            "= ",
            "=",
        ),
        *(
            " ",
            "\t",
            "end. ",
            "x" * 998,
            "x" * 999,
            "x" * 5000,
            "ü" * 499,
            "ü" * 500,
            "ü🎉\ud800",
            "\0\x1b$B",
        ),
        *("Subject: a", "<html><b>bold</b>", "> quoted", "\u2028", "\ufeff", "\u200b", "From: b@x.test", ""),
    ]
)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r", "\f"])
BODIES = st.text(st.characters(exclude_categories=[]), max_size=300) | st.lists(
    st.tuples(ODD_LINES, LINE_ENDS).map("".join), max_size=12
).map("".join)


def source_of(body: str, *, encoded: bool = False, **fields: str) -> bytes:
    return IncomingFields.model_validate({**MAIL, **fields, "body": body}).arrival(encoded=encoded).source


@hypothesis.settings(max_examples=300, deadline=None)
@given(body=BODIES)
def test_a_text_that_is_not_encoded_is_read_like_one_that_is(body: str) -> None:
    plain, encoded = parse(source_of(body)), parse(source_of(body, encoded=True))
    assert plain.read() == encoded.read()
    assert (plain.text, plain.quoted) == (encoded.text, encoded.quoted)
    assert (plain.doubt, plain.unread, plain.remarks) == (encoded.doubt, encoded.unread, encoded.remarks)
    name = "content-transfer-encoding"
    assert [one for one in plain.headers if one[0] != name] == [
        one for one in encoded.headers if one[0] != name
    ]


@pytest.mark.parametrize(
    ("line", "encoding"),
    [("x" * 998, "8bit"), ("x" * 999, "quoted-printable"), ("ü" * 499, "8bit"), ("ü" * 500, "base64")],
)
def test_no_line_is_longer_than_mail_allows(line: str, encoding: str) -> None:
    """RFC 5322 section 2.1.1 counts octets."""
    source = source_of(f"a\r\n{line}\nb")
    assert max(map(len, source.split(b"\r\n"))) <= 998
    assert parse(source).header("content-transfer-encoding") == encoding


def test_a_long_text_of_one_line_has_the_line_ends_of_mail() -> None:
    source = source_of("word " * 300)
    assert max(map(len, source.split(b"\r\n"))) <= 998
    assert source.count(b"\n") == source.count(b"\r\n")


def test_a_text_of_many_lines_takes_no_object_for_each() -> None:
    fields = IncomingFields.model_validate({**MAIL, "body": "ab\n" * 500_000})
    tracemalloc.start()
    try:
        source = fields.arrival(encoded=False).source
        assert tracemalloc.get_traced_memory()[1] < 6 * len(source)
    finally:
        tracemalloc.stop()


# --- requests across an upgrade ---------------------------------------------------------------------------

OLD_TEXT = "Grüße = \t\nFrom the 1st of May " + "on " * 30 + "\r\n.\n"
# What versions compare that store every text encoded: of the whole mail, and of what it says.
OLD_BYTES = "1072f0f893be3c379bd1a034e23b54ca80e5de16d326a199ded4164f0c083309"
OLD_CONTENT = "e95dde56d8cb57dcfaacb483ab78ef808298644154395011d7b273a34fb74df2"


def claim_as_before(web: FlaskClient, claim: str, id_: str) -> None:
    """Let the one mail in the store be one that an earlier version took."""
    redis = app_of(web).redis
    (seen,) = redis.keys("cleo:seen:mail:*")
    redis.delete(seen)
    redis.hset(seen, claim, id_)


def test_a_request_without_an_id_makes_the_bytes_of_earlier_versions(client: Make) -> None:
    web = client()
    id_ = post(web, {**MAIL, "message_id": "", "body": OLD_TEXT}).json["id"]
    source = app_of(web).store.messages.source(id_)
    assert source
    assert (
        hashlib.sha256(source).hexdigest()
        == "fcb2765c8f729198fa205d3959cf1485509a38d941fdd01144409e190507e1e0"
    )


@pytest.mark.parametrize(
    ("env", "claim"),
    [({}, f"|fields|{OLD_CONTENT}|"), ({"EMAIL_VERIFY_DKIM": "1"}, f"|signed|{OLD_BYTES}|")],
    ids=["plain", "signed"],
)
def test_a_repeated_request_is_known_across_an_upgrade(client: Make, env: dict[str, str], claim: str) -> None:
    web, fields = client(**env), {**MAIL, "body": OLD_TEXT}
    first = post(web, fields)
    claim_as_before(web, claim, first.json["id"])
    again = post(web, fields)
    assert (again.status_code, again.json["id"]) == (200, first.json["id"])


def test_another_mail_by_the_id_of_one_that_an_earlier_version_took_is_another(client: Make) -> None:
    """A mail would be lost otherwise. Of each a repeated request is still known."""
    web, fields, other = client(), {**MAIL, "body": OLD_TEXT}, {**MAIL, "body": "What else?"}
    first = post(web, fields)
    claim_as_before(web, f"|fields|{OLD_CONTENT}|", first.json["id"])
    second = post(web, other)
    assert second.status_code == 202
    for body, before in [(fields, first), (other, second)]:
        again = post(web, body)
        assert (again.status_code, again.json["id"]) == (200, before.json["id"])
