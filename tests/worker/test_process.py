"""The worker's threads: what hangs ends the process, what ends is built anew, what runs is not forgotten."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisGone

from cleo_email import app as app_module
from cleo_email.app import App
from cleo_email.runtime import SeldomLog
from cleo_email.store.queue import ANSWERS, WakeQueue
from cleo_email.worker import rq_threads as threads
from cleo_email.worker.rq_threads import ThreadWorker, work_until_stopped


class Stuck:
    """An app whose answerer waits, as one that hangs in a socket without a time-out would."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.answerer = self

    def handle(self, _thread_id: str) -> None:
        self.begun.release()
        self.go_on.wait(30)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    app = Stuck()
    app_module.shared_app("worker", None, lambda: cast("App", app))
    yield app
    app.go_on.set()
    app_module._apps.clear()


class Ended(Exception):
    """In place of the end of the process."""


def test_a_job_that_outlives_its_deadline_ends_the_process(
    redis_url: str, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "OVERTIME_S", 0.2)
    monkeypatch.setattr(threads, "WATCH_S", 0.02)
    ended: list[int] = []
    stop = threading.Event()

    def end(status: int) -> None:
        ended.append(status)
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    with Redis.from_url(redis_url) as redis:
        WakeQueue(redis, answer_timeout_s=1).conversation("<a@b>")
        worker = ThreadWorker(Redis.from_url(redis_url), ANSWERS, slots=2)
        working = threading.Thread(target=worker.work, kwargs={"logging_level": None}, daemon=True)
        working.start()
        assert stuck.begun.acquire(timeout=10)
        assert worker.overdue() == [], "it still has its second and its time of grace"
        with pytest.raises(Ended):
            threads.watch([[worker]], stop)
        assert ended == [1]
        worker.stop()
        stuck.go_on.set()
        working.join(20)
        assert not working.is_alive(), "it would take the jobs of the next test"


def test_a_healthy_worker_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "WATCH_S", 0.001)
    stop = threading.Event()
    looks: list[int] = []

    class Fine:
        def overdue(self) -> list[float]:
            looks.append(1)
            if len(looks) == 5:
                stop.set()
            return []

    threads.watch([[cast("ThreadWorker", Fine())]], stop)
    assert len(looks) == 5


SIGNALLED = """
import signal, threading
from cleo_email.settings import read_settings
from cleo_email.worker.process import run_worker

def signal_this_thread():
    while True:
        threading.Event().wait(0.05)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

threading.Thread(target=signal_this_thread, daemon=True).start()
raise SystemExit(run_worker(read_settings({}, dotenv=None)))
"""


def test_sigterm_is_heard_whichever_thread_it_interrupts() -> None:
    """The system chooses one; the main thread, where Python handles it, may be asleep for an hour."""
    done = subprocess.run([sys.executable, "-c", SIGNALLED], timeout=30, check=False)
    assert done.returncode == 0


def test_a_job_that_comes_while_the_worker_is_told_to_stop_is_left_to_others(
    redis_url: str, stuck: Stuck
) -> None:
    with Redis.from_url(redis_url) as redis:
        worker = ThreadWorker(Redis.from_url(redis_url), ANSWERS, slots=2)
        working = threading.Thread(target=worker.work, kwargs={"logging_level": None})
        working.start()
        queue = worker.queues[0]
        until = time.monotonic() + 20
        while not any(one["cmd"] == "blmove" for one in redis.client_list()):
            assert time.monotonic() < until, "it never waited for a job"
            time.sleep(0.01)
        worker.stop()
        WakeQueue(redis).conversation("<a@b>")
        working.join(20)
        assert not working.is_alive()
        assert not stuck.begun.acquire(blocking=False)
        assert redis.llen(queue.key) == 1
        assert redis.llen(queue.intermediate_queue_key) == 0


@pytest.mark.parametrize(
    "fault", [RedisGone("gone"), OSError("gone"), KeyError("a bug of the queue's library")]
)
def test_a_worker_that_ends_is_built_anew_and_its_jobs_are_not_forgotten(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threads, "_faults", SeldomLog())
    stop = _Patient(turns=3)
    built: list[FakeWorker] = []
    seen: list[list[bool]] = []

    def build() -> ThreadWorker:
        worker = FakeWorker(fault, lambda: seen.append([one.busy for one in holder]), busy=len(built) == 0)
        built.append(worker)
        return cast("ThreadWorker", worker)

    holder: list[ThreadWorker] = []
    work_until_stopped(build, holder, cast("threading.Event", stop))
    assert len(built) == 3
    assert seen == [[True], [True, False], [True, False]], (
        "the first still runs a job: it is drained and watched"
    )
    work_until_stopped(build, [], cast("threading.Event", _Patient(turns=3)))  # the other queue's
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1, "while Redis is away each ends soon: told once"
    why = f"{type(fault).__name__} at test_process.py:"
    if isinstance(fault, RedisGone):
        why = "Redis (REDIS_URL) does not answer as it should: gone"
    assert told[0].startswith(f"the queue's worker ended ({why}")


class FakeWorker:
    def __init__(self, fault: Exception, at_work: Callable[[], None], *, busy: bool) -> None:
        self.busy, self._fault, self._at_work = busy, fault, at_work

    def work(self, **_: Any) -> None:
        self._at_work()
        raise self._fault


class _Patient:
    """An event that is set after so many waits."""

    def __init__(self, turns: int) -> None:
        self._left = turns

    def is_set(self) -> bool:
        return self._left <= 0

    def wait(self, _seconds: float) -> bool:
        self._left -= 1
        return self.is_set()


def test_only_a_worker_that_looks_into_its_queue_counts_as_dequeuing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else /readyz would be 200 while a worker can write its heartbeat, and take no job."""
    monkeypatch.setattr(threads, "DEQUEUED_S", 3.0)
    monkeypatch.setattr(threads, "DEQUEUE_S", 1)
    with Redis.from_url(redis_url) as redis:
        worker = ThreadWorker(Redis.from_url(redis_url), ANSWERS, slots=1)
        assert not threads.all_dequeue([[worker]]), "it has not begun"
        working = threading.Thread(target=worker.work, kwargs={"logging_level": None}, daemon=True)
        working.start()
        until = time.monotonic() + 10
        while not threads.all_dequeue([[worker]]):
            assert time.monotonic() < until
            time.sleep(0.01)
        assert not threads.all_dequeue([[worker], []]), "the other queue has no worker"
        redis.execute_command("ACL SETUSER", "default", "-blmove")
        try:
            until = time.monotonic() + 20
            while threads.all_dequeue([[worker]]):
                assert time.monotonic() < until
                time.sleep(0.05)
        finally:
            redis.execute_command("ACL SETUSER", "default", "+@all")
        assert "no job can be taken: the Redis of REDIS_URL does not permit its user" in caplog.text
        assert "Traceback" not in caplog.text
        worker.stop()
        working.join(20)
