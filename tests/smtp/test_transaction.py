"""What becomes of a mail at the SMTP server: every row of the table of outcomes, every fault."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cleo_email.errors import (
    CleoError,
    StoreUnavailable,
    SubmissionError,
    SubmissionLimited,
    SubmissionLoginRefused,
    SubmissionUnavailable,
    SubmissionUncertain,
)
from cleo_email.mail.compose import compose_message
from cleo_email.mail.model import Address, AttachedFile, OutboundEmail
from cleo_email.smtp.pool import Submitter
from cleo_email.smtp.session import SmtpTimeouts, dot_stuffed
from tests.support.smtp_server import SmtpServer

PATIENT = SmtpTimeouts(connect=20, read=20, end_of_data=20, total=60)  # with servers that answer
HASTY = SmtpTimeouts(
    connect=1.5, read=1.0, end_of_data=1.0, total=20
)  # with servers that let us wait on purpose


def mail_to(*recipients: str, markdown: str = "Hello\n.\n..\nend", size: int = 0) -> OutboundEmail:
    files = [AttachedFile("a.bin", "application/octet-stream", b"\x00" * size)] if size else []
    return compose_message(
        from_=Address("cleo@example.org", "Cleo"),
        to=[Address(recipient) for recipient in recipients or ("alice@example.org",)],
        cc=[],
        subject="Status",
        markdown=markdown,
        attachments=files,
        message_id="<1@example.org>",
        date=datetime(2026, 11, 24, tzinfo=UTC),
    )


class Calls:
    """The hook: counts, and notes how many mails the server had at that moment."""

    def __init__(self, server: SmtpServer, error: Exception | None = None) -> None:
        self.server, self.error = server, error
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        if self.error:
            raise self.error


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with SmtpServer() as running:
        yield running


@pytest.fixture
def hook(server: SmtpServer) -> Calls:
    return Calls(server)


@pytest.fixture
def submitter(server: SmtpServer) -> Iterator[Submitter]:
    with Submitter(server.account(), context=server.client_context(), timeouts=PATIENT) as made:
        yield made


@pytest.fixture
def hasty(server: SmtpServer) -> Iterator[Submitter]:
    with Submitter(server.account(), context=server.client_context(), timeouts=HASTY) as made:
        yield made


LARGE = 6_000_000  # more than the buffers between client and server hold


def exactly(kind: type[CleoError]) -> Callable[[pytest.ExceptionInfo[CleoError]], bool]:
    """SubmissionError is the base of its temporary and uncertain kinds: look at what a service looks at."""

    def check(caught: pytest.ExceptionInfo[CleoError]) -> bool:
        uncertain = isinstance(caught.value, SubmissionUncertain) == (kind is SubmissionUncertain)
        login = isinstance(caught.value, SubmissionLoginRefused) == (kind is SubmissionLoginRefused)
        return (
            isinstance(caught.value, kind)
            and caught.value.retry_helps == kind.retry_helps
            and uncertain
            and login
        )

    return check


# --- accepted -------------------------------------------------------------------------------------------


def test_accepted_mail_arrives_unchanged(server: SmtpServer, submitter: Submitter, hook: Calls) -> None:
    mail = mail_to("alice@example.org", "bob@example.org")
    receipt = submitter.submit(mail, before_end_of_data=hook)
    (accepted,) = server.mails
    assert accepted.source == mail.source
    assert accepted.envelope_from == "cleo@example.org"
    assert accepted.recipients == ("alice@example.org", "bob@example.org")
    assert accepted.options == f"SIZE={len(mail.source)}"
    assert accepted.login == "cleo"
    assert receipt.response == "250 2.0.0 queued as 1"
    assert receipt.refused == {}
    assert hook.count == 1


def test_nothing_but_ehlo_and_starttls_is_said_in_clear(
    server: SmtpServer, submitter: Submitter, hook: Calls
) -> None:
    submitter.submit(mail_to(), before_end_of_data=hook)
    assert [line.split()[0] for line in server.clear_commands] == ["ehlo", "STARTTLS"]


def test_the_server_has_nothing_when_the_hook_runs(server: SmtpServer, submitter: Submitter) -> None:
    seen: list[int] = []
    submitter.submit(mail_to(), before_end_of_data=lambda: seen.append(len(server.mails)))
    assert seen == [0]
    assert len(server.mails) == 1


def test_some_refused_recipients_are_named_and_nobody_is_written_to_twice(
    server: SmtpServer, submitter: Submitter, hook: Calls
) -> None:
    server.inject("rcpt/bob@=550 5.1.1 no such user", "rcpt/eve@=450 4.2.0 try later")
    mail = mail_to("alice@example.org", "bob@example.org", "eve@example.org")
    receipt = submitter.submit(mail, before_end_of_data=hook)
    assert receipt.refused == {"bob@example.org": "550 5.1.1 no such user"}
    assert receipt.deferred == {"eve@example.org": "450 4.2.0 try later"}
    assert [accepted.recipients for accepted in server.mails] == [("alice@example.org",)]


@pytest.mark.parametrize("action", ["drop", "500 5.5.2 what?", "silence", "garbage"])
def test_nothing_after_the_acceptance_matters(server: SmtpServer, hook: Calls, action: str) -> None:
    server.inject(f"quit={action}")
    with Submitter(server.account(), context=server.client_context(), timeouts=PATIENT) as submitter:
        assert submitter.submit(mail_to(), before_end_of_data=hook).response.startswith("250")


def test_a_server_that_hangs_up_with_its_250_has_accepted(
    server: SmtpServer, submitter: Submitter, hook: Calls
) -> None:
    server.inject("dot=accept+250 2.0.0 ok then-drop")
    assert submitter.submit(mail_to(), before_end_of_data=hook).response == "250 2.0.0 ok"
    assert submitter.submit(mail_to(), before_end_of_data=hook).response.startswith("250")
    assert len(server.mails) == 2


def test_a_large_mail_arrives_whole(server: SmtpServer, submitter: Submitter, hook: Calls) -> None:
    mail = mail_to(size=3_000_000)
    submitter.submit(mail, before_end_of_data=hook)
    assert server.mails[0].source == mail.source


def test_dots_and_foreign_line_ends() -> None:
    assert dot_stuffed(b".a\r\n.\r\n..b") == b"..a\r\n..\r\n...b\r\n"
    assert dot_stuffed(b"a\n.\nb\r.\r\r\n.\n") == b"a\r\n..\r\nb\r\n..\r\n\r\n..\r\n"
    assert dot_stuffed(b"") == b"\r\n"


# --- not accepted: every fault before the final dot -----------------------------------------------------

BEFORE_THE_DOT = ["ehlo", "starttls", "auth", "mail", "rcpt", "data", "body"]


@pytest.mark.parametrize("action", ["drop", "silence", "drip", "flood", "garbage", "421 4.3.2 shutting down"])
@pytest.mark.parametrize("stage", ["connect", "tls", *BEFORE_THE_DOT])
def test_a_broken_session_before_the_dot_is_temporary(
    server: SmtpServer, hasty: Submitter, hook: Calls, stage: str, action: str
) -> None:
    if (stage, action) == ("body", "silence"):
        stage = "data"  # a server that reads on in silence cannot be told from a good one, see below
    server.inject(f"{stage}*0={action}")
    with pytest.raises(SubmissionUnavailable) as caught:
        hasty.submit(mail_to(size=LARGE if stage == "body" else 0), before_end_of_data=hook)
    assert exactly(SubmissionUnavailable)(caught)
    assert server.mails == []
    assert hook.count == 0


@pytest.mark.parametrize("stage", [stage for stage in ["connect", *BEFORE_THE_DOT] if stage != "body"])
def test_4xx_is_temporary(server: SmtpServer, submitter: Submitter, hook: Calls, stage: str) -> None:
    server.inject(f"{stage}*0=451 4.3.0 not now")
    with pytest.raises(SubmissionUnavailable, match=r"451 4\.3\.0 not now") as caught:
        submitter.submit(mail_to(), before_end_of_data=hook)
    assert exactly(SubmissionUnavailable)(caught)
    assert hook.count == 0


@pytest.mark.parametrize("stage", ["connect", "ehlo", "starttls", "mail", "rcpt", "data", "body"])
def test_5xx_is_permanent(server: SmtpServer, submitter: Submitter, hook: Calls, stage: str) -> None:
    server.inject(f"{stage}*0=554 5.7.1 never")
    with pytest.raises(SubmissionError, match=r"554 5\.7\.1 never") as caught:
        submitter.submit(mail_to(size=LARGE if stage == "body" else 0), before_end_of_data=hook)
    assert exactly(SubmissionError)(caught)
    assert server.mails == []


@pytest.mark.parametrize(
    ("bob", "kind"), [("550 5.1.1 unknown", SubmissionError), ("450 4.2.0 later", SubmissionUnavailable)]
)
def test_all_recipients_refused(
    server: SmtpServer, submitter: Submitter, hook: Calls, bob: str, kind: type[SubmissionError]
) -> None:
    server.inject("rcpt/alice=550 5.1.1 unknown", f"rcpt/bob={bob}")
    with pytest.raises(kind, match=r"alice@example\.org: 550 5\.1\.1 unknown; bob@") as caught:
        submitter.submit(mail_to("alice@example.org", "bob@example.org"), before_end_of_data=hook)
    assert exactly(kind)(caught)


def test_a_mail_above_the_offered_size_is_refused_here(hook: Calls) -> None:
    with (
        SmtpServer(size=1000) as small,
        Submitter(small.account(), context=small.client_context(), timeouts=PATIENT) as submitter,
        pytest.raises(SubmissionError, match=r"has \d+ bytes and the server takes at most 1000") as caught,
    ):
        submitter.submit(mail_to(size=2000), before_end_of_data=hook)
    assert exactly(SubmissionError)(caught)
    assert not any(line.startswith("MAIL") for line in small.commands)


@pytest.mark.parametrize("size", [None, 0])
def test_no_size_or_no_limit_offered(hook: Calls, size: int | None) -> None:
    with (
        SmtpServer(size=size) as server,
        Submitter(server.account(), context=server.client_context(), timeouts=PATIENT) as submitter,
    ):
        submitter.submit(mail_to(size=2000), before_end_of_data=hook)
        assert len(server.mails) == 1


def test_the_hook_that_raises_leaves_nothing_accepted(server: SmtpServer, submitter: Submitter) -> None:
    hook = Calls(server, StoreUnavailable("Redis is away"))
    with pytest.raises(StoreUnavailable):
        submitter.submit(mail_to(), before_end_of_data=hook)
    server.wait_for(lambda seen: seen.incomplete == 1)
    assert server.mails == []
    assert hook.count == 1


def test_nobody_listens(server: SmtpServer, hook: Calls) -> None:
    server.stop()
    with Submitter(server.account(), context=server.client_context(), timeouts=PATIENT) as submitter:
        with pytest.raises(SubmissionUnavailable, match="EMAIL_SMTP_PORT") as caught:
            submitter.submit(mail_to(), before_end_of_data=hook)
        assert exactly(SubmissionUnavailable)(caught)


# --- after the dot --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action", ["drop", "silence", "drip", "flood", "garbage", "accept+drop", "accept+silence", "354 go on"]
)
def test_no_answer_after_the_dot_is_uncertain(
    server: SmtpServer, hasty: Submitter, hook: Calls, action: str
) -> None:
    server.inject(f"dot*0={action}")
    with pytest.raises(SubmissionUncertain) as caught:
        hasty.submit(mail_to(), before_end_of_data=hook)
    assert exactly(SubmissionUncertain)(caught)
    assert len(server.mails) == ("accept" in action)
    assert hook.count == 1


def test_a_server_that_falls_silent_in_the_middle_and_reads_on_is_uncertain(
    server: SmtpServer, hasty: Submitter, hook: Calls
) -> None:
    server.inject("body=silence")
    with pytest.raises(SubmissionUncertain):
        hasty.submit(mail_to(size=LARGE), before_end_of_data=hook)
    assert hook.count == 1


def test_an_answer_line_without_end_is_uncertain(
    server: SmtpServer, submitter: Submitter, hook: Calls
) -> None:
    """smtplib makes of it a 500, which would be taken for a refusal."""
    server.inject(f"dot=accept+250 {'x' * 20_000}")
    with pytest.raises(SubmissionUncertain):
        submitter.submit(mail_to(), before_end_of_data=hook)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("452 4.3.1 disk full", SubmissionUnavailable),
        ("421 4.3.2 shutting down", SubmissionUnavailable),
        ("550 5.7.1 spam", SubmissionError),
        ("552 5.3.4 too big", SubmissionError),
    ],
)
def test_a_refusal_of_the_whole_mail(
    server: SmtpServer, submitter: Submitter, hook: Calls, reply: str, kind: type[SubmissionError]
) -> None:
    server.inject(f"dot={reply}")
    with pytest.raises(kind, match=reply) as caught:
        submitter.submit(mail_to(), before_end_of_data=hook)
    assert exactly(kind)(caught)
    assert hook.count == 1
    assert server.mails == []
    submitter.submit(mail_to(), before_end_of_data=hook)
    assert len(server.mails) == 1


def test_a_server_that_leaves_before_the_dot_is_sent_has_accepted_nothing(
    server: SmtpServer, submitter: Submitter
) -> None:
    def hook() -> None:
        calls.append(1)
        server.hang_up_all()
        server.wait_for(lambda seen: seen.open_connections == 0)

    calls: list[int] = []
    for connections in (1, 2):
        with pytest.raises(SubmissionUnavailable) as caught:
            submitter.submit(mail_to(), before_end_of_data=hook)
        assert exactly(SubmissionUnavailable)(caught)
        assert server.connections == len(calls) == connections
    assert server.mails == []


# --- TLS ------------------------------------------------------------------------------------------------


def test_without_starttls_nothing_is_sent(hook: Calls) -> None:
    with (
        SmtpServer(starttls=False) as server,
        Submitter(server.account(), context=server.client_context(), timeouts=PATIENT) as submitter,
    ):
        with pytest.raises(SubmissionError, match="EMAIL_SMTP_PORT") as caught:
            submitter.submit(mail_to(), before_end_of_data=hook)
        assert exactly(SubmissionError)(caught)
        assert [line.split()[0] for line in server.commands] == ["ehlo"]


def test_a_certificate_of_an_unknown_authority_is_refused(server: SmtpServer, hook: Calls) -> None:
    with Submitter(server.account(), timeouts=PATIENT) as submitter:
        with pytest.raises(SubmissionError, match=r"SSL_CERT_FILE or SSL_CERT_DIR") as caught:
            submitter.submit(mail_to(), before_end_of_data=hook)
        assert exactly(SubmissionError)(caught)
    assert not any("AUTH" in line for line in server.commands)


def test_a_certificate_for_another_name_is_refused(hook: Calls) -> None:
    with (
        SmtpServer(certified_name="mail.example.org") as server,
        Submitter(server.account(), context=server.client_context(), timeouts=PATIENT) as submitter,
        pytest.raises(SubmissionError, match="certificate that is not trusted"),
    ):
        submitter.submit(mail_to(), before_end_of_data=hook)


def test_ssl_cert_file_names_a_private_authority(
    server: SmtpServer, hook: Calls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with Submitter(server.account(), timeouts=PATIENT) as submitter:
        submitter.submit(mail_to(), before_end_of_data=hook)
    assert len(server.mails) == 1


@pytest.fixture
def implicit_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpServer]:
    with SmtpServer(implicit_tls=True) as running:
        monkeypatch.setattr("cleo_email.smtp.session.IMPLICIT_TLS", running.port)
        yield running


def test_implicit_tls(implicit_server: SmtpServer, hook: Calls) -> None:
    with Submitter(
        implicit_server.account(), context=implicit_server.client_context(), timeouts=PATIENT
    ) as submitter:
        submitter.submit(mail_to(), before_end_of_data=hook)
    assert len(implicit_server.mails) == 1
    assert implicit_server.clear_commands == []


def test_implicit_tls_verifies_too(implicit_server: SmtpServer, hook: Calls) -> None:
    with (
        Submitter(implicit_server.account(), timeouts=PATIENT) as submitter,
        pytest.raises(SubmissionError, match="SSL_CERT_FILE"),
    ):
        submitter.submit(mail_to(), before_end_of_data=hook)


@pytest.mark.parametrize("trusted", [True, False])
def test_a_port_with_tls_at_once_is_told_soon(hook: Calls, trusted: bool) -> None:
    """Nobody waits for 30 seconds; only the greeting is late."""
    with SmtpServer(implicit_tls=True) as other:
        context = other.client_context() if trusted else ssl.create_default_context()
        begun = time.monotonic()
        with (
            Submitter(other.account(), context=context, timeouts=PATIENT) as submitter,
            pytest.raises(SubmissionUnavailable, match=r"set EMAIL_SMTP_PORT=465") as caught,
        ):
            submitter.submit(mail_to(), before_end_of_data=hook)
        assert time.monotonic() - begun < PATIENT.read / 2
        assert exactly(SubmissionUnavailable)(caught)
        assert other.connections == 2


def test_a_port_with_tls_at_once_that_hangs_up_by_itself(hook: Calls) -> None:
    with (
        SmtpServer(implicit_tls=True) as other,
        Submitter(other.account(), context=other.client_context(), timeouts=PATIENT) as submitter,
    ):
        hanging_up = threading.Thread(target=hang_up_the_first, args=[other])
        hanging_up.start()
        with pytest.raises(SubmissionUnavailable, match=r"set EMAIL_SMTP_PORT=465"):
            submitter.submit(mail_to(), before_end_of_data=hook)
        hanging_up.join()


def hang_up_the_first(server: SmtpServer) -> None:
    server.wait_for(lambda seen: seen.connections == 1)
    server.hang_up_all()


def test_a_greeting_that_is_late_on_purpose_is_waited_for(
    server: SmtpServer, hook: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cleo_email.smtp.session._SILENCE_S", 0.05)
    server.inject("connect=wait", "connect=silence")

    def greet() -> None:
        server.wait_for(lambda seen: seen.connections == 2)  # the second one looks whether TLS is spoken
        server.gate.set()

    greeting = threading.Thread(target=greet)
    greeting.start()
    with Submitter(server.account(), context=server.client_context(), timeouts=PATIENT) as submitter:
        submitter.submit(mail_to(), before_end_of_data=hook)
    greeting.join()
    assert [mail.connection for mail in server.mails] == [1]


def test_a_port_without_tls_at_once_is_told(
    server: SmtpServer, hook: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cleo_email.smtp.session.IMPLICIT_TLS", server.port)
    with (
        Submitter(server.account(), context=server.client_context(), timeouts=PATIENT) as submitter,
        pytest.raises(SubmissionUnavailable, match="set EMAIL_SMTP_PORT=587"),
    ):
        submitter.submit(mail_to(), before_end_of_data=hook)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "no server of this name is known"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "cannot be looked up now"),
        (ConnectionRefusedError(111, "Connection refused"), "nothing listens there"),
        (OSError(101, "Network is unreachable"), "no way to it"),
        (OSError(113, "No route to host"), "no way to it"),
        (TimeoutError("timed out"), "no answer in time"),
        (ConnectionResetError(104, "Connection reset by peer"), "was cut"),
        (OSError(99, "Cannot assign requested address"), "Cannot assign"),
    ],
)
def test_no_connection_is_told_in_words_and_names_the_setting(
    server: SmtpServer, submitter: Submitter, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("cleo_email.smtp.session.SmtpConnection.dial", fail)
    with pytest.raises(SubmissionUnavailable, match="EMAIL_SMTP_HOST") as caught:
        submitter.check()
    assert words in str(caught.value)
    assert "Errno" not in str(caught.value)


@pytest.mark.parametrize(
    ("bob", "kind", "permanent"),
    [
        ("550 5.4.5 Daily user sending limit exceeded", SubmissionLimited, True),
        ("450 4.7.1 rate limited", SubmissionLimited, False),
        ("552 5.2.2 mailbox full", SubmissionError, True),
        ("452 4.2.2 mailbox full", SubmissionUnavailable, False),
    ],
)
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "body", "dot"])
def test_a_limit_of_the_account_is_temporary_at_every_stage(
    server: SmtpServer,
    submitter: Submitter,
    hook: Calls,
    stage: str,
    bob: str,
    kind: type[SubmissionError],
    permanent: bool,
) -> None:
    server.inject(f"{stage}*0={bob}")
    with pytest.raises(kind) as caught:
        submitter.submit(mail_to(size=LARGE if stage == "body" else 0), before_end_of_data=hook)
    assert type(caught.value) is kind
    if isinstance(caught.value, SubmissionLimited):
        assert caught.value.permanent == permanent


@pytest.mark.parametrize("reply", ["421 4.7.0 rate limited", "554 5.7.1 your account has been suspended"])
def test_a_limit_may_be_told_at_the_greeting(
    server: SmtpServer, submitter: Submitter, hook: Calls, reply: str
) -> None:
    server.inject(f"connect*0={reply}")
    with pytest.raises(SubmissionLimited, match=reply):
        submitter.submit(mail_to(), before_end_of_data=hook)


@pytest.mark.parametrize("code", [530, 534, 535, 538])
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "body", "dot"])
def test_a_login_code_is_one_at_every_stage(
    server: SmtpServer, submitter: Submitter, hook: Calls, stage: str, code: int
) -> None:
    server.inject(f"{stage}*0={code} 5.7.0 Authentication required")
    with pytest.raises(SubmissionLoginRefused):
        submitter.submit(mail_to(size=LARGE if stage == "body" else 0), before_end_of_data=hook)


@pytest.mark.parametrize(
    "reply", ["452 4.5.3 Too many recipients", "552 too many recipients", "550 5.4.5 daily limit exceeded"]
)
def test_recipients_beyond_a_number_wait(
    server: SmtpServer, submitter: Submitter, hook: Calls, reply: str
) -> None:
    server.inject(f"rcpt+1*0={reply}")
    receipt = submitter.submit(
        mail_to("a@example.org", "b@example.org", "c@example.org"), before_end_of_data=hook
    )
    assert list(receipt.deferred) == ["b@example.org", "c@example.org"]
    assert receipt.refused == {}


def test_words_slipped_in_before_tls_are_forgotten(
    server: SmtpServer, submitter: Submitter, hook: Calls
) -> None:
    """RFC 3207 section 4.2: else someone on the way could answer EHLO for the server."""
    server.smuggled = b"250-test\r\n250-AUTH LOGIN\r\n250 SIZE 1\r\n"
    submitter.submit(mail_to(), before_end_of_data=hook)
    assert server.mails[0].source == mail_to().source


def test_the_default_context_verifies() -> None:
    submitter = Submitter(SmtpServer().account())
    assert submitter._context.verify_mode is ssl.CERT_REQUIRED
    assert submitter._context.check_hostname
