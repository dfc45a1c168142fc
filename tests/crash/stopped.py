"""A worker that is stopped for a while (SIGSTOP) and goes on when another one has taken over: nothing twice.

So it goes where a machine sleeps, swaps or is moved. What it held is lost by then, and it does not know.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from cleo_email import crashpoints
from cleo_email.store import State
from cleo_email.worker.process import main
from tests.crash.people import Desk, waits
from tests.crash.rig import IMAP, CrashRig, Letter, Tally
from tests.crash.scenario import Scenario
from tests.support.agent_server import AgentServer

GROUP = "stopped and overtaken"
LETTERS = (Letter(1), Letter(2, follows=1), Letter(3))
POINTS = (
    *("poll-after-fetch", "accept-before-store", "poll-after-accept"),
    *("answer-before-agent", "answer-after-keep", "submit-before-end-of-data", "submit-after-mark"),
    *("submit-after-end-of-data", "chores-before-flags", "chores-before-sent"),
)
OF_DRAFTS = ("draft-before-put", "draft-before-remove")
STOPPED_S = float(os.environ.get("CRASH_TEST_STOPPED", "12"))  # another worker takes over after some 4 s


def scenarios() -> Iterator[Scenario]:
    for point in POINTS:
        yield Scenario(GROUP, point, IMAP, partial(_play, point), _rig)
    for point in OF_DRAFTS:
        yield Scenario(GROUP, point, IMAP, partial(_play_drafts, point), waits)


def _rig(directory: Path) -> CrashRig:
    return CrashRig(directory, env={"EMAIL_POLL_INTERVAL_SECONDS": "2"})


def _play(point: str, rig: CrashRig) -> Tally:
    with AgentServer(delay=0.5) as agent:
        rig.env["CLEO_AGENT"] = agent.url
        rig.bring(IMAP, LETTERS)
        worker = _stop_one(rig, point)
        tally = _overtake(rig, worker, rig.is_over, rig.finish)
        asked = Counter(request["id"] for request in agent.requests())
    tally.problems += [f"the agent was asked {n} times about {id_}" for id_, n in asked.items() if n > 2]
    return tally


def _play_drafts(point: str, rig: CrashRig) -> Tally:
    assert isinstance(rig, Desk)
    rig.start_web("--workers", "1")
    rig.bring(IMAP, (Letter(1), Letter(2), Letter(3)))  # each in a thread of its own
    approve = rig.approve if point == "draft-before-remove" else None
    worker = _stop_one(rig, point, approve)
    return _overtake(rig, worker, rig.is_settled, rig.tally)


def _stop_one(rig: CrashRig, point: str, approve: Callable[[], None] | None = None) -> int:
    """Have a worker stopped at that point; return its process id."""
    pid = rig.start("-m", __name__, env={"CLEO_CRASH_AT": point}).pid
    if approve:
        assert isinstance(rig, Desk)
        rig.wait(lambda: rig.all_are(State.REVIEW), 60)
        approve()
    rig.wait(lambda: _is_stopped(pid), 60)
    return pid


def _overtake(
    rig: CrashRig, stopped: int, is_over: Callable[[], bool], finish: Callable[[float], Tally]
) -> Tally:
    """Let another worker go on, and some seconds later the one that is stopped, too."""
    until = time.monotonic() + STOPPED_S
    rig.start_worker()
    since = time.monotonic()
    while not is_over() and time.monotonic() < until:
        time.sleep(0.1)
    seconds = time.monotonic() - since
    time.sleep(max(until - time.monotonic(), 0))
    os.kill(stopped, signal.SIGCONT)
    time.sleep(2)  # in which it does what it was about to do
    tally = finish(since)
    return replace(tally, seconds=seconds) if seconds < STOPPED_S else tally


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _stop_there() -> None:
    """Let the armed instant stop this process, once, in place of its end."""

    def stop(pid: int, _signal: int) -> None:
        crashpoints._armed.clear()
        os.kill(pid, signal.SIGSTOP)

    there = types.SimpleNamespace(write=os.write, getpid=os.getpid, kill=stop)
    crashpoints.os = there  # type: ignore[assignment]


if __name__ == "__main__":
    _stop_there()
    sys.exit(main())
