"""``POST /email/messages/<id>/…``, ``GET /email/threads``: every answer of the contract, and who decided."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from cleo_email.mail.model import OutboundEmail
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.pipeline.send import NewMail, read_addresses
from cleo_email.settings import read_settings
from cleo_email.store import Effects, State
from cleo_email.store.threads import taken_by
from cleo_email.web.app import create_app
from cleo_email.web.auth import OWN_CALLERS
from tests.support.mails import mail
from tests.support.web import BASE, Make, app_of, web_maker

ACTIONS = ("approve", "discard", "release", "dismiss", "retry", "takeover", "handback")
NOBODY = "0" * 24


@pytest.fixture
def desk(redis_url: str) -> Make:
    return web_maker(redis_url)


def hand_in(web: FlaskClient, number: int = 1, **change: str) -> str:
    """A mail straight into the store, so that no secret of a webhook is needed."""
    return app_of(web).receiver.accept(IncomingMail(mail(number, **change), "raw")).id


def kept(web: FlaskClient) -> OutboundEmail:
    new = NewMail(to=read_addresses("to", "a@b.test"), subject="Re: x", body="fine")
    return app_of(web).sender.compose(new)[0]


def in_state(web: FlaskClient, state: State, number: int = 1) -> str:
    id_ = hand_in(web, number)
    app = app_of(web)
    move, now = app.store.messages.move, app.clock()
    path: dict[State, tuple[State, ...]] = {
        State.RECEIVED: (),
        State.ANSWERING: (State.ANSWERING,),
        State.REVIEW: (State.ANSWERING, State.REVIEW),
        State.SUBMITTING: (State.ANSWERING, State.SUBMITTING),
        State.REPLIED: (State.ANSWERING, State.SUBMITTING, State.REPLIED),
        State.IGNORED: (State.IGNORED,),
        State.HELD: (State.HELD,),
        State.FAILED: (State.FAILED,),
        State.UNCERTAIN: (State.ANSWERING, State.SUBMITTING, State.UNCERTAIN),
    }
    for step in path[state]:
        keeps = step in (State.REVIEW, State.SUBMITTING)
        fields: dict[str, str | int] = {"text": "Question", "answer_text": "fine"} if keeps else {}
        if step is State.UNCERTAIN or step is State.REPLIED:
            fields["data_ended_at"] = now
        effects = Effects(fields=fields, answer=kept(web) if keeps else None)
        move(id_, step, now=now, reason=f"was {step}", effects=effects)
    return id_


def post(web: FlaskClient, id_: str, action: str, **options: Any) -> Any:
    return web.post(f"/email/messages/{id_}/{action}", **options)


# --- in every state -----------------------------------------------------------------------------------------

ALLOWED = {
    State.REVIEW: {"approve": State.SUBMITTING, "discard": State.IGNORED, "dismiss": State.IGNORED},
    State.IGNORED: {"release": State.RECEIVED},
    State.HELD: {"release": State.RECEIVED, "dismiss": State.IGNORED},
    State.FAILED: {"retry": State.RECEIVED, "dismiss": State.IGNORED},
    State.UNCERTAIN: {"retry": State.SUBMITTING, "dismiss": State.IGNORED},
}
STOPPED = (State.RECEIVED, State.ANSWERING, State.REVIEW, State.SUBMITTING)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("action", ACTIONS)
def test_every_decision_in_every_state(desk: Make, state: State, action: str) -> None:
    web = desk()
    id_ = in_state(web, state)
    first = post(web, id_, action)
    if action in ("takeover", "handback"):
        wanted = State.HELD if action == "takeover" and state in STOPPED else state
    elif action not in ALLOWED.get(state, {}):
        assert first.status_code == 409, first.json
        assert first.json["error"].startswith(f"message {id_} is {state}")
        assert first.json["fields"] == {}
        assert web.get(f"/email/messages/{id_}").json["state"] == state
        return
    else:
        wanted = ALLOWED[state][action]
    assert first.status_code == 200, first.json
    assert first.json == web.get(f"/email/messages/{id_}").json
    assert first.json["state"] == wanted
    if wanted is not state:
        assert first.json["history"][-1]["by"] == "local"
    again = post(web, id_, action)
    assert (again.status_code, again.json) == (200, first.json)


@pytest.mark.parametrize("action", ACTIONS[1:])
def test_the_reason_stands_in_the_record(desk: Make, action: str) -> None:
    web = desk()
    state = {"discard": State.REVIEW, "retry": State.FAILED, "takeover": State.REVIEW}.get(action, State.HELD)
    id_ = in_state(web, state)
    if action == "handback":
        id_ = in_state(web, State.REVIEW, 2)
        post(web, id_, "takeover")
    answer = post(web, id_, action, json={"reason": "because\nof this"})
    assert answer.status_code == 200
    assert ": because of this" in answer.json["reason"]
    assert answer.json["history"][-1]["reason"] == answer.json["reason"]


# --- the order of the checks --------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS)
def test_the_checks_come_in_the_contracts_order(desk: Make, action: str) -> None:
    token = {"headers": {"Authorization": "Bearer t"}}
    off = desk(ENABLED_CLIENTS="", CLEO_API_TOKEN="t", EMAIL_MAX_MESSAGE_BYTES="1000")
    web = desk(CLEO_API_TOKEN="t", EMAIL_MAX_MESSAGE_BYTES="1000")
    large = {"data": b"{" + b" " * 1000 + b"}", "content_type": "text/plain"}
    assert post(off, NOBODY, action, **large).status_code == 404
    assert post(web, NOBODY, action, **large).status_code == 401
    assert post(web, NOBODY, action, **large, **token).status_code == 413
    for status, options in (
        (415, {"data": b"no json", "content_type": "text/plain"}),
        (415, {"data": b"{}"}),
        (400, {"data": b"no json", "content_type": "application/json"}),
        (400, {"data": b"[" * 900, "content_type": "application/json"}),
        (422, {"json": []}),
        (422, {"json": {"nonsense": 1}}),
        (422, {"json": {"body": 5} if action == "approve" else {"reason": 5}}),
        (404, {}),
        (404, {"json": {}}),
    ):
        assert post(web, NOBODY, action, **options, **token).status_code == status, (status, options)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"data": b""},
        {"data": b"", "content_type": "application/json"},
        {"data": b"\n", "content_type": "application/x-www-form-urlencoded"},
        {"json": {}},
        {"data": b"{}", "content_type": "application/problem+json; charset=utf-8"},
    ],
)
def test_the_body_may_be_absent(desk: Make, action: str, options: dict[str, Any]) -> None:
    web = desk()
    state = {"release": State.HELD, "retry": State.FAILED}.get(action, State.REVIEW)
    assert post(web, in_state(web, state), action, **options).status_code == 200


def test_null_counts_as_absent(desk: Make) -> None:
    web = desk()
    assert post(web, in_state(web, State.REVIEW), "discard", json={"reason": None}).status_code == 200
    answer = post(web, in_state(web, State.REVIEW, 2), "approve", json={"body": None, "subject": None})
    assert answer.status_code == 200
    assert answer.json["reason"] == "approved by local"


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("body", {"body": ""}),
        ("body", {"body": "\n"}),
        ("body", {"body": "x" * 60_000}),
        ("subject", {"subject": ""}),
        ("subject", {"subject": "x" * 2001}),
        ("reason", {"reason": "for approve there is none"}),
    ],
)
def test_what_cannot_be_approved_is_422_with_the_field(desk: Make, field: str, given: dict[str, str]) -> None:
    web = desk(EMAIL_MAX_MESSAGE_BYTES="65536")
    id_ = in_state(web, State.REVIEW)
    answer = post(web, id_, "approve", json=given)
    assert answer.status_code == 422
    assert list(answer.json["fields"]) == [field]
    assert web.get(f"/email/messages/{id_}").json["state"] == "review"
    assert post(web, id_, "approve", json={"body": "short"}).status_code == 200


@pytest.mark.parametrize("tail", ["", ":source", "%0A", "x" * 300, "\x00"])
def test_what_is_no_record_is_404(desk: Make, tail: str) -> None:
    web = desk()
    for action in ACTIONS:
        assert post(web, NOBODY + tail, action).status_code == 404
    assert post(web, hand_in(web), "nonsense").status_code == 404
    assert web.get(f"/email/messages/{hand_in(web)}/approve").status_code == 405


def test_who_was_first_is_told(desk: Make) -> None:
    web = desk(CLEO_API_TOKEN="anna:a1, bert:b2")
    id_ = in_state(web, State.REVIEW)
    as_ = {name: {"Authorization": f"Bearer {secret}"} for name, secret in (("anna", "a1"), ("bert", "b2"))}
    text = {"body": "**Nein.**", "subject": "Ganz anders"}
    assert post(web, id_, "approve", json=text, headers=as_["anna"]).json["history"][-1]["by"] == "anna"
    assert post(web, id_, "approve", json=text, headers=as_["bert"]).json["history"][-1]["by"] == "anna"
    for action, body in (("discard", {}), ("approve", {}), ("approve", {**text, "body": "Ja."})):
        answer = post(web, id_, action, json=body, headers=as_["bert"])
        assert answer.status_code == 409
        assert "is submitting: approved by anna, changed (by anna, " in answer.json["error"]
    mail = app_of(web).store.messages.answer(id_)
    assert mail is not None
    assert b"\r\nSubject: Ganz anders\r\n" in mail.source


# --- who decides --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "by"),
    [
        ("s3cret", "anna"),
        ("anna:s3cret", "anna"),  # as it stands in the setting
        ("with:colon", "bert"),
        ("alone", "token"),
        ("not a name:x", "token"),
        ("anna", ""),
        ("anna:", ""),
        ("bert:s3cret", ""),
        ("colon", ""),
        ("x", ""),
        ("", ""),
        ("é", ""),
    ],
)
def test_a_token_has_a_name(desk: Make, shown: str, by: str) -> None:
    web = desk(CLEO_API_TOKEN="anna:s3cret, bert:with:colon, alone, not a name:x")
    id_ = in_state(web, State.REVIEW)
    answer = post(web, id_, "discard", headers={"Authorization": f"Bearer {shown}"})
    assert answer.status_code == (200 if by else 401)
    if by:
        assert [step["by"] for step in answer.json["history"]] == ["agent", "agent", "agent", by]


def test_a_program_of_this_machine_is_local(redis_url: str) -> None:
    settings = read_settings({**BASE, "REDIS_URL": redis_url, "CLEO_API_TOKEN": "made"}, dotenv=None)
    app: Flask = create_app(settings)
    app.config[OWN_CALLERS] = True
    web = app.test_client()
    made = {"Authorization": "Bearer made"}
    for number, (headers, by) in enumerate((({}, "local"), (made, "token"))):
        answer = post(web, in_state(web, State.REVIEW, number), "discard", headers=headers)
        assert answer.json["history"][-1]["by"] == by
    web = create_app(settings.model_copy(update={"api_tokens": ()})).test_client()
    stranger = {"REMOTE_ADDR": "192.0.2.1"}
    assert post(web, in_state(web, State.REVIEW, 9), "discard", environ_base=stranger).status_code == 401


# --- threads ------------------------------------------------------------------------------------------------


def thread(web: FlaskClient, message_id: str) -> Any:
    return web.get("/email/threads", query_string={"message_id": message_id})


def test_a_thread_is_found_by_any_of_its_ids(desk: Make) -> None:
    web = desk()
    id_ = in_state(web, State.REPLIED)
    record = app_of(web).store.messages.get(id_)
    for asked in (id_, "<q1@example.test>", "q1@example.test", record.reply_message_id):
        found = thread(web, asked)
        assert found.status_code == 200, asked
        assert found.json["thread_id"] == "<q1@example.test>"
    for asked in (NOBODY, "<x@y.test>", "nobody", "<>", "\x00", "a b@c"):
        assert thread(web, asked).status_code == 404, asked
    assert thread(web, "").status_code == 422
    assert list(web.get("/email/threads").json["fields"]) == ["message_id"]


def test_the_turns_of_a_thread_say_who_wrote_and_when(desk: Make) -> None:
    web = desk()
    store = app_of(web).store
    first = in_state(web, State.REVIEW)
    assert thread(web, first).json["with"] == "agent"
    assert [turn["role"] for turn in thread(web, first).json["turns"]] == ["user"], "nothing has been said"
    post(web, first, "approve", json={"body": "Nein."})
    again = hand_in(web, 1, message_id="<2@x.test>", references="<q1@example.test>", text="Why?")
    robot = hand_in(web, 3, message_id="<3@x.test>", references="<q1@example.test>", extra="Precedence: bulk")
    assert store.messages.get(robot).state is State.IGNORED
    store.threads.take("<q1@example.test>", taken_by("mailbox", "a person answered", 0))
    found = thread(web, again).json
    assert list(found) == ["thread_id", "with", "turns"]
    assert found["with"] == "person"
    who = [(turn["id"], turn["role"], turn["by"], turn["text"]) for turn in found["turns"]]
    assert who[0] == (first, "user", "customer1@example.test", "Question")
    assert sorted(who[1:]) == sorted(
        [
            (first, "assistant", "local", "Nein."),
            (again, "user", "customer1@example.test", "Why?"),  # the agent has not seen it: from the source
        ]
    )
    assert [turn["at"] for turn in found["turns"]] == sorted(turn["at"] for turn in found["turns"])
    assert list(found["turns"][0]) == ["id", "role", "by", "text", "at"]


def test_a_thread_is_for_those_with_a_token(desk: Make) -> None:
    web = desk(CLEO_API_TOKEN="t")
    assert thread(web, NOBODY).status_code == 401
    assert thread(desk(ENABLED_CLIENTS=""), NOBODY).status_code == 404
