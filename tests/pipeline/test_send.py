"""Cleo speaks first: what a mail to send may hold, by Python, HTTP and command line, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

import cleo_email
from cleo_email import Attachment, send_message
from cleo_email.agents.base import final_answer
from cleo_email.errors import (
    AgentError,
    AlreadyAnswered,
    InvalidField,
    KeyReused,
    NotFound,
    SettingsError,
    StoreUnavailable,
    WrongState,
)
from cleo_email.runtime import now_ms
from cleo_email.settings import read_settings
from cleo_email.store import Identity, Record, State, Store, new_id
from cleo_email.web.app import create_app
from tests.support.mails import mail
from tests.support.web import BASE, MAIL

FORM = "multipart/form-data"
DATA = bytes(range(256)) * 5
MESSAGE = {"to": "Anna <anna@example.test>", "subject": "Report", "body": "**Here** it is."}
Make = Callable[..., FlaskClient]


@pytest.fixture
def web(redis_url: str) -> Make:
    def make(**env: str) -> FlaskClient:
        return create_app(read_settings({**BASE, "REDIS_URL": redis_url, **env}, dotenv=None)).test_client()

    return make


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    with Redis.from_url(redis_url) as redis:
        yield Store(redis)


@pytest.fixture
def environment(redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    def use(**env: str) -> None:
        for name, value in {**BASE, "REDIS_URL": redis_url, **env}.items():
            monkeypatch.setenv(name, value)

    monkeypatch.chdir(tmp_path)
    use()
    return use


def kept(store: Store, id_: str) -> EmailMessage:
    """The mail as it will be submitted."""
    mail = store.messages.answer(id_)
    assert mail is not None
    message = message_from_bytes(mail.source, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def files(message: EmailMessage) -> list[tuple[str | None, str, bytes]]:
    return [
        (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
        for part in message.iter_attachments()
    ]  # type: ignore[misc]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# --- Python -------------------------------------------------------------------------------------------------


def test_importing_the_package_loads_nothing() -> None:
    names = "m for m in sys.modules if m.startswith(('cleo_email.', 'redis', 'flask'))"
    code = f"import sys, cleo_email; print([{names}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert set(cleo_email.__all__) >= {"Attachment", "SentMessage", "send_message"}


@pytest.mark.usefixtures("environment")
def test_a_message_is_stored_for_submission(store: Store) -> None:
    sent = send_message(
        ["Anna <anna@example.test>", "bob@example.test"],
        "Grüße",
        "# Hello\n\n**Anna**",
        cc="Carl <carl@example.test>",
        attachments=[
            Attachment("übersicht.pdf", DATA),
            Attachment("data.bin", io.BytesIO(DATA)),
            Attachment("a.txt", b"hi", "text/plain; charset=utf-8"),
        ],
    )
    assert sent.thread_id == sent.message_id
    record = store.messages.get(sent.id)
    assert (record.state, record.thread_id) == (State.SUBMITTING, sent.thread_id)
    mail = kept(store, sent.id)
    assert mail["Message-ID"] == sent.message_id
    assert mail["To"] == "Anna <anna@example.test>, bob@example.test"
    assert (mail["Cc"], mail["Subject"]) == ("Carl <carl@example.test>", "Grüße")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "<strong>Anna</strong>" in mail.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert files(mail) == [
        ("übersicht.pdf", "application/pdf", DATA),
        ("data.bin", "application/octet-stream", DATA),
        ("a.txt", "text/plain", b"hi"),
    ]
    answer = store.messages.answer(sent.id)
    assert answer
    assert answer.recipients == ("anna@example.test", "bob@example.test", "carl@example.test")


@pytest.mark.parametrize("content", ["/etc/passwd", Path("/etc/passwd"), io.StringIO("text"), 7, None])
def test_a_path_or_a_text_is_no_content(content: Any) -> None:
    with pytest.raises(TypeError, match=r"path|binary"):
        Attachment("a.txt", content)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("given", ["/etc/passwd", [Path("/etc/passwd")], [("a.txt", b"x")]])
def test_a_path_is_no_attachment(given: Any) -> None:
    with pytest.raises(TypeError, match=r"cleo_email\.Attachment"):
        send_message("anna@example.test", "x", "y", attachments=given)


@pytest.mark.parametrize(
    "given",
    [
        {"to": None},
        {"to": ["anna@example.test", 3]},
        {"cc": 3},
        {"cc": [None]},
        {"subject": None},
        {"body": b"x"},
        {"thread_id": 3},
        {"idempotency_key": 3},
        {"attachments": Attachment("a.txt", b"x")},
        {"attachments": (one for one in [Attachment("a.txt", b"x")])},
    ],
)
def test_an_argument_of_another_type_is_named(given: dict[str, Any]) -> None:
    (name,) = given
    arguments: dict[str, Any] = {"to": "anna@example.test", "subject": "x", "body": "y", **given}
    with pytest.raises(TypeError, match=f"^{name} is .*, expected "):
        send_message(**arguments)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a\\b.txt", "a\r\nBcc: x@y.z", "", "  ", "x" * 256, "a\0b"]
)
def test_a_name_with_path_parts_or_line_ends_is_refused(name: str) -> None:
    with pytest.raises(InvalidField) as caught:
        Attachment(name, b"x")
    assert caught.value.field == "filename"


@pytest.mark.usefixtures("environment")
def test_the_same_key_is_the_same_mail_and_another_body_is_refused(store: Store) -> None:
    def send(body: str) -> cleo_email.SentMessage:
        return send_message("anna@example.test", "x", body, idempotency_key="k")

    first = send("one")
    assert send("one") == first
    with pytest.raises(KeyReused):
        send("two")
    assert len(store.messages.page()[0]) == 1
    assert send_message("anna@example.test", "x", "one") != first


@pytest.mark.usefixtures("environment")
def test_a_thread_goes_on_with_its_ids(store: Store, web: Make) -> None:
    first = send_message("anna@example.test", "x", "one")
    second = send_message("anna@example.test", "Re: x", "two", thread_id=first.thread_id)
    assert second.thread_id == first.thread_id
    assert second.message_id != first.message_id
    mail = kept(store, second.id)
    assert (mail["In-Reply-To"], mail["References"]) == (first.message_id, first.message_id)
    # A mail that came in is followed too, as long as no answer to it was sent.
    reply = {**MAIL, "message_id": "<r@example.test>", "in_reply_to": second.message_id}
    web().post("/email/incoming", json=reply)
    mail = kept(store, send_message("anna@example.test", "x", "three", thread_id=first.thread_id).id)
    assert mail["References"].split() == [first.message_id, "<r@example.test>"]
    with pytest.raises(NotFound):
        send_message("anna@example.test", "x", "y", thread_id="<nowhere@example.test>")


def test_what_cannot_be_sent_says_why(environment: Callable[..., None]) -> None:
    for to in ([], "", "nobody", "ä@example.test", "a@b.test\r\nBcc: c@d.test", ["a@b.test, c@d.test"]):
        with pytest.raises(InvalidField) as caught:
            send_message(to, "x", "y")
        assert caught.value.field == "to"
    with pytest.raises(InvalidField, match="50"):
        send_message(["a@b.test"] * 30, "x", "y", cc=["a@b.test"] * 21)
    environment(EMAIL_MAX_MESSAGE_BYTES="100000")
    with pytest.raises(InvalidField, match="EMAIL_MAX_MESSAGE_BYTES") as caught:
        send_message("a@b.test", "x", "y", attachments=[Attachment("a", b"x" * 80_000)])
    assert caught.value.field == "attachments"
    environment(REDIS_URL="redis://127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable):
        send_message("a@b.test", "x", "y")
    environment(ENABLED_CLIENTS="teams")
    with pytest.raises(SettingsError, match="ENABLED_CLIENTS"):
        send_message("a@b.test", "x", "y")


@pytest.mark.usefixtures("environment")
def test_broken_text_is_mended_not_refused(store: Store) -> None:
    sent = send_message("a@b.test", "one\r\nBcc: x@y.test\ud800", "two \ud800 \0 three")
    mail = kept(store, sent.id)
    assert mail["Bcc"] is None
    assert mail["Subject"].startswith("one Bcc: x@y.test")
    assert "two" in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]


# --- answers that come later --------------------------------------------------------------------------------


@pytest.mark.usefixtures("environment")
def test_a_python_agent_gives_its_answer_from_any_process(store: Store) -> None:
    """Nobody needs the token there: whoever may write into Redis may answer."""
    now = now_ms()
    record = Record(new_id(now), State.RECEIVED, "<t@example.test>", now, from_address="anna@example.test")
    store.messages.accept(record, mail(1), Identity("x"), ())
    with pytest.raises(WrongState, match="it is received"):
        cleo_email.answer(record.id, "early")
    store.messages.move(record.id, State.ANSWERING, now=now)
    with pytest.raises(AgentError, match="progress"):
        cleo_email.answer(record.id, {"progress": 7})
    with pytest.raises(AgentError, match="a SimpleNamespace"):
        cleo_email.answer(record.id, SimpleNamespace(choices=[]))
    with pytest.raises(AgentError, match="LATER"):
        cleo_email.answer(record.id, cleo_email.LATER)
    with pytest.raises(AgentError, match="beside a text"):
        cleo_email.answer(record.id, {"ignore": "spam"}, review="look")
    with pytest.raises(TypeError, match="attachments is"):
        cleo_email.answer(record.id, "x", attachments=["/etc/passwd"])  # type: ignore[list-item]
    assert cleo_email.answer(record.id, {"progress": "half"}) == "accepted"
    assert store.messages.get(record.id).reason.endswith(": half")
    for status in ("accepted", "duplicate"):
        file = Attachment("a.pdf", DATA)
        assert cleo_email.answer(record.id, "done", attachments=[file], review="look") == status
    with pytest.raises(AlreadyAnswered):
        cleo_email.answer(record.id, "other")
    with pytest.raises(NotFound):
        cleo_email.answer("0" * 24, "x")
    stored = final_answer(json.loads(store.callbacks.given(record.id) or b""))
    assert (stored.text, stored.review, stored.attachments[0].content) == ("done", "look", DATA)


# --- HTTP ---------------------------------------------------------------------------------------------------


def test_json_with_attachments_is_sent(web: Make, store: Store) -> None:
    attachments = [
        {"filename": "a.pdf", "content": b64(DATA)},
        {"filename": "b", "content_type": "text/csv", "content": base64.encodebytes(DATA).decode()},
        {"filename": "c.png", "content_type": None, "content": ""},
    ]
    answer = web().post(
        "/email/send", json={**MESSAGE, "cc": ["b@c.test"], "thread_id": None, "attachments": attachments}
    )
    assert answer.status_code == 202, answer.json
    assert list(answer.json) == ["id", "message_id", "thread_id"]
    assert answer.json["message_id"] == answer.json["thread_id"]
    mail = kept(store, answer.json["id"])
    assert mail["Cc"] == "b@c.test"
    assert files(mail) == [
        ("a.pdf", "application/pdf", DATA),
        ("b", "text/csv", DATA),
        ("c.png", "image/png", b""),
    ]


def test_a_form_with_files_is_sent(web: Make, store: Store) -> None:
    form = {
        "to": ["Anna <anna@example.test>", "bob@example.test"],
        "subject": "Grüße",
        "body": "Hello",
        "attachments": [
            (io.BytesIO(DATA), "ü.pdf", "application/pdf"),
            (io.BytesIO(b"second"), "b.txt"),
            (io.BytesIO(b""), ""),  # a browser's empty file field
        ],
    }
    answer = web().post("/email/send", data=form)
    assert answer.status_code == 202, answer.json
    mail = kept(store, answer.json["id"])
    assert mail["To"] == "Anna <anna@example.test>, bob@example.test"
    assert mail["Subject"] == "Grüße"
    assert files(mail) == [("ü.pdf", "application/pdf", DATA), ("b.txt", "text/plain", b"second")]


def test_a_key_gives_the_same_answer_for_a_day_whichever_form_it_takes(
    web: Make, store: Store, redis_url: str
) -> None:
    client = web()
    headers = {"Idempotency-Key": "4711"}
    first = client.post("/email/send", json=MESSAGE, headers=headers)
    again = client.post("/email/send", data=MESSAGE, content_type=FORM, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json == again.json
    other = client.post("/email/send", json={**MESSAGE, "subject": "Other"}, headers=headers)
    assert other.status_code == 409
    assert "Idempotency-Key" in other.json["fields"]
    assert len(store.messages.page()[0]) == 1
    with Redis.from_url(redis_url) as redis:
        (key,) = redis.keys("cleo:seen:send:*")  # type: ignore[misc]
        assert 86_000 < redis.ttl(key) <= 86_400


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"to": ""}, 422, "to"),
        ({"to": []}, 422, "to"),
        ({"to": None}, 422, "to"),
        ({"to": 7}, 422, "to"),
        ({"to": ["a@b.test", 7]}, 422, "to"),
        ({"to": "müller@example.test"}, 422, "to"),
        ({"to": ["a@b.test"] * 1000}, 422, "to"),
        ({"to": ["a@b.test"] * 30, "cc": ["a@b.test"] * 30}, 422, "to"),
        ({"cc": "nobody"}, 422, "cc"),
        ({"subject": None}, 422, "subject"),
        ({"subject": "x" * 2001}, 422, "subject"),
        ({"body": {"text": "x"}}, 422, "body"),
        ({"thread_id": 7}, 422, "thread_id"),
        ({"thread_id": "<nowhere@example.test>"}, 404, "thread_id"),
        ({"thread_id": "\ud800"}, 404, "thread_id"),
        ({"bcc": "a@b.test"}, 422, "bcc"),
        ({"attachments": "x"}, 422, "attachments"),
        ({"attachments": [{"filename": "a.txt"}]}, 422, "attachments.0.content"),
        ({"attachments": [{"filename": "a.txt", "content": "not base64!"}]}, 422, "attachments.0.content"),
        ({"attachments": [{"filename": "a.txt", "content": "YQ"}]}, 422, "attachments.0.content"),
        ({"attachments": [{"filename": "a.txt", "content": "ü"}]}, 422, "attachments.0.content"),
        ({"attachments": [{"filename": "a.txt", "content": 5}]}, 422, "attachments.0.content"),
        ({"attachments": [{"content": "YQ=="}]}, 422, "attachments.0.filename"),
        ({"attachments": [{"filename": "../a", "content": "YQ=="}]}, 422, "attachments.0.filename"),
        ({"attachments": [{"filename": "..", "content": "YQ=="}]}, 422, "attachments.0.filename"),
        ({"attachments": [{"filename": ".", "content": "YQ=="}]}, 422, "attachments.0.filename"),
        ({"attachments": [{"filename": " .. ", "content": "YQ=="}]}, 422, "attachments.0.filename"),
        ({"attachments": [{"filename": "a\r\nX: y", "content": "YQ=="}]}, 422, "attachments.0.filename"),
        ({"attachments": [{"path": "/etc/passwd"}]}, 422, "attachments.0.path"),
        ({"attachments": [{"filename": "a", "content": "YQ=="}] * 101}, 422, "attachments"),
    ],
)
def test_bad_fields_are_named_with_what_to_do(
    web: Make, store: Store, change: dict[str, Any], status: int, field: str
) -> None:
    answer = web().post(
        "/email/send", data=json.dumps({**MESSAGE, **change}), content_type="application/json"
    )
    assert answer.status_code == status, answer.json
    assert field in answer.json["fields"], answer.json
    assert store.messages.page()[0] == []


def test_a_body_that_is_too_large_is_named_and_not_the_files(web: Make) -> None:
    client = web(EMAIL_MAX_MESSAGE_BYTES="100000")
    for file in (None, (io.BytesIO(b"x"), "a.txt")):
        form = {**MESSAGE, "body": "words " * 15_000, **({"attachments": file} if file else {})}
        answer = client.post("/email/send", data=form, content_type=FORM)
        assert answer.status_code == 422
        assert list(answer.json["fields"]) == ["body"]
        assert "EMAIL_MAX_MESSAGE_BYTES (100000)" in answer.json["fields"]["body"]


@pytest.mark.parametrize("path", ["/email/send", "/workflows"])
def test_the_limit_of_a_subject_is_in_characters(web: Make, path: str) -> None:
    fields = {"workflow_id": "w", "user_ids": ["a@b.test"], "channel": "email", "subject": "x" * 2001}
    body = fields if path == "/workflows" else {**MESSAGE, "subject": "x" * 2001}
    told = web().post(path, json=body).json["fields"]["subject"]
    assert "2000 characters" in told
    schemas = web().get("/openapi.json").json["components"]["schemas"]
    assert schemas["SendFields"]["properties"]["subject"]["maxLength"] == 2000


def test_the_limit_of_recipients_is_said(web: Make) -> None:
    answer = web().post("/email/send", json={**MESSAGE, "to": ["a@b.test"] * 1000})
    assert "50" in answer.json["fields"]["to"]
    assert "1000" in answer.json["fields"]["to"]


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"to": "a@b.test", "subject": "x"}, "body"),
        ({**MESSAGE, "upload": (io.BytesIO(b"x"), "a.txt")}, "upload"),
        ({**MESSAGE, "attachments": (io.BytesIO(b"x"), "../a.txt")}, "attachments.0.filename"),
        ({**MESSAGE, "attachments": (io.BytesIO(b"x"), "..")}, "attachments.0.filename"),
        ({**MESSAGE, "subject": ["one", "two"]}, "subject"),
        ({**MESSAGE, "attachments": "text"}, "attachments"),
    ],
)
def test_bad_forms_are_422_with_the_field(web: Make, form: dict[str, Any], field: str) -> None:
    answer = web().post("/email/send", data=form, content_type=FORM)
    assert answer.status_code == 422, answer.json
    assert field in answer.json["fields"]


def test_checks_come_in_the_contracts_order(web: Make) -> None:
    big = b"x" * 200_000
    off = web(ENABLED_CLIENTS="teams")
    assert off.post("/email/send", data=big, content_type="text/plain").status_code == 404
    strict = web(CLEO_API_TOKEN="t0ken", EMAIL_MAX_MESSAGE_BYTES="100000")
    assert strict.post("/email/send", data=big, content_type="text/plain").status_code == 401
    token = {"Authorization": "Bearer t0ken"}

    def post(data: Any, kind: str) -> int:
        return strict.post("/email/send", data=data, content_type=kind, headers=token).status_code

    assert post(big, "text/plain") == 413
    assert post(big, "application/json") == 413
    assert post(b"--x\r\n" + big, "multipart/form-data; boundary=x") == 413
    assert post(b"x", "text/plain") == 415
    assert post(b"{", "application/json") == 400
    assert post(b"no form", "multipart/form-data; boundary=x") == 400
    assert post(b"no form", "multipart/form-data") == 400
    assert post(b"[]", "application/json") == 422
    assert post(json.dumps(MESSAGE), "application/json") == 202


def test_a_mail_that_grows_beyond_the_limit_by_its_encoding_is_refused(web: Make) -> None:
    form = {**MESSAGE, "attachments": (io.BytesIO(b"x" * 80_000), "a.bin")}
    answer = web(EMAIL_MAX_MESSAGE_BYTES="100000").post("/email/send", data=form)
    assert answer.status_code == 422
    assert "EMAIL_MAX_MESSAGE_BYTES" in answer.json["fields"]["attachments"]


@pytest.mark.parametrize("key", ["", " ", "ü", "x" * 256, "two words"])
def test_a_bad_key_is_422(web: Make, key: str) -> None:
    answer = web().post("/email/send", json=MESSAGE, headers={"Idempotency-Key": key})
    assert (answer.status_code, list(answer.json["fields"])) == (422, ["Idempotency-Key"])


def test_a_page_elsewhere_cannot_send_from_a_browser_on_this_machine(web: Make, store: Store) -> None:
    """A form needs no permission of ours to be posted here by any page that the operator looks at."""
    for origin in ("https://evil.test", "null", "http://localhost:1234"):
        answer = web().post("/email/send", data=MESSAGE, content_type=FORM, headers={"Origin": origin})
        assert answer.status_code == 401
    assert store.messages.page()[0] == []
    assert (
        web()
        .post("/email/send", data=MESSAGE, content_type=FORM, headers={"Origin": "http://localhost"})
        .status_code
        == 202
    )
    with_token = web(CLEO_API_TOKEN="t")
    headers = {"Origin": "https://app.example.test", "Authorization": "Bearer t"}
    assert with_token.post("/email/send", data=MESSAGE, content_type=FORM, headers=headers).status_code == 202


def test_without_redis_it_is_503(web: Make) -> None:
    answer = web(REDIS_URL="redis://127.0.0.1:1/0").post("/email/send", json=MESSAGE)
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


# --- command line -------------------------------------------------------------------------------------------


def test_the_command_line_reads_the_files(
    environment: Callable[..., None], store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cleo_email.cli import main

    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "bericht ü.pdf"
    file.write_bytes(DATA)
    arguments = ["send", "--to", "Anna <anna@example.test>", "--subject", "x", "--body", "y", "--json"]
    assert main([*arguments, "--attach", str(file), "--attach", str(file)]) == 0
    sent = json.loads(capsys.readouterr().out)
    assert set(sent) == {"id", "message_id", "thread_id"}
    assert files(kept(store, sent["id"])) == [("bericht ü.pdf", "application/pdf", DATA)] * 2
    assert main([*arguments, "--attach", str(tmp_path / "missing.pdf")]) == 1
    assert "missing.pdf: No such file" in capsys.readouterr().err
    assert main(["send", "--to", "nobody", "--subject", "x", "--body", "y"]) == 1
    assert "to: 'nobody' cannot be used" in capsys.readouterr().err
