"""What a Python agent returns where its author hands on what a framework gave: taken, or told what to write.

The classes have the attributes of LangChain, LangGraph, pydantic-ai and the SDKs of OpenAI and Anthropic.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
from types import SimpleNamespace as Result
from typing import Any

import pytest
from pydantic import BaseModel

import cleo_email
from cleo_email.agents.base import NO_FINAL_ANSWER, final_answer
from cleo_email.agents.results import RETURNED_NOTHING, answer_in
from cleo_email.errors import AgentError, AgentUnavailable
from cleo_email.mail.model import Address, Answer, Ask, AttachedFile

CALLS = [{"name": "look", "args": {}, "id": "1"}]


class BaseMessage(BaseModel):
    """A message of LangChain: a type in place of the role."""

    content: str | list[str | dict[str, Any]]
    additional_kwargs: dict[str, Any] = {}
    type: str
    tool_calls: list[dict[str, Any]] = []
    invalid_tool_calls: list[dict[str, Any]] = []


def ai(content: str | list[str | dict[str, Any]], **more: Any) -> BaseMessage:
    return BaseMessage(content=content, type=more.pop("type", "ai"), **more)


def human(content: str) -> BaseMessage:
    return BaseMessage(content=content, type="human")


def tool(content: str) -> BaseMessage:
    return BaseMessage(content=content, type="tool")


class State(BaseModel):
    messages: list[BaseMessage]


@dataclasses.dataclass
class AgentRunResult:
    """Of pydantic-ai; older ones have ``data``."""

    output: object
    _state: object = dataclasses.field(default_factory=object, repr=False)

    def all_messages(self) -> list[object]:
        raise AssertionError("no code of the result is run that is not needed")


class Reply(BaseModel):
    reply: str
    output: dict[str, int] = {}  # the field of an author, who meant something else by it


class Block(BaseModel):
    type: str = "text"
    text: str = ""


class ChatMessage(BaseModel):
    """Of OpenAI's SDK."""

    role: str = "assistant"
    content: str | list[Block] | None
    tool_calls: list[dict[str, Any]] | None = None


@dataclasses.dataclass
class Plain:
    role: str
    content: str
    attachments: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class File:
    filename: str
    content_type: str
    content: str


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"messages": [human("?"), ai("Ja.")]}, id="LangGraph"),
        {"messages": [human("?"), ai("Moment.", tool_calls=CALLS), tool("1"), ai("Ja.")], "steps": 3},
        {"messages": [human("?"), ai("Ja."), ai("Moment.", tool_calls=CALLS), tool("1")]},
        {"messages": [human("?"), ai("Ja."), ai("", tool_calls=CALLS), tool("1"), ai("")]},
        {"messages": [human("?"), ai("Ja."), ai("x", additional_kwargs={"tool_calls": CALLS})]},
        {"messages": [human("?"), ai("Ja."), ai("x", additional_kwargs={"function_call": {"name": "f"}})]},
        {"messages": [human("?"), ai("Ja."), ai("x", invalid_tool_calls=CALLS)]},
        {
            "messages": [
                human("alt?"),
                ai("alt"),
                human("?"),
                ai("Ja."),
                BaseMessage(content="s", type="system"),
            ]
        },
        {"messages": [{"role": "user", "content": "?"}, ai("Ja.")]},
        {"messages": (human("?"), ai("Ja."))},
        State(messages=[human("?"), ai("Moment.", tool_calls=CALLS), tool("1"), ai("Ja.")]),
        Result(type="ai", content="Ja.", tool_calls=[]),
        pytest.param(ai("Ja."), id="LangChain"),
        ai([{"type": "text", "text": "J"}, {"type": "text", "text": "a."}]),
        ai([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Ja."}]),
        ai(["J", "a."]),
        ai("Ja.", type="AIMessageChunk"),
        [human("?"), ai("Ja.")],
        pytest.param(AgentRunResult("Ja."), id="pydantic-ai"),
        AgentRunResult(Reply(reply="Ja.")),
        pytest.param(Result(final_output="Ja.", new_items=[], raw_responses=[]), id="OpenAI Agents SDK"),
        Result(final_output="Ja.", is_complete=True),
        Result(final_output=Reply(reply="Ja.")),
        Reply(reply="Ja.", output={"tokens": 3}),
        ChatMessage(content="Ja."),
        [ChatMessage(content="?", role="user"), ChatMessage(content="Ja.")],
        {"role": "assistant", "content": "Ja."},
        Plain("assistant", "Ja."),
        pytest.param([{"role": "assistant", "content": [Block(text="Ja.")]}], id="Anthropic's own loop"),
    ],
)
def test_the_final_answer_is_found(given: object) -> None:
    assert answer_in(given) == Answer(text="Ja.")


@pytest.mark.parametrize(
    "given",
    [
        {"messages": [human("?"), ai("alt"), human("?"), ai("Moment.", tool_calls=CALLS), tool("1")]},
        {"messages": [human("?"), ai("alt"), human("?")]},
        {"messages": [human("?"), ai([{"type": "text", "text": "x"}, {"type": "tool_use", "id": "1"}])]},
        [{"role": "assistant", "content": [Block(text="x"), Block(type="tool_use")]}],
        ai("Moment.", tool_calls=CALLS),
        human("?"),
        tool("1"),
        ChatMessage(content="x", tool_calls=CALLS),
        ChatMessage(content=None, tool_calls=CALLS),
    ],
)
def test_an_old_answer_or_a_wish_for_a_tool_is_none(given: object) -> None:
    assert answer_in(given) == Answer(ignore=NO_FINAL_ANSWER)


@pytest.mark.parametrize("block", ["tool_use", "tool_call", "function_call"])
def test_a_message_with_a_block_that_calls_a_tool_is_not_final_over_http_either(block: str) -> None:
    content = [{"type": "text", "text": "I look."}, {"type": block, "id": "1", "name": "look"}]
    assert final_answer({"messages": [{"role": "assistant", "content": content}]}).ignore


def test_a_run_without_a_result_returned_nothing() -> None:
    assert answer_in(AgentRunResult(None)) == Answer(ignore=RETURNED_NOTHING)
    assert answer_in(Result(final_output=None)) == Answer(ignore=RETURNED_NOTHING)


def test_attachments_may_be_objects() -> None:
    given = [Plain("assistant", "Ja.", [File("a.txt", "text/plain", "YQ==")])]
    assert answer_in(given) == Answer("Ja.", (AttachedFile("a.txt", "text/plain", b"a"),))


completion = Result(choices=[Result(message=ChatMessage(content="Ja."), finish_reason="stop")], usage=None)


@pytest.mark.parametrize(
    ("given", "kind", "line"),
    [
        (completion, "SimpleNamespace", "return result.choices[0].message.content"),
        (Result(output_text="Ja.", output=[]), "SimpleNamespace", "return result.output_text"),
        (
            Result(role="assistant", content=[Block(text="Ja.")], stop_reason="max_tokens"),
            "SimpleNamespace",
            'return "".join(b.text for b in result.content if b.type == "text")',
        ),
        (Result(data="Ja.", all_messages=list), "SimpleNamespace", "return result.data"),
        (Result(value={}, interrupts=()), "SimpleNamespace", "return result.value"),
        (Result(final_output=None, is_complete=False), "SimpleNamespace", ".final_output"),
        (b"Ja.", "bytes", "return result.decode()"),
        (bytearray(b"Ja."), "bytearray", "return result.decode()"),
        (3, "int", "the text as a str"),
        ({"Ja."}, "set", "the text as a str"),
        (Block(text="Ja."), "Block", "the text as a str"),
        (AgentRunResult(Block(text="Ja.")), "Block", "the text as a str"),
        (lambda: "Ja.", "function", "the text as a str"),
        (["J", "a."], "str", '"".join(pieces)'),
        ([{"agent": {"messages": [ai("Ja.")]}}], "dict", "graph.invoke(...)"),
        ([(ai("J"), {}), (ai("a."), {})], "tuple", "graph.invoke(...)"),
        ([None], "NoneType", "role and content"),
        ([Result(parts=["Ja."])], "SimpleNamespace", "role and content"),
        ({"messages": [human("?"), ai("Ja.")], "__interrupt__": [object()]}, "interrupted", "a person"),
    ],
)
def test_anything_else_is_refused_with_what_came_and_what_to_write(
    given: object, kind: str, line: str
) -> None:
    with pytest.raises(AgentError) as caught:
        answer_in(given)
    assert not isinstance(caught.value, AgentUnavailable)
    assert kind in str(caught.value)
    assert line in str(caught.value)
    assert "Ja." not in str(caught.value), "a reason holds no text of an answer"
    assert "\n" not in str(caught.value)


def test_messages_of_langchain_as_plain_dicts_are_taken() -> None:
    state = {"messages": [{"type": "human", "content": "Hi"}, {"type": "ai", "content": "Hello"}]}
    assert answer_in(state).text == "Hello"


class Reply(BaseModel):
    reply: str | None = None
    review: str | None = None
    handoff: str | None = None


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"reply": "a", "review": "why"}, Answer("a", review="why")),
        ({"handoff": "why"}, Answer(handoff="why")),
        (Reply(reply="a", review="why"), Answer("a", review="why")),
        (Reply(handoff="why"), Answer(handoff="why")),
        (Result(output=Reply(handoff="why", reply="Bye")), Answer("Bye", handoff="why")),
        ({"messages": [ai("Bye")], "handoff": "why"}, Answer("Bye", handoff="why")),
        (Answer("a", review="two\nlines"), Answer("a", review="two lines")),
        (Answer(handoff="two\nlines"), Answer(handoff="two lines")),
        (Answer("Bye", handoff="why"), Answer("Bye", handoff="why")),
    ],
)
def test_a_callable_asks_for_a_review_or_hands_over_as_an_http_agent_does(
    given: object, answer: Answer
) -> None:
    assert answer_in(given) == answer


@pytest.mark.parametrize(
    "given",
    [
        {"review": "why"},
        Answer(review="why"),
        Answer("a", ignore="spam", handoff="why"),
        Answer(ignore="spam", review="why"),
        Reply(review="why"),
        {"reply": "a", "review": True},
    ],
)
def test_a_review_of_nothing_and_other_contradictions_are_malformed(given: object) -> None:
    with pytest.raises(AgentError, match="expected"):
        answer_in(given)


# --- answers that come later, and questions back ------------------------------------------------------------


def test_later_is_returned_or_yielded_last() -> None:
    assert answer_in(cleo_email.LATER) == Answer(later=True)
    assert answer_in([{"role": "tool", "content": "queued"}, cleo_email.LATER]) == Answer(later=True)
    assert answer_in(Answer(later=True)) == Answer(later=True)
    assert repr(cleo_email.LATER) == "cleo_email.LATER"
    for copied in (copy.deepcopy(cleo_email.LATER), pickle.loads(pickle.dumps(cleo_email.LATER))):
        assert answer_in(copied) == Answer(later=True), "as a pool of processes gives it back"


@pytest.mark.parametrize(
    "given",
    [(cleo_email.LATER, "a text"), [cleo_email.LATER, {"role": "assistant", "content": "a text"}]],
    ids=["tuple", "list"],
)
def test_later_beside_an_answer_is_refused_by_its_name(given: object) -> None:
    with pytest.raises(AgentError, match=r"cleo_email\.LATER beside something else"):
        answer_in(given)


def test_a_question_back_is_an_answer_in_every_form() -> None:
    boss = Address("boss@firma.test", "Boss")
    ask = Answer(ask=Ask("May I?", boss, '{"a": 1}'))
    given = {"ask": {"question": "May I?", "to": "Boss <boss@firma.test>", "context": {"a": 1}}}
    assert answer_in(given) == ask
    assert answer_in(ask) == ask
    assert answer_in({"ask": {"question": "Which?"}, "reply": None}) == Answer(ask=Ask("Which?"))


@pytest.mark.parametrize(
    "ask",
    [
        "May I?",
        {},
        {"question": " "},
        {"question": 7},
        {"question": "?", "to": 7},
        {"question": "?", "to": "a@b.test, c@d.test"},
        {"question": "?", "context": [1]},
        {"question": "?", "context": {"a": object()}},
        {"question": "?", "context": {"a": "x" * 66_000}},
        {"question": "x" * 100_001},
    ],
)
def test_a_malformed_question_back_is_no_answer(ask: object) -> None:
    with pytest.raises(AgentError, match="ask"):
        answer_in({"ask": ask})
    with pytest.raises(AgentError, match="at once"):
        answer_in({"ask": {"question": "?"}, "reply": "x"})


def test_an_object_that_can_ask_is_no_question_back() -> None:
    class Result:
        output = "the answer"

        def ask(self) -> None: ...

    assert answer_in(Result()) == Answer("the answer")
