"""A model's server for tests, of OpenAI's and of Anthropic's kind: it repeats what it is told.

    with StubModel() as model:
        ... OPENAI_BASE_URL=f"{model.url}/v1", ANTHROPIC_BASE_URL=model.url ...
        model.asked   # the JSON bodies

A single tool is called first where the mail says ``order 4711``, with that number. Of several the one is
called whose name has a long word of the mail in it, else the first, with the mail's text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.http_server import Handler, HttpServer


class _Handler(Handler):
    protocol_version = "HTTP/1.1"
    server: StubModel

    def do_POST(self) -> None:
        body = json.loads(self.body())
        shown = self.headers.get("Authorization", "") or self.headers.get("x-api-key", "")
        self.server.keys.add(shown.removeprefix("Bearer "))
        self.server.asked.append(body)
        path, status, kind, answer = self.path.partition("?")[0], 200, "application/json", b"{}"
        if path.endswith("/chat/completions"):
            answer = json.dumps(completion(body)).encode()
        elif path.endswith("/messages"):
            kind = "text/event-stream" if body.get("stream") else kind
            answer = b"".join(anthropic(body))
        else:
            status = 404
        self.answer(status, answer, Content_Type=kind)


class StubModel(HttpServer):
    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        super().__init__(_Handler)
        self.url = self.origin


def completion(body: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said(body["messages"])}
    call = _call(body)
    if call:
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {
        "id": "stub-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if call else "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def _call(body: Mapping[str, Any]) -> dict[str, Any] | None:
    tools, last = body.get("tools") or [], body["messages"][-1]
    if not tools or last["role"] == "tool":
        return None
    text = _text(last["content"])
    order = re.search(r"order (\d+)", text)
    by_name = {tool["function"]["name"]: tool["function"] for tool in tools}
    words = re.findall(r"\w{6,}", text.lower())
    wanted = next((name for name in by_name if any(word in name.lower() for word in words)), "")
    function = by_name[wanted or next(iter(by_name))]
    if len(tools) == 1 and not order:
        return None
    value = order[1] if order else f"stub: {text}"
    arguments = dict.fromkeys(function["parameters"]["properties"], value)
    return {
        "id": "call-1",
        "type": "function",
        "function": {"name": function["name"], "arguments": json.dumps(arguments)},
    }


def said(messages: list[dict[str, Any]]) -> str:
    """Return an answer that tells what the model saw: the system's words, and the last message."""
    system = " ".join(_text(one["content"]) for one in messages if one["role"] in ("system", "developer"))
    return f"stub: {_text(messages[-1]['content'])} | {system}"


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content or [] if isinstance(part, dict))


def anthropic(body: Mapping[str, Any]) -> Iterator[bytes]:
    text = "stub: " + _text([one for one in body["messages"] if one["role"] == "user"][-1]["content"])
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "msg_stub", "type": "message", "role": "assistant", "model": body["model"]}
    if not body.get("stream"):
        content = [{"type": "text", "text": text}]
        whole = {
            **message,
            "content": content,
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": usage,
        }
        yield json.dumps(whole).encode()
        return
    begun = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    for event in (
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": usage,
        },
        {"type": "message_stop"},
    ):
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
