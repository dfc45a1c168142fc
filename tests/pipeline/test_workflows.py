"""Workflows: what a start may hold, what the agent is told, what is mailed, and when a schedule fires."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from redis import Redis

from cleo_email.agents.base import AgentRequest
from cleo_email.app import App
from cleo_email.errors import SettingsError, StoreUnavailable
from cleo_email.mail.model import Address, Answer, AttachedFile
from cleo_email.pipeline import workflows as opening
from cleo_email.pipeline.answer import Answerer
from cleo_email.pipeline.budget import Budget, Limits
from cleo_email.pipeline.workflows import (
    StartRequest,
    ThreadOpener,
    WorkflowStarter,
    last_due,
    load_suppliers,
    next_due,
)
from cleo_email.runtime import stuck_calls
from cleo_email.screening.screen import Policy
from cleo_email.settings import Settings, read_settings
from cleo_email.store import Effects, Record, State, Store
from cleo_email.web.app import create_app
from tests.pipeline.test_send import b64, files, kept
from tests.support.web import BASE, MAIL

START = {"workflow_id": "weekly_report", "user_ids": ["Anna <anna@example.test>"], "channel": "email"}
CONFIG = f"""
[workflows.weekly_report]
subject = "Your week"
language = "de"
model = "small"
users = ["anna@example.test", "Bob <bob@example.test>"]
schedule = "0 8 * * mon-fri"
timezone = "Europe/Berlin"
attachments = [
  {{filename = "terms.txt", content = "{b64(b"terms")}"}},
  {{filename = "numbers.csv", callable = "supplying:numbers"}},
]
[workflows.bare]
"""
SUPPLYING = """
import io, threading
def numbers(workflow):
    return io.BytesIO(workflow["user_id"].encode())
def several(workflow):
    import cleo_email
    return [cleo_email.Attachment("one.pdf", b"1"), io.BytesIO(b"2"), b"3"]
def path(workflow):
    return "/etc/passwd"
def failing(workflow):
    raise OSError("later")
begun, go_on = threading.Semaphore(0), threading.Event()
def hanging(workflow):
    begun.release()
    go_on.wait(30)
    return b"late"
def confused(workflow):
    raise TypeError("secret-3f9c " + workflow["user_id"])
def leaving(workflow):
    raise SystemExit
nothing = 3
"""
Make = Callable[..., "Flow"]


class Agent:
    """Answers every question with ``answer`` and remembers what it was asked."""

    may_answer_later = True

    def __init__(self) -> None:
        self.answer_with = Answer(text="**Hello**")
        self.asked: list[AgentRequest] = []

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        self.asked.append(request)
        return self.answer_with


class NoDelivery:
    """Leaves what is kept as it is: these tests look at the mail that would be submitted."""

    def submit(self, _work: object) -> None:
        return


class Flow:
    """The web application and the answering of one worker, both in this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.web: FlaskClient = create_app(settings).test_client()
        self.app = App(settings)
        self.store: Store = self.app.store
        self.agent = Agent()
        configured = settings.workflows or {}
        self.opening = ThreadOpener(
            self.store,
            self.app.sender,
            configured,
            load_suppliers(configured),
            timeout=settings.agent_timeout,
        )
        policy = Policy(frozenset({"agent@cleo.test"}), (), (), None)
        self.answering = Answerer(
            self.store,
            self.agent,
            NoDelivery(),  # type: ignore[arg-type]
            self.app.wake,
            self.app.signer,
            settings.from_address,
            policy,
            budget=Budget(self.store, Limits()),
            callbacks=self.app.callbacks,
            questions=self.app.questions,
            opening=self.opening,
        )

    def start(self, **fields: Any) -> list[dict[str, str]]:
        answer = self.web.post("/workflows", json={**START, **fields})
        assert answer.status_code == 202, answer.json
        ids: list[dict[str, str]] = answer.json["ids"]
        return ids

    def handle(self, started: dict[str, str]) -> Record:
        self.answering.handle(started["thread_id"])
        return self.store.messages.get(started["id"])

    def leave(self, started: list[dict[str, str]]) -> None:
        """What follows when the mails have been submitted."""
        for one in started:
            self.opening.release_files(replace(self.store.messages.get(one["id"]), state=State.REPLIED))


@pytest.fixture
def make(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    (tmp_path / "supplying.py").write_text(SUPPLYING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "supplying", raising=False)
    monkeypatch.chdir(tmp_path)

    def make(config: str = "", **env: str) -> Flow:
        if config:
            (tmp_path / "flows.toml").write_text(config)
            env["CLEO_WORKFLOWS"] = "flows.toml"
        return Flow(read_settings({**BASE, "REDIS_URL": redis_url, **env}, dotenv=None))

    return make


# --- a start ------------------------------------------------------------------------------------------------


def test_every_user_gets_a_record_and_a_thread_of_their_own(make: Make) -> None:
    flow = make()
    users = ["Anna <anna@example.test>", "bob@example.test", "ANNA@example.test"]
    started = flow.start(user_ids=users)
    assert [one["user_id"] for one in started] == ["Anna <anna@example.test>", "bob@example.test"]
    assert len({one["thread_id"] for one in started}) == 2
    for one in started:
        record = flow.handle(one)
        assert (record.state, record.thread_id) == (State.SUBMITTING, one["thread_id"])
        mail = kept(flow.store, one["id"])
        assert mail["Message-ID"] == one["thread_id"]
        assert (mail["Subject"], mail["In-Reply-To"]) == ("Weekly report", None)
        assert mail["Auto-Submitted"] == "auto-generated"
    assert kept(flow.store, started[0]["id"])["To"] == "Anna <anna@example.test>"


def test_the_agent_is_told_of_the_workflow_as_it_was_given(make: Make) -> None:
    flow = make()
    data = {"answers": [1, 2.5, None, True], "name": "Grüße"}
    (started,) = flow.start(
        config_id="c1", instance=7, language="de", model="gpt-x", subject="Hallo", workflow_data=data
    )
    flow.handle(started)
    (asked,) = flow.agent.asked
    assert asked.id == started["id"]
    assert (asked.language, asked.model) == ("de", "gpt-x")
    assert (asked.message.text, asked.message.message_id, asked.history) == ("", "", ())
    assert asked.message.to_address == "anna@example.test"
    assert asked.workflow == {
        "workflow_id": "weekly_report",
        "user_id": "Anna <anna@example.test>",
        "config_id": "c1",
        "instance": 7,
        "language": "de",
        "model": "gpt-x",
        "new_room": True,
        "subject": "Hallo",
        "workflow_data": data,
        "attachments": [],
    }


def test_the_users_reply_goes_on_with_the_workflow_known_and_a_stranger_learns_nothing(make: Make) -> None:
    flow = make()
    (started,) = flow.start(language="de", workflow_data={"a": 1})
    flow.handle(started)
    for sender, thread in (
        ("anna@example.test", started["thread_id"]),
        ("eve@example.test", "<r-eve@x.test>"),
    ):
        reply = {**MAIL, "from_address": sender, "message_id": f"<r-{sender.partition('@')[0]}@x.test>"}
        answer = flow.web.post("/email/incoming", json={**reply, "in_reply_to": started["thread_id"]})
        assert answer.json["thread_id"] == thread
    flow.store.messages.move(started["id"], State.REPLIED, now=2, effects=Effects(pop=True))
    flow.answering.handle(started["thread_id"])
    flow.answering.handle("<r-eve@x.test>")
    _, anna, eve = flow.agent.asked
    assert anna.workflow is not None
    assert (anna.workflow["workflow_data"], anna.language) == ({"a": 1}, "de")
    assert (eve.workflow, eve.language, eve.history) == (None, "en", ())


def test_files_of_the_request_the_configuration_and_the_agent_go_in_one_mail(
    make: Make, redis_url: str
) -> None:
    flow = make(CONFIG)
    flow.agent.answer_with = Answer("Hello", (AttachedFile("agent.png", "image/png", b"png"),))
    started = flow.start(
        user_ids=["anna@example.test", "bob@example.test"],
        attachments=[{"filename": "own.bin", "content": b64(b"own")}],
    )
    for one in started:
        assert flow.handle(one).state is State.SUBMITTING
        assert files(kept(flow.store, one["id"])) == [
            ("own.bin", "application/octet-stream", b"own"),
            ("terms.txt", "text/plain", b"terms"),
            ("numbers.csv", "text/csv", one["user_id"].encode()),
            ("agent.png", "image/png", b"png"),
        ]
    described = flow.agent.asked[0].workflow
    assert described is not None
    assert described["attachments"] == [
        {"filename": "own.bin", "content_type": "application/octet-stream", "size": 3}
    ]
    with Redis.from_url(redis_url) as redis:
        assert redis.keys("cleo:files:*") != [], "a person may still have the agent asked anew"
        flow.leave(started)
        assert redis.keys("cleo:files:*") == [], "the last mail that carries them drops the request's files"


def test_the_configuration_gives_what_the_request_leaves_out(make: Make) -> None:
    flow = make(CONFIG)
    flow.handle(flow.start()[0])
    flow.handle(flow.start(subject="Mine", language="en", model="big")[0])
    first, second = flow.agent.asked
    assert (first.message.subject, first.language, first.model) == ("Your week", "de", "small")
    assert (second.message.subject, second.language, second.model) == ("Mine", "en", "big")
    assert make(CONFIG).start(workflow_id="bare")


def test_an_old_room_is_that_of_the_user_and_the_workflow(make: Make) -> None:
    flow = make()
    (first,) = flow.start(new_room=False)
    flow.handle(first)
    flow.store.messages.move(first["id"], State.REPLIED, now=2, effects=Effects(pop=True))
    (again,) = flow.start(new_room=False)
    assert again["thread_id"] == first["thread_id"]
    assert flow.handle(again).state is State.SUBMITTING
    mail = kept(flow.store, again["id"])
    assert mail["Message-ID"] != first["thread_id"]
    assert (mail["In-Reply-To"], mail["References"]) == (first["thread_id"], first["thread_id"])
    assert [turn.content for turn in flow.agent.asked[1].history] == ["**Hello**"]
    (other_user,) = flow.start(new_room=False, user_ids=["bob@example.test"])
    (other_flow,) = flow.start(new_room=False, workflow_id="other")
    (new,) = flow.start(new_room=True)
    (latest,) = flow.start(new_room=False)
    assert len({one["thread_id"] for one in (first, other_user, other_flow, new)}) == 4
    assert latest["thread_id"] == new["thread_id"]


def test_an_answer_that_is_none_ends_the_start_whose_files_wait_with_its_source_for_a_release(
    make: Make, redis_url: str
) -> None:
    flow = make()
    flow.agent.answer_with = Answer(ignore="not today")
    (started,) = flow.start(attachments=[{"filename": "a", "content": ""}])
    record = flow.handle(started)
    assert (record.state, record.reason) == (State.IGNORED, "not today")
    with Redis.from_url(redis_url) as redis:
        (batch,) = redis.keys("cleo:files:*")
        assert 6 * 86_400 < redis.ttl(batch) <= 7 * 86_400
    flow.app.decisions.release(record.id, by="anna")
    flow.agent.answer_with = Answer("Hello")
    assert flow.handle(started).state is State.SUBMITTING
    assert [name for name, _, _ in files(kept(flow.store, record.id))] == ["a"]


def test_a_start_that_waited_for_a_person_has_its_files_when_the_agent_is_asked_anew(make: Make) -> None:
    flow = make()
    (started,) = flow.start(attachments=[{"filename": "a", "content": b64(b"1")}])
    decisions, id_ = flow.app.decisions, started["id"]
    for step, state in ((Answer("Hello", review="look"), State.REVIEW), (Answer("Hello"), State.SUBMITTING)):
        flow.agent.answer_with = step
        assert flow.handle(started).state is state
        assert files(kept(flow.store, id_)) == [("a", "application/octet-stream", b"1")]
        decisions.take_over(id_, by="anna")
        assert decisions.hand_back(id_, by="anna").state is State.RECEIVED
    flow.agent.answer_with = Answer("Hello", review="look")
    assert flow.handle(started).state is State.REVIEW
    decisions.discard(id_, by="anna")
    decisions.release(id_, by="anna")
    assert flow.handle(started).state is State.REVIEW
    assert files(kept(flow.store, id_)) == [("a", "application/octet-stream", b"1")]


def test_a_supplier_may_give_several_files(make: Make) -> None:
    flow = make('[workflows.x]\nattachments = ["supplying:several"]\n')
    (started,) = flow.start(workflow_id="x")
    flow.handle(started)
    given = [(name, content) for name, _, content in files(kept(flow.store, started["id"]))]
    assert given == [("one.pdf", b"1"), ("attachment-2.bin", b"2"), ("attachment-3.bin", b"3")]


@pytest.mark.parametrize(
    ("name", "state", "word"),
    [
        ("path", State.FAILED, "path"),
        ("failing", State.ANSWERING, "OSError"),
        ("leaving", State.ANSWERING, "SystemExit"),
        ("confused", State.ANSWERING, "TypeError at supplying.py:"),
    ],
)
def test_a_supplier_that_fails_is_told_of(make: Make, name: str, state: State, word: str) -> None:
    flow = make(f'[workflows.x]\nattachments = ["supplying:{name}"]\n')
    record = flow.handle(flow.start(workflow_id="x")[0])
    assert record.state is state
    assert word in record.reason
    assert "supplying" in record.reason
    assert "secret-3f9c" not in record.reason


def test_a_supplier_that_hangs_is_left_at_the_deadline_and_tried_again(make: Make) -> None:
    flow = make('[workflows.x]\nattachments = ["supplying:hanging"]\n', CLEO_AGENT_TIMEOUT_SECONDS="0.2")
    record = flow.handle(flow.start(workflow_id="x")[0])
    supplying = importlib.import_module("supplying")
    try:
        assert (record.state, record.tries) == (State.ANSWERING, 1)
        assert "supplying:hanging: no answer within 0.2 s" in record.reason
        assert len(stuck_calls()) == 1, "the watchdog sees that its thread is still there"
    finally:
        supplying.go_on.set()
        for thread in threading.enumerate():
            if thread.name == "supplier-call":
                thread.join(20)
    assert stuck_calls() == []


def test_a_slow_supplier_keeps_nobody_else_from_composing_a_large_mail(make: Make) -> None:
    flow = make('[workflows.x]\nattachments = ["supplying:hanging"]\n[workflows.y]\n')
    large = [{"filename": "a.bin", "content": b64(b"x" * 1_500_000)}]
    (slow,) = flow.start(workflow_id="x", attachments=large)
    (other,) = flow.start(workflow_id="y", user_ids=["bob@example.test"], attachments=large)
    supplying = importlib.import_module("supplying")
    waiting = threading.Thread(target=flow.handle, args=(slow,))
    waiting.start()
    try:
        assert supplying.begun.acquire(timeout=20)
        ready = threading.Thread(target=flow.handle, args=(other,), daemon=True)
        ready.start()
        ready.join(20)
        assert flow.store.messages.get(other["id"]).state is State.SUBMITTING
        assert flow.store.messages.get(slow["id"]).state is State.ANSWERING
    finally:
        supplying.go_on.set()
        waiting.join(20)
    assert flow.store.messages.get(slow["id"]).state is State.SUBMITTING


def test_who_waits_too_long_for_a_turn_with_large_mails_tries_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "COMPOSING_TURN_S", 0.01)
    flow = make()
    (started,) = flow.start(attachments=[{"filename": "a.bin", "content": b64(b"x" * 1_500_000)}])
    with flow.opening._large.turn(2_000_000) as now:
        assert now
        record = flow.handle(started)
    assert record.state is State.ANSWERING
    assert "other large mails" in record.reason


def test_a_mail_that_becomes_too_large_fails_with_its_reason(make: Make) -> None:
    flow = make(EMAIL_MAX_MESSAGE_BYTES="50000")
    flow.agent.answer_with = Answer("x" * 60_000)
    record = flow.handle(flow.start()[0])
    assert record.state is State.FAILED
    assert "EMAIL_MAX_MESSAGE_BYTES" in record.reason


def test_a_repeated_request_with_its_key_is_one_start(make: Make) -> None:
    flow = make()
    body = {
        **START,
        "user_ids": ["a@b.test", "c@d.test"],
        "attachments": [{"filename": "a", "content": "YQ=="}],
    }
    headers = {"Idempotency-Key": "k1"}
    first = flow.web.post("/workflows", json=body, headers=headers)
    again = flow.web.post("/workflows", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json == again.json
    assert len(flow.store.messages.page()[0]) == 2
    other = flow.web.post("/workflows", json={**body, "subject": "x"}, headers=headers)
    assert (other.status_code, list(other.json["fields"])) == (409, ["Idempotency-Key"])
    assert flow.handle(first.json["ids"][0]).state is State.SUBMITTING


@pytest.mark.parametrize("again_after", [0, 1, 2])
def test_the_same_request_at_the_same_moment_leaves_no_files_behind(
    make: Make, redis_url: str, monkeypatch: pytest.MonkeyPatch, again_after: int
) -> None:
    """Both have looked before either was stored; the other one comes after so many mails were made."""
    flow = make()
    body = {"attachments": [{"filename": "a", "content": "YQ=="}], "user_ids": ["a@b.test", "c@d.test"]}

    def post() -> list[dict[str, str]]:
        answer = flow.web.post("/workflows", json={**START, **body}, headers={"Idempotency-Key": "k"})
        ids: list[dict[str, str]] = answer.json["ids"]
        return ids

    first = post()
    monkeypatch.setattr("cleo_email.store.messages.Messages.first_of", lambda *_: None)
    for one in first[:again_after]:
        flow.handle(one)
    assert post() == first
    for one in first[again_after:]:
        flow.handle(one)
    for one in first:
        assert files(kept(flow.store, one["id"])) == [("a", "application/octet-stream", b"a")]
    flow.leave(first)
    with Redis.from_url(redis_url) as redis:
        assert redis.keys("cleo:files:*") == []


def test_a_request_that_is_refused_uses_up_no_key(make: Make) -> None:
    flow = make()
    headers = {"Idempotency-Key": "k1"}
    bad = flow.web.post("/workflows", json={**START, "workflow_data": "x" * 270_000}, headers=headers)
    good = flow.web.post("/workflows", json=START, headers=headers)
    assert (bad.status_code, good.status_code) == (422, 202)


@pytest.mark.parametrize("users", [["a@b.test", "c@d.test"], ["c@d.test"]])
def test_a_key_of_another_request_starts_nobody(make: Make, users: list[str]) -> None:
    flow = make()
    headers = {"Idempotency-Key": "k1"}
    first = flow.web.post("/workflows", json={**START, "user_ids": ["a@b.test"]}, headers=headers)
    assert first.status_code == 202
    other = flow.web.post("/workflows", json={**START, "user_ids": users}, headers=headers)
    assert other.status_code == 409
    assert [record.to_address for record in flow.store.messages.page()[0]] == ["a@b.test"]


def test_all_users_are_stored_or_none(make: Make, redis_url: str) -> None:
    flow = make()
    users = [(one, Address(one)) for one in ("a@b.test", "c@d.test")]
    with Redis.from_url(redis_url) as other:
        other.config_set("maxmemory", "1")
        try:
            with pytest.raises(StoreUnavailable):
                flow.app.workflow_starter.start(StartRequest("x", users))
        finally:
            other.config_set("maxmemory", "0")
        assert other.keys("cleo:m:*") == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"workflow_id": ""}, "workflow_id"),
        ({"workflow_id": 3}, "workflow_id"),
        ({"user_ids": []}, "user_ids"),
        ({"user_ids": "a@b.test"}, "user_ids"),
        ({"user_ids": ["nobody"]}, "user_ids"),
        ({"user_ids": ["ä@b.test"]}, "user_ids"),
        ({"user_ids": ["a@b.test"] * 1000}, "user_ids"),
        ({"channel": "teams"}, "channel"),
        ({"users": ["a@b.test"]}, "users"),
        ({"channel": None}, "channel"),
        ({"language": 3}, "language"),
        ({"model": ["x"]}, "model"),
        ({"new_room": "yes"}, "new_room"),
        ({"subject": "x" * 2001}, "subject"),
        ({"workflow_data": "x" * 270_000}, "workflow_data"),
        ({"workflow_data": "x" * 200_000, "user_ids": [f"u{n}@b.test" for n in range(100)]}, "user_ids"),
        ({"attachments": [{"filename": "/etc/passwd", "content": ""}]}, "attachments.0.filename"),
        ({"attachments": [{"filename": "a", "path": "/etc/passwd"}]}, "attachments.0.path"),
        ({"attachments": [{"filename": "a", "content": "!"}]}, "attachments.0.content"),
        ({"attachments": [{"filename": "a", "content": "A" * 99_000}]}, "attachments"),
    ],
)
def test_bad_fields_are_named(make: Make, change: dict[str, Any], field: str) -> None:
    limit = "100000" if "attachments" in change else "2000000"
    flow = make(EMAIL_MAX_MESSAGE_BYTES=limit)
    answer = flow.web.post("/workflows", json={**START, **change})
    assert answer.status_code == 422, answer.json
    assert field in answer.json["fields"], answer.json
    assert flow.store.messages.page()[0] == []


def test_large_files_go_to_some_users_at_once_only(make: Make) -> None:
    large = [{"filename": "a", "content": "A" * 4_000_000}]
    users = [f"u{n}@b.test" for n in range(300)]
    answer = make().web.post("/workflows", json={**START, "user_ids": users, "attachments": large})
    assert (answer.status_code, list(answer.json["fields"])) == (422, ["user_ids"])
    assert "at most 261 users" in answer.json["fields"]["user_ids"]


def test_an_unknown_workflow_is_422_once_workflows_are_configured(make: Make) -> None:
    answer = make(CONFIG).web.post("/workflows", json={**START, "workflow_id": "unknown"})
    assert (answer.status_code, list(answer.json["fields"])) == (422, ["workflow_id"])
    assert "CLEO_WORKFLOWS" in answer.json["fields"]["workflow_id"]
    assert make().start(workflow_id="unknown")


def test_only_those_who_may_start(make: Make) -> None:
    assert make(CLEO_API_TOKEN="t").web.post("/workflows", json=START).status_code == 401
    assert make(ENABLED_CLIENTS="teams").web.post("/workflows", json=START).status_code == 404


# --- schedules ----------------------------------------------------------------------------------------------

BERLIN = ZoneInfo("Europe/Berlin")


def at(*time: int, zone: ZoneInfo = BERLIN, fold: int = 0) -> int:
    return int(datetime(*time, tzinfo=zone, fold=fold).timestamp() * 1000)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("schedule", "now", "due"),
    [
        ("0 8 * * mon-fri", at(2026, 11, 24, 8, 0), at(2026, 11, 24, 8, 0)),
        ("0 8 * * mon-fri", at(2026, 11, 24, 7, 59, 59), at(2026, 11, 23, 8, 0)),
        ("0 8 * * mon-fri", at(2026, 11, 22, 12, 0), at(2026, 11, 20, 8, 0)),
        ("@daily", at(2026, 11, 24, 8, 0), at(2026, 11, 24, 0, 0)),
        # The night in which 02:30 does not exist, and the one in which it comes twice.
        ("30 2 * * *", at(2026, 3, 29, 12, 0), at(2026, 3, 29, 3, 0)),
        ("30 2 * * *", at(2026, 10, 25, 12, 0), at(2026, 10, 25, 2, 30)),
        ("30 2 * * *", at(2026, 10, 25, 2, 45), at(2026, 10, 25, 2, 30)),
        ("30 * * * *", at(2026, 10, 25, 2, 45, fold=1), at(2026, 10, 25, 2, 30, fold=1)),
    ],
)
def test_when_a_schedule_is_due(schedule: str, now: int, due: int) -> None:
    assert last_due(schedule, "Europe/Berlin", now) == due


@pytest.mark.parametrize(
    ("schedule", "now", "due"),
    [
        ("30 2 * * *", at(2026, 10, 25, 2, 15), at(2026, 10, 25, 2, 30)),
        ("30 2 * * *", at(2026, 10, 25, 2, 45), at(2026, 10, 26, 2, 30)),
        ("30 2 * * *", at(2026, 10, 25, 2, 15, fold=1), at(2026, 10, 26, 2, 30)),
        ("0 2-4 * * *", at(2026, 10, 25, 2, 5), at(2026, 10, 25, 3, 0)),
        ("30 * * * *", at(2026, 10, 25, 2, 45), at(2026, 10, 25, 2, 30, fold=1)),
        ("30 2 * * *", at(2026, 3, 29, 1, 0), at(2026, 3, 29, 3, 0)),
        ("0 8 * * mon-fri", at(2026, 11, 20, 8, 0), at(2026, 11, 23, 8, 0)),
    ],
)
def test_the_next_time_that_is_shown_is_one_at_which_it_starts(schedule: str, now: int, due: int) -> None:
    shown = next_due(schedule, "Europe/Berlin", now)
    assert int(shown.timestamp() * 1000) == due
    assert str(shown.tzinfo) == "Europe/Berlin"
    assert last_due(schedule, "Europe/Berlin", due) == due


class Clock:
    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def schedulings(flow: Flow, clock: Clock, count: int) -> list[WorkflowStarter]:
    return [replace(App(flow.settings).workflow_starter, clock=clock) for _ in range(count)]


def test_a_due_time_starts_once_across_all_workers_and_missed_ones_at_most_once(make: Make) -> None:
    flow = make(CONFIG)
    clock = Clock(at(2026, 11, 23, 12, 0))
    workers = schedulings(flow, clock, 3)

    def run() -> int:
        for worker in workers:
            worker.start_due()
        return len(flow.store.messages.page()[0])

    assert run() == 0, "times before the first start of the service are not made up for"
    clock.now = at(2026, 11, 24, 7, 59, 59)
    assert run() == 0
    clock.now = at(2026, 11, 24, 8, 0, 1)
    assert run() == 2
    assert run() == 2
    assert {record.to_address for record in flow.store.messages.page()[0]} == {
        "anna@example.test",
        "bob@example.test",
    }
    clock.now = at(2026, 12, 1, 9, 0)  # a week of downtime: five times were missed
    assert run() == 4
    assert run() == 4


def test_whoever_dies_between_start_and_note_doubles_nothing(make: Make, redis_url: str) -> None:
    flow = make(CONFIG)
    clock = Clock(at(2026, 11, 23, 12, 0))
    (worker,) = schedulings(flow, clock, 1)
    worker.start_due()
    with Redis.from_url(redis_url) as redis:
        before: dict[bytes, bytes] = redis.hgetall("cleo:schedules")  # type: ignore[assignment]
        clock.now = at(2026, 11, 24, 8, 0)
        worker.start_due()
        redis.hset("cleo:schedules", mapping=before)  # type: ignore[arg-type]
    worker.start_due()
    assert len(flow.store.messages.page()[0]) == 2


def test_a_changed_schedule_does_not_make_up_for_times_before_the_change(make: Make) -> None:
    clock = Clock(at(2026, 11, 24, 12, 0))
    flow = make(CONFIG)
    schedulings(flow, clock, 1)[0].start_due()
    changed = make(CONFIG.replace("0 8 * *", "0 11 * *"))
    (worker,) = schedulings(changed, clock, 1)
    worker.start_due()
    clock.now = at(2026, 11, 24, 13, 0)
    worker.start_due()
    assert changed.store.messages.page()[0] == []


def test_check_tells_when_workflows_are_due_and_what_is_wrong_with_them(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cleo_email.cli import check

    settings = make(CONFIG).settings
    monkeypatch.setattr(check, "now_ms", lambda: at(2026, 11, 27, 9, 0))
    texts = [finding.text for finding in check._workflows(settings)]
    assert texts == [
        "weekly_report: next Mon 2026-11-30 08:00 CET, to 2 users",
        "bare: started by POST /workflows",
    ]
    Path("flows.toml").write_text('[workflows.x]\nattachments = ["supplying:missing"]\n')
    (finding,) = check._workflows(read_settings({"CLEO_WORKFLOWS": "flows.toml"}, dotenv=None))
    assert (finding.level, "supplying:missing" in finding.text) == ("wrong", True)


# --- the callables of the file ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["supplying:nothing", "supplying:missing", "no.such.module:x"])
def test_a_callable_that_is_none_stops_the_worker_with_a_line(make: Make, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make(f'[workflows.x]\nattachments = ["{name}"]\n')
    (line,) = caught.value.faults
    assert line.startswith("CLEO_WORKFLOWS: [workflows.x]")
    assert name in line
