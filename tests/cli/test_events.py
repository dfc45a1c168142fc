"""``cleo-email events`` and what ``check`` says of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cleo_email.cli import main
from cleo_email.cli.check import examine_events
from cleo_email.runtime import now_ms
from cleo_email.settings import read_settings
from cleo_email.store import iso
from tests.support.bench import Bench, FakeClock
from tests.support.event_server import EventServer
from tests.support.mails import mail
from tests.support.ports import free_port

ENV = {
    "ENABLED_CLIENTS": "email",
    "EMAIL_SMTP_HOST": "127.0.0.1",
    "EMAIL_USER": "agent@cleo.test",
    "EMAIL_PASSWORD": "x",
}


@pytest.fixture
def receiver() -> Iterator[EventServer]:
    with EventServer() as server:
        yield server


@pytest.fixture
def bench(redis_url: str, receiver: EventServer, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name, value in {**ENV, **receiver.env, "REDIS_URL": redis_url}.items():
        monkeypatch.setenv(name, value)
    clock = FakeClock()
    clock.now = now_ms() - 60_000
    return Bench(redis_url, events=True, clock=clock)


def run(*argv: str, status: int = 0) -> None:
    assert main(["events", *argv]) == status


def test_status_tells_what_waits_and_why(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.receive(mail(1))
    run("status")
    assert "1 messages with events that wait" in capsys.readouterr().out
    bench.store.event_log.failure(bench.clock(), "https://crm.example.com answered 500")
    run("status", status=1)
    assert f"since {iso(bench.clock())}: https://crm.example.com answered 500" in capsys.readouterr().out
    run("status", "--json", status=1)
    assert json.loads(capsys.readouterr().out)["messages"] == 1


def test_resend_puts_what_was_told_back(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    while found := bench.store.event_log.take(bench.clock(), 8):
        for event in found:
            bench.store.event_log.delivered(event, bench.clock())
    run("resend", "--since", "10s")
    assert capsys.readouterr().out.startswith("0 events since ")
    for since in ("2h", iso(now_ms() - 7_200_000), "1d"):
        run("resend", "--since", since, "--json")
    counts = [json.loads(text + "}")["events"] for text in capsys.readouterr().out.split("}")[:-1]]
    assert counts == [4, 0, 0]  # what waits is not doubled
    assert bench.redis.llen(f"cleo:events:{accepted.id}") == 4


@pytest.mark.parametrize("since", ["soon", "2", "-2h", "2026-13-01", "2999-01-01"])
def test_a_time_that_is_none_is_refused(bench: Bench, since: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("resend", f"--since={since}")
    assert ended.value.code == 2
    assert "--since" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["status"], ["resend", "--since", "2h"]])
def test_without_a_receiver_the_setting_is_named(
    bench: Bench, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CLEO_EVENTS_URL")
    run(*command, status=1)
    assert "CLEO_EVENTS_URL is not set" in capsys.readouterr().err


def test_check_has_a_line_for_the_receiver(bench: Bench, receiver: EventServer, redis_url: str) -> None:
    env = {**ENV, **receiver.env, "REDIS_URL": redis_url}
    (line,) = examine_events(read_settings(env, dotenv=None))
    assert (line.level, line.what) == ("ok", "events")
    assert f"127.0.0.1:{receiver.server_port} answers" in line.text
    bench.receive(mail(1))
    bench.store.event_log.failure(bench.clock(), "https://crm.example.com answered 500")
    _, waits = examine_events(read_settings(env, dotenv=None))
    assert waits.level == "warning"
    assert "answered 500; events of 1 messages wait" in waits.text
    port = free_port()
    away = read_settings({**env, "CLEO_EVENTS_URL": f"http://127.0.0.1:{port}/"}, dotenv=None)
    wrong, *_ = examine_events(away)
    assert wrong.level == "wrong"
    assert f"127.0.0.1:{port} cannot be reached" in wrong.text
    assert "CLEO_EVENTS_URL" in wrong.text
    assert list(examine_events(read_settings({**ENV, "REDIS_URL": redis_url}, dotenv=None))) == []
