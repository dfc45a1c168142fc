"""Sends under random kill -9 of the web and the worker: none may be lost, none may go out twice.

    python -m benchmarks.sends --count 500 --seed 1 [--workflows]

Callers repeat a request that got no answer with the same Idempotency-Key, as they must. Prints one line of
JSON. A mail whose worker died between the end of DATA and the note of its answer is ``uncertain``, and was
sent at most once: that is counted, not hidden.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.support.channel import Rig
from tests.support.redis_server import RedisServer

SEND = "/email/send"
START = "/workflows"


@dataclass(frozen=True)
class Result:
    sends: int
    answered: int  # got a 202 in the end
    delivered: int  # distinct mails that the SMTP server accepted
    doubled: int
    lost: int  # neither delivered nor uncertain
    uncertain: int
    kills: int
    repeats: int  # requests that were sent again
    seconds: float


def run(
    rig: Rig, *, count: int, kills: int, rng: random.Random, path: str = SEND, wait_s: float = 300.0
) -> Result:
    """Send ``count`` mails from four callers while web and worker are killed ``kills`` times."""
    processes = {"web": rig.start_web(), "worker": rig.start_worker()}
    rig.wait(lambda: rig.get("/readyz")[0] == 200)
    begun = time.monotonic()
    stop = threading.Event()
    repeats: list[int] = []
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda n: _send(rig.post, path, n, repeats, stop), range(count))
        for _ in range(kills):
            # Spread over the run, whatever its speed: the next kill waits for some progress.
            seen = len(rig.smtp.mails) + rng.randrange(1, max(2, count // (kills + 1)))
            _until(lambda seen=seen: len(rig.smtp.mails) >= min(seen, count - 1), 20)  # type: ignore[misc]
            name = rng.choice(["web", "worker"])
            rig.kill(processes[name])
            processes[name] = rig.start_web() if name == "web" else rig.start_worker()
        ids = [answer["id"] for answer in answers if answer]
    done = ("replied", "uncertain")
    rig.wait(lambda: sum(len(rig.records(state)) for state in done) >= count, wait_s)
    sent = Counter(mail["Message-ID"] for mail in rig.replies())
    uncertain = rig.records("uncertain")
    records = rig.records()
    subjects = Counter(record["subject"] for record in records)
    lost = [r for r in records if not sent[r["reply_message_id"]] and r not in uncertain]
    return Result(
        sends=count,
        answered=len(set(ids)),
        delivered=len(sent),
        doubled=sum(n - 1 for n in sent.values()) + sum(n - 1 for n in subjects.values()),
        lost=len(lost) + count - len(subjects),
        uncertain=len(uncertain),
        kills=kills,
        repeats=len(repeats),
        seconds=round(time.monotonic() - begun, 1),
    )


def _send(
    post: Callable[..., Any], path: str, number: int, repeats: list[int], stop: threading.Event
) -> dict[str, str] | None:
    to, subject = f"user{number}@example.test", f"Mail {number}"
    body: dict[str, Any] = {"to": to, "subject": subject, "body": f"This is mail {number}."}
    if path == START:
        body = {"workflow_id": "load", "user_ids": [to], "channel": "email", "subject": subject}
    until = time.monotonic() + 120
    while time.monotonic() < until:
        status, answer = post(body, path, Idempotency_Key=f"send-{number}")
        if status == 202:
            found: dict[str, str] = answer["ids"][0] if path == START else answer
            return found
        assert status in (0, 503), (status, answer)
        repeats.append(number)
        stop.wait(0.2)
    return None


def _until(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workflows", action="store_true", help="start workflows instead of sending mail")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "redis").mkdir()
        env = {"EMAIL_MAX_SENDS_PER_HOUR": "1000000"}
        with RedisServer(Path(folder) / "redis") as redis, Rig(Path(folder), redis.url, env=env) as rig:
            path = START if options.workflows else SEND
            rng = random.Random(options.seed)
            result = run(rig, count=options.count, kills=options.kills, rng=rng, path=path)
    print(json.dumps(asdict(result)))
    return 1 if result.lost or result.doubled else 0


if __name__ == "__main__":
    sys.exit(main())
