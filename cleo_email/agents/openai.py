"""A model behind an OpenAI-compatible chat completions server, asked for one answer without tools."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cleo_email.agents.exchange import JsonService, error_text
from cleo_email.agents.final import final_answer
from cleo_email.agents.prompt import chat_messages
from cleo_email.agents.protocol import AgentRequest
from cleo_email.agents.spec import ModelSpec, split_effort
from cleo_email.deadlines import Deadline
from cleo_email.errors import AgentError
from cleo_email.mail.model import Answer, JsonObject

DEFAULT_BASE_URL = "https://api.openai.com/v1"


class OpenAIAgent:
    """``model`` is the one to ask unless a request names another."""

    def __init__(self, service: JsonService, model: ModelSpec) -> None:
        self._service, self._model = service, model

    def __repr__(self) -> str:
        return f"{self._model.provider}:{self._model.model} at {self._service}"

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        """See :class:`~cleo_email.agents.protocol.Agent`."""
        limit = Deadline(deadline)
        body = json.dumps(self._question(request)).encode("ascii")
        return self._final(self._service.ask(body, request.id, limit))

    def _question(self, request: AgentRequest) -> JsonObject:
        model, effort = self._model.model, self._model.effort
        if request.model:
            model, effort = split_effort(request.model.removeprefix(f"{self._model.provider}:"))
            effort = effort or self._model.effort
        question: JsonObject = {"model": model, "messages": chat_messages(request)}
        if effort:
            question["reasoning_effort"] = effort
        return question

    def _final(self, completion: object) -> Answer:
        message, finish_reason = self._first_choice(completion)
        # Half an answer is worse than none: a person decides.
        if finish_reason == "content_filter":
            raise AgentError(f"{self._service}: the content filter of the model stopped the answer")
        if finish_reason == "length":
            raise AgentError(
                f"{self._service}: the model reached its token limit in the middle of the answer"
            )
        if message.get("refusal") and not message.get("content"):
            return Answer(ignore="the model declined to answer")
        text = message.get("content")
        return final_answer(
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": without_thoughts(text) if isinstance(text, str) else text,
                        "tool_calls": message.get("tool_calls"),
                        "function_call": message.get("function_call"),
                    }
                ]
            }
        )

    def _first_choice(self, completion: object) -> tuple[Mapping[str, object], object]:
        choices = completion.get("choices") if isinstance(completion, Mapping) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, Mapping) else None
        if isinstance(choice, Mapping) and isinstance(message, Mapping):
            return message, choice.get("finish_reason")
        error = completion.get("error") if isinstance(completion, Mapping) else None
        if error:  # gateways answer 200 and put the status of the model's server into the body
            code = error.get("code") if isinstance(error, Mapping) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 400
            raise self._service.refusal(status, error_text(error))
        raise AgentError(f"{self._service} answered with no chat completion, expected choices with a message")


def without_thoughts(text: str) -> str:
    """``text`` without the ``<think>`` block that many open models put first: thoughts are not mailed."""
    start = text.lstrip()
    if not start.startswith("<think>"):
        return text
    _, end, rest = start.partition("</think>")
    return rest.lstrip() if end else ""
