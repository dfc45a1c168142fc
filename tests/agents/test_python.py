from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel

from cleo_email.agents.base import NO_FINAL_ANSWER, AgentRequest
from cleo_email.agents.python import PythonAgent
from cleo_email.agents.results import RETURNED_NOTHING
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


@pytest.mark.parametrize("given", ["", " ", [], {"reply": ""}, Answer(), iter([])])
def test_nothing_returned_is_no_answer(request_: AgentRequest, given: object) -> None:
    assert asked(lambda _: given, request_) == Answer(ignore=NO_FINAL_ANSWER)


def test_a_function_without_a_return_is_told_what_to_return(request_: AgentRequest) -> None:
    assert asked(lambda _: None, request_) == Answer(ignore=RETURNED_NOTHING)
    for said in (RETURNED_NOTHING, NO_FINAL_ANSWER):
        assert said.startswith("the agent")
        assert '{"ignore": "reason"}' in said


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


class Client:
    """As of httpx or aiohttp: its connection belongs to the event loop in which it was first used."""

    def __init__(self) -> None:
        self.questions: asyncio.Queue[tuple[str, asyncio.Future[str]]] = asyncio.Queue()
        self.reader: asyncio.Task[None] | None = None

    async def ask(self, text: str) -> str:
        if self.reader is None:
            self.reader = asyncio.get_running_loop().create_task(self._answer())
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await self.questions.put((text, answer))
        return await answer

    async def _answer(self) -> None:
        while True:
            text, answer = await self.questions.get()
            answer.set_result(text.upper())


def at_once(agent: PythonAgent, request: AgentRequest, number: int, deadline: float = 60) -> list[str]:
    """Ask from as many threads as there are conversations; return the texts in order."""
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(lambda _: agent.answer(request, deadline=deadline).text, range(number)))


def test_a_client_lives_on_from_one_call_to_the_next(request_: AgentRequest) -> None:
    client = Client()

    async def answer(request: dict[str, Any]) -> str:
        return await client.ask(request["message"]["subject"])

    async def messages(request: dict[str, Any]) -> AsyncIterator[dict[str, object]]:
        yield message(await client.ask(request["message"]["subject"]))

    agent, other = PythonAgent(answer, "m:f"), PythonAgent(messages, "m:g")
    assert [agent.answer(request_, deadline=10).text for _ in range(3)] == ["HALLO"] * 3
    assert at_once(agent, request_, 20) == ["HALLO"] * 20
    client.__init__()  # type: ignore[misc]
    assert [other.answer(request_, deadline=10).text for _ in range(2)] == ["HALLO"] * 2


def test_as_many_coroutines_run_at_once_as_there_are_conversations(request_: AgentRequest) -> None:
    """And as many calls of asyncio.to_thread, of which asyncio by itself lets a few run."""
    together, barrier = threading.Barrier(60), asyncio.Barrier(60)

    async def answer(_: object) -> str:
        async with barrier:
            await asyncio.to_thread(together.wait, 60)
        return "Ja."

    assert at_once(PythonAgent(answer, "m:f"), request_, 60) == ["Ja."] * 60


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), ModelOverloaded("full"), StopIteration()]
)
def test_a_coroutine_that_fails_leaves_the_others_alone(request_: AgentRequest, error: BaseException) -> None:
    waiting, go_on = threading.Event(), threading.Event()

    async def answer(request: dict[str, Any]) -> str:
        if request["id"] == "bad":
            raise error
        waiting.set()
        await asyncio.to_thread(go_on.wait, 60)
        return "Ja."

    agent = PythonAgent(answer, "m:f")
    with ThreadPoolExecutor(1) as pool:
        good = pool.submit(agent.answer, request_, deadline=60)
        assert waiting.wait(60)
        with pytest.raises(AgentUnavailable):
            agent.answer(request_.model_copy(update={"id": "bad"}), deadline=20)
        go_on.set()
        assert good.result(60).text == "Ja."
    assert agent.answer(request_, deadline=20).text == "Ja."


def test_what_a_task_in_the_background_raises_is_logged_without_its_text(
    request_: AgentRequest, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise ModelOverloaded("geheim-3f9c")

    async def answer(_: object) -> str:
        task = asyncio.get_running_loop().create_task(fails())
        await asyncio.wait([task])
        del task
        gc.collect()
        return "Ja."

    assert asked(answer, request_).text == "Ja."
    assert "ModelOverloaded at test_python.py" in caplog.text
    assert "geheim-3f9c" not in caplog.text


def test_callables_that_are_no_functions(request_: AgentRequest) -> None:
    class Agent:
        async def __call__(self, request: dict[str, Any]) -> str:
            await asyncio.sleep(0)
            return "zu " + request["message"]["subject"]

    async def answer(prefix: str, request: dict[str, Any]) -> str:
        return prefix + request["message"]["subject"]

    assert asked(Agent(), request_).text == "zu Hallo"
    assert asked(functools.partial(answer, "an "), request_).text == "an Hallo"


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
