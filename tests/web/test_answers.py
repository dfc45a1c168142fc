"""``POST /email/answers/<id>``: every answer of the contract, in the contract's order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from cleo_email.pipeline.receive import IncomingMail
from cleo_email.store import Effects, State
from tests.support.bench import head_of
from tests.support.mails import mail
from tests.support.web import Make, app_of, web_maker

URL = "https://cleo.example.test"
NOBODY = "0" * 24


@pytest.fixture
def make(redis_url: str) -> Make:
    return web_maker(redis_url)


def waiting(web: FlaskClient, number: int = 1) -> tuple[str, str]:
    """The id of a message that waits for its agent, and the token."""
    app = app_of(web)
    id_ = app.receiver.accept(IncomingMail(mail(number), "raw")).id
    until, reason = app.callbacks.deadline()
    effects = Effects({"waits_until": until, "given": ""}, due=until)
    app.store.messages.move(id_, State.ANSWERING, now=app.clock(), reason=reason, effects=effects)
    return id_, app.callbacks.offer(app.store.messages.get(id_)).token


def post(web: FlaskClient, id_: str, token: str, body: Any, **options: Any) -> TestResponse:
    data = body if isinstance(body, bytes) else json.dumps(body)
    options.setdefault("content_type", "application/json")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return web.post(f"/email/answers/{id_}", data=data, headers=headers, **options)


def test_an_answer_is_accepted_once_and_another_one_refused(make: Make) -> None:
    web = make()
    id_, token = waiting(web)
    for status in ("accepted", "duplicate"):
        answer = post(web, id_, token, {"reply": "fine"})
        assert (answer.status_code, answer.json) == (200, {"id": id_, "status": status})
    other = post(web, id_, token, {"reply": "bad"})
    assert other.status_code == 409
    assert "that stands" in other.json["error"]
    thread = app_of(web).store.messages.get(id_).thread_id
    assert head_of(app_of(web).store, thread, app_of(web).clock()) == id_, "due at once"


def test_the_url_is_told_only_where_it_is_set(make: Make) -> None:
    for env, url in (({}, None), ({"CLEO_PUBLIC_URL": URL}, f"{URL}/email/answers/")):
        web = make(**env)
        id_, token = waiting(web, 1 + len(env))
        callback = app_of(web).callbacks.offer(app_of(web).store.messages.get(id_))
        assert callback.model_dump() == {**({"url": f"{url}{id_}"} if url else {}), "token": token}


def test_the_checks_come_in_the_contracts_order(make: Make) -> None:
    web = make(EMAIL_MAX_MESSAGE_BYTES="1000")
    id_, token = waiting(web)
    large, other = b'{"reply": "' + b"x" * 1000 + b'"}', {"content_type": "text/plain"}
    answers = [
        (post(web, id_, "", large, **other), 401),
        (post(web, NOBODY, "", large, **other), 401),
        (post(web, NOBODY, token, large, **other), 404),
        (post(web, id_, "wrong", large, **other), 401),
        (post(web, id_, token, large, **other), 413),
        (post(web, id_, token, b"nothing", **other), 415),
        (post(web, id_, token, b"nothing"), 400),
        (post(web, id_, token, []), 422),
        (post(web, id_, token, {"reply": 7}), 422),
        (post(web, id_, token, {"attachments": []}), 422),
        (post(web, id_, token, {"ask": {"question": ""}}), 422),
        (post(web, id_, token, {"ask": {"question": "?", "to": "nobody"}}), 422),
        (post(web, id_, token, {"ask": {"question": "?", "context": {"a": "x" * 70_000}}}), 413),
        (post(web, id_, token, {"progress": "half"}), 200),
        (post(web, id_, token, {"reply": "fine"}), 200),
    ]
    assert [(answer.status_code, wanted) for answer, wanted in answers if answer.status_code != wanted] == []
    assert "WWW-Authenticate" in answers[0][0].headers
    assert "the agent's reply is int, expected a string" in answers[8][0].json["error"]
    off = make(ENABLED_CLIENTS="other")
    assert post(off, id_, token, {"reply": "x"}).status_code == 404


def test_a_context_of_more_than_64_kb_is_malformed(make: Make) -> None:
    web = make()
    id_, token = waiting(web)
    answer = post(web, id_, token, {"ask": {"question": "?", "context": {"a": "x" * 70_000}}})
    assert answer.status_code == 422
    assert "65536" in answer.json["error"]
    assert post(web, id_, token, {"reply": "fine"}).status_code == 200


def test_an_answer_of_30_mb_is_refused_and_the_message_still_waits(make: Make) -> None:
    web = make()
    id_, token = waiting(web)
    assert post(web, id_, token, b'{"reply": "' + b"x" * 30_000_000 + b'"}').status_code == 413
    assert post(web, id_, token, {"reply": "shorter"}).status_code == 200


def test_no_forged_and_no_foreign_token_is_taken(make: Make) -> None:
    web = make()
    mine = [waiting(web, number) for number in range(20)]
    foreign = make(CLEO_SECRET_KEY="QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=")
    taken = 0
    for number, (id_, token) in enumerate(mine):
        record = app_of(web).store.messages.get(id_)
        other = mine[number - 1][1]
        for forged in (other, token[::-1], app_of(foreign).callbacks.offer(record).token, id_, "x" * 43):
            answer = post(web, id_, forged, {"reply": "forged"})
            assert answer.status_code in (401, 429)
            taken += answer.status_code == 200
    assert not taken
    assert all(post(web, id_, token, {"reply": "mine"}).status_code == 200 for id_, token in mine)


def test_what_is_over_is_told_with_its_state(make: Make) -> None:
    web = make()
    id_, token = waiting(web)
    app = app_of(web)
    app.decisions.take_over(id_, by="cli")
    answer = post(web, id_, token, {"reply": "late"})
    assert answer.status_code == 409
    assert "it is held: a person has this thread" in answer.json["error"]
