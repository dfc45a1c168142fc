"""Events: how many a second are told to a receiver that answers at once, beside bare POSTs to it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Plan, Row, posts_per_second, small_mail, until
from cleo_email.monitoring.events import EventReceiver, EventSender
from cleo_email.runtime import now_ms
from tests.support.bench import Bench, FakeClock
from tests.support.channel import ROOT
from tests.support.event_server import SECRET, EventServer
from tests.support.redis_server import RedisServer


def rows(plan: Plan) -> Iterator[Row]:
    count = plan.size(2000, 10_000)
    argv = [sys.executable, "-m", "benchmarks.events"]
    receiver = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert receiver.stdout
        port = int(receiver.stdout.readline())
        with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder) / "redis") as redis:
            clock = FakeClock()
            clock.now = now_ms()
            bench = Bench(redis.url, events=True, clock=clock)
            for number in range(count):
                bench.receive(small_mail(f"event.{number}"))
            log, stop = bench.store.event_log, threading.Event()
            sender = EventSender(log, EventReceiver(f"http://127.0.0.1:{port}/", (SECRET,), {}), clock=clock)
            begun, cpu = time.monotonic(), time.process_time()
            threading.Thread(target=sender.run, args=(stop,), daemon=True).start()
            until(lambda: not log.status().messages, 300, pause=0.1)
            rate, cpu = count / (time.monotonic() - begun), (time.process_time() - cpu) / count * 1000
            stop.set()
        bodies = [b'{"type": "message.received", "timestamp": "", "data": {"id": ""}}'] * count
        bare = posts_per_second(port, "/bare", "application/json", bodies, taken=b"401")
    finally:
        receiver.kill()
        receiver.communicate()
    note = f"bare: as many POSTs, unsigned and refused; {cpu:.2f} ms CPU an event"
    yield Row(f"{count:,} events to a local receiver", rate, "/s", bare, "", note)


def _receive() -> None:
    with EventServer() as receiver:
        print(receiver.server_port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _receive()
