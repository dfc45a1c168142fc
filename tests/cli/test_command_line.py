"""The command line as a whole: its help, wrong usage, how it ends, what it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import pytest

from cleo_email import __version__
from cleo_email.cli import COMMANDS, main
from tests.support.channel import ROOT


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_summary_and_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert f"  {name} " in capsys.readouterr().out
    assert main([name, "-h"]) == 0
    assert f"Usage: cleo-email {name} " in capsys.readouterr().out
    assert getattr(import_module(f"cleo_email.cli.{name}"), name).name == name


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["chekc"], "No such command 'chekc'"),
        (["check", "--jsn"], "No such option"),
        (["messages", "lst"], "No such command 'lst'"),
        (["messages", "show"], "Missing argument 'ID'"),
        (["send", "--to", "a@b.test"], "Missing option '--subject'"),
        (["login", "nobody"], "'nobody' is not one of 'google', 'microsoft'"),
    ],
)
def test_wrong_usage_is_told_even_where_the_settings_are_wrong(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMAIL_SMTP_PORT", "abc")
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_the_help_and_the_completion_load_no_command() -> None:
    code = (
        "import sys, cleo_email.cli\n"
        "try: cleo_email.cli.main(sys.argv[1:] or ['--help'])\n"
        "finally: print(sorted({'redis', 'pydantic', 'flask', 'imapclient', 'rq'} & set(sys.modules)))"
    )
    assert run(code).stdout.endswith("\n[]\n")
    done = run(code, _CLEO_EMAIL_COMPLETE="bash_complete", COMP_WORDS="cleo-email re", COMP_CWORD="1")
    assert done.stdout == "plain,recover\n[]\n"


def test_a_reader_that_has_had_enough_is_no_fault(redis_url: str) -> None:
    code = (
        "import os, sys; from cleo_email.cli import main\n"
        "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1)\n"
        "raise SystemExit(main(['messages', 'list']))"
    )
    settings = {"EMAIL_SMTP_HOST": "127.0.0.1", "EMAIL_USER": "agent@cleo.test", "EMAIL_PASSWORD": "x"}
    done = run(code, ENABLED_CLIENTS="email", REDIS_URL=redis_url, **settings)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("package", ["trustme", "pymap.imap", "aiosmtpd.smtp"])
def test_without_the_extra_the_error_is_the_command_to_type(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("cleo_email.cli.demo", "cleo_email.embedded.mailserver"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["demo"]) == 1
    expected = f"cleo-email: demo needs the package {package}: pip install -e '.[embedded]'"
    assert capsys.readouterr().err.startswith(expected)
