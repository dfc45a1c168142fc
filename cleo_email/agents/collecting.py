"""What a Python callable may give back, made into the one form that is judged."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

from pydantic import BaseModel

from cleo_email.agents.files import content_type
from cleo_email.agents.final import NO_FINAL_ANSWER, final_answer
from cleo_email.errors import AgentError
from cleo_email.mail.filenames import safe_filename
from cleo_email.mail.model import Answer, Attachment

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


def _safe(file: object, number: int) -> Attachment:
    if not isinstance(file, Attachment):
        raise AgentError(f"the callable gave a {type(file).__name__}, expected an Attachment")
    name = safe_filename(file.filename, file.content_type, number)
    return dataclasses.replace(file, filename=name, content_type=content_type(file.content_type, name))
