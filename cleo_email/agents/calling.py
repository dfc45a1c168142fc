"""Calls of the users' own code: in a thread of its own, so that a deadline holds whatever it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from cleo_email.deadlines import Deadline
from cleo_email.errors import AgentUnavailable

Given = TypeVar("Given")

_running: dict[object, float] = {}  # each call whose thread is alive -> end of its deadline (monotonic)
_running_lock = threading.Lock()


class CallFailed(Exception):
    """``error`` is what the call has raised, None where it did not end in time."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__(type(error).__name__ if error else "out of time")
        self.error = error


def call_within(
    limit: Deadline, call: Callable[[Callable[[], bool]], Given], *, name: str = "agent-call"
) -> Given:
    """What ``call`` returns.

    :param call: is given a function that says whether nobody waits for the result any more.
    :param name: of the thread.
    :raises CallFailed: it raised something, did not end in time, or the system gives no further thread.
    """
    run = _Run(limit, call)
    run.start(name)
    return run.result()


def stuck_calls() -> list[float]:
    """Seconds beyond its deadline of each call that is still running, the oldest first.

    A thread cannot be ended from outside: a watchdog that sees these grow ends the process.
    """
    now = time.monotonic()
    with _running_lock:
        return sorted((now - end for end in _running.values() if now > end), reverse=True)


class _Run(Generic[Given]):
    def __init__(self, limit: Deadline, call: Callable[[Callable[[], bool]], Given]) -> None:
        self._limit, self._call = limit, call
        self._done = threading.Event()
        self._abandoned = threading.Event()
        self._given: list[Given] = []
        self._error: BaseException | None = None

    def start(self, name: str) -> None:
        try:
            self._limit.left()
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except TimeoutError:
            raise CallFailed from None
        except RuntimeError:
            raise CallFailed(AgentUnavailable("the system gives no new thread")) from None

    def result(self) -> Given:
        with suppress(TimeoutError):
            self._done.wait(self._limit.left())
        self._abandoned.set()
        if not self._done.is_set() or self._error is not None:
            raise CallFailed(self._error if self._done.is_set() else None)
        return self._given[0]

    def _work(self) -> None:
        with _running_lock:
            _running[self] = self._limit.end
        try:
            self._given.append(self._call(self._abandoned.is_set))
        except BaseException as error:  # noqa: BLE001  (a stranger's code: even SystemExit must reach result())
            self._error = error
        finally:
            self._done.set()
            with _running_lock:
                _running.pop(self, None)
