"""What a Python callable returned, read as an answer; also what common frameworks return first.

Frameworks are known by the attributes of their objects, so that none is imported here.
"""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from cleo_email.agents.base import EXPECTED, LATER, final_answer, payload_of, safe_file
from cleo_email.errors import AgentError
from cleo_email.mail.model import Answer, AttachedFile

MAX_MESSAGES = 10_000  # that a callable may give: a generator with more seems never to end
RETURNED_NOTHING = (
    "the agent's function returned None; it has to return the text of the answer, "
    'or {"ignore": "reason"} where there is to be none'
)

_FORMS = ("messages", "reply", "ignore", "handoff")
# Results of a whole run, which have the final answer in one attribute: OpenAI Agents SDK, pydantic-ai.
_FINAL = ("final_output", "output")
# Others, known by an attribute, and the line that takes the text out of them. What a model answered is not
# taken as it is: it can ask for tools, or be cut off.
_LINES = {
    "choices": "return result.choices[0].message.content",  # OpenAI chat completions
    "output_text": "return result.output_text",  # OpenAI responses
    "stop_reason": 'return "".join(b.text for b in result.content if b.type == "text")',  # Anthropic
    "candidates": "return result.text",  # Google
    "raw": "return result.raw",  # CrewAI
    "interrupts": "return result.value",  # LangGraph with version="v2"
    "data": "return result.data",  # pydantic-ai before 1.0
    "decode": "return result.decode()",  # bytes
    "get_output": "return await result.get_output()",  # pydantic-ai, streamed
}
# The ``type`` of LangChain's messages, and the role that it stands for.
_ROLES = {
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "human": "user",
    "HumanMessageChunk": "user",
    "system": "system",
    "tool": "tool",
    "function": "tool",
    "remove": "system",
}


def answer_in(given: object) -> Answer:
    """Return the answer that a callable returned or yielded.

    It is an :class:`Answer`, a ``dict`` in one of the forms that HTTP agents use (a state of LangGraph is
    one), a message or a list of messages, a ``str`` (the reply), None (no answer) or the result of a run.
    Raise AgentError for anything else.
    """
    if given is LATER or (isinstance(given, (list, tuple)) and given and given[-1] is LATER):
        return Answer(later=True)
    if isinstance(given, Answer):
        return _checked(given)
    given = _final(given)
    if given is None:
        return Answer(ignore=RETURNED_NOTHING)
    if isinstance(given, str):
        return final_answer({"reply": given})
    if isinstance(given, (list, tuple)):
        return final_answer({"messages": _messages(given)})
    plain = _message(given)
    if not isinstance(plain, Mapping):
        raise _refusal(given)
    if "__interrupt__" in plain:
        raise AgentError(
            "the agent's graph was interrupted and waits for a person: there is no answer yet; "
            'write: return {"ask": {"question": ...}}'
        )
    if isinstance(messages := plain.get("messages"), (list, tuple)):
        return final_answer({**plain, "messages": _messages(messages)})
    if not plain.keys() & {*_FORMS, "ask"}:  # ``ask`` is what many objects can do: it counts as a key only
        if "role" in plain and "stop_reason" not in plain:
            return final_answer({"messages": [plain]})
        if not isinstance(given, Mapping):
            raise _refusal(given)
    return final_answer(plain)


def _final(given: object) -> object:
    """Return the final answer in the result of a whole run, any other object as it is."""
    if isinstance(given, Mapping) or any(_has(given, name) for name in (*_FORMS, "output_text")):
        return given
    name = next((name for name in _FINAL if _has(given, name)), "")
    if name and getattr(given, "is_complete", True) is False:
        kind = type(given).__name__
        line = "return (await Runner.run(...)).final_output"
        raise AgentError(f"the agent's function returned a {kind} that still runs; write: {line}")
    return getattr(given, name) if name else given


def _has(value: object, name: str) -> bool:
    """Return whether there is such an attribute, without running code of its class."""
    return inspect.getattr_static(value, name, ...) is not ...


def _refusal(given: object) -> AgentError:
    kind = type(given).__name__
    line = next((f"; write: {line}" for name, line in _LINES.items() if _has(given, name)), "")
    return AgentError(f"the agent's function returned a {kind}, {EXPECTED}, or the text as a str{line}")


def _messages(given: Sequence[Any]) -> list[object]:
    """Return messages as mappings; of a conversation by LangChain only what follows its last human turn.

    What stands before it was answered before. It must not be mailed again where the run ended without an
    answer of its own. A string is refused: it could as well be a piece of the answer, of which only the last
    would be mailed. Raise AgentError.
    """
    if len(given) > MAX_MESSAGES:
        raise AgentError(f"the callable yielded more than {MAX_MESSAGES} messages")
    turns = [number for number, one in enumerate(given, 1) if _role(one) == "user"]
    own = given[max(turns, default=0) :]
    if any(one is LATER for one in given):
        raise AgentError(
            "the agent's function gave cleo_email.LATER beside something else; "
            "return it alone, or yield it last"
        )
    messages = [_message(one) for one in own]
    for one, message in zip(own, messages, strict=True):
        if not isinstance(message, Mapping) or "role" not in message:
            raise AgentError(
                f"the agent's function gave a {type(one).__name__} among messages, expected objects with "
                'role and content; of a stream return the end, such as "".join(pieces) or graph.invoke(...)'
            )
    return messages


def _role(value: Any) -> str:
    """Return the role of a message by LangChain (or of one as a dict), '' for any other object."""
    if isinstance(value, Mapping):
        kind, has_content = value.get("type"), "content" in value and "role" not in value
    else:
        kind, has_content = getattr(value, "type", None), hasattr(value, "content")
    return _ROLES.get(kind, "") if isinstance(kind, str) and has_content else ""


def _message(value: Any) -> object:
    """Turn a message of any library into a mapping; leave what is none as it is."""
    role = _role(value)
    if role and isinstance(value, Mapping):
        value = {**value, "role": role}
    elif role:
        more = getattr(value, "additional_kwargs", None) or {}
        calls = getattr(value, "tool_calls", None) or getattr(value, "invalid_tool_calls", None)
        calls = calls or more.get("tool_calls") or more.get("function_call")
        value = {"role": role, "content": value.content, "tool_calls": calls}
    plain = _plain(value)
    if isinstance(plain, Mapping):
        parts = {name: plain.get(name) for name in ("content", "attachments")}
        lists = {
            name: [_plain(one) for one in part] for name, part in parts.items() if isinstance(part, list)
        }
        return {**plain, **lists}
    return plain


def _plain(value: object) -> object:
    """Turn an object of another library into the mapping that it stands for; its messages stay objects."""
    if isinstance(value, BaseModel):
        return {**value.model_dump(), **{name: item for name, item in value if name == "messages"}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value


def _checked(answer: Answer) -> Answer:
    """Check an Answer that the callable made by the same rules as every other."""
    if answer.later:
        return Answer(later=True)
    if answer.ask:
        return final_answer(payload_of(Answer(ask=answer.ask)))
    reasons = {name: getattr(answer, name) or None for name in ("ignore", "review", "handoff")}
    checked = final_answer({"reply": None if answer.ignore else answer.text, **reasons})
    if not checked.text:
        return checked
    for file in answer.attachments:
        if not isinstance(file, AttachedFile):
            raise AgentError(f"the callable gave a {type(file).__name__}, expected an Attachment")
    files = tuple(safe_file(file, number) for number, file in enumerate(answer.attachments, 1))
    return dataclasses.replace(checked, attachments=files)
