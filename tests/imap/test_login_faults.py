"""How a login fails, and that no secret comes out by it."""

from __future__ import annotations

import base64
import logging
import traceback

import pytest

from cleo_email.accounts import ImapAccount, Login
from cleo_email.errors import MailboxError, MailboxLoginRefused, MailboxUnavailable, SettingsError
from cleo_email.imap.mailbox import Mailbox
from cleo_email.imap.session import response_code
from cleo_email.imap.values import ImapTimeouts
from cleo_email.scrub import SERVER_LINE
from tests.imap.conftest import HASTY, PATIENT
from tests.support.imap_server import Answer, FakeImapServer, HangUp, Session, bye, hang_up, says, silence

PASSWORD = 'pass"wörd\\of{3} mine'


def kind_of(
    server: FakeImapServer, login: Login | None = None, timeouts: ImapTimeouts = PATIENT
) -> MailboxError:
    account = server.account() if login is None else ImapAccount("localhost", server.port, login)
    with pytest.raises(MailboxError) as caught:
        Mailbox(account, ssl_context=server.ssl_context(), timeouts=timeouts).open()
    return caught.value


@pytest.mark.parametrize("command", ["AUTHENTICATE", "LOGIN"])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (says("NO [AUTHENTICATIONFAILED] Invalid credentials"), MailboxLoginRefused),
        (says("NO [authenticationfailed] lower case, try again"), MailboxLoginRefused),
        (says("NO LOGIN failed."), MailboxLoginRefused),
        (says("NO Login failed."), MailboxLoginRefused),
        (says("NO Invalid user name or password. Please use full email address"), MailboxLoginRefused),
        (says("NO [ALERT] Please log in via your web browser"), MailboxLoginRefused),
        (says("NO Too many login failures"), MailboxLoginRefused),
        (says("NO [EXPIRED] password has expired"), MailboxLoginRefused),
        (says("NO [CONTACTADMIN] blocked"), MailboxLoginRefused),
        (says("NO [UNAVAILABLE] Temporary authentication failure"), MailboxUnavailable),
        (says("NO [LIMIT] Too many logins"), MailboxUnavailable),
        (says("NO [INUSE] Too many simultaneous connections"), MailboxUnavailable),
        (says("NO [ALERT] Too many simultaneous connections. (Failure)"), MailboxUnavailable),
        (says("NO Maximum number of connections from user+IP exceeded"), MailboxUnavailable),
        (says("NO Temporary system problem. Please try again later"), MailboxUnavailable),
        (says("NO LOGIN Server error"), MailboxUnavailable),
        (says("BAD not now"), MailboxUnavailable),
        (bye("[UNAVAILABLE] Internal login failure"), MailboxUnavailable),
        (hang_up, MailboxUnavailable),
        (silence, MailboxUnavailable),
        (lambda session, tag, rest: session.send("garbage"), MailboxUnavailable),
    ],
)
def test_a_no_is_about_the_password_unless_it_says_otherwise(
    fault: Answer, kind: type[MailboxError], command: str, server: FakeImapServer
) -> None:
    server.capabilities = "AUTH=PLAIN LOGINDISABLED" if command == "AUTHENTICATE" else ""
    server.answers = {"AUTHENTICATE": fault, "LOGIN": fault}
    error = kind_of(server, timeouts=HASTY if fault is silence else PATIENT)
    assert type(error) is kind
    assert len(server.sent(command)) == 1
    assert ("EMAIL_USER" in str(error)) is (kind is MailboxLoginRefused)


@pytest.mark.parametrize("refusal", ["NO LOGIN failed.", "NO [AUTHENTICATIONFAILED] no", "BAD no PLAIN here"])
@pytest.mark.parametrize(
    "offered", ["AUTH=PLAIN", "AUTH=PLAIN AUTH=LOGIN", "AUTH=LOGIN AUTH=PLAIN LOGINDISABLED"]
)
def test_where_plain_is_offered_and_refused_another_mechanism_is_tried_and_remembered(
    refusal: str, offered: str, server: FakeImapServer
) -> None:
    server.capabilities = offered
    server.answers["AUTHENTICATE"] = refuses("PLAIN", refusal)
    with Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=PATIENT) as box:
        box.open()
        first = tries(server)
        assert first[0] == "AUTHENTICATE PLAIN"
        assert len(first) == 2
        assert box.logins == 1
        box.close()
        box.open()
    assert tries(server)[2:] == first[1:], "the next login begins with what worked"


def test_where_the_command_login_is_refused_plain_is_tried(server: FakeImapServer) -> None:
    server.capabilities = ""
    server.answers["LOGIN"] = says("NO use AUTHENTICATE")
    with Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=PATIENT) as box:
        box.open()
    assert tries(server) == ['LOGIN ann "secret"', "AUTHENTICATE PLAIN"]


@pytest.mark.parametrize("password", [PASSWORD, 'quote"s and \\ "'])
@pytest.mark.parametrize("offered", ["AUTH=PLAIN AUTH=LOGIN LOGINDISABLED", "AUTH=PLAIN AUTH=LOGIN"])
def test_a_password_goes_through_the_second_mechanism_as_it_is(
    offered: str, password: str, server: FakeImapServer
) -> None:
    heard: list[bytes] = []

    def answer(session: Session, tag: str, rest: str) -> None:
        for _ in range(1 if rest.endswith("PLAIN") else 2):
            session.send("+ ")
            heard.append(base64.b64decode(session.rfile.readline()))
        session.send(f"{tag} NO no" if rest.endswith("PLAIN") else f"{tag} OK welcome")

    server.capabilities, server.answers["AUTHENTICATE"] = offered, answer
    account = ImapAccount("localhost", server.port, Login("ann", password))
    with Mailbox(account, ssl_context=server.ssl_context(), timeouts=PATIENT) as box:
        box.open()
    by_command = server.sent("LOGIN")
    if by_command:
        escaped = password.replace("\\", "\\\\").replace('"', '\\"')
        assert by_command == [f'LOGIN ann "{escaped}"']
    else:
        assert heard[1:] == [b"ann", password.encode()]


@pytest.mark.parametrize(
    "offered", ["", "AUTH=PLAIN", "AUTH=PLAIN AUTH=LOGIN", "AUTH=LOGIN", "AUTH=PLAIN LOGINDISABLED"]
)
def test_a_password_is_tried_twice_at_most_and_once_where_the_mechanism_has_worked(
    offered: str, server: FakeImapServer
) -> None:
    server.capabilities = offered
    with Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=PATIENT) as box:
        no = says("NO [AUTHENTICATIONFAILED] no")
        for most in (2, 2):
            server.answers = {"AUTHENTICATE": no, "LOGIN": no}
            before = len(tries(server))
            with pytest.raises(MailboxLoginRefused, match="EMAIL_PASSWORD"):
                box.open()
            assert len(tries(server)) - before <= most
        server.answers = {}
        box.open()
        box.close()
        server.answers = {"AUTHENTICATE": no, "LOGIN": no}
        before = len(tries(server))
        with pytest.raises(MailboxLoginRefused):
            box.open()
        assert len(tries(server)) - before == 1, "the password is another one now"
        assert not ("LOGINDISABLED" in offered and server.sent("LOGIN"))


def test_a_server_that_ends_the_session_after_a_refusal_is_asked_otherwise_next_time(
    server: FakeImapServer,
) -> None:
    def once(session: Session, tag: str, rest: str) -> None:
        session.send("+ ")
        session.rfile.readline()
        session.send(f"{tag} NO LOGIN failed.")
        raise HangUp

    server.capabilities = "AUTH=PLAIN"
    server.answers["AUTHENTICATE"] = once
    with Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=PATIENT) as box:
        with pytest.raises(MailboxLoginRefused, match="LOGIN failed"):
            box.open()
        assert box.open().exists == 3
    assert tries(server) == ["AUTHENTICATE PLAIN", 'LOGIN ann "secret"']


def test_a_temporary_refusal_is_no_reason_to_send_the_password_again(server: FakeImapServer) -> None:
    server.capabilities = "AUTH=PLAIN AUTH=LOGIN"
    server.answers["AUTHENTICATE"] = says("NO [UNAVAILABLE] later")
    assert type(kind_of(server)) is MailboxUnavailable
    assert tries(server) == ["AUTHENTICATE PLAIN"]


def refuses(mechanism: str, refusal: str) -> Answer:
    def answer(session: Session, tag: str, rest: str) -> None:
        if rest == f"AUTHENTICATE {mechanism}":
            session.send(f"{tag} {refusal}")
            return
        for _ in range(2):
            session.send("+ ")
            session.rfile.readline()
        session.send(f"{tag} OK welcome")

    return answer


def tries(server: FakeImapServer) -> list[str]:
    lines = [line.partition(" ")[2] for line in server.commands]
    return [line for line in lines if line.startswith(("AUTHENTICATE ", "LOGIN "))]


def test_a_challenge_that_makes_no_sense(server: FakeImapServer) -> None:
    def challenge(session: Session, tag: str, rest: str) -> None:
        session.send("+ this is not base64!")
        session.rfile.readline()

    server.answers["AUTHENTICATE"] = challenge
    assert type(kind_of(server)) is MailboxUnavailable


def echo(session: Session, tag: str, rest: str) -> None:
    """Repeat everything that the client has said, in a NO."""
    session.send("+ ")
    line = session.rfile.readline().strip()
    clear = base64.b64decode(line).replace(b"\0", b" ").replace(b"\x01", b" ")
    session.send(b"%b NO you said %b which is %b" % (tag.encode(), line, clear))


def echo_login(session: Session, tag: str, rest: str) -> None:
    session.send(f"{tag} BAD cannot parse {rest}")


@pytest.mark.parametrize("fault", [echo, echo_login])
def test_a_server_that_repeats_the_password_does_not_bring_it_out(
    fault: Answer, server: FakeImapServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    password = PASSWORD if fault is echo else PASSWORD.replace("ö", "o")
    server.capabilities = "AUTH=PLAIN" if fault is echo else ""
    server.answers["AUTHENTICATE"] = server.answers["LOGIN"] = fault
    error = kind_of(server, Login("ann", password))
    told = "".join(traceback.format_exception(error)) + caplog.text + repr(error)
    assert "***" in str(error)
    for secret in (password, password.replace("\\", "\\\\").replace('"', '\\"'), "of{3}"):
        assert secret not in told
    assert base64.b64encode(f"\0ann\0{password}".encode()).decode() not in told


def test_a_server_that_repeats_the_token_does_not_bring_it_out(
    server: FakeImapServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answers["AUTHENTICATE"] = echo
    error = kind_of(server, Login("ann", access_token=lambda: "ya29.token-of-ann"))
    told = "".join(traceback.format_exception(error)) + caplog.text
    assert "token-of-ann" not in told
    assert base64.b64encode(b"user=ann\1auth=Bearer ya29.token-of-ann\1\1").decode() not in told


def test_no_secret_in_the_log_of_a_login_that_succeeds(
    server: FakeImapServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for capabilities, password in (("AUTH=PLAIN", PASSWORD), ("", "simple-secret")):
        server.capabilities = capabilities
        account = ImapAccount("localhost", server.port, Login("ann", password))
        with Mailbox(account, ssl_context=server.ssl_context(), timeouts=PATIENT) as box:
            assert len(list(box.fetch([(1, 10)]))) == 1
        assert password not in caplog.text
        assert "body 1" not in caplog.text
    assert server.sasl == [b"\0ann\0" + PASSWORD.encode()]


# --- no credential in clear -----------------------------------------------------------------------------


@pytest.fixture
def clear(monkeypatch: pytest.MonkeyPatch) -> FakeImapServer:
    """A server that begins in clear, on a port in the role of 143."""
    server = FakeImapServer(tls="starttls")
    monkeypatch.setattr("cleo_email.imap.session.STARTTLS_PORT", server.port)
    return server


def test_starttls_comes_before_any_credential(clear: FakeImapServer) -> None:
    with clear as server:
        server.capabilities = "STARTTLS AUTH=PLAIN"
        with Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=PATIENT) as box:
            box.open()
    names = [line.split()[1] for line in server.commands if " " in line]
    assert names[:2] == ["CAPABILITY", "STARTTLS"]
    assert names.index("AUTHENTICATE") > 1


@pytest.mark.parametrize(
    ("capabilities", "greeting"),
    [
        ("AUTH=PLAIN", "* OK ready"),
        ("LOGINDISABLED", "* OK ready"),
        ("STARTTLS AUTH=PLAIN", "* PREAUTH welcome, ann"),  # RFC 3501 allows no STARTTLS after it
    ],
)
def test_without_starttls_nothing_is_said(capabilities: str, greeting: str, clear: FakeImapServer) -> None:
    with clear as server:
        server.capabilities, server.greeting = capabilities, greeting
        error = kind_of(server)
    assert type(error) is MailboxError
    assert "EMAIL_IMAP_PORT" in str(error)
    assert {line.split()[1] for line in server.commands} == {"CAPABILITY"}


@pytest.mark.parametrize("answer", ["NO not today", "BAD what?"])
def test_a_refused_starttls_ends_it(answer: str, clear: FakeImapServer) -> None:
    with clear as server:
        server.capabilities = "STARTTLS AUTH=PLAIN"
        server.answers["STARTTLS"] = says(answer)
        assert type(kind_of(server)) is MailboxUnavailable
    assert {line.split()[1] for line in server.commands} == {"CAPABILITY", "STARTTLS"}


def test_what_was_said_before_tls_does_not_count(clear: FakeImapServer) -> None:
    def injected(session: Session, tag: str, rest: str) -> None:
        session.send("* CAPABILITY IMAP4rev1 AUTH=XOAUTH2", f"{tag} OK go ahead")
        session.wrap()

    with clear as server:
        server.capabilities = "STARTTLS AUTH=PLAIN"
        server.answers["STARTTLS"] = injected
        with Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=PATIENT) as box:
            box.open()
    assert server.sasl == [b"\0ann\0secret"]  # by what the server offers under TLS


# --- the rest -------------------------------------------------------------------------------------------


def test_oauth2_sends_the_token_and_then_nothing(server: FakeImapServer) -> None:
    heard: list[bytes] = []

    def refuse(session: Session, tag: str, rest: str) -> None:
        session.send("+ ")
        heard.append(base64.b64decode(session.rfile.readline()))
        session.send("+ " + base64.b64encode(b'{"status":"401","schemes":"bearer"}').decode())
        heard.append(session.rfile.readline())
        session.send(f"{tag} NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)")

    server.answers["AUTHENTICATE"] = refuse
    error = kind_of(server, Login("ann", "not this one", access_token=lambda: "the-token"))
    assert type(error) is MailboxLoginRefused
    assert heard == [b"user=ann\1auth=Bearer the-token\1\1", b"\r\n"]
    assert server.sent("AUTHENTICATE") == ["AUTHENTICATE XOAUTH2"]


def test_an_error_of_the_token_source_is_its_own(server: FakeImapServer) -> None:
    def no_token() -> str:
        raise SettingsError(["EMAIL_OAUTH_REFRESH_TOKEN: expired"])

    account = ImapAccount("localhost", server.port, Login("ann", access_token=no_token))
    box = Mailbox(account, ssl_context=server.ssl_context(), timeouts=PATIENT)
    with pytest.raises(SettingsError):
        box.open()
    assert server.sent("AUTHENTICATE") == []


@pytest.mark.parametrize("login", [Login("ann", "two\r\nlines"), Login("ann\0", "x"), Login("a", "tab\t")])
def test_control_characters_are_not_sent(login: Login, server: FakeImapServer) -> None:
    error = kind_of(server, login)
    assert type(error) is MailboxError
    assert "control character" in str(error)
    assert "two" not in str(error)
    assert {line.split()[1] for line in server.commands} == {"CAPABILITY"}


def test_we_say_who_we_are_where_that_is_wanted(server: FakeImapServer) -> None:
    with Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=PATIENT) as box:
        box.open()
    (line,) = server.sent("ID")
    assert '"name" "cleo-email"' in line
    names = [line.split()[1] for line in server.commands if " " in line]
    assert names.index("AUTHENTICATE") < names.index("ID") < names.index("SELECT")


@pytest.mark.parametrize("answer", ["NO who cares", "BAD what?"])
def test_a_refused_id_is_no_fault(answer: str, server: FakeImapServer) -> None:
    server.answers["ID"] = says(answer)
    with Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=PATIENT) as box:
        assert box.open().exists == 3


def test_an_id_is_not_pressed_on_servers_without_it(server: FakeImapServer) -> None:
    server.capabilities = "AUTH=PLAIN"
    with Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=PATIENT) as box:
        box.open()
    assert server.sent("ID") == []


def test_server_text_becomes_one_short_printable_line(server: FakeImapServer) -> None:
    said = b"\x1b[31mline one \t line two\x07 \xff" + "grüß".encode() + b" x" * 1000
    server.answers["AUTHENTICATE"] = lambda session, tag, rest: session.send(tag.encode() + b" NO " + said)
    text = str(kind_of(server))
    assert text.isprintable()
    line = text.partition("the server says: ")[2]
    assert line.startswith("[31mline one line two �grüß x x")
    assert len(line) == SERVER_LINE


def test_response_codes() -> None:
    assert response_code(b"[AUTHENTICATIONFAILED] no") == "AUTHENTICATIONFAILED"
    assert response_code([b"[BADCHARSET (utf-8)] no"]) == "BADCHARSET"
    assert response_code(b"no [AUTHENTICATIONFAILED]") == ""
    assert response_code([None]) == ""
