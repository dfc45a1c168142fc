"""What became of every message, and whether mail flows."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from cleo_email.app import App
from cleo_email.settings import read_settings
from cleo_email.web.app import create_app
from cleo_email.web.routes import why_not_ready
from tests.support.web import BASE, MAIL


def build(redis_url: str, **env: str) -> FlaskClient:
    return create_app(read_settings({**BASE, "REDIS_URL": redis_url, **env}, dotenv=None)).test_client()


def fill(web: FlaskClient, count: int) -> list[str]:
    ids = []
    for n in range(count):
        answer = web.post("/email/incoming", json={**MAIL, "message_id": f"<m{n}@example.test>"})
        ids.append(answer.json["id"])
    return ids


def test_records_come_newest_first_in_pages(redis_url: str) -> None:
    web = build(redis_url)
    ids = fill(web, 7)
    seen: list[str] = []
    query = "limit=3"
    while query:
        page = web.get(f"/email/messages?{query}").json
        seen += [record["id"] for record in page["messages"]]
        query = f"limit=3&cursor={page['next']}" if page["next"] else ""
    assert sorted(seen, reverse=True) == seen
    assert set(seen) == set(ids)
    assert len(seen) == 7


def test_a_record_has_the_fields_of_the_contract_and_a_history(redis_url: str) -> None:
    web = build(redis_url)
    (id_,) = fill(web, 1)
    record = web.get(f"/email/messages/{id_}").json
    assert list(record) == [
        "id", "state", "reason", "thread_id", "message_id", "in_reply_to", "from_address", "subject",
        "received_at", "updated_at", "attempts", "reply_message_id", "recipients", "history",
    ]  # fmt: skip
    assert record["from_address"] == "anna@example.test"
    assert [step["state"] for step in record["history"]] == ["received"]
    assert web.get("/email/messages/000000000000000000000000").status_code == 404


def test_filters_work_alone_and_together(redis_url: str) -> None:
    web = build(redis_url)
    fill(web, 2)
    robot = {**MAIL, "from_address": "mailer-daemon@example.test", "message_id": "<x@example.test>"}
    web.post("/email/incoming", json={**robot, "references": "<m0@example.test>"})

    def found(**query: str) -> list[str]:
        return [r["message_id"] for r in web.get("/email/messages", query_string=query).json["messages"]]

    assert found(state="ignored") == ["<x@example.test>"]
    assert found(message_id="<m1@example.test>") == ["<m1@example.test>"]
    assert found(thread_id="<m0@example.test>") == ["<m0@example.test>"], (
        "a robot is a stranger to that thread"
    )
    assert found(thread_id="<m0@example.test>", state="ignored") == []
    assert found(message_id="<m1@example.test>", state="received") == ["<m1@example.test>"]


@pytest.mark.parametrize(
    "query", ["state=nonsense", "limit=0", "limit=1001", "limit=-1", "limit=ten", "cursor=../x"]
)
def test_bad_filters_are_422_with_the_field(redis_url: str, query: str) -> None:
    answer = build(redis_url).get(f"/email/messages?{query}")
    assert answer.status_code == 422
    assert list(answer.json["fields"]) == [query.partition("=")[0]]


def test_the_api_token_is_required_once_set(redis_url: str) -> None:
    web = build(redis_url, CLEO_API_TOKEN="t0ken")
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic t0ken"},
        {"Authorization": "t0ken"},
    ):
        answer = web.get("/email/messages", headers=headers)
        assert answer.status_code == 401
        assert "CLEO_API_TOKEN" in answer.json["error"]
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert web.get("/email/messages", headers={"Authorization": "bearer t0ken"}).status_code == 200


def test_a_token_is_replaced_without_downtime(redis_url: str) -> None:
    web = build(redis_url, CLEO_API_TOKEN="old-token, new-token")
    for token, status in (
        ("old-token", 200),
        ("new-token", 200),
        ("old-token, new-token", 401),
        ("old-token,new-token", 401),
        ("", 401),
        (",", 401),
    ):
        answer = web.get("/email/messages", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status, token


def test_without_a_token_only_this_machine_is_answered(redis_url: str) -> None:
    web = build(redis_url)
    assert web.get("/email/messages", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 401
    assert web.get("/email/messages", environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == 401


def test_readiness_names_what_is_missing(redis_url: str) -> None:
    settings = read_settings({**BASE, "REDIS_URL": redis_url, "EMAIL_IMAP_HOST": "imap.test"}, dotenv=None)
    app = App(settings)
    now = 1_000_000_000
    assert "worker" in why_not_ready(app, now)
    app.store.health.worker_seen(now)
    assert "poll" in why_not_ready(app, now)
    seldom = App(settings.model_copy(update={"poll_interval": 10**9}))
    assert "poll" in why_not_ready(seldom, now), "an interval that began before 1970"
    app.store.health.polled(now)
    assert why_not_ready(seldom, now) == ""
    assert why_not_ready(app, now) == ""
    assert why_not_ready(app, now + 89_000) == ""
    assert "worker" in why_not_ready(app, now + 91_000)
    app.store.health.worker_seen(now + 200_000)
    app.store.health.poll_fault("imap.test refused the login")
    assert why_not_ready(app, now + 200_000) == "imap.test refused the login"
    app.store.health.polled(now + 200_000)
    app.store.health.submission_fault("535 wrong password")
    assert why_not_ready(app, now + 200_000) == "535 wrong password"


@pytest.mark.parametrize("tail", [":source", ":history", ":answer", "%0A", "\x00"])
def test_what_lies_beside_a_record_is_no_record(redis_url: str, tail: str) -> None:
    web = build(redis_url)
    (id_,) = fill(web, 1)
    assert web.get(f"/email/messages/{id_}{tail}").status_code == 404
