"""What a job may wait for ends, and the watchdog waits for all of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis

from cleo_email.app import App
from cleo_email.errors import LockLost, StoreUnavailable, SubmissionError
from cleo_email.pipeline import deliver as delivery
from cleo_email.runtime import COMPOSING_TURN_S, LOOK_S, RECORD_S, SENDING_TURN_S
from cleo_email.screening import dkim
from cleo_email.settings import read_settings
from cleo_email.smtp.session import SmtpTimeouts
from cleo_email.store.connection import connect_worker
from cleo_email.store.queue import ANSWERS, queue
from tests.support.bench import Bench
from tests.support.mails import mail
from tests.support.web import BASE


@pytest.mark.parametrize(("supplied", "calls"), [("", 1), ('"os.path:basename"', 2)])
def test_the_watchdog_waits_for_all_that_a_job_may_wait_for(
    redis_url: str, tmp_path: Path, supplied: str, calls: int
) -> None:
    """Else it would end a process between the end of DATA and its answer, for nothing."""
    (tmp_path / "flows.toml").write_text(f"[workflows.x]\nattachments = [{supplied}]\n")
    env = {"CLEO_AGENT_TIMEOUT_SECONDS": "250.5", "CLEO_WORKFLOWS": str(tmp_path / "flows.toml")}
    app = App(read_settings({**BASE, "REDIS_URL": redis_url, **env}, dotenv=None))
    app.wake.conversation("<a@b>")
    with Redis.from_url(redis_url) as redis:
        (job,) = queue(redis, ANSWERS).get_jobs()
    patient = connect_worker(redis_url, connections=1)
    redis_s = 5 * patient.connection_pool.connection_kwargs["socket_timeout"]
    submission = SmtpTimeouts().total + redis_s + redis_s  # its mark, and the record of its outcome
    proof = dkim.PROOF_S
    waits = proof + COMPOSING_TURN_S + SENDING_TURN_S + LOOK_S + submission + RECORD_S
    assert calls * 250.5 + waits <= job.timeout <= calls * 250.5 + waits + 300


def test_an_outcome_waits_for_redis_once_though_the_lock_is_lost_meanwhile(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(redis_url)
    accepted = bench.receive(mail(1))
    now = 0.0
    asked = 0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def move(*_: Any, **__: Any) -> None:
        nonlocal asked
        asked += 1
        raise LockLost("taken over") if asked == 100 else StoreUnavailable("Redis is away")

    def away() -> None:
        monkeypatch.setattr(bench.store.messages, "move", move)

    monkeypatch.setattr(delivery, "time", SimpleNamespace(monotonic=lambda: now))
    bench.delivery.sleep = sleep
    bench.smtp.script = [SubmissionError("550 no")]
    bench.smtp.during = away
    with pytest.raises(StoreUnavailable):
        bench.work(accepted.thread_id)
    assert asked > 100, "the outcome is tried without the lock too"
    assert RECORD_S <= now <= RECORD_S + 2
