"""The worker's clock goes on, whatever one of its steps does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from redis import Redis

from cleo_email.app import App
from cleo_email.errors import StoreUnavailable
from cleo_email.runtime import now_ms
from cleo_email.store import Store
from cleo_email.worker import ticker as ticking
from cleo_email.worker.ticker import Ticker

STEPS = ("sweep", "hand-over", "forget", "memory", "schedule", "poll", "upkeep", "alerts")


class Steps:
    """What the ticker drives. ``faults``: what a step raises instead of being done."""

    def __init__(self, store: Store, faults: dict[str, Exception]) -> None:
        store.filing.add("a" * 24, 1)
        self.done: dict[str, threading.Semaphore] = {name: threading.Semaphore(0) for name in STEPS}
        self._faults = faults
        self.app = cast(
            "App",
            SimpleNamespace(
                store=store,
                clock=now_ms,
                settings=SimpleNamespace(poll_interval=1),
                wake=SimpleNamespace(poll=self._step("poll"), upkeep=self._step("upkeep")),
                sweeper=SimpleNamespace(
                    run=self._step("sweep"),
                    hand_over=self._step("hand-over"),
                    forget=self._step("forget"),
                    warn_of_memory=self._step("memory"),
                ),
                workflow_starter=SimpleNamespace(scheduled=True, start_due=self._step("schedule")),
                poller=object(),
                alerts=SimpleNamespace(look=self._step("alerts")),
            ),
        )

    def _step(self, name: str) -> Callable[..., None]:
        def step(*_: Any) -> None:
            self.done[name].release()
            if name in self._faults:
                raise self._faults[name]

        return step


@pytest.fixture
def store(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for name in ("SWEEP_MS", "FORGET_MS", "SCHEDULE_MS", "UPKEEP_MS", "UNTOLD_MS", "ALERTS_MS"):
        monkeypatch.setattr(ticking, name, 1)
    monkeypatch.setattr(ticking, "STEP_S", 0.005)
    with Redis.from_url(redis_url) as redis:
        yield Store(redis)


@pytest.mark.parametrize("broken", STEPS)
def test_a_step_that_always_fails_keeps_no_other_from_running(
    store: Store, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    steps = Steps(store, {broken: KeyError("what a stranger sent")})
    stop = threading.Event()
    ticker = Ticker(steps.app, stop)
    ticker.start()
    try:
        for name in STEPS:
            for _ in range(3):
                assert steps.done[name].acquire(timeout=10), f"{name} does not run any more"
    finally:
        stop.set()
        ticker.join(10)
    assert store.health.read().worker_seen > 0
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 1, "told once, not at every tick"
    assert "KeyError at test_ticker.py" in told[0]
    assert "stranger" not in told[0]


def test_an_absent_redis_is_told_once_and_tried_again(
    store: Store, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    steps = Steps(store, {"sweep": StoreUnavailable("Redis is away"), "poll": StoreUnavailable("away")})
    waits: list[float] = []
    ticker = Ticker(steps.app, cast("threading.Event", SimpleNamespace(wait=waits.append)))
    with Redis.from_url(redis_url) as redis:
        for _ in range(3):
            redis.delete("cleo:tick:sweep", "cleo:tick:poll")
            ticker._round()
    assert waits == [1, 1, 1]
    assert [record.getMessage() for record in caplog.records] == ["Redis is away; trying again"]


def test_a_worker_that_cannot_dequeue_is_not_seen(store: Store) -> None:
    ticker = Ticker(Steps(store, {}).app, threading.Event(), dequeues=lambda: False)
    ticker._round()
    assert store.health.read().worker_seen == 0


def test_each_worker_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 2):
        monkeypatch.setattr(ticking.os, "getpid", lambda number=number: number)
        Ticker(Steps(store, {}).app, threading.Event())._round()
    assert store.totals.read((), now_ms()).workers == 2
