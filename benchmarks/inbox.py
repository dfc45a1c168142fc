"""A full inbox: N mails of N threads, an agent of D seconds. How long until the last reply, and what memory?

    python -m benchmarks.inbox --mails 200 --delay 1 [--kill]

Needs Dovecot. ``--kill`` kills the worker with SIGKILL at half of the replies and starts it again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.support.agent_server import AgentServer
from tests.support.channel import Rig, pss_mb
from tests.support.mails import mail
from tests.support.redis_server import RedisServer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mails", type=int, default=200)
    parser.add_argument("--delay", type=float, default=1.0)
    parser.add_argument("--concurrency", default="50")
    parser.add_argument("--kill", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with (
            RedisServer(base / "redis", appendfsync="always") as redis,
            AgentServer(delay=options.delay) as agent,
            Rig(
                base, redis.url, env={"CLEO_AGENT": agent.url, "EMAIL_CONCURRENCY": options.concurrency}
            ) as rig,
        ):
            _measure(rig, options.mails, kill=options.kill)


def _measure(rig: Rig, count: int, *, kill: bool) -> None:
    rig.deliver(*(mail(n) for n in range(count)))
    web = rig.start_web()
    begun = time.monotonic()
    worker = rig.start_worker()
    rig.wait(lambda: "worker started" in rig.log.read_text(), 20)
    started = time.monotonic()
    times: list[float] = []
    memory = sampled = 0.0
    killed = False
    while len(times) < count and time.monotonic() - begun < 180:
        seen = len(times)
        rig.smtp.wait_for(lambda server, seen=seen: len(server.mails) > seen, 120)  # type: ignore[misc]
        times += [time.monotonic()] * (len(rig.smtp.mails) - len(times))
        if time.monotonic() - sampled > 0.5:  # it costs CPU that the two cores need
            sampled = time.monotonic()
            memory = max(memory, pss_mb(worker.pid) + pss_mb(web.pid))
        if kill and not killed and len(times) >= count // 2:
            rig.kill(worker)
            killed = True
            worker = rig.start_worker()
        if killed and sum(len(rig.records(s)) for s in ("replied", "uncertain")) == count:
            break
    answered = Counter(reply["In-Reply-To"] for reply in rig.replies())
    rig.wait(lambda: sum(len(rig.records(s)) for s in ("replied", "uncertain")) == count, 60)
    print(
        f"first reply {times[0] - started:.2f} s, last {times[-1] - started:.2f} s after the worker was ready"
    )
    print(f"          ({times[-1] - begun:.2f} s after its process began)")
    print(f"memory (PSS) of worker and web together {memory:.0f} MiB at most")
    print(f"{len(answered)} of {count} answered, {sum(n > 1 for n in answered.values())} doubled, "
          f"{len(rig.records('uncertain'))} uncertain")  # fmt: skip


if __name__ == "__main__":
    main()
