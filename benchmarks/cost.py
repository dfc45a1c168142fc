"""What it costs where little happens: stored records, an idle installation, one mail, one line of help."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import (
    Plan,
    Row,
    fill,
    inbox,
    mails,
    median,
    pss_mib,
    say,
    small_mail,
    until,
    web_options,
)
from cleo_email.app import App
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.settings import make_settings
from cleo_email.store import State
from tests.support.channel import ROOT, Rig
from tests.support.redis_server import RedisServer

MIB = 1 << 20
SIZE_KB = 60
SPEAK_OF = 100_000
NEEDED = 9 << 30  # bytes of memory for so many of them


def records(plan: Plan) -> Iterator[Row]:
    """Store mails as the webhook does, and look at what Redis says that it uses."""
    room = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > NEEDED
    count = plan.size(2000, SPEAK_OF if room else 10_000)
    values = {"ENABLED_CLIENTS": "email", "EMAIL_SMTP_HOST": "localhost", "EMAIL_USER": "agent@cleo.test"}
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder) / "redis") as redis:
        client = redis.client()
        app = App.for_worker(make_settings({**values, "EMAIL_PASSWORD": "none", "REDIS_URL": redis.url}))
        empty = _used(client)
        stored: list[str] = []
        for start in range(0, count, 500):
            files = start < count // 2
            batch = mails(min(500, count - start), SIZE_KB, seed=start + 1, files=files)
            stored += [app.receiver.accept(IncomingMail(one, "raw", "")).id for one in batch]
            if files:
                each_with_file = (_used(client) - empty) / len(stored)
        with_sources = _used(client) - empty
        for id_ in stored:
            client.delete(f"cleo:m:{id_}:source")
        without = _used(client) - empty
        app.redis.close()
    told = f"{count:,} stored" + ("" if count == SPEAK_OF else f", taken as {SPEAK_OF:,}")
    filed = each_with_file * SPEAK_OF / 2**30
    say(f"records: {with_sources / count / 1000:.1f} kB each, {without / count / 1000:.1f} kB without mail")
    bare = SPEAK_OF * SIZE_KB * 1000 / 2**30
    each = f"{without / count / 1000:.1f} kB for each record"
    what = f"Redis with {SPEAK_OF:,} mails of {SIZE_KB} kB, half with a file"
    yield Row(
        what,
        with_sources / count * SPEAK_OF / 2**30,
        "GiB",
        bare,
        "<= 3.5 GiB",
        f"{told}; with a file in each {filed:.2f} GiB; bare: the mails alone",
    )
    yield Row(
        f"{what}, seven days after their end",
        without / count * SPEAK_OF / 2**30,
        "GiB",
        None,
        "",
        f"{told}; {each}",
    )


def _used(client: object) -> int:
    return int(client.info("memory")["used_memory"])  # type: ignore[attr-defined]


def idle(plan: Plan) -> Iterator[Row]:
    """The processes of the Procfile with a mailbox that is polled every minute, and nothing to do."""
    seconds = plan.size(10, 120)
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder) / "redis") as redis:
        env = {"EMAIL_POLL_INTERVAL_SECONDS": "60"}
        with Rig(Path(folder), redis.url, inbox=inbox(Path(folder)), env=env) as rig:
            web, worker = rig.start_web(*web_options(), preload=False), rig.start_worker()
            until(lambda: rig.get("/readyz")[0] == 200, 30)
            time.sleep(5)
            client = redis.client()
            begun, before = time.monotonic(), _calls(client)
            time.sleep(seconds)
            rate = (_calls(client) - before - 1) / (time.monotonic() - begun)
            parts = {"web": pss_mib(web.pid), "worker": pss_mib(worker.pid), "Redis": pss_mib(redis.pid)}
    note = ", ".join(f"{name} {mib:.0f}" for name, mib in parts.items())
    yield Row("idle: memory (PSS)", sum(parts.values()), "MiB", None, "<= 110 MiB", note)
    yield Row("idle: Redis commands", rate, "/s", None, "<= 5 /s", f"over {seconds} s")


def _calls(client: object) -> int:
    return int(client.info("stats")["total_commands_processed"])  # type: ignore[attr-defined]


def round_trips(plan: Plan) -> Iterator[Row]:
    """From the inbox to the copy in Sent: what Redis counts, less that of an idle worker."""
    count = plan.size(50, 200)
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder) / "redis") as redis:
        env = {"EMAIL_POLL_INTERVAL_SECONDS": "5", "EMAIL_MAX_SENDS_PER_HOUR": "100000"}
        with Rig(Path(folder), redis.url, inbox=inbox(Path(folder)), env=env) as rig:
            rig.start_worker()
            until(lambda: "worker started" in rig.log.read_text(), 30)
            time.sleep(3)
            client = redis.client()
            quiet = _reads(client)
            time.sleep(10)
            idle_rate = [(now - was) / 10 for now, was in zip(_reads(client), quiet, strict=True)]
            fill(rig, [small_mail(str(number)) for number in range(count)])
            begun, before = time.monotonic(), _reads(client)
            until(lambda: len(rig.smtp.mails) >= count, 60, pause=0.2)
            until(lambda: _filed(client, count), 60, pause=0.5)
            passed = time.monotonic() - begun
            used = [
                now - was - rate * passed
                for now, was, rate in zip(_reads(client), before, idle_rate, strict=True)
            ]
    note = f"{used[1] / count:.0f} commands; {count} mails at once, echo, copies in Sent included"
    yield Row("Redis round trips for a mail", used[0] / count, "", None, "<= 20", note)


def _filed(client: object, count: int) -> bool:
    replied = client.zcard(f"cleo:index:state:{State.REPLIED}")  # type: ignore[attr-defined]
    return bool(replied >= count and not client.zcard("cleo:filing"))  # type: ignore[attr-defined]


def _reads(client: object) -> tuple[int, int]:
    found = client.info("stats")  # type: ignore[attr-defined]
    return int(found["total_reads_processed"]), int(found["total_commands_processed"])


def help_text(plan: Plan) -> Iterator[Row]:
    """One line of help, beside an interpreter that loads click alone."""
    tries = plan.size(7, 21)
    ours = _seconds(tries, "-m", "cleo_email", "--help")
    bare = _seconds(tries, "-c", "import click")
    yield Row("cleo-email --help", ours, "s", bare, "<= 0.15 s", "bare: Python with click")


def _seconds(tries: int, *argv: str) -> float:
    times: list[float] = []
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(tries):
        begun = time.monotonic()
        subprocess.run([sys.executable, *argv], env=env, capture_output=True, check=True)
        times.append(time.monotonic() - begun)
    return median(times)
