"""What happens on a schedule: polls, sweeps, chores, signs of life. All workers race for each tick."""

from __future__ import annotations

import logging
import threading
import time

from cleo_email.errors import StoreUnavailable
from cleo_email.polling import UNTOLD_MS
from cleo_email.services import Services

log = logging.getLogger(__name__)

STEP_S = 0.25
SWEEP_MS = 2_000
CHORES_MS = 2_000
FORGET_MS = 600_000
SCHEDULE_MS = 1_000
SEEN_S = 10.0


class Ticker(threading.Thread):
    """One per worker process; works as long as the process does."""

    def __init__(self, services: Services, stop: threading.Event) -> None:
        super().__init__(name="cleo-ticker", daemon=True)
        self._services = services
        self._stop_event = stop
        self._seen = 0.0
        self._away = False

    def run(self) -> None:
        while not self._stop_event.wait(STEP_S):
            try:
                self._step()
                self._away = False
            except StoreUnavailable as error:
                if not self._away:
                    log.warning("%s; trying again", error)
                self._away = True
                self._stop_event.wait(1)

    def _step(self) -> None:
        front = self._services.front
        pulse = front.store.pulse
        if time.monotonic() - self._seen > SEEN_S:
            pulse.worker_seen(time.time_ns() // 1_000_000)
            self._seen = time.monotonic()
        if pulse.tick("sweep", SWEEP_MS):
            self._services.sweeping.run()
        if pulse.tick("forget", FORGET_MS):
            self._services.sweeping.forget()
            self._services.sweeping.warn_of_memory()
        if self._services.scheduling and pulse.tick("schedule", SCHEDULE_MS):
            self._services.scheduling.run()
        if self._services.polling is None:
            return
        interval = front.settings.poll_interval
        if pulse.tick("poll", min(interval * 1000, UNTOLD_MS)):
            front.wake.poll(interval)
        now = time.time_ns() // 1_000_000
        store = front.store
        waiting = any(chores.due(now, 1) for chores in (store.filing, store.settling, store.fetching))
        if waiting and pulse.tick("chores", CHORES_MS):
            front.wake.chores()
