"""What a call of the library and what a process of ours may do to the environment, and what a call costs."""

from __future__ import annotations

import os
import pwd
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from cleo_email import get_message, send_message
from cleo_email import library as sending
from cleo_email.embedded.mailserver import Certificates
from cleo_email.embedded.redis import EmbeddedRedis
from cleo_email.errors import NotFound, SettingsError, StoreUnavailable
from cleo_email.settings import Settings, make_settings, read_settings
from cleo_email.store import Store
from cleo_email.web.app import create_app
from tests.support.channel import ROOT
from tests.support.web import BASE

OURS = ("EMAIL_", "CLEO_", "REDIS_URL", "ENABLED_CLIENTS", "SSL_CERT", "OPENAI_")
Write = Callable[..., None]


@pytest.fixture
def dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """An application whose settings are all in ``.env``; a call writes it anew, with these changes."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def write(**env: str) -> None:
        lines = [f"{name}='{value}'\n" for name, value in {**BASE, **env}.items()]
        (tmp_path / ".env").write_text("".join(lines), "utf-8")

    write()
    return write


def send() -> str:
    return send_message("anna@example.test", "Report", "Here it is.").id


def stored(url: str) -> set[str]:
    with Redis.from_url(url) as redis:
        return {record.id for record in Store(redis).messages.page()[0]}


# --- the library --------------------------------------------------------------------------------------------


def test_a_call_changes_nothing_in_the_environment(dotenv: Write, redis_url: str, ca: Certificates) -> None:
    dotenv(REDIS_URL=redis_url, OPENAI_API_KEY="k", SSL_CERT_FILE=str(ca.ca_file))
    before = dict(os.environ)
    assert {send()} == stored(redis_url)
    assert dict(os.environ) == before


def test_the_redis_of_run_in_the_same_directory_is_found_and_nothing_is_left(
    dotenv: Write, tmp_path: Path, redis_url: str
) -> None:
    before = dict(os.environ)
    with EmbeddedRedis(tmp_path / "var" / "redis") as redis:
        id_ = send()
        assert stored(redis.url) == {id_}
        assert dict(os.environ) == before
        dotenv(REDIS_URL=redis_url)  # what is set counts, though the other one listens
        assert {send()} == stored(redis_url)
        assert stored(redis.url) == {id_}


def test_a_message_is_shown_with_the_fields_of_the_http_interface(dotenv: Write, redis_url: str) -> None:
    dotenv(REDIS_URL=redis_url)
    sent = send_message("Anna <anna@example.test>", "Report", "Here it is.")
    found = get_message(sent.id)
    assert (found.id, found.reply_message_id, found.subject) == (sent.id, sent.message_id, "Report")
    assert found.state == "submitting"
    assert found.recipients == ("anna@example.test",)
    assert [entry.state for entry in found.history][-1] == found.state
    assert found.received_at <= found.history[0].at <= found.updated_at <= datetime.now(UTC)
    shown = create_app().test_client().get(f"/email/messages/{sent.id}").json
    assert shown is not None
    assert {field.name for field in fields(found)} == {*shown, "answer"}
    assert (found.state, found.updated_at) == (shown["state"], datetime.fromisoformat(shown["updated_at"]))


def test_a_message_that_is_not_there_is_told_from_a_redis_that_does_not_answer(
    dotenv: Write, redis_url: str
) -> None:
    dotenv(REDIS_URL=redis_url)
    for unknown in ("01a20cebeb10295077625fe1", "", "../x"):
        with pytest.raises(NotFound):
            get_message(unknown)
    with pytest.raises(TypeError, match="id is int, expected a string"):
        get_message(4711)  # type: ignore[arg-type]
    dotenv(REDIS_URL="redis://127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable):
        get_message("01a20cebeb10295077625fe1")
    dotenv(REDIS_URL=redis_url, EMAIL_SMTP_HOST="")
    with pytest.raises(SettingsError, match="EMAIL_SMTP_HOST"):
        get_message("01a20cebeb10295077625fe1")


def test_missing_settings_are_told_with_the_file_that_was_looked_for(dotenv: Write, tmp_path: Path) -> None:
    dotenv(EMAIL_SMTP_HOST="")
    with pytest.raises(SettingsError) as caught:
        send()
    assert caught.value.faults[0].startswith("EMAIL_SMTP_HOST: found nothing")
    assert caught.value.faults[0].endswith(f"(read: the environment, {tmp_path / '.env'})")
    (tmp_path / ".env").unlink()
    with pytest.raises(SettingsError, match=r"\.env, which is not there\)$"):
        send()


def test_what_changes_is_noticed_at_the_next_call(
    dotenv: Write, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dotenv(REDIS_URL=redis_url)
    send()
    flows = tmp_path / "flows.toml"
    flows.write_text("[workflows.report]\n")
    for change in (
        {"ENABLED_CLIENTS": "teams"},
        {"EMAIL_SMTP_PORT": "x"},
        {"CLEO_WORKFLOWS": str(tmp_path / "none.toml")},
        {"SSL_CERT_FILE": str(tmp_path / "none.pem")},
    ):
        dotenv(REDIS_URL=redis_url, **change)
        with pytest.raises(SettingsError, match=next(iter(change))):
            send()
    dotenv(REDIS_URL=redis_url, CLEO_WORKFLOWS=str(flows))
    send()
    flows.write_text("[workflows.report]\nlanguages = 'de'\n")
    with pytest.raises(SettingsError, match="languages"):
        send()
    flows.unlink()
    with pytest.raises(SettingsError, match="CLEO_WORKFLOWS"):
        send()
    dotenv(REDIS_URL=redis_url)
    send()
    monkeypatch.setenv("ENABLED_CLIENTS", "teams")  # the environment wins
    with pytest.raises(SettingsError, match="ENABLED_CLIENTS"):
        send()
    monkeypatch.setenv("ENABLED_CLIENTS", "email")
    send()
    assert len(stored(redis_url)) == 4


def test_settings_are_not_read_again_while_nothing_changes(
    dotenv: Write, redis_url: str, ca: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    dotenv(REDIS_URL=redis_url, SSL_CERT_FILE=str(ca.ca_file))
    read: list[int] = []

    def counted(given: dict[str, str]) -> Settings:
        read.append(1)
        return make_settings(given)

    monkeypatch.setattr(sending, "make_settings", counted)
    for _ in range(5):
        send()
    assert len(read) == 1


def test_a_private_authority_in_dotenv_counts_for_redis(dotenv: Write, ca: Certificates) -> None:
    """OpenSSL looks for it in the environment only."""
    outcomes: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca.cert_file, ca.key_file)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def shake() -> None:
            for _ in range(2):  # the client tries twice
                with server.accept()[0] as plain:
                    try:
                        context.wrap_socket(plain, server_side=True).close()
                        outcomes.append("trusted")
                    except OSError:
                        outcomes.append("refused")

        thread = threading.Thread(target=shake)
        thread.start()
        dotenv(REDIS_URL=f"rediss://127.0.0.1:{server.getsockname()[1]}/0", SSL_CERT_FILE=str(ca.ca_file))
        with pytest.raises(StoreUnavailable):
            send()
        thread.join(30)
    assert outcomes == ["trusted", "trusted"]


def test_an_authority_that_the_url_names_itself_is_kept() -> None:
    given = {"SSL_CERT_FILE": "/a.pem", "SSL_CERT_DIR": "/b"}

    def options(url: str, given: dict[str, str]) -> dict[str, str]:
        found = sending._connect(url, given).connection_pool.connection_kwargs
        return {name: value for name, value in found.items() if name.startswith("ssl_")}

    own = "rediss://h/0?ssl_ca_certs=/own.pem"
    assert options(own, given) == {"ssl_ca_certs": "/own.pem", "ssl_ca_path": "/b"}
    assert options("redis://h/0", given) == {}
    assert options(own, {}) == {"ssl_ca_certs": "/own.pem"}


# --- our own processes --------------------------------------------------------------------------------------


def test_a_process_of_ours_exports_what_others_read_and_no_setting(
    dotenv: Write, tmp_path: Path, ca: Certificates
) -> None:
    dotenv(OPENAI_API_KEY="k", SSL_CERT_FILE=str(ca.ca_file), MY_OWN="x y", CLEO_API_TOKEN="t", HOME="/no")
    code = (
        "import os; before = dict(os.environ); from cleo_email.app import settings_or_exit\n"
        "assert settings_or_exit().api_tokens\n"
        "print(sorted(set(os.environ.items()) - set(before.items())))"
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "MY_OWN": "kept"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr([("OPENAI_API_KEY", "k"), ("SSL_CERT_FILE", str(ca.ca_file))])


@pytest.mark.parametrize("argv", [["check"], ["messages", "list"], ["run"], ["poll"]])
def test_a_file_that_cannot_be_read_is_told_in_a_line(argv: list[str], dotenv: Write, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"EMAIL_USER='\xff'\n")
    done = subprocess.run(
        [sys.executable, "-m", "cleo_email", *argv],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (1 if argv == ["check"] else 3), done.stderr
    assert ".env: found a file that cannot be read" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_an_unclosed_quote_is_one_fault_with_its_line(dotenv: Write, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ENABLED_CLIENTS=email\n\n\nEMAIL_PASSWORD='hunter2\n")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "cleo_email", "messages", "list"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    line = "cleo-email: .env line 4: cannot be read as NAME=value (is a quote not closed?)\n"
    assert (done.returncode, done.stdout, done.stderr) == (3, "", line)


def test_lines_of_a_foreign_application_stop_no_call(dotenv: Write, tmp_path: Path, redis_url: str) -> None:
    dotenv(REDIS_URL=redis_url)
    with (tmp_path / ".env").open("a") as file:
        file.write("[section]\nTHEIRS='open\n")
    assert {send()} == stored(redis_url)


def test_a_directory_is_a_fault_of_ours_and_none_of_a_foreign_application(
    dotenv: Write, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    with pytest.raises(SettingsError, match=r"\.env: found a directory"):
        read_settings()
    for name, value in {**BASE, "REDIS_URL": redis_url}.items():
        monkeypatch.setenv(name, value)
    assert {send()} == stored(redis_url)


def test_a_file_of_somebody_else_is_told_with_both_users(
    dotenv: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    Path(".env").chmod(0o600)
    monkeypatch.setattr(Path, "read_text", refuse)
    user = pwd.getpwuid(os.geteuid()).pw_name
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert caught.value.faults == (
        f".env: found a file of {user} (mode 600) that {user}, the user of this process, may not read, "
        "expected one that this user may read",
    )
