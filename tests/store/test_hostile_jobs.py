"""Whoever can write to Redis can put jobs into our queues: none makes a worker run anything but our jobs."""

from __future__ import annotations

import json
import os
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from cleo_email.store.queue import ANSWER_JOB, ANSWERS
from tests.support.channel import Rig
from tests.support.mails import AGENT

PLANTED = "planted-command-3f9c"
STAMP = b"2026-11-24T09:00:00.000000Z"


class Shell:
    """Runs a command while it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def plain(function: str, *args: object, instance: object = None) -> bytes:
    return json.dumps([function, instance, list(args), {}]).encode()


def hostile(marker: Path) -> Iterator[dict[str, bytes]]:
    """The fields of a job's hash."""
    touch = f": {PLANTED}; touch {marker}"  # ":" does nothing
    bomb = pickle.dumps(Shell(touch))
    good = plain(ANSWER_JOB, "<nothing@example.test>")
    for function in (
        "os.system",
        "subprocess.getoutput",
        "posix.system",
        "evil.run",
        "builtins.exec",
        "evil",
    ):
        yield {"data": plain(function, touch)}
        yield {"data": pickle.dumps((function, None, (touch,), {}))}
    for name in ("system", "__class__.__init__"):
        yield {"data": plain(name, touch, instance="os")}
        yield {"data": pickle.dumps((name, "os", (touch,), {}))}
    yield {"data": bomb}
    yield {"data": zlib.compress(bomb)}
    yield {"data": pickle.dumps((ANSWER_JOB, None, (Shell(touch),), {}))}
    yield {"data": pickle.dumps((ANSWER_JOB, Shell(touch), ("x",), {}))}
    for field in ("meta", "exc_info", "result", "dependency_ids", "failure_callback", "group_id"):
        yield {"data": good, field: bomb}
    for callback in ("success_callback_name", "failure_callback_name", "stopped_callback_name"):
        yield {"data": good, callback: b"evil.run"}
        yield {"data": plain("os.system", touch), callback: b"evil.run"}
    # Nothing but nonsense.
    yield {"data": b""}
    yield {"data": b"\xff\xfe"}
    yield {"data": b"[]"}
    yield {"data": b"null"}
    yield {"data": plain(ANSWER_JOB)}
    yield {"data": plain(ANSWER_JOB, {"a": [1]}, 2, 3)}
    yield {"data": good, "timeout": b"soon"}
    yield {"data": good, "created_at": b"yesterday"}
    yield {"data": good, "retries_left": b"many", "retry_intervals": bomb}
    yield {"data": good, "repeats_left": b"9", "repeat_intervals": bomb}
    yield {}


@pytest.mark.servers("dovecot")
def test_a_hostile_job_runs_nothing_and_the_worker_goes_on(tmp_path: Path, redis_url: str) -> None:
    marker, modules = tmp_path / "marker", tmp_path / "modules"
    modules.mkdir()
    (modules / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\ndef run(*a, **k): pass\n")
    with Rig(tmp_path, redis_url) as rig:
        rig.env["PYTHONPATH"] += f":{modules}"
        count = plant(Redis.from_url(redis_url), hostile(marker))
        assert count >= 40
        rig.start_web()
        worker = rig.start_worker()
        number = 0

        def a_mail_is_answered_behind_them() -> None:
            nonlocal number
            number += 1
            status, _ = rig.post(
                {
                    "from_address": "anna@example.test",
                    "to_address": AGENT,
                    "subject": f"Still there {number}?",
                    "body": "Hello",
                    "message_id": f"<after{number}@example.test>",
                }
            )
            assert status == 202
            rig.smtp.wait_for(lambda server: len(server.mails) == number, 30)

        a_mail_is_answered_behind_them()
        with Redis.from_url(redis_url) as redis:
            rig.wait(lambda: redis.llen(f"rq:queue:{ANSWERS}") == 0)
            plant(redis, hostile(marker))  # and while it is running
            a_mail_is_answered_behind_them()
            rig.wait(lambda: redis.llen(f"rq:queue:{ANSWERS}") == 0)
        assert worker.poll() is None, "the very same process goes on"
        assert not marker.exists(), "a job out of Redis was executed"
        log = rig.log.read_text("utf-8", "replace")
        assert PLANTED not in log


def plant(redis: Redis, jobs: Iterator[dict[str, bytes]]) -> int:
    """Put jobs at the head of our queue as RQ itself would; how many."""
    number = 0
    for number, fields in enumerate(jobs, 1):
        id_ = f"hostile-{number}-{os.urandom(4).hex()}"
        common = {
            "created_at": STAMP,
            "enqueued_at": STAMP,
            "origin": ANSWERS,
            "status": "queued",
            "timeout": "60",
        }
        if fields:
            redis.hset(f"rq:job:{id_}", mapping={**common, "description": b"x", **fields})
        redis.lpush(f"rq:queue:{ANSWERS}", id_)
    redis.sadd("rq:queues", f"rq:queue:{ANSWERS}")
    return number
