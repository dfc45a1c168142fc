"""Logins: mechanisms, refusals, and secrets that must never be shown."""

from __future__ import annotations

import base64
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from cleo_email.accounts import Login, SmtpAccount
from cleo_email.errors import (
    SubmissionError,
    SubmissionLimited,
    SubmissionLoginRefused,
    SubmissionUnavailable,
)
from cleo_email.smtp.pool import Submitter
from tests.smtp.test_transaction import PATIENT, mail_to
from tests.support.smtp_server import SmtpServer

TOKEN = "ya29." + "t" * 2000


@contextmanager
def sending(
    *,
    user: str = "cleo",
    password: str = "geheim",
    token: Callable[[], str] | None = None,
    known: str = "geheim",
    tokens: dict[str, str] | None = None,
    mechanisms: Sequence[str] = ("PLAIN", "LOGIN", "XOAUTH2"),
) -> Iterator[tuple[SmtpServer, Submitter]]:
    with SmtpServer(passwords={user: known}, tokens=tokens, mechanisms=mechanisms) as server:
        account = server.account(user, password, token)
        with Submitter(account, context=server.client_context(), timeouts=PATIENT) as submitter:
            yield server, submitter


def send(submitter: Submitter) -> None:
    submitter.submit(mail_to(), before_end_of_data=lambda: None)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("password", ["geheim", "gehëim-ß-€-🔑", "with blank", "x" * 300])
def test_passwords(mechanism: str, password: str) -> None:
    """smtplib cannot send a password that is not ASCII."""
    with sending(password=password, known=password, mechanisms=[mechanism]) as (server, submitter):
        send(submitter)
        assert server.mails[0].login == "cleo"


def test_plain_is_preferred() -> None:
    with sending(mechanisms=["XOAUTH2", "LOGIN", "PLAIN"]) as (server, submitter):
        send(submitter)
        assert [line.split()[1] for line in server.commands if line.startswith("AUTH")] == ["PLAIN"]


def test_xoauth2_sends_the_token_without_an_initial_response() -> None:
    with sending(password="", token=lambda: TOKEN, tokens={"cleo": TOKEN}) as (server, submitter):
        send(submitter)
        at = server.commands.index("AUTH XOAUTH2")
        assert base64.b64decode(server.commands[at + 1]).decode() == f"user=cleo\1auth=Bearer {TOKEN}\1\1"
        assert server.mails[0].login == "cleo"


def test_a_refused_token_gets_its_empty_answer() -> None:
    with sending(token=lambda: TOKEN, tokens={"cleo": "another"}) as (server, submitter):
        with pytest.raises(SubmissionLoginRefused, match="535"):
            send(submitter)
        assert server.commands[-1] == ""


def test_a_new_token_is_asked_for_each_login() -> None:
    tokens = iter(["expired", TOKEN])
    with sending(token=lambda: next(tokens), tokens={"cleo": TOKEN}) as (server, submitter):
        with pytest.raises(SubmissionLoginRefused):
            send(submitter)
        send(submitter)
        assert len(server.mails) == 1


def test_what_the_token_source_raises_is_passed_on() -> None:
    def source() -> str:
        raise SubmissionUnavailable("the token server is away")

    with (
        sending(token=source) as (server, submitter),
        pytest.raises(SubmissionUnavailable, match="token server"),
    ):
        send(submitter)
    assert server.connections == 0


@pytest.mark.parametrize("stage", ["auth", "login"])
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("535 5.7.8 bad credentials", SubmissionLoginRefused),
        ("534 5.7.9 use an app password", SubmissionLoginRefused),
        ("530 5.7.57 client not authenticated", SubmissionLoginRefused),
        ("550 5.7.1 account locked", SubmissionLoginRefused),
        ("454 4.7.0 temporary failure", SubmissionUnavailable),
        ("421 4.7.0 too many logins", SubmissionUnavailable),
    ],
)
def test_refused_logins(stage: str, reply: str, kind: type[SubmissionError]) -> None:
    with sending() as (server, submitter):
        server.inject(f"{stage}*0={reply}")
        with pytest.raises(kind, match=reply) as caught:
            send(submitter)
        assert isinstance(caught.value, SubmissionLoginRefused) == (kind is SubmissionLoginRefused)
        assert ("EMAIL_USER" in str(caught.value)) == (kind is SubmissionLoginRefused)


# --- a server that offers more than it takes --------------------------------------------------------------


def logins(server: SmtpServer) -> list[str]:
    return [line.split()[1] for line in server.commands if line.startswith("AUTH")]


REFUSALS = [
    "535 5.7.8 Authentication credentials invalid",
    "535 Error: authentication failed, system busy",
    "504 5.5.4 Unrecognized authentication type",
    "534 5.7.9 Authentication mechanism is too weak",
    "501 5.5.2 Cannot decode response",
    "550 5.7.0 User not allowed to use this mechanism",
    "502 5.5.1 not implemented",
    "334 ",  # and 500 to what follows
]


@pytest.mark.parametrize("reply", REFUSALS)
def test_the_other_mechanism_is_tried_in_the_same_session_and_remembered(reply: str) -> None:
    with sending() as (server, submitter):
        server.inject(f"auth/PLAIN*0={reply}")
        send(submitter)
        assert server.connections == 1
        assert server.mails[0].login == "cleo"
        submitter.check()
        assert logins(server) == ["PLAIN", "LOGIN", "LOGIN"]
        server.clear_faults()
        server.inject(f"auth/LOGIN*0={reply}")
        submitter.check()
        submitter.check()
        assert logins(server)[3:] == ["LOGIN", "PLAIN", "PLAIN"]
        assert server.connections == 4


@pytest.mark.parametrize(
    "fault",
    [
        "auth/PLAIN*0=535 5.7.8 no then-drop",
        "auth/PLAIN*0=535 5.7.8 no",  # and 421 or 503 to the second
    ],
)
@pytest.mark.parametrize("second", ["", "421 4.7.0 too many errors", "503 5.5.1 AUTH already given"])
def test_a_server_that_ends_the_session_after_a_refusal_gets_a_second_one_once(
    fault: str, second: str
) -> None:
    with sending() as (server, submitter):
        server.inject(fault)
        if second:
            server.inject(f"auth/LOGIN={second}")
            if "drop" in fault:
                server.clear_faults()
                server.inject(fault)
        send(submitter)
        assert len(server.mails) == 1
        assert server.connections <= 2
        submitter.check()
        assert logins(server)[-1] == "LOGIN"


def test_a_wrong_password_is_tried_twice_at_first_and_once_a_session_then() -> None:
    with sending(password="falsch") as (server, submitter):
        for _ in range(4):
            with pytest.raises(SubmissionLoginRefused, match="EMAIL_PASSWORD"):
                send(submitter)
        assert logins(server) == ["PLAIN", "LOGIN", "PLAIN", "LOGIN", "PLAIN"]
        server.passwords = {"cleo": "falsch"}
        send(submitter)
        assert len(server.mails) == 1


def test_a_wrong_password_at_a_server_that_hangs_up() -> None:
    with sending(password="falsch") as (server, submitter):
        server.inject("login*0=535 5.7.8 wrong then-drop")
        for _ in range(3):
            with pytest.raises(SubmissionLoginRefused, match="EMAIL_PASSWORD"):
                send(submitter)
        assert logins(server) == ["PLAIN", "LOGIN", "PLAIN", "LOGIN"]


@pytest.mark.parametrize("reply", ["454 4.7.0 Temporary authentication failure", "421 4.7.0 try later"])
def test_a_temporary_failure_is_one(reply: str) -> None:
    with sending() as (server, submitter):
        server.inject(f"auth*0={reply}")
        with pytest.raises(SubmissionLimited) as caught:
            send(submitter)
        assert logins(server) == ["PLAIN"], "the other mechanism would fail as well"
        assert reply in str(caught.value)
        assert "does not say that the password is wrong" in str(caught.value)
        assert not caught.value.permanent


def test_many_threads_do_not_try_a_wrong_password_at_once() -> None:
    with sending(password="falsch") as (server, submitter):
        server.inject("connect*0=wait")
        faults: list[SubmissionError] = []

        def attempt() -> None:
            with pytest.raises(SubmissionLoginRefused) as caught:
                send(submitter)
            faults.append(caught.value)

        threads = [threading.Thread(target=attempt) for _ in range(4)]
        for thread in threads:
            thread.start()
        server.wait_for(lambda seen: seen.connections == 1)
        until = time.monotonic() + 30
        while submitter._slots._value:  # all four have begun
            assert time.monotonic() < until
            time.sleep(0.01)
        server.gate.set()
        for thread in threads:
            thread.join()
        assert len(faults) == 4
        assert server.connections <= 2, "one that had not yet begun to wait may try for itself"


def test_a_wrong_password() -> None:
    with sending(password="falsch") as (_, submitter), pytest.raises(SubmissionLoginRefused, match="535"):
        send(submitter)


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_that_became_part_of_the_password_get_a_hint(quote: str) -> None:
    with sending(password=f"{quote}geheim{quote}") as (_, submitter):
        hint = r"EMAIL_PASSWORD \(the quotes at its beginning"
        with pytest.raises(SubmissionLoginRefused, match=hint) as caught:
            send(submitter)
    assert "geheim" not in str(caught.value)


def test_530_at_mail_is_a_matter_of_the_login() -> None:
    with sending() as (server, submitter):
        server.inject("mail*0=530 5.7.57 Client was not authenticated")
        with pytest.raises(SubmissionLoginRefused):
            send(submitter)


def test_a_server_without_logins_is_not_given_the_password() -> None:
    with sending(mechanisms=[]) as (server, submitter):
        with pytest.raises(SubmissionError, match="offers no login") as caught:
            send(submitter)
        assert not caught.value.retry_helps
        assert not any("AUTH" in line for line in server.commands)


def test_unknown_mechanisms_are_named() -> None:
    with (
        sending(mechanisms=["GSSAPI", "NTLM"]) as (_, submitter),
        pytest.raises(SubmissionError, match="GSSAPI NTLM"),
    ):
        send(submitter)


def test_a_relay_without_password_needs_no_login() -> None:
    with sending(password="", mechanisms=[]) as (server, submitter):
        send(submitter)
        assert server.mails[0].login == ""


@pytest.mark.parametrize("stage", ["login", "mail", "rcpt", "data", "dot"])
def test_an_error_shows_no_secret_even_if_the_server_repeats_it(
    stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    password = "S3kret pass-wört"
    plain = base64.b64encode(f"\0cleo\0{password}".encode()).decode()
    alone = base64.b64encode(password.encode()).decode()
    caplog.set_level(logging.DEBUG)
    with sending(password=password, known=password) as (server, submitter):
        server.inject(f"{stage}*0=554 no: {password} {plain} {alone}")
        with pytest.raises(SubmissionError, match="554 no") as caught:
            send(submitter)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    for secret in (password, plain, alone):
        assert secret not in shown


def test_an_error_shows_no_token() -> None:
    with sending(token=lambda: TOKEN, tokens={"cleo": TOKEN}) as (server, submitter):
        server.inject(f"mail*0=554 no: {TOKEN[:1000]}{TOKEN[1000:]}")
        with pytest.raises(SubmissionError) as caught:
            send(submitter)
    assert TOKEN[:50] not in "".join(traceback.format_exception(caught.value))


def test_foreign_words_become_one_printable_line() -> None:
    with sending() as (server, submitter):
        server.inject("mail*0=550-first\r\n550-\x1b[31mred\x07\u202e\r\n550 " + "long " * 500)
        with pytest.raises(SubmissionError) as caught:
            send(submitter)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) <= 300
    assert "550 first [31mred long long" in text


def test_check_describes_the_server() -> None:
    with sending() as (server, submitter):
        line = submitter.check()
        assert line == f"127.0.0.1:{server.port}, TLSv1.3, logged in as cleo, mail up to 50000000 bytes"
        assert server.commands[-1] == "NOOP"


def test_check_finds_a_wrong_password() -> None:
    with sending(password="falsch") as (_, submitter), pytest.raises(SubmissionLoginRefused):
        submitter.check()


def test_check_reports_a_refused_noop() -> None:
    with sending() as (server, submitter):
        server.inject("noop=451 4.3.0 sick", "noop=drop")
        for _ in range(2):
            with pytest.raises(SubmissionUnavailable):
                submitter.check()


def test_an_unknown_host_names_the_setting() -> None:
    for host in ("no-such-host.invalid", "a..b", "x" * 70 + ".example"):
        with (
            Submitter(SmtpAccount(host, 587, Login("cleo", "geheim")), timeouts=PATIENT) as submitter,
            pytest.raises(SubmissionUnavailable, match="EMAIL_SMTP_HOST") as caught,
        ):
            submitter.check()
        assert "Errno" not in str(caught.value)
        assert "no server of this name is known" in str(caught.value) or "looked up" in str(caught.value)
