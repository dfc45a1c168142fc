"""Scheduled starts: each due time of a workflow makes one start, however many workers look at the clock."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from croniter import croniter  # type: ignore[import-untyped]

from cleo_email.clock import Clock, now_ms
from cleo_email.errors import CleoError, StoreUnavailable
from cleo_email.settings.workflows import Workflow
from cleo_email.store import Store
from cleo_email.workflows.starting import Starting

log = logging.getLogger(__name__)


class Scheduling:
    """What is due is decided from the last time that was started, kept in the store.

    A tick that is missed while no worker runs is made up for once, however many were missed. Uniqueness does
    not hang on who looks first: the start of one due time has one identity for each user.
    """

    def __init__(
        self, store: Store, starting: Starting, workflows: Sequence[Workflow], *, clock: Clock = now_ms
    ) -> None:
        self._store = store
        self._starting = starting
        self._workflows = [one for one in workflows if one.schedule and one.users]
        self._clock = clock

    def __bool__(self) -> bool:
        return bool(self._workflows)

    def run(self) -> int:
        """Start what is due; how many workflows. Raises StoreUnavailable."""
        return sum(self._one(workflow) for workflow in self._workflows)

    def _one(self, workflow: Workflow) -> bool:
        now = self._clock()
        due = last_due(workflow.schedule, workflow.timezone, now)
        # Another schedule is another clock: a change of the file does not make up for times before it.
        parts = [workflow.id, workflow.schedule, workflow.timezone]
        name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        last = self._store.pulse.scheduled(name, first=now)
        if due <= last:
            return False
        try:
            started = self._starting.start_scheduled(workflow, due)
        except StoreUnavailable:
            raise
        except CleoError as error:
            log.error("workflow %s could not be started: %s", workflow.id, error)
            started = []
        # After the starts: whoever dies in between leaves it to the next one, who finds the same identities.
        self._store.pulse.set_scheduled(name, due)
        log.info("workflow %s was started for %d users by its schedule", workflow.id, len(started))
        return True


def last_due(schedule: str, timezone: str, now_ms: int) -> int:
    """The latest time (ms since 1970 UTC) at or before ``now_ms`` at which a cron expression is due."""
    zone = ZoneInfo(timezone)
    # get_prev gives times before the one it is asked about; the due second itself counts.
    now = datetime.fromtimestamp(now_ms // 1000 + 1, UTC).astimezone(zone)
    due: datetime = croniter(schedule, now).get_prev(datetime)
    if due.fold and not schedule.startswith("@") and "*" not in schedule.split()[1]:
        # An hour that comes twice, when summer time ends, makes one start of those at a fixed hour.
        due = due.replace(fold=0)
    return int(due.timestamp() * 1000)


def next_due(schedule: str, timezone: str, now_ms: int) -> datetime:
    """When a cron expression makes its next start, in its own time zone."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(ZoneInfo(timezone))
    times = croniter(schedule, now)
    while True:
        due: datetime = times.get_next(datetime)
        at = int(due.timestamp() * 1000)
        if last_due(schedule, timezone, at) == at:  # not so in the second of two equal hours
            return due
