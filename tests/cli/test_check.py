"""What ``cleo-email check`` advises."""

from __future__ import annotations

import socketserver
import threading
import time
from pathlib import Path

import pytest
from redis import Redis

from cleo_email.cli.check import examine_agent, examine_redis
from cleo_email.pipeline.upkeep import WORK
from cleo_email.settings import read_settings
from cleo_email.store import Store
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
