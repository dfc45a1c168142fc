"""A real receiver of events: checks each signature with the library, remembers, answers what it is told to.

with EventServer() as receiver:
    receiver.answer = lambda event: 503
    receiver.events  # what it has answered with 2xx, in order
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.http_server import Handler, HttpServer

SECRET = "whsec_" + "c2VjcmV0LW9mLXRoZS1ldmVudHMtb2YtdGhlLXRlc3Q="  # "secret-of-the-events-of-the-test"


@dataclass(frozen=True)
class Told:
    id: str
    type: str
    data: dict[str, Any] = field(repr=False)
    body: dict[str, Any] = field(repr=False)
    headers: dict[str, str] = field(repr=False)

    @property
    def message(self) -> str:
        return str(self.data["id"])


class _Handler(Handler):
    server: EventServer

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = self.server.take(self.body(), headers)
        if status is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.answer(status, **self.server.headers)


class EventServer(HttpServer):
    """``answer`` gets each event and returns a status; None hangs up without a word."""

    def __init__(self, *, secret: str = SECRET) -> None:
        self.answer: Callable[[Told], int | None] = lambda _: 200
        self.events: list[Told] = []
        self.asked: list[Told] = []
        self.forged = 0
        self.at_once = self.most_at_once = 0
        self.headers: dict[str, str] = {}
        self._webhook = Webhook(secret)
        self._guard = threading.Lock()
        super().__init__(_Handler)
        self.url = f"{self.origin}/events"

    @property
    def env(self) -> dict[str, str]:
        return {"CLEO_EVENTS_URL": self.url, "CLEO_EVENTS_SECRET": SECRET}

    def of(self, message: str) -> list[str]:
        """The ids of the events of one message, in the order in which they were taken."""
        return [event.id for event in list(self.events) if event.message == message]

    def take(self, body: bytes, headers: dict[str, str]) -> int | None:
        try:
            self._webhook.verify(body, headers)
        except WebhookVerificationError:
            self.forged += 1
            return 401
        found = json.loads(body)
        event = Told(headers["webhook-id"], found["type"], found["data"], found, headers)
        with self._guard:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.asked.append(event)
        try:
            status = self.answer(event)
        finally:
            with self._guard:
                self.at_once -= 1
        if status is not None and 200 <= status < 300:
            with self._guard:
                self.events.append(event)
        return status
