"""An agent that is a Python callable of the user's, called in this process under a deadline."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import inspect
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel

from cleo_email.agents.base import NO_FINAL_ANSWER, AgentRequest, final_answer
from cleo_email.agents.spec import CallableSpec
from cleo_email.errors import AgentError, AgentUnavailable, SettingsError, place_of
from cleo_email.mail.attachment import safe_filename, usable_type
from cleo_email.mail.model import Answer, AttachedFile, JsonObject
from cleo_email.runtime import Deadline
from cleo_email.scrub import one_line

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


MAX_MESSAGES = 10_000


class TooManyMessages(Exception):
    """A generator that seems never to end."""

    def __init__(self) -> None:
        super().__init__(f"the callable yielded more than {MAX_MESSAGES} messages")


def collected(given: object, abandoned: Callable[[], bool]) -> Answer:
    """The answer in what a callable returned or yields.

    An :class:`Answer`, a ``dict`` in one of the forms that HTTP agents use, a list of messages or an iterator
    over messages, a ``str`` (the reply) or None (no answer). A string among yielded messages is refused: it
    could as well be a piece of the answer, of which only the last would be mailed.

    :param abandoned: asked between two messages; True stops the iterator.
    :raises AgentError: it is none of these.
    """
    if isinstance(given, Answer):
        return _checked(given)
    if given is None:
        return Answer(ignore=NO_FINAL_ANSWER)
    if isinstance(given, str):
        return final_answer({"reply": given})
    if isinstance(given, Iterator):
        given = _drained(given, abandoned)
    if isinstance(given, (list, tuple)):
        return final_answer({"messages": [_plain(message) for message in given]})
    return final_answer(_plain(given))


async def gathered(given: object, seconds: float) -> object:
    """The result of a coroutine, or the list of what an asynchronous generator yields.

    :raises TimeoutError: it takes longer than ``seconds``.
    """
    async with asyncio.timeout(seconds):
        if inspect.isasyncgen(given):
            return await _drained_async(given)
        assert isinstance(given, Awaitable)
        result: object = await given
        return await _drained_async(result) if inspect.isasyncgen(result) else result


def _drained(messages: Iterator[object], abandoned: Callable[[], bool]) -> list[object]:
    found: list[object] = []
    for message in messages:
        found.append(message)
        if len(found) > MAX_MESSAGES:
            raise TooManyMessages
        if abandoned():
            break
    return found


async def _drained_async(messages: AsyncIterator[object]) -> list[object]:
    found: list[object] = []
    async for message in messages:
        found.append(message)
        if len(found) > MAX_MESSAGES:
            raise TooManyMessages
    return found


def _plain(value: object) -> object:
    """Message objects of other libraries as the mappings that they stand for."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, BaseModel):
        return value.model_dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value


def _checked(answer: Answer) -> Answer:
    """An Answer that was made elsewhere, under the same rules as every other."""
    if answer.ignore:
        return final_answer({"ignore": answer.ignore})
    checked = final_answer({"reply": answer.text})
    if checked.ignore:
        return checked
    return dataclasses.replace(
        checked, attachments=tuple(_safe(file, number) for number, file in enumerate(answer.attachments, 1))
    )


def _safe(file: object, number: int) -> AttachedFile:
    if not isinstance(file, AttachedFile):
        raise AgentError(f"the callable gave a {type(file).__name__}, expected an Attachment")
    name = safe_filename(file.filename, file.content_type, number)
    return dataclasses.replace(file, filename=name, content_type=usable_type(file.content_type, name))


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
