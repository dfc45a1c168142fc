"""What an agent is asked and may answer, and the one rule: only the final answer is mailed."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cleo_email.errors import AgentError
from cleo_email.mail.attachment import safe_filename, usable_type
from cleo_email.mail.decoding import decode_base64_strict
from cleo_email.mail.model import Answer, AttachedFile
from cleo_email.scrub import no_surrogates, one_line


def well_formed_json(value: object) -> object:
    """A copy of ``value`` that strict JSON can carry: no lone surrogates, NaN or infinity.

    :raises TypeError: it holds something that JSON has no form for.
    """
    if isinstance(value, str):
        return no_surrogates(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, Mapping):
        return {no_surrogates(str(key)): well_formed_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [well_formed_json(item) for item in value]
    raise TypeError(f"a {type(value).__name__} has no form in JSON")


_SHAPE = "objects with filename, content_type and content"


def attachments_of(value: object) -> tuple[AttachedFile, ...]:
    """The files of ``[{"filename", "content_type", "content"}]``; null is none.

    :raises AgentError: no list of such objects, or content that is no base64; the text names the file.
    """
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise AgentError(f"the agent's attachments are no list of {_SHAPE}")
    return tuple(_attachment(item, number) for number, item in enumerate(value, 1))


def _attachment(item: object, number: int) -> AttachedFile:
    if not isinstance(item, Mapping):
        raise AgentError(f"attachment {number} of the agent is not one of {_SHAPE}")
    name = _string(item, "filename", number)
    given = _string(item, "content_type", number)
    filename = safe_filename(name, given.split(";", 1)[0].strip().lower(), number)
    content = _string(item, "content", number, required=True)
    return AttachedFile(
        filename=filename,
        content_type=usable_type(given, filename),
        content=_decoded(content, filename),
    )


def _string(item: Mapping[str, object], key: str, number: int, *, required: bool = False) -> str:
    value = item.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        raise AgentError(f"attachment {number} of the agent has no {key} that is a string")
    return value


def _decoded(content: str, filename: str) -> bytes:
    try:
        return decode_base64_strict(content)
    except ValueError:
        raise AgentError(f"the content of the agent's attachment {filename!r} is no base64") from None


def _clean(value: object) -> object:
    return no_surrogates(value) if isinstance(value, str) else value


def _clean_json(value: object) -> object:
    try:
        return well_formed_json(value)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


Text = Annotated[str, BeforeValidator(_clean)]
JsonDict = Annotated[dict[str, Any], BeforeValidator(_clean_json)]


class _Frozen(BaseModel):
    # hide_input: a fault must not carry the text of a mail into a log.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class AgentAttachment(_Frozen):
    """A file of the mail: its ``size`` in bytes and its ``content`` as base64 (RFC 4648 section 4)."""

    filename: Text
    content_type: Text
    size: int
    content: str = Field(repr=False)

    @classmethod
    def of(cls, attachment: AttachedFile) -> AgentAttachment:
        return cls(
            filename=attachment.filename,
            content_type=attachment.content_type,
            size=attachment.size,
            content=base64.b64encode(attachment.content).decode("ascii"),
        )


class AgentMessage(_Frozen):
    """The mail. ``text`` is its new part, ``full_text`` all of it, ``date`` ISO 8601.

    ``authenticated`` is None where nobody has checked who wrote it. For the start of a workflow, to which no
    mail has come in, the texts are empty.
    """

    message_id: Text = ""
    from_address: Text = ""
    from_name: Text = ""
    to_address: Text = ""
    cc: tuple[Text, ...] = ()
    subject: Text = ""
    text: Text = Field(default="", repr=False)
    full_text: Text = Field(default="", repr=False)
    date: Text | None = None
    authenticated: bool | None = None
    attachments: tuple[AgentAttachment, ...] = ()


class HistoryTurn(_Frozen):
    """An earlier step of the thread; ``role`` is ``user`` or ``assistant``."""

    role: Text
    content: Text = Field(repr=False)


class AgentRequest(_Frozen):
    """One question to the agent. ``id`` is the record's; it is also the ``Idempotency-Key``."""

    id: str = Field(pattern=r"^[!-~]+$")  # it travels in a header
    channel: str = "email"
    thread_id: Text
    message: AgentMessage = AgentMessage()
    history: tuple[HistoryTurn, ...] = ()
    workflow: JsonDict | None = None
    language: Text | None = None
    model: Text | None = None


class Agent(Protocol):
    """Whoever answers. Safe to call from many threads at once."""

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        """The final answer.

        :param deadline: seconds that the whole call may take, whatever the other side does.
        :raises AgentUnavailable: asking again can help.
        :raises AgentError: asking again will not help.
        """
        ...


NO_FINAL_ANSWER = "the agent gave no final answer"
NO_REASON = "the agent chose not to answer and gave no reason"
EXPECTED = 'expected {"messages": [...]}, {"reply": "..."} or {"ignore": "reason"}'

_KEYS = ("messages", "reply", "ignore")


def final_answer(payload: object) -> Answer:
    """What of an agent's answer is to be mailed; without anything to mail, ``ignore`` says why.

    A key with the value null counts as absent.

    :raises AgentError: the payload has none of the three forms.
    """
    if not isinstance(payload, Mapping):
        raise AgentError(f"the agent answered with {_kind(payload)}, {EXPECTED}")
    given = [key for key in _KEYS if payload.get(key) is not None]
    if len(given) > 1:
        raise AgentError(f"the agent answered with {' and '.join(given)} at once, {EXPECTED}")
    if not given:
        if "reply" in payload:  # {"reply": null} says plainly that there is none
            return Answer(ignore=NO_FINAL_ANSWER)
        raise AgentError(f"the agent's answer has no messages, reply or ignore, {EXPECTED}")
    value = payload[given[0]]
    if given[0] == "messages":
        return _from_messages(value)
    if not isinstance(value, str):
        raise AgentError(f"the agent's {given[0]} is {_kind(value)}, expected a string")
    if given[0] == "ignore":
        return Answer(ignore=one_line(value) or NO_REASON)
    return _answer(value, payload)


def _from_messages(messages: object) -> Answer:
    if not isinstance(messages, (list, tuple)):
        raise AgentError(f"the agent's messages are {_kind(messages)}, expected a list of objects")
    final: tuple[str, Mapping[str, object]] | None = None
    # All are looked at, not only the last: an answer is malformed or not whatever stands behind it.
    for number, message in enumerate(messages, 1):
        where = f"message {number} of the agent"
        if not isinstance(message, Mapping):
            raise AgentError(f"{where} is {_kind(message)}, expected an object with role and content")
        role = message.get("role")
        if not isinstance(role, str):
            raise AgentError(f"the role of {where} is {_kind(role)}, expected assistant or tool")
        if role != "assistant":
            continue
        text = _content(message.get("content"), where)
        if text.strip() and not message.get("tool_calls") and not message.get("function_call"):
            final = (text, message)
    return Answer(ignore=NO_FINAL_ANSWER) if final is None else _answer(*final)


def _content(content: object, where: str) -> str:
    """The text of a message: a string, or the text parts of a list as chat completions servers give them."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, (list, tuple)):
        return "".join(_part(part, where) for part in content)
    raise AgentError(f"the content of {where} is {_kind(content)}, expected a string")


def _part(part: object, where: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise AgentError(f"the content of {where} holds {_kind(part)}, expected text parts")
    text = part.get("text") if part.get("type") in ("text", "output_text") else None
    return text if isinstance(text, str) else ""


def _answer(text: str, holder: Mapping[str, object]) -> Answer:
    text = no_surrogates(text).replace("\0", "")
    if not text.strip():
        return Answer(ignore=NO_FINAL_ANSWER)
    return Answer(text=text, attachments=attachments_of(holder.get("attachments")))


def _kind(value: object) -> str:
    """What a value is called in JSON."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "an object"
        case _:
            return f"a Python {type(value).__name__}"
