"""An agent that is a Python callable of the user's, called in this process.

It gets the request as a plain ``dict``, the same as an HTTP agent gets as JSON, and returns or yields what an
HTTP agent would answer. An exception is to it what a 500 is over HTTP: the call is tried again, since the
libraries that talk to models have temporary errors of their own kinds. Its class and place are told; its
text, which may hold a mail's, is logged at DEBUG only. ``AgentError`` from ``cleo_email.errors`` says that
trying again will not help; its text is shown.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from cleo_email.agents.calling import CallFailed, call_within
from cleo_email.agents.collecting import TooManyMessages, collected, gathered
from cleo_email.agents.protocol import AgentRequest
from cleo_email.agents.spec import CallableSpec
from cleo_email.agents.words import one_line
from cleo_email.deadlines import Deadline
from cleo_email.errors import AgentError, AgentUnavailable, SettingsError, place_of
from cleo_email.mail.model import Answer, JsonObject

logger = logging.getLogger(__name__)


def with_working_directory() -> None:
    """Let modules in the working directory be found, after all others, as ``python file.py`` there would."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def load_callable(spec: CallableSpec) -> Callable[[JsonObject], object]:
    """Import what ``spec`` names.

    :raises SettingsError: no such module, no such name in it, or nothing that can be called with a dict.
    """
    written = f"{spec.module}:{spec.name}"
    try:
        target: object = importlib.import_module(spec.module)
        for name in spec.name.split("."):
            target = getattr(target, name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a stranger's module can raise anything)
        raise _fault(
            written, f"a module and a name in it that can be imported ({_described(error)})"
        ) from None
    if inspect.isclass(target) or not callable(target):
        kind = "a class" if inspect.isclass(target) else f"a {type(target).__name__}"
        raise _fault(f"{written} is {kind}", "a function or another callable that takes the request")
    return target


class PythonAgent:
    """Calls in a daemon thread, so that the deadline holds whatever the callable does."""

    def __init__(self, call: Callable[[JsonObject], object], name: str) -> None:
        self._call, self._name = call, name

    def __repr__(self) -> str:
        return self._name

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        """See :class:`~cleo_email.agents.protocol.Agent`."""
        limit = Deadline(deadline)
        payload = request.model_dump(mode="json")
        try:
            return call_within(limit, lambda abandoned: self._called(payload, limit, abandoned))
        except CallFailed as failed:
            error = failed.error
        if isinstance(error, AgentError):
            raise error
        logger.debug("%s gave no answer", self._name, exc_info=error)
        # Past the deadline it does not matter how it ended (a cancelled coroutine raises TimeoutError).
        late = error is None or time.monotonic() >= limit.end
        said = limit.said if error is None or late else place_of(error)
        raise AgentUnavailable(f"{self._name}: {said}")

    def _called(self, payload: JsonObject, limit: Deadline, abandoned: Callable[[], bool]) -> Answer:
        given = self._call(payload)
        try:
            if inspect.isawaitable(given) or inspect.isasyncgen(given):
                given = asyncio.run(gathered(given, limit.left()))
            return collected(given, abandoned)
        except TooManyMessages as error:
            raise AgentError(str(error)) from None


def _described(error: BaseException) -> str:
    """Class, text and place of an exception at import, when there is no mail yet, in one line."""
    said = one_line(str(error))
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""  # noqa: PTH119
    return type(error).__name__ + (f": {said}" if said else "") + place


def _fault(found: str, expected: str) -> SettingsError:
    return SettingsError([f"CLEO_AGENT: found {found}, expected {expected}"])
