"""An agent that is a Python callable of the user's, called in this process under a deadline."""

import asyncio
import dataclasses
import importlib
import inspect
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cleo_email.agents.base import NO_FINAL_ANSWER, AgentRequest, final_answer, safe_file
from cleo_email.agents.spec import CallableSpec, agent_fault
from cleo_email.errors import AgentError, AgentUnavailable, place_of
from cleo_email.mail.model import Answer, AttachedFile
from cleo_email.runtime import CallFailed, Deadline, call_within
from cleo_email.scrub import one_line

log = logging.getLogger(__name__)

MAX_MESSAGES = 10_000  # that a callable may give: a generator with more seems never to end


# --- the agent --------------------------------------------------------------------------------------------


def with_working_directory() -> None:
    """Let modules in the working directory be imported, after all others, as under ``python file.py``."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def load_callable(spec: CallableSpec) -> Callable[[dict[str, Any]], object]:
    """Import what ``spec`` names.

    :raises SettingsError: no such module, no such name in it, or nothing that can be called with a dict.
    """
    written = f"{spec.module}:{spec.name}"
    try:
        target: object = importlib.import_module(spec.module)
        for name in spec.name.split("."):
            target = getattr(target, name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a stranger's module can raise anything)
        kind, _, place = place_of(error).partition(" at ")
        reason = f"{kind}: {one_line(str(error))} ({place})"
        raise agent_fault(written, f"a module and a name in it that can be imported ({reason})") from None
    if inspect.isclass(target) or not callable(target):
        kind = "class" if inspect.isclass(target) else type(target).__name__
        expected = "a function or another callable that takes the request"
        raise agent_fault(f"{written} is a {kind}", expected)
    return target


class PythonAgent:
    """Calls a function with the request as a dict, as an HTTP agent would get it."""

    def __init__(self, call: Callable[[dict[str, Any]], object], name: str) -> None:
        self._call, self._name = call, name

    def __repr__(self) -> str:
        return self._name

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        limit = Deadline(deadline)
        payload = request.model_dump(mode="json")
        try:
            return call_within(limit, lambda abandoned: self._called(payload, limit, abandoned))
        except CallFailed as failed:
            error = failed.error
        if isinstance(error, AgentError):
            raise error
        log.debug("%s gave no answer", self._name, exc_info=error)
        # Past the deadline it does not matter how it ended (a cancelled coroutine raises TimeoutError).
        reason = limit.said if error is None or time.monotonic() >= limit.end else place_of(error)
        raise AgentUnavailable(f"{self._name}: {reason}")

    def _called(self, payload: dict[str, Any], limit: Deadline, abandoned: Callable[[], bool]) -> Answer:
        given = self._call(payload)
        if inspect.isawaitable(given) or inspect.isasyncgen(given):
            given = asyncio.run(_awaited(given, limit.left()))
        if isinstance(given, Iterator):
            given = list(islice(takewhile(lambda _: not abandoned(), given), MAX_MESSAGES + 1))
        return _answer_in(given)


# --- the result of a callable -----------------------------------------------------------------------------


async def _awaited(given: object, seconds: float) -> object:
    """Return the result of a coroutine, or the list of what an asynchronous generator yields."""
    async with asyncio.timeout(seconds):
        if isinstance(given, Awaitable):
            given = await given
        if not isinstance(given, AsyncIterator):
            return given
        messages: list[object] = []
        async for message in given:
            messages.append(message)
            if len(messages) > MAX_MESSAGES:
                break
        return messages


def _answer_in(given: object) -> Answer:
    """Return the answer that a callable returned or yielded.

    It is an :class:`Answer`, a ``dict`` in one of the forms that HTTP agents use, a list of messages, a
    ``str`` (the reply) or None (no answer), else AgentError. A string among messages is refused: it could
    as well be a piece of the answer, of which only the last would be mailed.
    """
    if isinstance(given, Answer):
        return _checked(given)
    if given is None:
        return Answer(ignore=NO_FINAL_ANSWER)
    if isinstance(given, str):
        return final_answer({"reply": given})
    if not isinstance(given, (list, tuple)):
        return final_answer(_plain(given))
    if len(given) > MAX_MESSAGES:
        raise AgentError(f"the callable yielded more than {MAX_MESSAGES} messages")
    return final_answer({"messages": [_plain(message) for message in given]})


def _plain(value: object) -> object:
    """Turn message objects of other libraries into the mappings that they stand for."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value


def _checked(answer: Answer) -> Answer:
    """Check an Answer that the callable made by the same rules as every other."""
    checked = final_answer({"ignore": answer.ignore} if answer.ignore else {"reply": answer.text})
    if checked.ignore:
        return checked
    for file in answer.attachments:
        if not isinstance(file, AttachedFile):
            raise AgentError(f"the callable gave a {type(file).__name__}, expected an Attachment")
    files = tuple(safe_file(file, number) for number, file in enumerate(answer.attachments, 1))
    return dataclasses.replace(checked, attachments=files)
