"""A mail on which workers die is given to a person, whatever kills them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from cleo_email.pipeline import answer as answering
from cleo_email.screening.dkim import SenderCheck
from cleo_email.store import State
from tests.screening.signing import BODY, FakeDns, head, sign
from tests.support.bench import Bench
from tests.support.mails import mail


class Killed(BaseException):
    """Ends a thread as the end of the process does: nothing that is written to handle errors sees it."""


def die(*_: Any, **__: Any) -> Any:
    raise Killed


class DeadlyCheck:
    check = staticmethod(die)


def attempts(bench: Bench, thread: str, count: int) -> None:
    for _ in range(count):
        with pytest.raises(Killed):
            bench.work(thread)


def test_a_proof_that_kills_three_workers_is_held(redis_url: str) -> None:
    bench = Bench(redis_url, sender_check=DeadlyCheck())  # type: ignore[arg-type]
    accepted = bench.receive(mail(1))
    attempts(bench, accepted.thread_id, 3)
    assert bench.record(accepted).state is State.RECEIVED
    bench.work(accepted.thread_id)
    record = bench.record(accepted)
    assert record.state is State.HELD
    assert "3 times a worker died" in record.reason
    assert bench.agent.asked == []
    bench.deciding.release(accepted.id, by="cli")
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED, "a person has decided that it is harmless"


@pytest.mark.parametrize("step", ["parse", "new_part", "_with_texts"])
def test_so_is_one_whose_reading_does(redis_url: str, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    bench = Bench(redis_url)
    accepted = bench.receive(mail(1))
    monkeypatch.setattr(answering, step, die)
    attempts(bench, accepted.thread_id, 3)
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.HELD
    bench.deciding.release(accepted.id, by="cli")
    attempts(bench, accepted.thread_id, 3)
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.HELD, "and again, if it goes on"


def test_attempts_that_end_are_no_deaths(redis_url: str) -> None:
    dns = FakeDns()
    dns.publish("example.com")
    dns.broken.add("s1._domainkey.example.com")
    bench = Bench(redis_url, sender_check=SenderCheck(dns))
    accepted = bench.receive(sign(head() + b"\r\n" + BODY))
    for _ in range(8):
        bench.work(accepted.thread_id)
        assert (bench.record(accepted).state, bench.record(accepted).begun) == (State.RECEIVED, 0)
        bench.clock.pass_(3600)
    dns.broken.clear()
    bench.work(accepted.thread_id)
    assert (bench.record(accepted).state, bench.record(accepted).begun) == (State.REPLIED, 0)


def test_a_death_while_the_agent_works_is_a_try_of_the_agents(redis_url: str) -> None:
    """The mails of all conversations that wait for their agents die with the process: it is not theirs."""
    bench = Bench(redis_url)
    accepted = bench.receive(mail(1))
    bench.agent.answer = die  # type: ignore[method-assign]
    attempts(bench, accepted.thread_id, 4)
    record = bench.record(accepted)
    assert (record.state, record.begun, record.tries) == (State.ANSWERING, 0, 4)


WORKER = """
import os, signal, sys
from cleo_email.screening.dkim import SenderCheck
from tests.support.bench import Bench
check = SenderCheck(lambda name, seconds: os.kill(os.getpid(), signal.SIGKILL))
Bench(sys.argv[1], sender_check=check).work(sys.argv[2])
"""


def test_three_processes_that_are_really_killed(redis_url: str) -> None:
    bench = Bench(redis_url, sender_check=DeadlyCheck())  # type: ignore[arg-type]
    accepted = bench.receive(sign(head() + b"\r\n" + BODY))
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", WORKER, redis_url, accepted.thread_id], check=False)
        assert ended.returncode == -9
        bench.redis.delete(*bench.redis.keys("*lock:*"))  # which would expire in 15 s
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.HELD
