"""An agent that is a Python callable of the user's, called in this process under a deadline."""

import asyncio
import importlib
import inspect
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from difflib import get_close_matches
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from cleo_email.agents.base import AgentRequest
from cleo_email.agents.results import MAX_MESSAGES, answer_in
from cleo_email.agents.spec import CallableSpec, agent_fault, no_module
from cleo_email.errors import AgentError, AgentUnavailable, place_of
from cleo_email.mail.model import Answer
from cleo_email.runtime import CallFailed, Deadline, call_within
from cleo_email.scrub import one_line

log = logging.getLogger(__name__)

MAX_BLOCKING = 1000  # calls of asyncio.to_thread at once: as many as EMAIL_CONCURRENCY can be
_PACKAGE = str(Path(__file__).parents[1])


# --- finding it -------------------------------------------------------------------------------------------


class NotLoaded(Exception):
    """A callable cannot be imported; the text says why, in one line."""


def with_working_directory() -> None:
    """Let modules be looked for in the working directory first, as under ``python file.py`` there.

    Otherwise each entry point would look in an order of its own, and ``cleo-email check`` could find another
    module than the worker.
    """
    here = str(Path.cwd())
    if sys.path[:1] not in ([here], [""]):
        sys.path.insert(0, here)


def load_function(module: str, name: str) -> Callable[[dict[str, Any]], object]:
    """Import the callable that ``module`` and the dotted ``name`` in it name. Raise NotLoaded."""
    with_working_directory()
    try:
        target: object = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if f"{module}.".startswith(f"{error.name}."):  # it, or a package that it would be in
            raise NotLoaded(f"ModuleNotFoundError: {no_module(str(error.name))}") from None
        why = f"{_line_of(error)}; install it for {sys.executable}"
        raise NotLoaded(why) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001  (a stranger's module can raise anything)
        raise NotLoaded(_line_of(error)) from None
    try:
        for part in name.split("."):
            target = getattr(target, part)
    except Exception as error:  # noqa: BLE001  (so can a module's own __getattr__)
        near = get_close_matches(name, vars(sys.modules[module]), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise NotLoaded(f"{type(error).__name__}: {file_of(module)} has no {name}{hint}") from None
    if inspect.isclass(target) or not callable(target):
        raise NotLoaded(f"it is a {'class' if inspect.isclass(target) else type(target).__name__}")
    return target


def file_of(module: str) -> str:
    """Return the file of a module that was imported."""
    return str(getattr(sys.modules[module], "__file__", None) or "a module without a file")


def _line_of(error: BaseException) -> str:
    """Return an error at import, and the last line of the user's own code on the way to it."""
    if isinstance(error, SyntaxError):
        place = f"{error.filename} line {error.lineno}"
    else:
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if not frame.filename.startswith((_PACKAGE, "<frozen ", importlib.__file__))
        ]
        here = str(Path.cwd())
        own = [f for f in frames if f.filename.startswith(here) and "site-packages" not in f.filename]
        place = next((f"{f.filename} line {f.lineno}" for f in reversed(own or frames)), "")
    reason = f"{type(error).__name__}: {one_line(str(error))}"
    return f"{place}: {reason}" if place else reason


def load_callable(spec: CallableSpec) -> Callable[[dict[str, Any]], object]:
    """Import what ``spec`` names.

    :raises SettingsError: no such module, no such name in it, or nothing that can be called with a dict.
    """
    written = f"{spec.module}:{spec.name}"
    try:
        target = load_function(spec.module, spec.name)
    except NotLoaded as error:
        expected = "a function, or another callable that takes the request"
        raise agent_fault(f"{written} ({error})", expected) from None
    try:
        inspect.signature(target).bind({})
    except TypeError as error:
        expected = "a function that can be called with the request alone"
        raise agent_fault(f"{written} ({one_line(str(error))})", expected) from None
    except ValueError:  # it does not tell
        pass
    return target


# --- asking it --------------------------------------------------------------------------------------------


class PythonAgent:
    """Calls a function with the request as a dict, as an HTTP agent would get it.

    What is asynchronous runs in one event loop, which lives as long as the process: clients such as those of
    httpx and aiohttp belong to the loop in which they were first used.
    """

    may_answer_later = True

    def __init__(self, call: Callable[[dict[str, Any]], object], name: str) -> None:
        self._call, self._name = call, name
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

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
        if inspect.isawaitable(given) or hasattr(type(given), "__anext__"):
            given = asyncio.run_coroutine_threadsafe(_awaited(given, limit), self._running_loop()).result()
        if isinstance(given, Iterator):
            given = list(islice(takewhile(lambda _: not abandoned(), given), MAX_MESSAGES + 1))
        return answer_in(given)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_default_executor(ThreadPoolExecutor(MAX_BLOCKING))
                self._loop.set_exception_handler(_note)
                threading.Thread(target=_run, args=(self._loop,), name="agent-loop", daemon=True).start()
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    while not loop.is_closed():
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001  (SystemExit of one task would end all others)
            log.debug("a task raised %s", place_of(error))


def _note(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody awaits, without the text of the error: it may hold that of a mail."""
    error = context.get("exception")
    log.warning("%s%s", context["message"], f" ({place_of(error)})" if error else "")


async def _awaited(given: Any, limit: Deadline) -> object:
    """Return the result of an awaitable, or the list of what an asynchronous generator yields."""
    async with asyncio.timeout(limit.left()), AsyncExitStack() as stack:
        if inspect.isawaitable(given):
            given = await given
        if not hasattr(type(given), "__anext__"):
            return given
        if hasattr(given, "aclose"):
            await stack.enter_async_context(aclosing(given))
        messages: list[object] = []
        async for message in given:
            messages.append(message)
            if len(messages) > MAX_MESSAGES:
                break
        return messages
