"""SIGKILL while events are told: none is lost, and those of a message come in order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Self

from tests.crash.rig import IMAP, WEBHOOK, CrashRig, Letter, Tally
from tests.crash.scenario import Scenario
from tests.support.event_server import EventServer

GROUP = "kill -9 while events are told"
PREFIX = "event-"
POINTS = ("event-before-post", "event-after-post")
LETTERS = (Letter(1), Letter(2, follows=1), Letter(3))


class EventRig(CrashRig):
    """A rig whose changes of state are told to a receiver."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.receiver = self._servers.enter_context(EventServer())
        self.env |= self.receiver.env
        return self

    def finish(self, since: float, patience: float = 150.0) -> Tally:
        tally = super().finish(since, patience)
        until = time.monotonic() + patience  # an event whose process died waits for its lease
        while self.store.event_log.status().messages and time.monotonic() < until:
            time.sleep(0.2)
        tally.problems += [fault for record in self.stored() if (fault := self._fault(record.id))]
        tally.problems += [f"{self.receiver.forged} events were forged"] if self.receiver.forged else []
        return tally

    def _fault(self, id_: str) -> str:
        """Why the events of a message are not those of its history, each at least once and in order."""
        expected, before = [], ""
        for number, step in enumerate(self.store.messages.history(id_), 1):
            if step["state"] != before:
                expected.append(f"msg_{id_}_{number}")
            before = step["state"]
        told = self.receiver.of(id_)
        once = list(dict.fromkeys(told))
        if once == expected and len(told) - len(once) <= 1:  # one may have been told before it was noted
            return ""
        return f"the events of {id_} were {told}, expected {expected}"


def scenarios() -> Iterator[Scenario]:
    for ingress in (IMAP, WEBHOOK):
        for point in POINTS:
            play = partial(_kill_worker, point, ingress)
            yield Scenario(GROUP, point, ingress, play, EventRig)
        yield Scenario(GROUP, "Redis and the worker at once", ingress, partial(_kill_both, ingress), EventRig)


def _kill_worker(point: str, ingress: str, rig: CrashRig) -> Tally:
    if ingress == WEBHOOK:
        rig.start_web("--workers", "1")
    rig.bring(ingress, LETTERS)
    worker = rig.start_worker(CLEO_CRASH_AT=f"{point}:2")
    rig.await_death(worker, point)
    restarted = time.monotonic()
    rig.start_worker()
    return rig.finish(restarted)


def _kill_both(ingress: str, rig: CrashRig) -> Tally:
    assert isinstance(rig, EventRig)
    if ingress == WEBHOOK:
        rig.start_web("--workers", "1")
    rig.bring(ingress, LETTERS)
    worker = rig.start_worker()
    rig.wait(lambda: len(rig.receiver.events) >= 3, 60)
    rig.redis.kill()
    rig.kill(worker)
    rig.redis.start()
    restarted = time.monotonic()
    rig.start_worker()
    return rig.finish(restarted)
