"""What ``cleo-email check`` advises."""

from __future__ import annotations

import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis

from cleo_email.cli.check import CheckResult, examine_agent, examine_people, examine_redis
from cleo_email.imap.mailbox import Mailbox
from cleo_email.pipeline.upkeep import WORK
from cleo_email.runtime import DAY, now_ms
from cleo_email.settings import read_settings
from cleo_email.store import Identity, Record, State, Store
from tests.support.bench import Bench
from tests.support.channel import Channel
from tests.support.imap_server import FakeImapServer
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).resolve().parent.parent.parent
SWITCH = ("redis-cli config set appendonly yes", "redis-cli config rewrite")
ENV = {
    "ENABLED_CLIENTS": "email",
    "EMAIL_SMTP_HOST": "127.0.0.1",
    "EMAIL_SMTP_PORT": "9",
    "EMAIL_USER": "agent@example.com",
    "EMAIL_PASSWORD": "hunter2",
}


@pytest.mark.parametrize("save", ["", "900 1"])
def test_appendonly_is_switched_on_while_redis_runs_and_nothing_is_lost(tmp_path: Path, save: str) -> None:
    with RedisServer(tmp_path) as server, server.client() as redis:
        redis.config_set("appendonly", "no")
        redis.config_set("save", save)
        redis.set("mail", "accepted")
        settings = read_settings({**ENV, "REDIS_URL": server.url}, dotenv=None)
        (finding,) = [one for one in examine_redis(settings) if "kept" in one.text]
        assert finding.level == "warning"
        assert all(command in finding.text for command in SWITCH)
        assert "never by a restart" in finding.text
        redis.config_set("appendonly", "yes")  # as advised
        until = time.monotonic() + 20
        while _rewriting(redis.info("persistence")) and time.monotonic() < until:
            threading.Event().wait(0.01)
        server.kill()
        server.start()
        assert redis.get("mail") in (b"accepted", "accepted")
        assert not any("never by a restart" in one.text for one in examine_redis(settings))


@pytest.fixture
def server() -> Iterator[FakeImapServer]:
    with FakeImapServer() as fake:
        yield fake


def test_answers_that_bounced_or_failed_are_counted(redis_url: str) -> None:
    bench = Bench(redis_url)
    settings = read_settings({**ENV, "REDIS_URL": redis_url}, dotenv=None)
    assert not [one for one in examine_redis(settings) if one.what == "messages"]
    for number, days in enumerate((1, 2, 3, 9)):
        record = f"{number:024x}"
        at = now_ms() - days * DAY
        bench.store.messages.accept(
            Record(
                id=record,
                state=State.FAILED,
                reason="bounced: 5.1.1" if number == 1 else "550 no",
                thread_id=f"<{number}@example.test>",
                received_at=at,
                updated_at=at,
                bounced='["a@example.test"]' if number == 1 else "",
            ),
            b"x",
            Identity(record),
            [],
        )
    (found,) = [one for one in examine_redis(settings) if one.what == "messages"]
    assert found.level == "warning"
    assert found.text.startswith(
        "3 failed in the last 7 days, 1 of them bounced; see: cleo-email messages list"
    )


def test_copies_that_sent_does_not_take_are_named(redis_url: str) -> None:
    settings = read_settings({**ENV, "REDIS_URL": redis_url}, dotenv=None)
    health = Store(Redis.from_url(redis_url)).health
    health.upkeep_fault("filing", f"{WORK['filing']}: [OVERQUOTA] mailbox is full")
    (finding,) = [one for one in examine_redis(settings) if one.what == "upkeep"]
    assert finding.level == "warning"
    assert "OVERQUOTA" in finding.text
    assert "EMAIL_SAVE_SENT=0" in finding.text
    health.upkeep_works("filing")
    assert not [one for one in examine_redis(settings) if one.what == "upkeep"]


def test_the_guide_has_the_same_commands_before_the_first_start() -> None:
    guide = (ROOT / "docs" / "operation.md").read_text("utf-8")
    systemd, redis = guide.split("### With systemd")[1], guide.split("## Redis\n")[1]
    for command in SWITCH:
        assert command in redis.split("### ")[0]
        assert 0 < systemd.index(command) < systemd.index("systemctl enable")


def _rewriting(info: dict[str, int]) -> bool:
    return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])


class _Plain(socketserver.BaseRequestHandler):
    """Answers a TLS ClientHello as a web server without TLS does."""

    def handle(self) -> None:
        self.request.recv(4096)
        self.request.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")


def test_https_for_an_agent_without_tls_is_told_in_words() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), _Plain) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        place = f"127.0.0.1:{server.server_address[1]}"
        settings = read_settings({**ENV, "CLEO_AGENT": f"https://{place}/answer"}, dotenv=None)
        (finding,) = examine_agent(settings)
        thread.join(10)
    assert (finding.level, finding.text) == ("wrong", f"{place} does not speak TLS: http://? (CLEO_AGENT)")


def finding_of(**env: str) -> tuple[str, str]:
    (finding,) = examine_agent(read_settings({**ENV, **env}, dotenv=None))
    return finding.level, finding.text


@pytest.mark.parametrize("variable", ["CLEO_AGENT", "OPENAI_BASE_URL"])
def test_an_agent_that_cannot_be_reached_is_told_in_words_with_its_setting(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(url: str) -> str:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        level, text = finding_of(CLEO_AGENT=url if variable == "CLEO_AGENT" else "openai:gpt-x")
        assert level == "wrong"
        assert text.endswith(f"({variable})")
        assert "Errno" not in text
        return text

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and nobody listens
        place = f"127.0.0.1:{bound.getsockname()[1]}"
        assert told(f"http://{place}").startswith(
            f"{place} cannot be reached: refused: nothing listens there"
        )
    assert "no server of this name is known" in told("http://no-such-host.invalid:8000/x")


def test_the_file_of_a_python_agent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "cleo_checked_agent.py").write_text("async def answer(request):\n    return 'x'\n")
    spec = "cleo_checked_agent:answer"
    assert finding_of(CLEO_AGENT=spec) == ("ok", f"{spec} is in {tmp_path / 'cleo_checked_agent.py'}")


def test_a_name_that_is_taken_for_a_model_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in the name of a module is a model of an unknown provider, where OPENAI_BASE_URL is set."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        level, text = finding_of(CLEO_AGENT="my_agnet:answer")
    assert level == "ok"
    assert "key and model 'answer' are tested by the first mail" in text


@pytest.mark.parametrize("script", [True, False])
def test_check_and_the_worker_load_the_same_module(tmp_path: Path, redis_url: str, script: bool) -> None:
    """An installed package has the name of the user's module, as "agents" of an SDK has."""
    installed, here = tmp_path / "installed", tmp_path / "here"
    for folder in (installed, here):
        folder.mkdir()
        (folder / "cleo_agents.py").write_text(f"def {folder.name}(request):\n    return 'x'\n")
    env = {
        "PYTHONPATH": f"{installed}:{ROOT}",
        "REDIS_URL": redis_url,
        "EMAIL_SMTP_HOST": "127.0.0.1",
        "EMAIL_SMTP_PORT": "9",
        "CLEO_AGENT": "cleo_agents:here",
    }
    with Channel(here, env) as channel:
        command = [sys.executable, "-m", "cleo_email"]
        if script:
            command = [str(Path(sys.executable).parent / "cleo-email")]
        done = subprocess.run(
            [*command, "check"], env=channel.env, cwd=here, capture_output=True, text=True, check=False
        )
        assert f"cleo_agents:here is in {here / 'cleo_agents.py'}\n" in done.stdout
        channel.start_worker()
        channel.wait(lambda: "worker started" in channel.log.read_text())


def test_ctrl_c_ends_a_check_that_waits_for_an_agent() -> None:
    """At once, while libcurl still waits for the handshake; in this thread it would have to end first."""
    connections: list[socket.socket] = []
    given_up = threading.Event()

    def interrupt() -> None:
        connection, _ = server.accept()
        connections.append(connection)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        with suppress(ConnectionResetError):
            while connection.recv(4096):  # the ClientHello gets no answer
                pass
        given_up.set()

    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=interrupt, daemon=True)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                finding_of(CLEO_AGENT=f"https://127.0.0.1:{server.getsockname()[1]}/x")
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert not given_up.wait(1)
    connections[0].shutdown(socket.SHUT_RDWR)
    thread.join(20)
    connections[0].close()


# --- Sent, Drafts and what people do there ----------------------------------------------------------------


def folder_lines(server: FakeImapServer, **env: str) -> dict[str, CheckResult]:
    mailbox = Mailbox(server.account(), ssl_context=server.ssl_context())
    with mailbox:
        found = list(examine_people(read_settings({**ENV, **env}, dotenv=None), mailbox))
    assert all("\n" not in one.text for one in found)
    assert [one.what for one in found] == ["sent", "drafts", "handover"]
    return {one.what: one for one in found}


def test_the_folders_of_people_and_the_settings_about_them_are_told_in_a_line_each(
    server: FakeImapServer,
) -> None:
    server.folders["Entwurf"] = []
    lines = folder_lines(server, EMAIL_REVIEW="always", EMAIL_HANDOFF_TO="petra@example.org")
    assert {one.level for one in lines.values()} == {"ok"}
    assert lines["sent"].text.startswith("'Sent': a copy of each answer goes there (EMAIL_SAVE_SENT=1)")
    assert "(EMAIL_TAKEOVER=thread)" in lines["sent"].text
    assert lines["drafts"].text == (
        "every answer waits for a person (EMAIL_REVIEW=always), in 'Entwurf', which is writable"
    )
    assert "petra@example.org" in lines["handover"].text


def test_folders_that_are_missing_are_made_later(server: FakeImapServer) -> None:
    server.sent_mark = ""
    server.folders.pop("Sent")
    lines = folder_lines(server)
    assert {one.level for one in lines.values()} == {"ok"}
    assert lines["sent"].text.startswith("no folder yet (Sent is made for the first copy)")
    assert lines["drafts"].text.endswith("in Drafts, which is made for the first one")
    assert not any("CREATE" in line for line in server.commands)


@pytest.mark.parametrize(("what", "name"), [("sent", "EMAIL_SAVE_SENT"), ("drafts", "EMAIL_DRAFTS")])
def test_a_folder_that_is_read_only_is_a_warning_unless_nothing_goes_there(
    server: FakeImapServer, what: str, name: str
) -> None:
    server.folders["Drafts"] = []
    server.read_only = True
    line = folder_lines(server)[what]
    assert line.level == "warning"
    assert f"set {name}=0" in line.text
    assert folder_lines(server, **{name: "0"})[what].level == "ok"


def test_without_imap_answers_wait_without_a_draft() -> None:
    settings = read_settings({**ENV, "EMAIL_REVIEW": "first"}, dotenv=None)
    drafts, handover = examine_people(settings, None)
    assert drafts.text == (
        "the first answer to somebody waits for a person (EMAIL_REVIEW=first), without a draft "
        "(EMAIL_IMAP_HOST is not set)"
    )
    assert handover.what == "handover"
