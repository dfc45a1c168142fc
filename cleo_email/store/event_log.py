"""The events that wait to be told to CLEO_EVENTS_URL: a list for each message, and when each is due."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from redis import Redis

from cleo_email.store.connection import PREFIX, StorePart, json_text
from cleo_email.store.messages import (
    AGENT,
    AT_WORK,
    EVENT_FIELDS,
    EVENTS_KEPT_S,
    MOST_TOLD,
    Messages,
    Record,
    State,
)

LEASE_MS = 30_000  # longer than a delivery takes; after a crash the event is told again only then
TAKEN_AT_ONCE = 500  # records of a page


@dataclass(frozen=True)
class Event:
    """One change of a message, which failed to be told ``failed`` times since ``failed_since`` (ms)."""

    message_id: str  # of the record
    stored: bytes  # as it lies in Redis
    failed: int = 0
    failed_since: int = 0

    @property
    def id(self) -> str:
        """Return what names the event for good, in a repeated delivery too."""
        return f"msg_{self.message_id}_{json.loads(self.stored)['number']}"

    def body(self) -> dict[str, object] | None:
        """Return what the receiver gets, None where the record is damaged."""
        stored = json.loads(self.stored)
        entry = json.loads(stored["entry"])
        try:
            raw = {name.encode(): str(value).encode() for name, value in stored["record"].items()}
            record = Record.load(raw)
            record = replace(record, state=State(entry["state"]), reason=entry["reason"])
            shown = {**record.public(), "updated_at": entry["at"], "by": entry.get("by", AGENT)}
        except (KeyError, ValueError, TypeError):
            return None
        return {"type": f"message.{entry['state']}", "timestamp": entry["at"], "data": shown}


@dataclass(frozen=True)
class EventStatus:
    """The figures for ``cleo-email events status``. ``messages``: those of which an event waits."""

    messages: int
    delivered: int
    given_up: int
    dropped: int
    failing_since: int
    fault: str


class EventLog(StorePart):
    """Takes and ends events; accept.lua and move.lua add them where the state changes."""

    def __init__(self, redis: Redis, added: threading.Event | None = None) -> None:
        super().__init__(redis)
        self.added = added or threading.Event()  # set where this process has added one

    def take(self, now: int, most: int) -> list[Event]:
        """Take the first event of each of some messages; for LEASE_MS nobody else gets these messages."""
        raw = cast("list[bytes]", self._run("take_events", args=[PREFIX, now, most, LEASE_MS]))
        found: list[Event] = []
        for id_, stored, failed in zip(raw[::3], raw[1::3], raw[2::3], strict=True):
            times, _, since = failed.decode().partition(" ")
            found.append(Event(id_.decode(), stored, int(times or 0), int(since or 0)))
        return found

    def delivered(self, event: Event, now: int) -> None:
        """The receiver has it. Whatever kept it from answering before is over."""
        self._end(event, now, "delivered")

    def given_up(self, event: Event, now: int) -> None:
        self._end(event, now, "given_up")

    def try_again(self, event: Event, now: int, due: int) -> None:
        self._end(event, now, "", due, f"{event.failed + 1} {event.failed_since or now}")

    def _end(self, event: Event, now: int, counts_as: str, due: int = 0, failed: str = "") -> None:
        self._run("end_event", args=[PREFIX, event.message_id, event.stored, now, counts_as, due, failed])

    def failure(self, now: int, fault: str) -> tuple[int, int]:
        """Note why the receiver takes nothing. Return since when, and how many events found no room."""
        with self._redis.pipeline() as pipe:
            pipe.hset(f"{PREFIX}events-state", "fault", fault)
            pipe.hsetnx(f"{PREFIX}events-state", "failing_since", str(now))
            pipe.hmget(f"{PREFIX}events-state", "failing_since", "dropped")
            since, dropped = pipe.execute()[2]
            return int(since), int(dropped or 0)

    def rest_until(self, until: int) -> None:
        """Let nothing be taken until then, then one event at a time until one is delivered; 0: go on."""
        self._redis.hset(f"{PREFIX}events-state", "rests_until", until)

    def status(self) -> EventStatus:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(f"{PREFIX}events")
            pipe.hgetall(f"{PREFIX}events-state")
            count, raw = pipe.execute()
        found = {name.decode(): value.decode() for name, value in raw.items()}
        delivered, given_up, dropped, since = (
            int(found.get(name, 0)) for name in ("delivered", "given_up", "dropped", "failing_since")
        )
        fault = found.get("fault", "")
        return EventStatus(count, delivered, given_up, dropped, since, fault)

    # --- again --------------------------------------------------------------------------------------------

    def again(self, messages: Messages, since: int, now: int) -> Iterator[int]:
        """Let be told again what changed since then, oldest message first within a page.

        Yield the number of events added for each message, -1 where there is no room, which ends it.
        """
        cursor: str | None = ""
        while cursor is not None:
            records, cursor = messages.page(limit=TAKEN_AT_ONCE, cursor=cursor)
            for record in reversed(records):
                if max(record.updated_at, record.received_at) < since:
                    continue
                events = _events_of(record, messages.history(record.id), since)
                args = [PREFIX, record.id, now, MOST_TOLD, EVENTS_KEPT_S, *events]
                added = int(self._run("resend_events", args=args)) if events else 0
                yield added
                if added < 0:
                    return


def _events_of(record: Record, history: Sequence[dict[str, str]], since: int) -> list[str]:
    """Return the events since then, from the history: of the rest of the record it has only what is today."""
    values: dict[str, Any] = {name: value for name, value in record.dump().items() if name in EVENT_FIELDS}
    found: list[str] = []
    before = ""
    for number, entry in enumerate(history, 1):
        state = State(entry["state"])
        told = state != before or state not in AT_WORK
        before = state
        if told and datetime.fromisoformat(entry["at"]).timestamp() * 1000 >= since:
            found.append(json_text({"number": number, "entry": json_text(entry), "record": values}))
    return found
