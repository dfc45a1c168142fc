"""The request to an agent, the forms of its answer, and the rule that only the final answer is mailed."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Protocol

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from cleo_email.errors import AgentError, InvalidField
from cleo_email.mail.address import quoted_mailbox, validate_address
from cleo_email.mail.attachment import safe_filename, usable_type
from cleo_email.mail.decoding import decode_base64_strict
from cleo_email.mail.model import Answer, Ask, AttachedFile
from cleo_email.scrub import no_surrogates, one_line

# --- the request ------------------------------------------------------------------------------------------


def well_formed_json(value: object) -> object:
    """Return a copy of ``value`` that strict JSON can carry: no lone surrogates, NaN or infinity.

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


def _clean_json(value: object) -> object:
    try:
        return well_formed_json(value)
    except TypeError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


# pydantic refuses a value that is no string.
WellFormed = BeforeValidator(lambda value: no_surrogates(value) if isinstance(value, str) else value)
Text = Annotated[str, WellFormed]
JsonValue = Annotated[Any, BeforeValidator(_clean_json)]
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
        name, kind, size = attachment.filename, attachment.content_type, attachment.size
        content = base64.b64encode(attachment.content).decode("ascii")
        return cls(filename=name, content_type=kind, size=size, content=content)


class AgentMessage(_Frozen):
    """The mail. ``text`` is its new part, ``full_text`` all of it, ``date`` ISO 8601.

    ``authenticated`` is None where it was not checked who wrote it. ``notes`` says what could not be read as
    it was meant ("winmail.dat (Outlook TNEF) not opened", "hidden text dropped"). For the start of a
    workflow, to which no mail has come in, the texts are empty.
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
    notes: tuple[Text, ...] = ()


class HistoryTurn(_Frozen):
    """An earlier step of the thread; ``role`` is ``user``, ``assistant``, or ``person``: one of ours, who
    answered in the agent's place."""

    role: Text
    content: Text = Field(repr=False)


class _LeftOut(_Frozen):
    """Leaves out of the JSON what is None there, by name: a key that most requests have no use for."""

    @model_serializer(mode="wrap")
    def _without(self, make: SerializerFunctionWrapHandler) -> dict[str, Any]:
        made: dict[str, Any] = make(self)
        return {name: value for name, value in made.items() if value is not None or name not in _SELDOM}


_SELDOM = frozenset({"callback", "resumed", "url"})


class Callback(_LeftOut):
    """Where the answer may be given later: POST to ``url``, None where it is not known from outside."""

    url: str | None = None
    token: str = Field(repr=False)


class AgentRequest(_LeftOut):
    """One question to the agent. ``id`` is the record's; it is also the ``Idempotency-Key``.

    ``resumed`` is there after an ``ask``: its question, context, and who answered what.
    """

    id: str = Field(pattern=r"^[!-~]+$")  # it travels in a header
    channel: str = "email"
    thread_id: Text
    message: AgentMessage = AgentMessage()
    history: tuple[HistoryTurn, ...] = ()
    workflow: JsonDict | None = None
    language: Text | None = None
    model: Text | None = None
    callback: Callback | None = None
    resumed: JsonDict | None = None


class Agent(Protocol):
    """An agent that answers mail. It is safe to call from many threads at once."""

    may_answer_later: bool  # only then it is offered a callback

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        """Return the final answer, or raise, within ``deadline`` seconds.

        Raise AgentUnavailable where asking again can help, else AgentError.
        """
        ...


# --- the final answer -------------------------------------------------------------------------------------

NO_FINAL_ANSWER = (
    "the agent gave no final answer; "
    'it has to return a text, or {"ignore": "reason"} where there is to be none'
)
NO_REASON = "the agent chose not to answer and gave no reason"
NO_REASON_GIVEN = "the agent gave no reason"
EXPECTED = (
    'expected {"messages": [...]}, {"reply": "..."}, {"ignore": "reason"}, {"ask": {"question": "..."}} or '
    '{"handoff": "reason"}, the last also beside messages or reply'
)
MAX_QUESTION = 100_000  # characters
MAX_CONTEXT = 65_536  # bytes of JSON that an ``ask`` may give to be shown again


class _Later:
    """The type of LATER, of which there is one, also behind a pool of processes or in a copy."""

    def __repr__(self) -> str:
        return "cleo_email.LATER"

    def __reduce__(self) -> str:
        return "LATER"


# What a Python agent returns, or yields last, where it calls ``cleo_email.answer`` when the work is done.
LATER = _Later()


def final_answer(payload: object) -> Answer:
    """Return the part of an agent's answer that is mailed; if there is none, ``ignore`` says why.

    A key with the value null counts as absent. Beside ``messages`` or ``reply`` there may be ``review``, why
    a person is to see the text first. ``handoff`` gives the thread to people; what stands beside it is the
    agent's last word, which may be missing.

    :raises AgentError: the payload has none of the forms.
    """
    if not isinstance(payload, Mapping):
        raise AgentError(f"the agent answered with {_kind(payload)}, {EXPECTED}")
    given = [key for key in ("messages", "reply", "ignore", "ask") if payload.get(key) is not None]
    review, handoff = (_reason(payload, key) for key in ("review", "handoff"))
    if handoff and given not in ([], ["reply"], ["messages"]):
        raise AgentError(f"the agent answered with {' and '.join([*given, 'handoff'])} at once, {EXPECTED}")
    # {"reply": null} says plainly that there is none.
    if not given and (review or handoff or "reply" in payload):
        answer = Answer(ignore=NO_FINAL_ANSWER)
    elif len(given) != 1:
        found = " and ".join(given) + " at once" if given else "neither messages nor reply nor ignore"
        if not given and payload.get("progress") is not None:
            found = "progress, which is for callbacks"
        raise AgentError(f"the agent answered with {found}, {EXPECTED}")
    else:
        answer = _form(given[0], payload)
    if review and not answer.text:
        raise AgentError(
            'the agent asks for a review and gives no text to look at, expected {"reply": "...", '
            '"review": "reason"}, or messages that end with an answer'
        )
    return replace(answer, ignore="" if handoff else answer.ignore, review=review, handoff=handoff)


def _form(key: str, payload: Mapping[str, object]) -> Answer:
    """Return the answer under the one ``key`` of messages, reply and ignore that is given."""
    value = payload[key]
    if key == "messages":
        return _from_messages(value)
    if key == "ask":
        return Answer(ask=_ask(value))
    if not isinstance(value, str):
        raise AgentError(f"the agent's {key} is {_kind(value)}, expected a string")
    if key == "ignore":
        return Answer(ignore=one_line(value) or NO_REASON)
    return _answer(value, payload)


def _ask(value: object) -> Ask:
    if not isinstance(value, Mapping):
        raise AgentError(f"the agent's ask is {_kind(value)}, expected an object with a question")
    question, to, context = (value.get(key) for key in ("question", "to", "context"))
    if not isinstance(question, str) or not no_surrogates(question).replace("\0", "").strip():
        raise AgentError("the agent's ask has no question, expected it as a string")
    if len(question) > MAX_QUESTION:
        raise AgentError(f"the question of the agent's ask has more than {MAX_QUESTION} characters")
    if to is not None and not isinstance(to, str):
        raise AgentError(f"the agent's ask.to is {_kind(to)}, expected an address as a string")
    if context is not None and not isinstance(context, Mapping):
        raise AgentError(f"the agent's ask.context is {_kind(context)}, expected an object")
    try:
        address = None if to is None else validate_address("ask.to", to)
        kept = "" if context is None else json.dumps(well_formed_json(context))
    except InvalidField as error:
        raise AgentError(f"the agent's {error}") from None
    except (TypeError, RecursionError):
        raise AgentError("the agent's ask.context cannot be written as JSON") from None
    if len(kept) > MAX_CONTEXT:
        raise AgentError(f"the agent's ask.context has {len(kept)} bytes as JSON, at most {MAX_CONTEXT}")
    return Ask(no_surrogates(question).replace("\0", ""), address, kept)


def payload_of(answer: Answer) -> dict[str, Any]:
    """Return the JSON object of which ``final_answer`` makes this answer again."""
    if answer.ask:
        to, context = answer.ask.to, answer.ask.context
        asked = {"question": answer.ask.question, "to": to and quoted_mailbox(to.name, to.addr)}
        return {"ask": {**asked, "context": json.loads(context) if context else None}}
    payload: dict[str, Any] = {}
    if answer.ignore and not answer.handoff:
        payload["ignore"] = answer.ignore
    if answer.text:
        files = [AgentAttachment.of(file).model_dump(exclude={"size"}) for file in answer.attachments]
        payload |= {"reply": answer.text, **({"attachments": files} if files else {})}
    reasons = {"review": answer.review, "handoff": answer.handoff}
    return payload | {name: reason for name, reason in reasons.items() if reason}


def _reason(payload: Mapping[str, object], key: str) -> str:
    """Return the reason under ``key`` as one line, '' where there is no such key.

    An empty one counts: mail that was to be looked at must not leave for want of a word.
    """
    value = payload.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise AgentError(f"the agent's {key} is {_kind(value)}, expected the reason as a string")
    return one_line(value) or NO_REASON_GIVEN


def _from_messages(messages: object) -> Answer:
    if not isinstance(messages, (list, tuple)):
        raise AgentError(f"the agent's messages are {_kind(messages)}, expected a list of objects")
    final: tuple[str, Mapping[str, object]] = ("", {})
    # All messages are checked, not only the last: a malformed one makes the answer malformed.
    for number, message in enumerate(messages, 1):
        where = f"message {number} of the agent"
        if not isinstance(message, Mapping):
            raise AgentError(f"{where} is {_kind(message)}, expected an object with role and content")
        role = message.get("role")
        if not isinstance(role, str):
            raise AgentError(f"the role of {where} is {_kind(role)}, expected assistant or tool")
        if role == "assistant":
            text = _content(message.get("content"), where)
            if text.strip() and not _asks_for_tools(message):
                final = (text, message)
    return _answer(*final)


def _content(content: object, where: str) -> str:
    """Return the text of a message: a string, or the text parts of a list (chat completions servers)."""
    parts = [content] if isinstance(content, str) else [] if content is None else content
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, (str, Mapping)) for part in parts):
        raise AgentError(f"the content of {where} is {_kind(content)}, expected a string or text parts")
    typed = ("text", "output_text")
    texts = [p if isinstance(p, str) else p.get("text") if p.get("type") in typed else "" for p in parts]
    return "".join(text for text in texts if isinstance(text, str))


def _asks_for_tools(message: Mapping[str, object]) -> bool:
    content = message.get("content")
    parts = (
        [part for part in content if isinstance(part, Mapping)] if isinstance(content, (list, tuple)) else []
    )
    blocks = ("tool_use", "tool_call", "function_call")
    return bool(
        message.get("tool_calls")
        or message.get("function_call")
        or any(part.get("type") in blocks for part in parts)
    )


def _answer(text: str, holder: Mapping[str, object]) -> Answer:
    text = no_surrogates(text).replace("\0", "")
    if not text.strip():
        return Answer(ignore=NO_FINAL_ANSWER)
    files = holder.get("attachments") or ()
    if not isinstance(files, (list, tuple)) or not all(isinstance(file, Mapping) for file in files):
        shape = "objects with filename, content_type and content"
        raise AgentError(f"the agent's attachments are no list of {shape}")
    return Answer(text, attachments=tuple(_attachment(file, number) for number, file in enumerate(files, 1)))


def _attachment(item: Mapping[str, object], number: int) -> AttachedFile:
    name, kind, content = (item.get(key) for key in ("filename", "content_type", "content"))
    name, kind = "" if name is None else name, "" if kind is None else kind
    if not (isinstance(name, str) and isinstance(kind, str) and isinstance(content, str)):
        raise AgentError(
            f"attachment {number} of the agent: expected filename, content_type, content as strings"
        )
    file = safe_file(AttachedFile(name, kind, b""), number)
    try:
        return replace(file, content=decode_base64_strict(content))
    except ValueError:
        raise AgentError(f"the content of the agent's attachment {file.filename!r} is no base64") from None


def safe_file(file: AttachedFile, number: int) -> AttachedFile:
    """Return the ``number``-th file of an answer with a name and a type that can be mailed."""
    name = safe_filename(file.filename, file.content_type.split(";", 1)[0].strip().lower(), number)
    return replace(file, filename=name, content_type=usable_type(file.content_type, name))


_KINDS: dict[type, str] = {type(None): "null", str: "a string", list: "a list", dict: "an object"}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)
