"""An HTTP agent that answers 202 and calls back after a while, or asks back first; it forgets nothing.

    with LaterAgent(delay=(1, 20), twice=0.1) as agent:
        ... CLEO_AGENT=agent.url, CLEO_PUBLIC_URL ...
        agent.statuses  # what the callbacks were answered

A callback is repeated until it is answered as it should be. With ``ask`` the first question about a message
is answered at once with a question to that address.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from typing import Any, Self

from tests.support.http_server import Handler, HttpServer

POSTERS = 8
FINAL = frozenset({200, 401, 404, 409, 413, 415, 422, 429})


class _Handler(Handler):
    server: LaterAgent

    def do_POST(self) -> None:
        answer = self.server.asked(json.loads(self.body()))
        self.answer(200 if answer else 202, json.dumps(answer).encode() if answer else b"")


class LaterAgent(HttpServer):
    def __init__(
        self,
        *,
        delay: tuple[float, float] = (0.1, 0.3),
        twice: float = 0.0,
        forge: bool = False,
        ask: str = "",
        seed: int = 1,
    ) -> None:
        self.delay, self.twice, self.forge, self.ask = delay, twice, forge, ask
        self.requests: list[dict[str, Any]] = []
        self.statuses: Counter[int | str] = Counter()
        self.forged: Counter[int] = Counter()
        self._chance = random.Random(seed)
        self._due: list[tuple[float, int, str, str, dict[str, str]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._known: set[str] = set()
        self._tokens: list[str] = []
        self._over = False
        super().__init__(_Handler)
        self.url = f"{self.origin}/agent"

    def __enter__(self) -> Self:
        for _ in range(POSTERS):
            threading.Thread(target=self._post, daemon=True).start()
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()
        super().__exit__(*exception)

    def asked(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer, None for 202."""
        with self._changed:
            self.requests.append(request)
            if self.ask and "resumed" not in request:
                return {"ask": {"question": f"What of {request['id']}?", "to": self.ask}}
            token = request["callback"]["token"]
            if token in self._known:  # the same question once more, after a crash
                return None
            self._known.add(token)
            self._tokens.append(token)
            text = f"final: {request['message']['text']}"
            if "resumed" in request:
                text = f"final: {request['resumed']['answer']}"
            for _ in range(1 + (self._chance.random() < self.twice)):
                self._plan(request["callback"]["url"], token, {"reply": text})
        return None

    def _plan(self, url: str, token: str, body: dict[str, str], delay: float | None = None) -> None:
        due = time.monotonic() + (self._chance.uniform(*self.delay) if delay is None else delay)
        heapq.heappush(self._due, (due, next(self._numbers), url, token, body))
        self._changed.notify()

    def _next(self) -> tuple[str, str, dict[str, str]] | None:
        with self._changed:
            while not self._over:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2:]
                self._changed.wait(wait)
        return None

    def _post(self) -> None:
        while (due := self._next()) is not None:
            url, token, body = due
            if self.forge:
                other = self._tokens[0] if self._tokens[0] != token else "x" * 43
                for forged in (token[::-1], other):
                    self.forged[call_back(url, forged, {"reply": "forged"})[0]] += 1
            status, answer = call_back(url, token, body)
            with self._changed:
                self.statuses[answer.get("status", status) if status == 200 else status] += 1
                if status not in FINAL:
                    self._plan(url, token, body, 0.5)


def call_back(url: str, token: str, body: Any) -> tuple[int, dict[str, Any]]:
    """Return status and JSON of the answer, status 0 where there was none."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, {}
    except (OSError, ValueError):
        return 0, {}
