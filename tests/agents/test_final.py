from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from cleo_email.agents.base import NO_FINAL_ANSWER, final_answer
from cleo_email.errors import AgentError, AgentUnavailable
from cleo_email.mail.model import Answer, AttachedFile

CALLS = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def assistant(content: object, **more: object) -> dict[str, object]:
    return {"role": "assistant", "content": content, **more}


def tool(content: object) -> dict[str, object]:
    return {"role": "tool", "content": content}


def test_only_the_last_assistant_message_without_tool_calls_is_mailed() -> None:
    messages = [
        assistant("Ich schaue nach.", tool_calls=CALLS),
        tool("one"),
        tool("two"),
        tool("three"),
        assistant("Fertig."),
    ]
    assert final_answer({"messages": messages}) == Answer(text="Fertig.")


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([assistant("a"), tool("b")], "a"),
        ([assistant("a"), assistant("b", tool_calls=CALLS)], "a"),
        ([assistant("a"), assistant("b", function_call={"name": "f"})], "a"),
        ([assistant("a"), assistant("")], "a"),
        ([assistant("a"), assistant(" \n")], "a"),
        ([assistant("a"), assistant(None)], "a"),
        ([assistant("a"), {"role": "assistant"}], "a"),
        ([assistant("a", tool_calls=None)], "a"),
        ([assistant("a", tool_calls=[])], "a"),
        ([assistant("a"), {"role": "user", "content": "b"}], "a"),
        ([assistant("a"), {"role": "system", "content": "b"}], "a"),
        ([assistant("a"), tool({"rows": [1]})], "a"),
        ([assistant("  a\n")], "  a\n"),
        ([assistant([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])], "ab"),
        ([assistant([{"type": "output_text", "text": "a"}, {"type": "image_url", "image_url": {}}])], "a"),
    ],
)
def test_what_counts_as_the_final_answer(messages: list[Any], text: str) -> None:
    assert final_answer({"messages": messages}).text == text


@pytest.mark.parametrize(
    "payload",
    [
        {"messages": []},
        {"messages": [tool("a"), tool("b"), tool("c")]},
        {"messages": [assistant("a", tool_calls=CALLS)]},
        {"messages": [assistant([])]},
        {"messages": [assistant("", attachments=[{"filename": "a", "content": ""}])]},
        {"messages": [{"role": "Assistant", "content": "roles are spelled in small letters"}]},
        {"reply": ""},
        {"reply": "\n "},
        {"reply": "\0"},
        {"reply": None},
    ],
)
def test_without_a_final_answer_nothing_is_mailed_and_it_says_so(payload: object) -> None:
    assert final_answer(payload) == Answer(ignore=NO_FINAL_ANSWER)


def test_a_reply_and_a_reason_to_ignore() -> None:
    assert final_answer({"reply": "Hallo"}) == Answer(text="Hallo")
    assert final_answer({"reply": "Hallo", "ignore": None, "messages": None}) == Answer(text="Hallo")
    assert final_answer({"ignore": "newsletter\nof a shop"}) == Answer(ignore="newsletter of a shop")
    assert final_answer({"ignore": " "}).ignore
    assert len(final_answer({"ignore": "x" * 10_000}).ignore) <= 200


@pytest.mark.parametrize(
    "payload",
    [
        None,
        True,
        3,
        "text",
        [],
        [assistant("a")],
        {},
        {"answer": "a"},
        {"messages": None},
        {"messages": "a"},
        {"messages": {}},
        {"messages": ["a"]},
        {"messages": [None]},
        {"messages": [{"content": "a"}]},
        {"messages": [{"role": 1, "content": "a"}]},
        {"messages": [assistant(1)]},
        {"messages": [assistant({"text": "a"})]},
        {"messages": [assistant([1])]},
        {"messages": ["malformed", assistant("a")]},
        {"reply": 1},
        {"reply": ["a"]},
        {"ignore": True},
        {"reply": "a", "ignore": "b"},
        {"reply": "a", "messages": []},
        {"review": "why"},
        {"reply": None, "review": "why"},
        {"reply": " ", "review": "why"},
        {"ignore": "spam", "review": "why"},
        {"handoff": "why", "review": "why"},
        {"messages": [assistant("a", tool_calls=CALLS)], "review": "why"},
        {"reply": "a", "review": True},
        {"reply": "a", "review": ["why"]},
        {"reply": "a", "handoff": {"reason": "why"}},
        {"handoff": True},
        {"handoff": "why", "ignore": "spam"},
        {"handoff": "why", "reply": "a", "messages": [assistant("a")]},
        {"handoff": "why", "reply": 1},
    ],
)
def test_anything_else_is_malformed_for_good(payload: object) -> None:
    with pytest.raises(AgentError, match="expected") as caught:
        final_answer(payload)
    assert not isinstance(caught.value, AgentUnavailable)
    assert not caught.value.retry_helps
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        ({"reply": "a", "review": "a refund\nof 90 €"}, Answer("a", review="a refund of 90 €")),
        ({"messages": [assistant("a")], "review": "why"}, Answer("a", review="why")),
        ({"reply": "a", "review": None, "handoff": None}, Answer("a")),
        ({"handoff": "wants to\tcancel"}, Answer(handoff="wants to cancel")),
        ({"handoff": "why", "reply": "Bye"}, Answer("Bye", handoff="why")),
        ({"handoff": "why", "reply": None}, Answer(handoff="why")),
        ({"handoff": "why", "reply": ""}, Answer(handoff="why")),
        ({"handoff": "why", "messages": []}, Answer(handoff="why")),
        ({"handoff": "why", "messages": [assistant("Bye")]}, Answer("Bye", handoff="why")),
        ({"handoff": "why", "reply": "Bye", "review": "tone"}, Answer("Bye", review="tone", handoff="why")),
    ],
)
def test_a_review_and_a_hand_over(payload: object, answer: Answer) -> None:
    assert final_answer(payload) == answer


@pytest.mark.parametrize("key", ["review", "handoff"])
def test_an_empty_reason_counts_and_a_long_one_is_cut(key: str) -> None:
    """Mail that was to be looked at must not leave for want of a word."""
    assert getattr(final_answer({"reply": "a", key: " \n"}), key) == "the agent gave no reason"
    assert len(getattr(final_answer({"reply": "a", key: "x" * 10_000}), key)) <= 200


def test_a_review_without_a_text_says_what_is_expected() -> None:
    with pytest.raises(AgentError, match=re.escape('expected {"reply": "...", "review": "reason"}')):
        final_answer({"review": "why"})


def test_lone_surrogates_are_replaced() -> None:
    answer = final_answer({"reply": "a\ud800b"})
    assert answer.text == "a\ufffdb"


def file(content: object, **more: object) -> dict[str, object]:
    return {"filename": "bericht.pdf", "content_type": "application/pdf", "content": content, **more}


def test_attachments_of_the_final_message_come_out_byte_for_byte() -> None:
    data = bytes(range(256)) * 300
    wrapped = base64.encodebytes(data).decode()  # with line breaks
    messages = [
        assistant("a", attachments=[file("AAAA")]),
        assistant("b", attachments=[file(wrapped), file(base64.b64encode(data).decode())]),
    ]
    answer = final_answer({"messages": messages})
    assert answer.text == "b"
    assert answer.attachments == (AttachedFile("bericht.pdf", "application/pdf", data),) * 2
    assert final_answer({"reply": "a", "attachments": [file("AAAA")]}).attachments[0].content == b"\0\0\0"


def test_an_empty_file_is_a_file() -> None:
    assert final_answer({"reply": "a", "attachments": [file("")]}).attachments[0].content == b""


@pytest.mark.parametrize("content", ["AAA", "A*AA", "AAAA=A", "ä", "data:x;base64,AAAA", "-_-_"])
def test_bad_base64_names_the_file(content: str) -> None:
    with pytest.raises(AgentError, match=r"bericht\.pdf.*base64"):
        final_answer({"reply": "a", "attachments": [file("AAAA", filename="gut"), file(content)]})


@pytest.mark.parametrize(
    "attachments",
    ["x", {"filename": "a"}, ["x"], [None], [file(None)], [file(b"AAAA")], [file("AAAA", filename=3)]],
)
def test_malformed_attachments_are_malformed_answers(attachments: object) -> None:
    with pytest.raises(AgentError, match="attachment"):
        final_answer({"reply": "a", "attachments": attachments})


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "C:\\x\\passwd", "passwd\r\nX: y", "passwd\0", "\ud800"]
)
def test_filenames_are_made_safe(name: str) -> None:
    [attachment] = final_answer({"reply": "a", "attachments": [file("", filename=name)]}).attachments
    assert attachment.filename
    assert not set(attachment.filename) & set("/\\\r\n\0")
    attachment.filename.encode("utf-8")


@pytest.mark.parametrize(
    ("given", "filename", "kept"),
    [
        ("text/csv; charset=utf-8", "a.csv", "text/csv; charset=utf-8"),
        (None, "a.pdf", "application/pdf"),
        ("", "a.png", "image/png"),
        ("pdf", "a.pdf", "application/pdf"),
        ("a/b\r\nX: y", "a.tar.gz", "application/octet-stream"),
        (None, "a", "application/octet-stream"),
    ],
)
def test_types_are_kept_or_guessed(given: str | None, filename: str, kept: str) -> None:
    files = [file("", content_type=given, filename=filename)]
    assert final_answer({"reply": "a", "attachments": files}).attachments[0].content_type == kept
