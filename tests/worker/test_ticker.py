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
        for one in (store.filing, store.resuming, store.handing_over):
            one.add("a" * 24, 1)
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
    for name in (
        *("SWEEP_MS", "HAND_OVER_MS", "FORGET_MS", "SCHEDULE_MS", "UPKEEP_MS", "UNTOLD_MS", "ALERTS_MS"),
    ):
        monkeypatch.setattr(ticking, name, 1)
    for name in ("STEP_S", "MARGIN_S"):
        monkeypatch.setattr(ticking, name, 0.005)
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
            ticker._due.clear()
            ticker._round()
    assert waits == [1, 1, 1]
    assert [record.getMessage() for record in caplog.records] == ["Redis is away; trying again"]


def test_a_worker_that_cannot_dequeue_is_not_seen(store: Store) -> None:
    ticker = Ticker(Steps(store, {}).app, threading.Event(), dequeues=lambda: False)
    ticker._round()
    assert store.health.read().worker_seen == 0


def test_an_idle_ticker_asks_redis_for_little(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some bill by the command. These are ten minutes of rounds, by a clock of the test's."""
    now = [1000.0]
    monkeypatch.setattr(ticking.time, "monotonic", lambda: now[0])
    with Redis.from_url(redis_url) as redis:
        store = Store(redis)
        steps = Steps(store, {})
        for one in (store.filing, store.resuming, store.handing_over):
            one.done("a" * 24)
        app = cast("Any", steps.app)
        app.settings.poll_interval, app.workflow_starter.scheduled = 60, False
        ticker = Ticker(steps.app, threading.Event())
        before = redis.info("stats")["total_commands_processed"]
        for _ in range(2400):
            now[0] += ticking.STEP_S
            ticker._round()
        spent = redis.info("stats")["total_commands_processed"] - before
    assert not steps.done["sweep"].acquire(blocking=False), "nothing waits anywhere"
    assert spent / 600 < 3.5


def test_a_tick_is_one_workers_and_each_step_is_run_as_often_as_it_says(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        ticks = Store(redis).ticks
        steps = [("a", 60_000, ""), ("b", 60_000, "empty"), ("c", 60_000, "empty there")]
        redis.zadd("cleo:there", {"x": 1})
        first, second = ticks.take(steps), ticks.take(steps)
    assert first == [0, 60_000, 0]
    assert [0 < left <= 60_000 for left in second] == [True, True, True]


def test_each_worker_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 2):
        monkeypatch.setattr(ticking.os, "getpid", lambda number=number: number)
        Ticker(Steps(store, {}).app, threading.Event())._round()
    assert store.totals.read((), now_ms()).workers == 2
