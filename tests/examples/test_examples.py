"""The programs of examples/, each in an environment with its own requirements, against a stub model.

``CLEO_EXAMPLES`` names the folder of these environments; one that is not there is made, which takes the
internet and minutes. Without it only what needs nothing more than the project is tested.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from cleo_email.agents.base import AgentMessage, AgentRequest
from cleo_email.agents.build import build_agent
from tests.support.channel import ROOT, Channel, Rig
from tests.support.http_server import Handler, HttpServer
from tests.support.stub_model import StubModel

EXAMPLES = ROOT / "examples"
FOLDER = os.environ.get("CLEO_EXAMPLES", "")
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/requirements.txt"))

# Asks as the worker does: all calls of async functions in one loop, and the result by the rule of the answer.
ASK = """
import asyncio, inspect, json, sys
sys.path.insert(0, "")
import agent
from cleo_email.agents.results import answer_in

async def run(result):
    return await result

with asyncio.Runner() as runner:
    for request in json.load(sys.stdin):
        result = agent.answer(request)
        result = runner.run(run(result)) if inspect.isawaitable(result) else result
        if not (isinstance(result, dict) and "ask" in result):
            found = answer_in(result)
            result = {"text": found.text, "handoff": found.handoff}
        print(json.dumps(result))
"""


def python_of(example: str) -> str:
    """Return the interpreter of an example's environment; skip the test where none is to be made."""
    if not FOLDER:
        pytest.skip(f"examples/{example} is not tested: CLEO_EXAMPLES=FOLDER makes an environment for it")
    home = Path(FOLDER).absolute() / example
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done, wanted = home / "installed.txt", (EXAMPLES / example / "requirements.txt").read_text("utf-8")
        if not done.exists() or done.read_text("utf-8") != wanted:
            venv.create(home, with_pip=True)
            install = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-input"]
            # The proxy is a program of its own; the others run within the worker.
            project = [] if example == "litellm_proxy" else ["-e", str(ROOT)]
            subprocess.run([*install, *project, "-r", EXAMPLES / example / "requirements.txt"], check=True)
            done.write_text(wanted, "utf-8")
    return str(home / "bin" / "python")


def request(text: str, id_: str = "01a20cebeb10295077625fe1", **more: Any) -> dict[str, Any]:
    message = AgentMessage(
        from_address="anna@example.test", from_name="Anna", subject="A question", text=text
    )
    return {**AgentRequest(id=id_, thread_id="<1@example.test>", message=message).model_dump(), **more}


def ask(
    example: str, home: Path, model: StubModel, *requests: Mapping[str, Any], **env: str
) -> list[dict[str, Any]]:
    python = python_of(example)
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "ANTHROPIC_", "CLAUDE"))
    }
    given = {
        "HOME": str(home),
        "OPENAI_BASE_URL": f"{model.url}/v1",
        "OPENAI_API_KEY": "key-of-the-stub",
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": "key-of-the-stub",
    }
    done = subprocess.run(
        [python, "-c", ASK],
        input=json.dumps(requests),
        cwd=EXAMPLES / example,
        env={**clean, **given, **env, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert model.keys == {"key-of-the-stub"}
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def model() -> Iterator[StubModel]:
    with StubModel() as stub:
        yield stub


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_is_and_pins_what_it_needs(name: str) -> None:
    assert len((EXAMPLES / name / "README.md").read_text("utf-8").splitlines()) <= 20
    needs = (EXAMPLES / name / "requirements.txt").read_text("utf-8").split()
    assert needs
    assert all("==" in line for line in needs)
    assert f"[{name}]({name}/README.md)" in (EXAMPLES / "README.md").read_text("utf-8")


# --- Flask --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def flask_agent(channel: Channel, **env: str) -> Iterator[str]:
    argv = [
        "-m",
        "flask",
        "--app",
        str(EXAMPLES / "flask_agent" / "app.py"),
        "run",
        "--port",
        str(channel.port),
    ]
    process = channel.start(*argv, env=env)
    try:
        channel.wait(
            lambda: channel.call("GET", "/answer")[0] == (401 if env.get("CLEO_AGENT_TOKEN") else 405)
        )
        yield f"http://127.0.0.1:{channel.port}"
    finally:
        channel.kill(process)


def answer_to_a_customer(rig: Rig) -> EmailMessage:
    """Start web and worker, hand in a mail, and return the one reply."""
    rig.start_web()
    rig.start_worker()
    mail = {"from_address": "Anna <anna@example.test>", "to_address": "agent@example.test"}
    rig.post({**mail, "subject": "Opening hours?", "body": "Are you open?"})
    rig.wait(lambda: rig.records("replied"), 60)
    (reply,) = rig.replies()
    return reply


def test_the_flask_agent_answers_a_mail(tmp_path: Path, redis_url: str) -> None:
    beside = tmp_path / "agent"
    beside.mkdir()
    token = {"CLEO_AGENT_TOKEN": "token-of-the-agent"}
    with Channel(beside, {}) as own, flask_agent(own, **token) as url:
        env = {"CLEO_AGENT": f"{url}/answer", **token}
        with Rig(tmp_path / "rig", redis_url, polls=False, env=env) as rig:
            reply = answer_to_a_customer(rig)
            body = reply.get_body(("plain",))
            assert body is not None
            assert "Hello Anna" in body.get_content()
        assert own.post({}, "/answer")[0] == 401, "only with its token"


def test_the_flask_agent_promises_and_calls_back_until_it_is_through(tmp_path: Path) -> None:
    came: queue.Queue[tuple[str, str | None, Any]] = queue.Queue()
    answers = iter([503, 200])

    class Web(Handler):
        def do_POST(self) -> None:
            came.put((self.path, self.headers["Authorization"], json.loads(self.body())))
            self.answer(next(answers))

    with HttpServer(Web) as web, Channel(tmp_path, {}) as own:
        callback = {"url": f"{web.origin}/email/answers/1", "token": "t0ken"}
        with flask_agent(own, SECONDS="0"):
            asked = request("Are you open?", callback=callback)
            assert own.post(asked, "/slow")[0] == 202
            assert own.post(asked, "/slow")[0] == 202, "asked again after a crash"
            calls = [came.get(timeout=60) for _ in range(2)]
    for path, shown, body in calls:
        assert (path, shown) == ("/email/answers/1", "Bearer t0ken")
        assert "A question" in body["reply"]
    assert came.empty(), "one piece of work"


# --- frameworks ---------------------------------------------------------------------------------------------


def test_an_interrupt_of_langgraph_is_asked_and_the_reply_resumes_it(
    tmp_path: Path, model: StubModel
) -> None:
    first = request("My jacket came\n\nwith a hole.")
    other = request("Another customer's", "01a20cebeb10295077625fe2")
    resumed = {**first, "resumed": {"question": "…", "answer": "Yes, pay it back.", "context": None}}
    env = {"STATES": str(tmp_path / "states.sqlite"), "BOSS": "boss@example.test"}
    asked, again, _, reply = ask("langgraph_ask", tmp_path, model, first, first, other, resumed, **env)
    assert asked == again
    assert asked["ask"]["to"] == "boss@example.test"
    assert asked["ask"]["question"].endswith("> My jacket came\n> \n> with a hole.")
    assert reply["text"].startswith("stub: My jacket came")
    assert "The decision is: Yes, pay it back." in reply["text"]
    (once,) = ask("langgraph_ask", tmp_path, model, resumed, **env)  # another process, after a crash
    assert once == reply
    assert len(model.asked) == 1


def test_an_agent_of_the_openai_sdk_calls_its_tool(tmp_path: Path, model: StubModel) -> None:
    (reply,) = ask("openai_agents", tmp_path, model, request("Where is order 4711?"))
    assert reply["text"].startswith("stub: sent on Monday")
    turns = [{"role": "user", "content": "first"}, {"role": "person", "content": "second"}]
    ask("openai_agents", tmp_path, model, request("Are you open?", history=turns))
    assert [one["role"] for one in model.asked[-1]["messages"]] == ["system", "user", "assistant", "user"]


def test_an_agent_of_pydantic_ai_answers_or_hands_over(tmp_path: Path, model: StubModel) -> None:
    reply, handed = ask(
        "pydantic_ai", tmp_path, model, request("Are you open?"), request("I want a lawyer: handover")
    )
    assert reply == {"text": "stub: Are you open?", "handoff": ""}
    assert handed == {"text": "", "handoff": "stub: I want a lawyer: handover"}


def test_an_agent_of_the_claude_sdk_answers_without_tools_and_leaves_nothing(
    tmp_path: Path, model: StubModel
) -> None:
    (reply,) = ask("claude_agent", tmp_path, model, request("Are you open?"))
    assert reply["text"] == "stub: user: Are you open?"
    (asked,) = model.asked
    assert not asked.get("tools")
    assert list(tmp_path.iterdir()) == []


def test_a_litellm_proxy_is_an_openai_compatible_server(tmp_path: Path, model: StubModel) -> None:
    python = python_of("litellm_proxy")
    env = {
        "HOME": str(tmp_path),
        "LITELLM_MASTER_KEY": "sk-master-of-the-test",
        "UPSTREAM_BASE_URL": f"{model.url}/v1",
        "UPSTREAM_API_KEY": "key-of-the-stub",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    with Channel(tmp_path, env) as channel:
        config = str(EXAMPLES / "litellm_proxy" / "config.yaml")
        with channel.log.open("ab") as log:
            process = subprocess.Popen(
                [
                    Path(python).parent / "litellm",
                    "--config",
                    config,
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(channel.port),
                ],
                env=channel.env,
                cwd=tmp_path,
                stdout=log,
                stderr=log,
            )
        try:
            channel.wait(
                lambda: channel.get("/health/liveliness")[0] == 200 or process.poll() is not None, 180
            )
            url, key = f"http://127.0.0.1:{channel.port}/v1", env["LITELLM_MASTER_KEY"]
            agent = build_agent(
                "openai:support", token=None, environ={"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}
            )
            answer = agent.answer(AgentRequest.model_validate(request("Are you open?")), deadline=60)
        finally:
            process.terminate()
            process.wait(30)
    assert answer.text.startswith("stub: ")
    assert "Are you open?" in answer.text
    assert model.keys == {"key-of-the-stub"}


def test_the_flask_agent_promises_an_answer_and_the_customer_gets_it(tmp_path: Path, redis_url: str) -> None:
    beside = tmp_path / "agent"
    beside.mkdir()
    with Channel(beside, {}) as own, flask_agent(own, SECONDS="1") as url:
        rig = Rig(tmp_path / "rig", redis_url, polls=False, env={"CLEO_AGENT": f"{url}/slow"})
        rig.env["CLEO_PUBLIC_URL"] = f"http://127.0.0.1:{rig.port}"
        with rig:
            reply = answer_to_a_customer(rig)
            assert "I have thought about it" in reply.as_string()


def test_a_question_of_langgraph_goes_out_by_mail_and_the_reply_resumes_it(
    tmp_path: Path, redis_url: str, model: StubModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = python_of("langgraph_ask")
    env = {
        "CLEO_AGENT": "agent:answer",
        "OPENAI_BASE_URL": f"{model.url}/v1",
        "OPENAI_API_KEY": "key-of-the-stub",
        "STATES": str(tmp_path / "states.sqlite"),
        "PYTHONPATH": f"{ROOT}:{EXAMPLES / 'langgraph_ask'}",
    }
    with Rig(tmp_path / "rig", redis_url, polls=False, env=env) as rig:
        rig.start_web()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", python)
            rig.start_worker()
        mail = {"from_address": "Anna <anna@example.test>", "to_address": "agent@example.test"}
        rig.post(
            {**mail, "subject": "Jacket", "body": "My jacket has a hole.", "message_id": "<j1@example.test>"}
        )
        rig.wait(lambda: rig.replies(), 60)
        question = rig.replies()[0]["Message-ID"]
        follows = {"in_reply_to": question, "references": question, "message_id": "<j2@example.test>"}
        rig.post({**mail, **follows, "subject": "Re: Jacket", "body": "Yes, pay it back."})
        rig.wait(lambda: len(rig.replies()) == 2, 60)
        body = rig.replies()[1].get_body(("plain",))
        assert body is not None
        assert "The decision is: Yes, pay it back." in body.get_content()
