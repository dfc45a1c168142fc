from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cleo_email
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
    [line] = caught.value.faults
    assert line.startswith("CLEO_AGENT: found nosuchmodule:answer, expected a Python function")
    assert f"no module 'nosuchmodule' in {Path.cwd()}" in line
    assert "OPENAI_BASE_URL" in line


def test_a_module_of_nearly_that_name_is_named(module_dir: Path) -> None:
    for spec in ("cleo_user_agent:answer", "cleo_users_agent.py:answer"):
        with pytest.raises(SettingsError, match=r"did you mean cleo_users_agent\?"):
            build_agent(spec, token=None, environ={})
    with pytest.raises(SettingsError, match=r"cleo_users_agent\.py has no answr; did you mean answer\?"):
        build_agent("cleo_users_agent:answr", token=None, environ={})


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


PACKAGES = """
import sys, types
sys.path.append(sys.argv[2])
from cleo_email.agents.build import build_agent
agent = build_agent("json_tools:answer", token=None, environ={})
print(sys.modules["json_tools"].__file__)
"""


@pytest.mark.parametrize("safe", [False, True])
def test_the_working_directory_comes_before_the_installed_packages(tmp_path: Path, safe: bool) -> None:
    """Under the console script too, where Python itself does not look there, or looks there last."""
    here, installed = tmp_path / "here", tmp_path / "installed"
    for folder in (here, installed):
        folder.mkdir()
        (folder / "json_tools.py").write_text("def answer(request):\n    return 'x'\n")
    (tmp_path / "script.py").write_text(PACKAGES)
    more = [str(Path(cleo_email.__file__).parent.parent), str(here)]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(installed), *more]),
        **({"PYTHONSAFEPATH": "1"} if safe else {}),
    }
    argv = [sys.executable, str(tmp_path / "script.py"), "", str(here)]
    done = subprocess.run(argv, cwd=here, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == f"{here / 'json_tools.py'}\n", done.stderr


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's agent whose own imports fail, directly and far below."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    site = tmp_path / ".venv" / "site-packages"
    site.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(site))
    (site / "cleo_lib.py").write_text("import cleo_lib_needs_this\n")
    (site / "cleo_lib_raises.py").write_text("def start():\n    raise KeyError('no key')\n")
    (tmp_path / "cleo_direct.py").write_text("import json\n\nimport cleo_openai_sdk.client\n")
    (tmp_path / "cleo_deep.py").write_text("\n\nimport cleo_lib\n")
    (tmp_path / "cleo_raises.py").write_text("import cleo_lib_raises\ncleo_lib_raises.start()\n")
    (tmp_path / "cleo_pack").mkdir()
    (tmp_path / "cleo_pack" / "__init__.py").write_text("")
    (tmp_path / "cleo_pack" / "bot.py").write_text("from cleo_pack import parts\n")
    (tmp_path / "cleo_pack" / "parts.py").write_text("\ndef (:\n")
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "file", "line", "said"),
    [
        ("cleo_direct:answer", "cleo_direct.py", 3, "No module named 'cleo_openai_sdk'"),
        ("cleo_deep:answer", "cleo_deep.py", 3, "No module named 'cleo_lib_needs_this'"),
        ("cleo_raises:answer", "cleo_raises.py", 2, "KeyError: 'no key'"),
        ("cleo_pack.bot:answer", "cleo_pack/parts.py", 2, "SyntaxError"),
    ],
)
def test_what_fails_within_the_users_module_is_told_with_the_users_own_line(
    broken: Path, spec: str, file: str, line: int, said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        build_agent(spec, token=None, environ={})
    [fault] = caught.value.faults
    assert fault.startswith(f"CLEO_AGENT: found {spec} ({broken / file} line {line}: ")
    assert said in fault
    assert ("install it for" in fault) == ("No module" in said)


def test_a_module_that_is_not_there_is_told_apart_from_one_that_is_broken(broken: Path) -> None:
    for spec in ("cleo_pack.bott:answer", "cleo_nowhere.bot:answer"):
        with pytest.raises(SettingsError, match=r"there is no module 'cleo_\w+(\.bott)?' in ") as caught:
            build_agent(spec, token=None, environ={})
        assert " line " not in str(caught.value)


def test_a_function_that_takes_no_request_is_refused_at_the_start(module_dir: Path) -> None:
    (module_dir / "cleo_users_shapes.py").write_text(
        "def none():\n    pass\ndef two(a, b):\n    pass\ndef one(a, b=1, *, c=2):\n    pass\n"
    )
    for name in ("none", "two"):
        with pytest.raises(SettingsError, match="called with the request alone"):
            build_agent(f"cleo_users_shapes:{name}", token=None, environ={})
    build_agent("cleo_users_shapes:one", token=None, environ={})
