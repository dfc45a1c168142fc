"""How alerts reach people: by real SMTP and by apprise, from worker, web process and ``check``."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from cleo_email.app import App
from cleo_email.errors import CleoError, SettingsError
from cleo_email.mail.model import Action
from cleo_email.monitoring import ways
from cleo_email.monitoring.ways import ByApprise, ByMail
from cleo_email.pipeline.receive import ANSWERS_ALERT
from cleo_email.screening.screen import Policy
from cleo_email.settings import read_settings
from cleo_email.store import State
from tests.support.bench import FROM, Bench
from tests.support.channel import ROOT, Channel
from tests.support.http_server import Handler, HttpServer
from tests.support.mails import AGENT, CRLF, PASSWORD, mail
from tests.support.smtp_server import SmtpServer

BOSS = "boss@client.test"
HOLDS = Policy(frozenset({FROM.addr}), ("@else.test",), refused=Action.HOLD)


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with SmtpServer(passwords={AGENT: PASSWORD}) as server:
        yield server


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A URL of apprise that posts JSON to this test, and what was posted."""
    posted: list[dict[str, Any]] = []

    class Hook(Handler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.body()))
            self.answer(200)

    with HttpServer(Hook) as server:
        yield f"json://hook-token-of-the-test:x@127.0.0.1:{server.server_port}/", posted


def environment(smtp: SmtpServer, redis_url: str, directory: Path, alert_to: str) -> dict[str, str]:
    ca = directory / "ca.pem"
    ca.write_bytes(smtp.ca.cert_pem.bytes())
    return {
        "ENABLED_CLIENTS": "email",
        "EMAIL_SMTP_HOST": "127.0.0.1",
        "EMAIL_SMTP_PORT": str(smtp.port),
        "EMAIL_USER": AGENT,
        "EMAIL_PASSWORD": PASSWORD,
        "REDIS_URL": redis_url,
        "SSL_CERT_FILE": str(ca),
        "CLEO_ALERT_TO": alert_to,
    }


@pytest.fixture
def app(smtp: SmtpServer, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    env = environment(smtp, redis_url, tmp_path, f"Boss <{BOSS}>, chef@client.test")
    monkeypatch.setenv("SSL_CERT_FILE", env["SSL_CERT_FILE"])
    app = App(read_settings({**env, "CLEO_PUBLIC_URL": "https://cleo.test"}, dotenv=None))
    with app.submitter:
        yield app


def read(source: bytes) -> EmailMessage:
    found = message_from_bytes(source, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def test_an_alert_is_one_mail_that_says_it_is_a_programs_and_leaves_no_record(
    app: App, smtp: SmtpServer
) -> None:
    app.store.health.worker_seen(app.clock())
    Bench(app.redis, policy=HOLDS).receive(mail(1))
    before = app.redis.keys("cleo:budget:*")
    assert app.alerts
    app.alerts.run()
    (sent,) = smtp.mails
    assert sent.recipients == (BOSS, "chef@client.test")
    found = read(sent.source)
    assert found["Auto-Submitted"] == "auto-generated"
    assert found["From"] == AGENT
    assert found["Subject"] == f"[{AGENT}] Mail waits for a person"
    text = found.get_content()
    assert "1 held" in text
    assert "1 angehalten" in text
    assert "https://cleo.test/operator/" in text
    assert len(app.store.messages.page()[0]) == 1, "the mail that is held"
    assert app.redis.keys("cleo:budget:*") == before


def reply(message_id: str, *more: str, subject: str = "Re: Mail waits", text: str = "I am on it.") -> bytes:
    lines = [f"From: <{BOSS}>", f"To: {FROM.addr}", f"Subject: {subject}", "Message-ID: <r1@client.test>"]
    lines += [f"In-Reply-To: {message_id}", f"References: {message_id}", *more, "", text, ""]
    return CRLF.join(lines).encode()


@pytest.mark.parametrize(
    ("more", "envelope", "reason"),
    [
        ((), BOSS, ANSWERS_ALERT),
        (("Auto-Submitted: auto-replied",), BOSS, "Auto-Submitted"),
        (("X-Autoreply: yes",), "", ""),
        (("X-Autoreply: yes",), BOSS, ""),
    ],
    ids=["a person", "an absence note", "a bounce", "an old absence note"],
)
def test_whatever_answers_an_alert_is_ignored_and_leads_to_no_other_one(
    app: App, smtp: SmtpServer, more: tuple[str, ...], envelope: str, reason: str
) -> None:
    assert app.alerts
    ((_, fault),) = app.alerts.try_ways()
    assert fault == ""
    bench = Bench(app.redis)
    back = bench.receive(reply(str(read(smtp.mails[0].source)["Message-ID"]), *more), envelope_from=envelope)
    bench.work(back.thread_id)
    assert bench.record(back).state is State.IGNORED
    assert reason in bench.record(back).reason
    assert bench.agent.asked == []
    app.store.health.worker_seen(app.clock())
    app.alerts.run()
    assert len(smtp.mails) == 1


def test_the_same_person_is_answered_in_another_thread(app: App) -> None:
    bench = Bench(app.redis)
    other = bench.receive(reply("<cleo-question@client.test>"))
    bench.work(other.thread_id)
    assert bench.record(other).state is State.REPLIED


def test_while_smtp_refuses_the_login_only_other_ways_are_used_and_nothing_queues_up(
    app: App, smtp: SmtpServer, hook: tuple[str, list[dict[str, Any]]]
) -> None:
    url, posted = hook
    smtp.inject("login*0=535 5.7.8 no")
    Bench(app.redis, policy=HOLDS).receive(mail(1))
    app.store.health.worker_seen(app.clock())
    assert app.alerts
    app.alerts.run()
    assert smtp.mails == []
    assert "535" in app.store.health.read().submission_fault
    logins = sum(one.startswith("AUTH") for one in smtp.commands)
    app.alerts.ways = [*app.alerts.ways, ByApprise(url)]
    app.redis.hdel("cleo:alerts", "waiting:retry")
    for _ in range(3):
        app.alerts.run()
    assert sorted(one["title"] for one in posted) == [
        "A login to the mail server is refused",
        "Mail waits for a person",
    ]
    assert sum(one.startswith("AUTH") for one in smtp.commands) == logins, "it is left alone"
    smtp.clear_faults()
    app.redis.delete("cleo:tick:submission-probe")
    for _ in range(3):
        app.alerts.run()
    assert smtp.mails == [], "what was told is not told again by mail"


def test_a_mail_that_gets_through_shows_that_the_login_works_again(app: App, smtp: SmtpServer) -> None:
    app.store.health.submission_fault("535 was said once")
    app.store.alerts.write("login", told=1, open=1, sent=1)
    app.store.health.worker_seen(app.clock())
    Bench(app.redis, policy=HOLDS).receive(mail(1))
    app.redis.hset("cleo:alerts", "login:told", app.clock())
    assert app.alerts
    app.alerts.run()
    assert app.store.health.read().submission_fault == ""
    app.alerts.run()
    subjects = [str(read(one.source)["Subject"]).partition("] ")[2] for one in smtp.mails]
    assert subjects == ["Mail waits for a person", "The mail server takes the login again"]


def test_no_part_of_a_url_is_logged(
    hook: tuple[str, list[dict[str, Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    way = ByApprise(hook[0])
    way.send("A subject", "a text")
    assert hook[1][0]["message"] == "a text"
    assert way.name == "json://…"
    assert "hook-token-of-the-test" not in caplog.text


def test_a_url_that_drips_is_left_and_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "APPRISE_S", 0.5)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not over.wait(0.05):
                    connection.sendall(b"x")

        threading.Thread(target=drip, daemon=True).start()
        way = ByApprise(f"json://127.0.0.1:{server.getsockname()[1]}/")
        with pytest.raises(CleoError, match="no answer within"):
            way.send("A subject", "a text")
        with pytest.raises(CleoError, match="has not answered the alert before"):
            way.send("A subject", "a text")  # none is piled upon another
        over.set()


def test_mail_goes_before_other_ways(
    app: App, smtp: SmtpServer, redis_url: str, tmp_path: Path, hook: tuple[str, Any]
) -> None:
    env = environment(smtp, redis_url, tmp_path, f"{hook[0]}, {BOSS}")
    alerts = App(read_settings(env, dotenv=None)).alerts
    assert alerts is not None
    assert [type(way) for way in alerts.ways] == [ByMail, ByApprise]


# --- the processes ------------------------------------------------------------------------------------------

QUICK = """
from cleo_email.monitoring import alerts
from cleo_email.web import app as web
alerts.WORKER_MS, web.WATCH_S = 0, 0.2
app = web.from_environment()
"""


@pytest.mark.parametrize("preload", [True, False])
def test_without_a_worker_the_web_process_tells_it_by_itself(
    smtp: SmtpServer, redis_url: str, tmp_path: Path, preload: bool
) -> None:
    env = environment(smtp, redis_url, tmp_path, BOSS)
    (tmp_path / "quick.py").write_text(QUICK)
    with Channel(tmp_path, env) as channel:
        bind = ["--bind", f"127.0.0.1:{channel.port}", "--pythonpath", f"{ROOT},{tmp_path}"]
        options = ["--workers", "2", "--no-control-socket", *["--preload"] * preload]
        channel.start("-m", "gunicorn", *bind, *options, "quick:app")
        if not preload:  # the first request begins it
            channel.wait(lambda: channel.get("/healthz")[0] == 200)
        smtp.wait_for(lambda server: len(server.mails) == 1, 60)
        assert str(read(smtp.mails[0].source)["Subject"]) == f"[{AGENT}] No worker is running"
        if not preload:
            return
        channel.start_worker()
        smtp.wait_for(lambda server: len(server.mails) == 2, 60)
        assert str(read(smtp.mails[1].source)["Subject"]) == f"[{AGENT}] A worker is running again"
        assert channel.get("/email/messages")[1]["messages"] == []
        assert "hook-token" not in channel.log.read_text()


def test_check_says_who_is_told_and_sends_a_test(
    smtp: SmtpServer, redis_url: str, tmp_path: Path, hook: tuple[str, list[dict[str, Any]]]
) -> None:
    url, posted = hook
    env = environment(smtp, redis_url, tmp_path, f"{BOSS},{url},nonsense://x")
    with Channel(tmp_path, env) as channel:
        told = channel.run("check").stdout
        assert f"mail to {BOSS}; to send a test: cleo-email check --alert" in told
        assert "WRONG    alerts    nonsense://… is no URL that apprise understands (CLEO_ALERT_TO)" in told
        assert smtp.mails == posted == []
        told = channel.run("check", "--alert").stdout
        assert f"mail to {BOSS}: a test was sent" in told
        assert "json://…: a test was sent" in told
        assert "hook-token-of-the-test" not in told
    assert [one["title"] for one in posted] == ["A test"]
    assert str(read(smtp.mails[0].source)["Subject"]) == f"[{AGENT}] A test"


# --- the setting --------------------------------------------------------------------------------------------


def faults(**env: str) -> tuple[str, ...]:
    base = {
        "ENABLED_CLIENTS": "email",
        "EMAIL_SMTP_HOST": "s.test",
        "EMAIL_USER": AGENT,
        "EMAIL_PASSWORD": "x",
    }
    with pytest.raises(SettingsError) as caught:
        read_settings({**base, **env}, dotenv=None)
    return caught.value.faults


def test_the_mailbox_itself_is_refused(redis_url: str) -> None:
    (line,) = faults(CLEO_ALERT_TO=f"{BOSS}, Cleo <{AGENT.upper()}>")
    assert line.startswith("CLEO_ALERT_TO: found ")
    assert line.endswith("which is this mailbox, expected addresses of people")


@pytest.mark.parametrize("value", ["boss", "://x", "tgram://a b", "a@b.test; c@d.test"])
def test_nonsense_is_refused_without_being_shown(value: str) -> None:
    (line,) = faults(CLEO_ALERT_TO=value)
    assert line.startswith("CLEO_ALERT_TO: found a value that is not shown, expected addresses, and URLs")


def test_a_url_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    monkeypatch.setattr("cleo_email.settings.read.find_spec", lambda _name: None)
    (line,) = faults(CLEO_ALERT_TO="json://127.0.0.1/secret")
    assert line == (
        "CLEO_ALERT_TO: found a URL, which needs the package apprise: pip install 'cleo-email[alerts]'"
    )


def test_an_address_needs_no_extra(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cleo_email.settings.read.find_spec", lambda _name: None)
    assert app.alerts
    assert [type(way) for way in app.alerts.ways] == [ByMail]
    with Redis.from_url(app.settings.redis_url.get_secret_value()) as redis:
        assert redis.keys("cleo:alerts") == []
