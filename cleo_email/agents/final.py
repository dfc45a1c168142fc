"""The one rule about what is mailed: only the final answer.

That is the last assistant message that has content and no tool calls. Status lines, tool output and what an
agent says while it still works never leave.
"""

from __future__ import annotations

from collections.abc import Mapping

from cleo_email.agents.files import attachments_of
from cleo_email.agents.words import one_line
from cleo_email.errors import AgentError
from cleo_email.mail.model import Answer
from cleo_email.mail.wire import no_surrogates

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
