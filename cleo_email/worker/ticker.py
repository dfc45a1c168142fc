"""Start polls, sweeps, upkeep and heartbeats at intervals; of all workers one gets each tick."""

import logging
import os
import socket
import threading
from collections.abc import Callable

from cleo_email.app import App
from cleo_email.errors import StoreUnavailable, place_of
from cleo_email.pipeline.poll import UNTOLD_MS
from cleo_email.runtime import SeldomLog

log = logging.getLogger(__name__)

STEP_S = 0.25
SWEEP_MS = 2_000
UPKEEP_MS = 2_000
FORGET_MS = 600_000
SCHEDULE_MS = 1_000
SEEN_MS = 10_000
ALERTS_MS = 15_000
UPKEEP = "chores"  # the names of ticks in Redis
LIFE = "life"


class Ticker(threading.Thread):
    """A thread that runs its steps until the worker process ends, even if some raise errors.

    The worker counts as seen only while ``dequeues`` says that its queues are read: else mail is accepted
    that nobody answers.
    """

    def __init__(
        self, app: App, stop: threading.Event, *, dequeues: Callable[[], bool] = lambda: True
    ) -> None:
        super().__init__(name="cleo-ticker", daemon=True)
        self._app = app
        self._stop_event = stop
        self._dequeues = dequeues
        self._away = False
        self._faults = SeldomLog()
        sweeper, workflows, every_s = app.sweeper, app.workflow_starter, app.settings.poll_interval
        own = f"{socket.gethostname()}:{os.getpid()}"
        self._life = f"{LIFE}:{own}"  # every worker gets this one
        # The name of the tick, how often it comes (ms), and what the one worker that gets it does.
        self._steps: list[tuple[str, int, Callable[[], object]]] = [
            (self._life, SEEN_MS, lambda: app.store.health.worker_seen(app.clock(), own)),
            ("sweep", SWEEP_MS, sweeper.run),
            ("hand-over", SWEEP_MS, sweeper.hand_over),
            ("forget", FORGET_MS, sweeper.forget),
            ("memory", FORGET_MS, sweeper.warn_of_memory),
        ]
        if workflows.scheduled:
            self._steps.append(("schedule", SCHEDULE_MS, workflows.start_due))
        if app.alerts is not None:
            self._steps.append(("alerts", ALERTS_MS, app.alerts.look))
        if app.poller is not None:
            self._steps.append(("poll", min(every_s * 1000, UNTOLD_MS), lambda: app.wake.poll(every_s)))
            self._steps.append((UPKEEP, UPKEEP_MS, app.wake.upkeep))

    def run(self) -> None:
        while not self._stop_event.wait(STEP_S):
            self._round()

    def _round(self) -> None:
        """Run every step by itself: one that always fails must not keep the others from their work."""
        away, store = False, self._app.store
        mailbox_work = (store.drafting, store.filing, store.settling, store.fetching)
        for name, every_ms, step in self._steps:
            try:
                if name == self._life and not self._dequeues():
                    continue
                if name == UPKEEP and not any(one.due(self._app.clock(), 1) for one in mailbox_work):
                    continue
                if store.ticks.tick(name, every_ms):
                    step()
            except StoreUnavailable as error:
                if not away and not self._away:
                    log.warning("%s; trying again", error)
                away = True
            except Exception as error:  # noqa: BLE001 - if this thread ended, nothing would be polled
                fault = f"{name}: unexpected {place_of(error)}"
                if self._faults.is_due(fault):
                    log.error("a regular task fails, the others go on: %s", fault)
        self._away = away
        if away:
            self._stop_event.wait(1)
