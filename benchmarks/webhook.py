"""The webhook: requests a second that are stored durably, as part of a bare Flask with one RPUSH."""

from __future__ import annotations

import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import (
    Plan,
    Row,
    cpu_s,
    json_bodies,
    mails,
    median,
    posts_per_second,
    say,
    web_options,
)
from tests.support.channel import ROOT, Rig
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

GOAL = "ratio 0.42"
SIZE_KB = 12
SECRET = "secret-of-the-benchmark"


def rows(plan: Plan) -> Iterator[Row]:
    for fsync in ("always", "everysec"):
        yield from _rows(plan, fsync)


def _rows(plan: Plan, fsync: str) -> Iterator[Row]:
    """Take turns, both under the gunicorn of the Procfile and on the same Redis."""
    count, rounds = plan.size(400, 3000), plan.size(3, 5)
    rates: dict[str, list[float]] = {"bare": [], "JSON": [], "raw": []}
    cpu: dict[str, float] = dict.fromkeys(rates, 0.0)
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder) / "redis", appendfsync=fsync) as redis,
        Rig(Path(folder), redis.url, polls=False, env={"EMAIL_WEBHOOK_SECRET": SECRET}) as rig,
    ):
        web = rig.start_web(*web_options(), preload=False)
        port = free_port()
        bind = ["--bind", f"127.0.0.1:{port}", "--pythonpath", str(ROOT), *web_options()]
        bare = rig.start("-m", "gunicorn", *bind, "benchmarks.bare:app", env={"REDIS_URL": redis.url})
        rig.wait(lambda: _serves(port), 30)
        for turn in range(rounds + 1):
            size, seed = count if turn else 100, 1000 + turn
            sources = mails(size, SIZE_KB, seed=seed)
            bodies = {"bare": sources, "JSON": json_bodies(size, SIZE_KB, seed=seed), "raw": sources}
            for name, sent in bodies.items():
                process = bare if name == "bare" else web
                path, kind = {
                    "bare": ("/incoming", "message/rfc822"),
                    "JSON": ("/email/incoming", "application/json"),
                    "raw": ("/email/incoming/raw", "message/rfc822"),
                }[name]
                before = cpu_s(process.pid)
                rate = posts_per_second(
                    port if name == "bare" else rig.port,
                    path,
                    kind,
                    sent,
                    headers=f"X-Webhook-Secret: {SECRET}\r\n",
                )
                if turn:  # the first one warms up
                    rates[name].append(rate)
                    cpu[name] += (cpu_s(process.pid) - before) / count / rounds * 1000
    say(f"webhook {fsync}: { ({name: [round(rate) for rate in found] for name, found in rates.items()}) }")
    for name in ("JSON", "raw"):
        note = f"{cpu[name]:.2f} ms CPU a request, bare {cpu['bare']:.2f}"
        what = f"webhook {name} {SIZE_KB} kB, appendfsync {fsync}"
        yield Row(what, median(rates[name]), "requests/s", median(rates["bare"]), GOAL, note)


def _serves(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
            return True
    except OSError:
        time.sleep(0.05)
        return False
