"""What the processes say of themselves when they start."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from cleo_email import app as app_module
from cleo_email.cli.check import examine
from cleo_email.settings import doubts, gather, read_settings
from cleo_email.settings.read import misspelt
from cleo_email.web.app import from_environment
from cleo_email.worker.process import _whose_mail
from tests.support.channel import ROOT, Channel
from tests.support.mails import PASSWORD

ENV = {
    "ENABLED_CLIENTS": "email",
    "EMAIL_SMTP_HOST": "smtp.example.com",
    "EMAIL_USER": "agent@example.com",
    "EMAIL_PASSWORD": "hunter2",
}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("EMAIL_IMAP_HSOT", ": did you mean EMAIL_IMAP_HOST?"),
        ("EMAIL_POLL_INTERVAL", ": did you mean EMAIL_POLL_INTERVAL_SECONDS?"),
        ("CLEO_API_TOKENS", ": did you mean CLEO_API_TOKEN?"),
        ("email_imap_host", ": did you mean EMAIL_IMAP_HOST?"),
        ("CLEO_SOMETHING_ELSE_ALTOGETHER", ""),
    ],
)
def test_a_misspelt_name_has_a_line_and_its_value_has_none(name: str, meant: str) -> None:
    assert misspelt({**ENV, name: "geheim"}) == [f"{name} is no setting and has no effect{meant}"]


def test_names_of_the_documents_and_the_tests_are_no_slips() -> None:
    texts = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "deploy" / "postfix-pipe"]
    read = re.compile(
        r"environ(?:\.get\(|\[)\"((?:CLEO|EMAIL)_[A-Z_]+)\"|^\| `((?:CLEO|EMAIL)_\w+)`|\$\{(CLEO_\w+)", re.M
    )
    names = {"".join(found) for path in texts for found in read.findall(path.read_text("utf-8"))}
    assert {"CLEO_CORPORA", "CLEO_REQUIRE_SERVERS", "CLEO_SECRET_FILE", "EMAIL_USER"} <= names
    assert misspelt(dict.fromkeys(names | {"CLEO_CRASH_AT"}, "x")) == []


def test_check_warns_of_it_even_where_the_setting_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("EMAIL_SMTP_HOST")
    (tmp_path / ".env").write_text("EMAIL_SMTP_HSOT=smtp.example.com\n")
    levels = {finding.text.split()[0]: finding.level for finding in examine()}
    assert levels["EMAIL_SMTP_HOST:"] == "wrong"
    assert levels["EMAIL_SMTP_HSOT"] == "warning"


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_that_became_part_of_a_value_are_told_and_the_value_is_not(quote: str) -> None:
    given = {**ENV, "EMAIL_PASSWORD": f"{quote}geheim{quote}", "CLEO_API_TOKEN": f"{quote}geheim{quote}"}
    wanted = "the quotes at its beginning and its end count as part of it"
    assert doubts(given) == [f"CLEO_API_TOKEN: {wanted}", f"EMAIL_PASSWORD: {wanted}"]
    for plain in (quote, f"{quote}geheim", f"ge{quote}heim", "geheim"):
        assert doubts({**ENV, "EMAIL_PASSWORD": plain}) == []


@pytest.mark.parametrize(
    ("value", "is_named"),
    [
        ("geheim", True),
        ("anna:ge:heim, jürgen:x", True),
        ("an na:geheim", False),
        ("x,anna@example.com:geheim", False),
    ],
)
def test_a_token_whose_name_is_none_is_told_and_the_token_is_not(value: str, is_named: bool) -> None:
    lines = doubts({**ENV, "CLEO_API_TOKEN": value})
    assert [line.partition(":")[0] for line in lines] == ["CLEO_API_TOKEN"] * (not is_named)
    assert "geheim" not in str(lines)


def test_quotes_in_dotenv_are_taken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("EMAIL_PASSWORD='geheim'\n")
    assert doubts(gather({})) == []


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_an_authority_of_dotenv_that_the_environment_overrules_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"{name}=/etc/own.pem\n")
    monkeypatch.setenv(name, "/opt/conda/cacert.pem")
    line = f"{name}: '/opt/conda/cacert.pem' of the environment is in force, and not '/etc/own.pem' of .env"
    assert line in doubts(ENV)
    for same in ("/etc/own.pem", None):
        monkeypatch.setenv(name, same) if same else monkeypatch.delenv(name)
        assert doubts(ENV) == []


def test_the_web_process_says_what_is_open_to_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app_module, "set_up_logging", lambda: None)
    for name, value in {**ENV, "REDIS_URL": redis_url}.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.INFO, "cleo_email"):
        from_environment()
        assert "EMAIL_WEBHOOK_SECRET is not set: /email/incoming" in caplog.text
        assert "CLEO_API_TOKEN is not set: /email/send" in caplog.text
        caplog.clear()
        monkeypatch.setenv("EMAIL_WEBHOOK_SECRET", "s")
        monkeypatch.setenv("CLEO_API_TOKEN", "t")
        from_environment()
        assert caplog.messages == []


def test_the_worker_says_whose_mail_it_answers_and_what_is_misspelt(tmp_path: Path, redis_url: str) -> None:
    env = {
        "REDIS_URL": redis_url,
        "EMAIL_SMTP_HOST": "127.0.0.1",
        "EMAIL_SMTP_PORT": "9",
        "EMAIL_IMAP_HSOT": "imap.example.com",
        "CLEO_AGENT": "http://user:geheim-4711-1@127.0.0.1:9/geheim-4711-2?key=geheim-4711-3",
    }
    with Channel(tmp_path, env) as channel:
        channel.start_worker()
        channel.wait(lambda: "worker started" in channel.log.read_text())
        log = channel.log.read_text()
        line = "answers the mail of agent@cleo.test (agent: http://127.0.0.1:9; senders: everybody)"
        assert log.count(line) == 1
        assert log.count("WARNING cleo_email.worker.process: EMAIL_IMAP_HSOT is no setting") == 1
        assert "geheim-4711" not in log
        assert PASSWORD not in log


def test_the_mailbox_the_agent_and_the_senders() -> None:
    more = {
        "EMAIL_IMAP_HOST": "imap.example.com",
        "EMAIL_FROM_ADDRESS": "Hallo <hello@example.com>",
        "EMAIL_ALLOWED_SENDERS": "@example.com, anna@example.org",
        "CLEO_AGENT": "openai:gpt-x:high",
    }
    assert _whose_mail(read_settings({**ENV, **more}, dotenv=None)) == (
        "answers the mail of agent@example.com at imap.example.com as hello@example.com"
        " (agent: openai:gpt-x:high; senders: 2 allowed)"
    )


def test_a_web_process_that_takes_no_mail_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app_module, "set_up_logging", lambda: None)
    monkeypatch.setenv("REDIS_URL", redis_url)
    for clients, lines in (("teams", 1), ("email", 0)):
        caplog.clear()
        for name, value in {**ENV, "ENABLED_CLIENTS": clients}.items():
            monkeypatch.setenv(name, value)
        with caplog.at_level(logging.WARNING, "cleo_email"):
            from_environment()
        assert [record.levelname for record in caplog.records] == ["WARNING"] * lines
        assert all("ENABLED_CLIENTS does not list email" in text for text in caplog.messages)


@pytest.mark.parametrize("command", [["check"], ["poll"], ["run"], ["recover"]])
def test_a_command_in_the_wrong_directory_says_which_that_is(command: list[str], tmp_path: Path) -> None:
    with Channel(tmp_path, {"ENABLED_CLIENTS": "", "REDIS_URL": "redis://127.0.0.1:9/0"}) as channel:
        done = channel.run(*command)
        said = f"(there is no .env in {tmp_path})\n"
        assert said in done.stdout + done.stderr
        assert said not in channel.run(*command, ENABLED_CLIENTS="teams").stderr
        (tmp_path / ".env").write_text("EMAIL_CONCURRENCY=50\n")
        again = channel.run(*command)
        assert "there is no .env" not in again.stdout + again.stderr
