"""Mail waiting in the inbox: how many a second are taken up durably, beside a fetch that keeps nothing."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from imapclient import IMAPClient

from benchmarks.harness import Plan, Row, fill, inbox, mails, median, say, server_name
from tests.support.channel import ROOT, Rig
from tests.support.mails import AGENT
from tests.support.redis_server import RedisServer

BATCH = 50
GOALS = {12: "0.15", 60: "0.30"}


def rows(plan: Plan) -> Iterator[Row]:
    for kilobytes in (12, 60):
        for fsync in ("always", "everysec"):
            yield _row(plan, kilobytes, fsync)


def _row(plan: Plan, kilobytes: int, fsync: str) -> Row:
    """Take turns: a raw fetch and ours, of the same mails; the medians of each."""
    count, rounds = plan.size(500, 2000), plan.size(2, 5)
    raw: list[float] = []
    ours: list[float] = []
    cpu: list[float] = []
    for turn in range(rounds):
        with (
            tempfile.TemporaryDirectory() as folder,
            RedisServer(Path(folder) / "redis", appendfsync=fsync) as redis,
            Rig(Path(folder), redis.url, inbox=inbox(Path(folder))) as rig,
            _Poll(rig) as poll,
        ):
            fill(rig, mails(count, kilobytes, seed=turn + 1))
            _fetch(rig)  # the server has looked into its folder once
            raw.append(count / _fetch(rig))
            seconds, used = poll.take(count)
            ours.append(count / seconds)
            cpu.append(used / count * 1000)
    say(f"ingest {kilobytes} kB {fsync}: {[round(rate) for rate in ours]} of {[round(rate) for rate in raw]}")
    note = f"{server_name()}, {count} mails, {median(cpu):.1f} ms CPU of ours a mail"
    what = f"ingest {kilobytes} kB, appendfsync {fsync}"
    return Row(what, median(ours), "mails/s", median(raw), f"ratio {GOALS[kilobytes]}", note)


def _fetch(rig: Rig) -> float:
    """Return the seconds that IMAPClient alone takes to fetch all mails, in batches."""
    assert rig.inbox is not None
    trust = ssl.create_default_context(cadata=rig.inbox.ca.decode())
    with IMAPClient("127.0.0.1", rig.inbox.port, ssl_context=trust) as client:
        client.plain_login(AGENT, rig.inbox.password)
        client.select_folder("INBOX", readonly=True)
        uids = client.search("ALL")
        begun = time.monotonic()
        for start in range(0, len(uids), BATCH):
            client.fetch(uids[start : start + BATCH], ["BODY.PEEK[]"])
        return time.monotonic() - begun


class _Poll:
    """A process that polls when told to, as the worker's mailbox thread does."""

    def __init__(self, rig: Rig) -> None:
        env = {**rig.env, "PYTHONPATH": str(ROOT), "CLEO_AGENT": "echo"}
        argv = [sys.executable, "-m", "benchmarks.ingest"]
        self._process = subprocess.Popen(
            argv, env=env, cwd=rig.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._line()

    def __enter__(self) -> _Poll:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def take(self, count: int) -> tuple[float, float]:
        """Return the seconds until so many mails were taken, and those of CPU."""
        assert self._process.stdin
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        found = json.loads(self._line())
        return found["seconds"], found["cpu"]

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the polling process ended")
        return line


def _child() -> None:
    from cleo_email.app import App
    from cleo_email.settings import read_settings

    app = App.for_worker(read_settings(dict(os.environ), dotenv=None))
    poller = app.poller
    assert poller is not None
    poller.run()  # an empty inbox: from now on everything is new
    print("ready", flush=True)
    count = int(sys.stdin.readline())
    begun, cpu, taken = time.monotonic(), time.process_time(), 0
    while taken < count:
        result = poller.run()
        taken += result.accepted
        if result.held or result.quarantined or time.monotonic() - begun > 300:
            raise RuntimeError(str(result))
    print(json.dumps({"seconds": time.monotonic() - begun, "cpu": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    _child()
