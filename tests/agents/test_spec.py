from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cleo_email.agents.base import AgentRequest
from cleo_email.agents.build import build_agent
from cleo_email.agents.spec import CallableSpec, ModelSpec, UrlSpec, parse_spec
from cleo_email.errors import SettingsError
from cleo_email.mail.model import Answer


@pytest.mark.parametrize(
    ("spec", "meaning"),
    [
        ("echo", None),
        (" Echo ", None),
        ("http://localhost:8000/agent", UrlSpec("http://localhost:8000/agent")),
        ("HTTPS://agent.example", UrlSpec("HTTPS://agent.example")),
        ("openai:gpt-x", ModelSpec("openai", "gpt-x")),
        ("openai:gpt-x:high", ModelSpec("openai", "gpt-x", "high")),
        ("openai:gpt-x:HIGH", ModelSpec("openai", "gpt-x", "high")),
        ("openai:answer", ModelSpec("openai", "answer")),
        ("OpenAI:gpt-x", ModelSpec("openai", "gpt-x")),
        ("openai:llama3:8b", ModelSpec("openai", "llama3:8b")),
        ("openai:llama3:8b:low", ModelSpec("openai", "llama3:8b", "low")),
        ("openai:org/model-1.5", ModelSpec("openai", "org/model-1.5")),
        ("mistral:small-latest", ModelSpec("mistral", "small-latest")),
        ("nosuchmodule:model", ModelSpec("nosuchmodule", "model")),
        ("groq:llama:medium", ModelSpec("groq", "llama", "medium")),
        ("json:dumps:high", ModelSpec("json", "dumps", "high")),
        ("json:dumps", CallableSpec("json", "dumps")),
        ("json:JSONDecoder.decode", CallableSpec("json", "JSONDecoder.decode")),
        ("json:not-a-name", ModelSpec("json", "not-a-name")),
        ("no.such.module:answer", CallableSpec("no.such.module", "answer")),
        ("__main__:answer", CallableSpec("__main__", "answer")),
    ],
)
def test_how_a_value_is_read(spec: str, meaning: object) -> None:
    assert parse_spec(spec) == meaning


@pytest.mark.parametrize(
    "spec",
    [
        *("", " ", "gpt", "openai", "openai:", ":x", "a.b", "a.b:c:d", "a.b:c-d", "open ai:x", "http:x"),
        *(
            "openai:a b",
            "openai:a\nb",
            "http://",
            "https://:80",
            "http://x:port",
            "http://x:0",
            "http://a b/",
        ),
        *(
            "ftp://u:geheim-4711-3f9c@x/y",
            "http://u:geheim-4711-3f9c@",
            "http://[::1",
            "http://u:geheim-4711-3f9c@x y/",
        ),
    ],
)
def test_a_wrong_value_is_one_line_without_a_secret(spec: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build_agent(spec, token=None, environ={"OPENAI_API_KEY": "k"})
    [line] = caught.value.faults
    assert line.startswith("CLEO_AGENT: found ")
    assert "expected " in line
    assert "\n" not in line
    assert "geheim-4711-3f9c" not in line


def test_a_model_needs_a_key_and_another_provider_a_url() -> None:
    with pytest.raises(SettingsError) as caught:
        build_agent("openai:m", token=None, environ={})
    [line] = caught.value.faults
    assert line.startswith("OPENAI_API_KEY: found nothing, expected ")

    with pytest.raises(SettingsError) as caught:
        build_agent("nosuchmodule:answer", token=None, environ={})
    first, second = caught.value.faults
    assert first.startswith("OPENAI_BASE_URL: found nothing")
    assert "no such module" in first
    assert second.startswith("OPENAI_API_KEY: found nothing")


def test_a_server_of_ones_own_may_do_without_a_key() -> None:
    agent = build_agent("openai:m", token=None, environ={"OPENAI_BASE_URL": "http://localhost:11434/v1"})
    assert "localhost:11434" in repr(agent)


def test_a_malformed_base_url_names_its_variable() -> None:
    environ = {"OPENAI_BASE_URL": "localhost:11434", "OPENAI_API_KEY": "k"}
    with pytest.raises(SettingsError, match=r"^OPENAI_BASE_URL: found "):
        build_agent("openai:m", token=None, environ=environ)


@pytest.mark.parametrize("token", ["token 3f9c", "token-3f9c\r\nX: y", "schlüssel-3f9c", "token-3f9c\0"])
def test_a_token_that_no_header_carries_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(SettingsError, match=r"^CLEO_AGENT_TOKEN: found ") as caught:
        build_agent("http://agent.example", token=token, environ={})
    assert token not in str(caught.value)


def test_a_password_in_the_url_beside_a_token_is_refused() -> None:
    with pytest.raises(SettingsError, match="CLEO_AGENT_TOKEN") as caught:
        build_agent("http://u:geheim-4711-3f9c@agent.example", token="auch-geheim-4711-3f9c", environ={})
    assert "geheim-4711-3f9c" not in str(caught.value)


def test_names_of_other_scripts_become_ascii() -> None:
    assert repr(build_agent("http://bücher.example:8080/x?k=1", token=None, environ={})) == (
        "http://xn--bcher-kva.example:8080"
    )


def test_echo_says_what_it_was_told(request_: AgentRequest) -> None:
    agent = build_agent("echo", token=None, environ={})
    assert agent.answer(request_, deadline=1) == Answer(text="Wie geht es?")
    silent = AgentRequest(id="r", thread_id="t")
    assert agent.answer(silent, deadline=1).ignore
    workflow = AgentRequest(id="r", thread_id="t", workflow={"workflow_id": "welcome"})
    assert "welcome" in agent.answer(workflow, deadline=1).text


# --- importing a callable -----------------------------------------------------------------------------------


@pytest.fixture
def module_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a user, with modules of theirs in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (tmp_path / "cleo_users_agent.py").write_text("def answer(request):\n    return 'from the directory'\n")
    (tmp_path / "cleo_users_bad.py").write_text("raise RuntimeError('broken\\nmodule')\n")
    (tmp_path / "cleo_users_exit.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "cleo_users_syntax.py").write_text("def (:\n")
    (tmp_path / "cleo_users_names.py").write_text("value = 3\nclass Agent:\n    pass\n")
    return tmp_path


def test_a_module_in_the_working_directory_is_found(module_dir: Path, request_: AgentRequest) -> None:
    agent = build_agent("cleo_users_agent:answer", token=None, environ={})
    assert agent.answer(request_, deadline=5).text == "from the directory"
    assert repr(agent) == "cleo_users_agent:answer"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("cleo_users_bad:answer", "RuntimeError: broken module"),
        ("cleo_users_exit:answer", "SystemExit"),
        ("cleo_users_syntax:answer", "SyntaxError"),
        ("cleo_users_names:answer", "AttributeError"),
        ("cleo_users_names:value", "int"),
        ("cleo_users_names:Agent", "a class"),
        ("no.such.module:answer", "ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_called_is_a_fault_of_the_settings(module_dir: Path, spec: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build_agent(spec, token=None, environ={})
    [line] = caught.value.faults
    assert line.startswith(f"CLEO_AGENT: found {spec}")
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize("written", ["my_agent", "my_agent.py", "my_agent:"])
def test_a_module_of_the_working_directory_without_a_function_is_told_how(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught:
        parse_spec(written)
    assert "FUNCTION" not in str(caught.value)
    (tmp_path / "my_agent.py").write_text("")
    with pytest.raises(SettingsError, match=r"; my_agent\.py is here: my_agent:FUNCTION$"):
        parse_spec(written)
