"""From a trial with the embedded Redis to a server: nothing that is open is lost from sight."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path

import pytest
import redis as redis_client

from cleo_email.embedded.redis import EmbeddedRedis
from cleo_email.store.copy import copy_store
from tests.support.channel import Channel, Rig
from tests.support.mails import mail
from tests.support.redis_server import RedisServer

EMBEDDED = {"REDIS_URL": ""}


def end_trial(rig: Rig, run: subprocess.Popen[bytes]) -> str:
    """End a ``cleo-email run`` and return what it says at its end."""
    run.send_signal(signal.SIGTERM)
    assert run.wait(40) == 0
    return rig.log.read_text("utf-8")


@pytest.mark.servers("dovecot", "redis-server")
def test_what_a_trial_leaves_open_is_told_and_taken_along_to_a_redis_of_another_version(
    tmp_path: Path, redis_url: str
) -> None:
    allowed = {"EMAIL_ALLOWED_SENDERS": "anna@example.test,@example.test"}
    with Rig(tmp_path, redis_url, env=allowed) as rig:
        rig.smtp.inject("mail*0=450 4.2.0 later")
        run = rig.start("-m", "cleo_email", "run", "--bind", f"127.0.0.1:{rig.port}", env=EMBEDDED)
        rig.wait(lambda: run.poll() is not None or rig.get("/healthz")[0] == 200, 20)
        rig.deliver(mail(1), mail(2), mail(3, sender="eve@example.net"))
        rig.wait(lambda: len(rig.records("held")) == 1 and len(rig.records()) == 3)
        rig.wait(lambda: all("450" in one["reason"] for one in rig.records("submitting")))
        marked = ["OR", "KEYWORD", "$CleoAccepted", "KEYWORD", "$CleoHeld"]
        with rig.imap() as imap:
            imap.select_folder("INBOX", readonly=True)
            rig.wait(lambda: len(imap.search(marked)) == 3)
        said = end_trial(rig, run)
        assert "messages still open in var/redis: 2 waiting to be answered or sent, 1 held." in said
        assert "cleo-email recover --from var" in said

        (line,) = [one for one in rig.run("check").stdout.splitlines() if "another one accepted" in one]
        assert line.startswith("warning  imap      3 of the newest")
        assert "cleo-email recover --from" in line

        dry = rig.run("recover", "--from", "var")
        assert (dry.returncode, "2 waiting to be answered or sent, 1 held" in dry.stdout) == (0, True), dry
        assert "nothing was changed" in dry.stdout
        done = rig.run("recover", "--from", "var", "--apply")
        assert done.returncode == 0, done
        assert not (tmp_path / "var" / "redis").exists(), "a second run here would answer the same mail"
        assert "another one accepted" not in rig.run("check").stdout

        rig.smtp.clear_faults()
        rig.start_web()
        rig.start_worker()
        rig.wait(lambda: len(rig.records("replied")) == 2)
        assert len(rig.records("held")) == 1
        (held,) = rig.records("held")
        assert rig.run("messages", "release", held["id"]).returncode == 0
        rig.wait(lambda: len(rig.records("replied")) == 3)
        assert sorted(reply["In-Reply-To"] for reply in rig.replies()) == [
            f"<q{number}@example.test>" for number in (1, 2, 3)
        ]


def fill(server: RedisServer | EmbeddedRedis) -> None:
    """One value of each kind, one with an expiry, and what only running processes need."""
    with redis_client.Redis.from_url(server.url) as client:
        client.set("cleo:m:1:source", b"\xff" * 3_000_000, ex=1000)
        client.set("cleo:m:1:empty", b"")
        client.hset("cleo:m:1", mapping={"state": "held", "text": b"\x00\xff"})
        client.rpush("cleo:conversation:t", "1", "2", "1")
        client.sadd("cleo:people:t", "anna@example.test")
        client.zadd("cleo:active", {"t": 1_790_000_000_123})
        client.zadd("cleo:index:all", {"1": 0})
        client.set("cleo:lock:mailbox", "x")
        client.set("rq:job:1", "x")


def content(client: redis_client.Redis) -> dict[bytes, object]:
    kinds = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: kinds[client.type(key)](key) for key in client.scan_iter()}


def test_a_copy_has_every_value_and_expiry_and_may_be_made_again_after_an_interruption(
    tmp_path: Path, redis_url: str
) -> None:
    with (
        EmbeddedRedis(tmp_path / "redis") as server,
        redis_client.Redis.from_url(server.url) as source,
        redis_client.Redis.from_url(redis_url) as target,
    ):
        fill(server)
        whole = content(source)
        wanted = {
            key: value for key, value in whole.items() if key not in (b"rq:job:1", b"cleo:lock:mailbox")
        }
        for last in range(len(wanted) + 1):  # interrupted before each key, and at last not at all
            with contextlib.suppress(Interrupted):
                copy_store(source, Interrupting(target, last), lambda done, total: None)
            if last < len(wanted):
                assert not target.exists("cleo:index:all"), "it would count as full"
        assert content(target) == wanted
        assert 900 < target.ttl("cleo:m:1:source") <= 1000
        assert content(source) == whole


class Interrupted(Exception):
    """The copying process ended here."""


class Interrupting:
    """A target that takes so many keys."""

    def __init__(self, redis: redis_client.Redis, left: int) -> None:
        self._redis, self._left = redis, left

    def pipeline(self) -> redis_client.client.Pipeline:
        if not self._left:
            raise Interrupted
        self._left -= 1
        return self._redis.pipeline()


def test_what_cannot_be_taken_along_is_told_with_what_to_do(tmp_path: Path, redis_url: str) -> None:
    env = {"EMAIL_SMTP_HOST": "127.0.0.1", "REDIS_URL": redis_url}
    with Channel(tmp_path, env) as channel:

        def said(**more: str) -> str:
            done = channel.run("recover", "--from", "var", "--apply", **more)
            assert (done.returncode, done.stdout) == (1, "")
            return done.stderr

        assert "var/redis: there is no such folder" in said()
        assert not (tmp_path / "var").exists()
        with EmbeddedRedis(tmp_path / "var" / "redis") as server:
            fill(server)
            assert "stop that one" in said()
            assert "REDIS_URL is not set" in said(REDIS_URL="")
        with redis_client.Redis.from_url(redis_url) as target:
            target.hset("cleo:m:" + "1" * 24, mapping={"id": "1" * 24, "state": "held", "thread_id": "t"})
            target.hset("cleo:m:" + "1" * 24, mapping={"received_at": 1})
            target.zadd("cleo:index:all", {"1" * 24: 0})
        assert "holds messages already" in said()
        assert (tmp_path / "var" / "redis").is_dir()
        assert "holds messages already" in said(REDIS_URL=server.url), "onto itself"
