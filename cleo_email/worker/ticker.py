"""Start polls, sweeps, upkeep and heartbeats at intervals; of all workers one gets each tick."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from cleo_email.app import App
from cleo_email.errors import StoreUnavailable, place_of
from cleo_email.pipeline.poll import UNTOLD_MS
from cleo_email.runtime import SeldomLog

log = logging.getLogger(__name__)

STEP_S = 0.25  # the longest sleep between two looks at which steps are due
SWEEP_MS = 1_000
HAND_OVER_MS = 10_000
UPKEEP_MS = 2_000
FORGET_MS = 600_000
SCHEDULE_MS = 1_000
SEEN_MS = 10_000
ALERTS_MS = 15_000
# A poll sets when the next one is due, so its tick is asked for so often; others when they are due.
LOOK_MS = 2_000
UPKEEP = "chores"  # the names of ticks in Redis
LIFE = "life"
POLL = "poll"
# A step with nothing to do is passed over: one of these lists must exist in Redis, where no empty one does.
WAITS_IN = {
    "sweep": "active resuming",
    "hand-over": "handing-over",
    UPKEEP: "drafting filing settling fetching",
}
MARGIN_S = 0.02  # so that a tick is over when it is asked for


class Ticker(threading.Thread):
    """A thread that runs its steps until the worker process ends, even if some raise errors.

    It keeps in mind when each step is due, and asks Redis for all that are due at once: an idle worker
    costs few commands. The worker counts as seen only while ``dequeues`` says that its queues are read: else
    mail is accepted that nobody answers.
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
        self._due: dict[str, float] = {}  # the name of a step -> when to ask for it, by the monotonic clock
        sweeper, workflows, every_s = app.sweeper, app.workflow_starter, app.settings.poll_interval
        own = f"{socket.gethostname()}:{os.getpid()}"
        self._life = f"{LIFE}:{own}"  # every worker gets this one
        # The name of the tick, how often it comes (ms), and what the one worker that gets it does.
        self._steps: list[tuple[str, int, Callable[[], object]]] = [
            (self._life, SEEN_MS, lambda: app.store.health.worker_seen(app.clock(), own)),
            ("sweep", SWEEP_MS, sweeper.run),
            ("hand-over", HAND_OVER_MS, sweeper.hand_over),
            ("forget", FORGET_MS, sweeper.forget),
            ("memory", FORGET_MS, sweeper.warn_of_memory),
        ]
        if workflows.scheduled:
            self._steps.append(("schedule", SCHEDULE_MS, workflows.start_due))
        if app.alerts is not None:
            self._steps.append(("alerts", ALERTS_MS, app.alerts.look))
        if app.poller is not None:
            self._steps.append((POLL, min(every_s * 1000, UNTOLD_MS), lambda: app.wake.poll(every_s)))
            self._steps.append((UPKEEP, UPKEEP_MS, self._upkeep))

    def run(self) -> None:
        while not self._stop_event.wait(STEP_S):
            self._round()

    def _round(self) -> None:
        """Run every step that is due: one that always fails must not keep the others from their work."""
        now = time.monotonic()
        due = [step for step in self._steps if self._due.get(step[0], 0.0) <= now]
        if not self._dequeues():
            due = [step for step in due if step[0] != self._life]
        away = False
        try:
            asked = [(name, every_ms, WAITS_IN.get(name, "")) for name, every_ms, _ in due]
            left = self._app.store.ticks.take(asked) if asked else []
        except StoreUnavailable as error:
            away, left = self._is_away(error), []
        for (name, every_ms, step), left_ms in zip(due, left, strict=bool(left)):
            pause_ms = min(left_ms or every_ms, LOOK_MS if name == POLL else FORGET_MS)
            self._due[name] = now + pause_ms / 1000 + MARGIN_S
            if left_ms:
                continue
            try:
                step()
            except StoreUnavailable as error:
                away = self._is_away(error)
            except Exception as error:  # noqa: BLE001 - if this thread ended, nothing would be polled
                fault = f"{name}: unexpected {place_of(error)}"
                if self._faults.is_due(fault):
                    log.error("a regular task fails, the others go on: %s", fault)
        self._away = away
        if away:
            self._stop_event.wait(1)

    def _is_away(self, error: StoreUnavailable) -> bool:
        """Tell once that Redis is away, and return True."""
        if not self._away:
            log.warning("%s; trying again", error)
        self._away = True
        return True

    def _upkeep(self) -> None:
        store, now = self._app.store, self._app.clock()
        if store.due_work.exists(now, (store.drafting, store.filing, store.settling, store.fetching)):
            self._app.wake.upkeep()
