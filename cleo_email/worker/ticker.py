"""Do what recurs: polls, sweeps, upkeep, signs of life. All workers compete for each tick."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from cleo_email.app import App
from cleo_email.errors import StoreUnavailable, place_of
from cleo_email.pipeline.poll import UNTOLD_MS
from cleo_email.runtime import SeldomLog, now_ms

log = logging.getLogger(__name__)

STEP_S = 0.25
SWEEP_MS = 2_000
UPKEEP_MS = 2_000
FORGET_MS = 600_000
SCHEDULE_MS = 1_000
SEEN_S = 10.0


class Ticker(threading.Thread):
    """Runs its steps as long as the worker process does, whatever they raise."""

    def __init__(self, app: App, stop: threading.Event) -> None:
        super().__init__(name="cleo-ticker", daemon=True)
        self._app = app
        self._stop_event = stop
        self._seen = 0.0
        self._away = False
        self._faults = SeldomLog()
        self._steps: list[Callable[[], None]] = [
            self._show_life,
            self._sweep,
            self._forget,
            self._warn_of_memory,
            self._start_what_is_scheduled,
        ]
        if app.poller is not None:
            self._steps += [self._poll, self._upkeep]

    def run(self) -> None:
        while not self._stop_event.wait(STEP_S):
            self._round()

    def _round(self) -> None:
        """Run every step by itself: one that always fails must not keep the others from their work."""
        away = False
        for step in self._steps:
            try:
                step()
            except StoreUnavailable as error:
                if not away and not self._away:
                    log.warning("%s; trying again", error)
                away = True
            except Exception as error:  # noqa: BLE001 - the thread's edge: if it ended, nothing would be polled
                fault = f"{step.__name__.lstrip('_')}: unexpected {place_of(error)}"
                if self._faults.is_due(fault):
                    log.error("a regular task fails, the others go on: %s", fault)
        self._away = away
        if away:
            self._stop_event.wait(1)

    # --- the steps --------------------------------------------------------------------------------------

    def _show_life(self) -> None:
        if time.monotonic() - self._seen > SEEN_S:
            self._app.store.health.worker_seen(now_ms())
            self._seen = time.monotonic()

    def _sweep(self) -> None:
        if self._tick("sweep", SWEEP_MS):
            self._app.sweeper.run()

    def _forget(self) -> None:
        if self._tick("forget", FORGET_MS):
            self._app.sweeper.forget()

    def _warn_of_memory(self) -> None:
        if self._tick("memory", FORGET_MS):
            self._app.sweeper.warn_of_memory()

    def _start_what_is_scheduled(self) -> None:
        if self._app.scheduler and self._tick("schedule", SCHEDULE_MS):
            self._app.scheduler.run()

    def _poll(self) -> None:
        interval = self._app.settings.poll_interval
        if self._tick("poll", min(interval * 1000, UNTOLD_MS)):
            self._app.wake.poll(interval)

    def _upkeep(self) -> None:
        now, store = now_ms(), self._app.store
        waiting = any(due_list.due(now, 1) for due_list in (store.filing, store.settling, store.fetching))
        if waiting and self._tick("chores", UPKEEP_MS):
            self._app.wake.upkeep()

    def _tick(self, name: str, every_ms: int) -> bool:
        return self._app.store.ticks.tick(name, every_ms)
