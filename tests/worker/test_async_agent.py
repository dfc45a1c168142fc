"""An ``async def`` agent in a real worker: one event loop for all calls, and the end of the process."""

from __future__ import annotations

from pathlib import Path

from tests.support.channel import Rig
from tests.support.mails import AGENT

MODULE = """
import asyncio
import time

loops = []
lock = asyncio.Lock()


async def answer(request):
    loops.append(asyncio.get_running_loop())
    if "slow" in request["message"]["text"]:
        await asyncio.sleep(2)
    if "never" in request["message"]["text"]:
        await asyncio.sleep(3600)
    if "blocked" in request["message"]["text"]:
        await asyncio.to_thread(time.sleep, 3600)
    async with lock:
        await asyncio.sleep(0.01)
    return f"{len(set(map(id, loops)))} loop"
"""

HASTY = """
from cleo_email.worker import process

process.DRAIN_S = 0.5
raise SystemExit(process.main())
"""


def post(rig: Rig, number: int, text: str) -> None:
    fields = {"from_address": f"c{number}@example.test", "to_address": AGENT, "subject": "s", "body": text}
    assert rig.post(fields)[0] == 202


def test_all_calls_share_a_loop_and_sigterm_lets_them_end(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "my_async_agent.py").write_text(MODULE)
    env = {"CLEO_AGENT": "my_async_agent:answer", "CLEO_AGENT_TIMEOUT_SECONDS": "20"}
    with Rig(tmp_path, redis_url, polls=False, env=env) as rig:
        rig.start_web()
        worker = rig.start_worker()
        for number in range(20):
            post(rig, number, "quick")
        rig.wait(lambda: len(rig.replies()) == 20)
        post(rig, 20, "slow")
        rig.wait(lambda: rig.records("answering"))
        worker.terminate()
        assert worker.wait(40) == 0
        assert len(rig.replies()) == 21
        assert all("1 loop" in str(reply.get_body(("plain",))) for reply in rig.replies())
        assert "Traceback" not in rig.log.read_text()


def test_a_coroutine_that_does_not_end_is_cancelled_and_tried_again(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "my_async_agent.py").write_text(MODULE)
    env = {"CLEO_AGENT": "my_async_agent:answer", "CLEO_AGENT_TIMEOUT_SECONDS": "0.5"}
    with Rig(tmp_path, redis_url, polls=False, env=env) as rig:
        rig.start_web()
        worker = rig.start_worker()
        post(rig, 1, "never")
        rig.wait(
            lambda: [one for one in rig.records("answering") if "no answer within 0.5 s" in one["reason"]]
        )
        worker.terminate()
        assert worker.wait(20) == 0, "nothing of it is left to wait for"


def test_a_thread_of_the_agents_does_not_keep_the_process_alive(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "my_async_agent.py").write_text(MODULE)
    with Rig(tmp_path, redis_url, polls=False, env={"CLEO_AGENT": "my_async_agent:answer"}) as rig:
        rig.start_web()
        worker = rig.start("-c", HASTY)
        post(rig, 1, "blocked")
        rig.wait(lambda: rig.records("answering"))
        worker.terminate()
        assert worker.wait(60) == 0
        assert "1 jobs did not finish in time" in rig.log.read_text()
