from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from cleo_email.agents.base import NO_FINAL_ANSWER, AgentRequest
from cleo_email.agents.python import PythonAgent
from cleo_email.errors import AgentError, AgentUnavailable
from cleo_email.mail.model import Answer, AttachedFile
from cleo_email.runtime import stuck_calls

CALLS = [{"id": "1"}]


def asked(call: Callable[[Any], object], request: AgentRequest, deadline: float = 30) -> Answer:
    return PythonAgent(call, "users.module:answer").answer(request, deadline=deadline)


def join_calls() -> None:
    for thread in threading.enumerate():
        if thread.name == "agent-call":
            thread.join(20)


@pytest.fixture(autouse=True)
def no_call_left_behind() -> Iterator[None]:
    """A call that was left at its deadline ends a little later, and would be counted in the next test."""
    yield
    join_calls()
    assert stuck_calls() == []


def message(content: str, role: str = "assistant", **more: object) -> dict[str, object]:
    return {"role": role, "content": content, **more}


def test_it_gets_the_request_that_an_http_agent_gets(request_: AgentRequest) -> None:
    got: list[object] = []
    asked(got.append, request_)
    assert got == [request_.model_dump(mode="json")]
    assert type(got[0]) is dict


class Message(BaseModel):
    role: str
    content: str


@dataclasses.dataclass
class Plain:
    role: str
    content: str


@pytest.mark.parametrize(
    "given",
    [
        "Ja.",
        {"reply": "Ja."},
        {"messages": [message("Ja.")]},
        [message("Moment.", tool_calls=CALLS), message("1", "tool"), message("Ja."), message("2", "tool")],
        (message("Ja."),),
        [Message(role="assistant", content="Ja.")],
        [Plain("assistant", "Ja."), Plain("tool", "x")],
        iter([message("Ja."), message("2", "tool")]),
        Answer(text="Ja."),
    ],
)
def test_what_it_may_return(request_: AgentRequest, given: object) -> None:
    assert asked(lambda _: given, request_) == Answer(text="Ja.")


@pytest.mark.parametrize("given", [None, "", " ", [], {"reply": ""}, Answer(), iter([])])
def test_nothing_returned_is_no_answer(request_: AgentRequest, given: object) -> None:
    assert asked(lambda _: given, request_) == Answer(ignore=NO_FINAL_ANSWER)


@pytest.mark.parametrize("given", [3, b"Ja.", {}, ["Ja."], iter(["J", "a"]), [None], object(), {"Ja."}])
def test_anything_else_is_malformed(request_: AgentRequest, given: object) -> None:
    with pytest.raises(AgentError, match="expected") as caught:
        asked(lambda _: given, request_)
    assert not isinstance(caught.value, AgentUnavailable)


def test_an_answer_made_by_hand_obeys_the_same_rules(request_: AgentRequest) -> None:
    given = Answer(text="a\ud800", attachments=(AttachedFile("../x", "nonsense", b"\0"),))
    answer = asked(lambda _: given, request_)
    assert answer.text == "a\ufffd"
    assert answer.attachments == (AttachedFile("x", "application/octet-stream", b"\0"),)
    assert asked(lambda _: Answer(text="x", ignore="a\nb"), request_) == Answer(ignore="a b")
    with pytest.raises(AgentError, match="expected an Attachment"):
        asked(lambda _: Answer(text="x", attachments=("file",)), request_)  # type: ignore[arg-type]


def test_a_generator_yields_messages(request_: AgentRequest) -> None:
    def answer(_: object) -> Iterator[dict[str, object]]:
        yield message("Ich sehe nach.", tool_calls=CALLS)
        yield message("1", "tool")
        yield message("Ja.")

    assert asked(answer, request_) == Answer(text="Ja.")


def test_coroutines_and_asynchronous_generators(request_: AgentRequest) -> None:
    async def answer(request: dict[str, Any]) -> str:
        await asyncio.sleep(0)
        return "zu " + request["message"]["subject"]

    async def messages(_: object) -> AsyncIterator[dict[str, object]]:
        yield message("1", "tool")
        await asyncio.sleep(0)
        yield message("Ja.")

    async def both(request: object) -> AsyncIterator[dict[str, object]]:
        return messages(request)

    assert asked(answer, request_).text == "zu Hallo"
    assert asked(messages, request_).text == "Ja."
    assert asked(both, request_).text == "Ja."


class ModelOverloaded(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("down"),
        TimeoutError("slow"),
        OSError(5, "io"),
        ModelOverloaded("full"),
        KeyError("x"),
        SystemExit(1),
        KeyboardInterrupt(),
        StopIteration(),
        RecursionError(),
    ],
)
def test_an_exception_is_tried_again_like_a_500(request_: AgentRequest, error: BaseException) -> None:
    def answer(_: object) -> str:
        raise error

    with pytest.raises(AgentUnavailable, match=type(error).__name__) as caught:
        asked(answer, request_)
    assert "test_python.py:" in str(caught.value)
    assert stuck_calls() == []


def test_an_exception_between_two_messages(request_: AgentRequest) -> None:
    def answer(_: object) -> Iterator[dict[str, object]]:
        yield message("Ja.")
        raise ModelOverloaded("many\nlines " + "x" * 5000)

    with pytest.raises(AgentUnavailable, match=r"ModelOverloaded at test_python\.py:\d+$") as caught:
        asked(answer, request_)
    assert "many" not in str(caught.value)


def test_errors_of_ours_pass_as_they_are(request_: AgentRequest) -> None:
    def permanent(_: object) -> str:
        raise AgentError("no such customer")

    def temporary(_: object) -> str:
        raise AgentUnavailable("come back later")

    with pytest.raises(AgentError, match=r"^no such customer$") as caught:
        asked(permanent, request_)
    assert not caught.value.retry_helps
    with pytest.raises(AgentUnavailable, match=r"^come back later$"):
        asked(temporary, request_)


def test_an_exception_is_told_to_nobody_above_debug(
    request_: AgentRequest, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(request: dict[str, Any]) -> str:
        raise ValueError(request["message"]["text"])

    caplog.set_level(logging.INFO)
    with pytest.raises(AgentUnavailable) as caught:
        asked(answer, request_)
    assert caplog.records == []
    assert request_.message.text not in str(caught.value), "the reason goes to the record and the log"


def test_a_call_that_hangs_is_left_at_the_deadline_and_counted_until_it_ends(request_: AgentRequest) -> None:
    release, ended = threading.Event(), threading.Event()

    def answer(_: object) -> str:
        release.wait(30)
        ended.set()
        return "too late"

    started = time.monotonic()
    with pytest.raises(AgentUnavailable, match=r"no answer within 0\.2 s"):
        asked(answer, request_, deadline=0.2)
    assert 0.19 < time.monotonic() - started < 10
    [age] = stuck_calls()
    assert 0 < age < 20
    assert stuck_calls()[0] > age
    release.set()
    assert ended.wait(20)
    join_calls()
    assert stuck_calls() == []


def test_a_generator_that_never_ends_stops_soon_after_the_deadline(request_: AgentRequest) -> None:
    closed = threading.Event()
    pause = threading.Event()

    def answer(_: object) -> Iterator[dict[str, object]]:
        try:
            while True:
                yield message("Noch etwas.")
                pause.wait(0.01)
        finally:
            closed.set()

    with pytest.raises(AgentUnavailable):
        asked(answer, request_, deadline=0.2)
    assert closed.wait(20)


def test_a_generator_that_floods_is_stopped(request_: AgentRequest) -> None:
    def answer(_: object) -> Iterator[dict[str, object]]:
        while True:
            yield message("x")

    async def flood(_: object) -> AsyncIterator[dict[str, object]]:
        while True:
            yield message("x")

    for call in (answer, flood):
        with pytest.raises(AgentError, match="more than 10000") as caught:
            asked(call, request_)
        assert not isinstance(caught.value, AgentUnavailable)


def test_a_coroutine_is_cancelled_at_the_deadline(request_: AgentRequest) -> None:
    cancelled = threading.Event()

    async def answer(_: object) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return "never"

    with pytest.raises(AgentUnavailable, match=r"no answer within 0\.2 s"):
        asked(answer, request_, deadline=0.2)
    assert cancelled.wait(20)


def test_a_deadline_that_is_over_already(request_: AgentRequest) -> None:
    calls: list[object] = []
    with pytest.raises(AgentUnavailable, match="no answer within 0 s"):
        asked(calls.append, request_, deadline=0)
    assert calls == []


def test_a_system_without_a_further_thread_is_temporary(
    request_: AgentRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(AgentUnavailable, match="new thread"):
        asked(lambda _: "Ja.", request_)
    assert stuck_calls() == []


def test_many_calls_at_once_do_not_mix_their_answers(request_: AgentRequest) -> None:
    barrier = threading.Barrier(20)

    def answer(request: dict[str, Any]) -> str:
        barrier.wait(30)
        return str(request["id"])

    agent = PythonAgent(answer, "m:f")
    got: dict[str, str] = {}

    def one(id_: str) -> None:
        got[id_] = agent.answer(request_.model_copy(update={"id": id_}), deadline=60).text

    threads = [threading.Thread(target=one, args=(f"r{n}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got == {f"r{n}": f"r{n}" for n in range(20)}
