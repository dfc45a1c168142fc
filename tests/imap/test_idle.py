"""IDLE: what counts as news, and each way in which a server ends it, refuses it or dies meanwhile."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from imapclient import IMAPClient  # type: ignore[import-untyped]

from cleo_email.errors import MailboxUnavailable
from cleo_email.imap.folders import Folders
from cleo_email.imap.idle import MOST_SHORT, Idle, IdleRefused
from tests.imap.conftest import PATIENT
from tests.support.dovecot import Dovecot
from tests.support.imap_server import HANG_UP, FakeImapServer, HangUp, Session, bye, says

SOON_S = 0.05  # where nothing is to come
LONG_S = 20.0


@pytest.fixture
def server(server: FakeImapServer) -> FakeImapServer:
    server.capabilities += " IDLE"
    return server


@pytest.fixture
def idle(server: FakeImapServer) -> Iterator[Idle]:
    with Idle(server.account(), ssl_context=server.ssl_context(), timeouts=PATIENT) as found:
        yield found


def listen(idle: Idle) -> bool:
    idle.begin()
    return idle.wait(LONG_S)


@pytest.mark.parametrize(
    ("lines", "is_news"),
    [
        (["* 4 EXISTS"], True),
        (["* 4 exists", "* 1 RECENT"], True),
        (["* 3 EXISTS", "* 0 RECENT"], False),
        (["* 1 EXPUNGE"], False),
        (["* 1 EXPUNGE", "* 3 EXISTS"], True),
        (["* 2 EXISTS"], False),
        (["* 2 FETCH (FLAGS (\\Seen $CleoAccepted))"], False),
        (["* 2 FETCH (FLAGS (\\Seen \\Answered))"], True),
        (["* 2 FETCH (UID 2 FLAGS (\\Seen \\Answered $CleoAccepted $CleoReplied))"], False),
        (["* OK Still here"], False),
        (["* 99999999999999999999 EXISTS", "*", "", "* EXISTS 4", "(\x00"], False),
    ],
)
def test_new_mail_and_an_answer_of_somebody_else_are_news(
    server: FakeImapServer, idle: Idle, lines: list[str], is_news: bool
) -> None:
    idle.begin()
    assert server.sent("EXAMINE"), "the inbox is only looked at"
    server.announce(*lines)
    assert idle.wait(LONG_S if is_news else SOON_S) is is_news


def test_a_line_that_comes_in_pieces_is_read_whole(server: FakeImapServer, idle: Idle) -> None:
    def in_pieces(session: Session, tag: str, rest: str) -> None:
        for piece in (b"+ idl", b"ing", b"\r\n* 3 EXI"):
            session.wfile.write(piece)
        begun.wait(LONG_S)
        for piece in (b"STS\r\n* 4 EX", b"ISTS", b"\r", b"\n"):
            session.wfile.write(piece)
        server.stopping.wait()

    begun = threading.Event()
    server.answers["IDLE"] = in_pieces
    idle.begin()
    begun.set()
    assert idle.wait(LONG_S)


def test_it_is_issued_anew_over_the_same_connection_and_news_between_are_not_lost(
    server: FakeImapServer,
) -> None:
    with Idle(server.account(), ssl_context=server.ssl_context(), reissue_s=0.02) as idle:
        idle.begin()
        while len(server.sent("IDLE")) < 5:
            assert not idle.wait(0.05)
        assert len(server.sent("AUTHENTICATE")) == 1

        def with_news(session: Session, tag: str, rest: str) -> None:
            session.send("* 4 EXISTS")
            session.usual(tag, rest)

        server.answers["IDLE"] = with_news
        assert idle.wait(LONG_S)


@pytest.mark.parametrize("ending", ["TAG OK IDLE ended", "TAG NO idle for too long", "TAG BAD timed out"])
def test_a_server_may_end_it(server: FakeImapServer, idle: Idle, ending: str) -> None:
    idle.begin()
    for _ in range(3):
        server.announce(ending)
        assert not idle.wait(SOON_S)
        while not server.idling:
            assert not idle.wait(SOON_S)
    server.announce("* 4 EXISTS")
    assert idle.wait(LONG_S)
    assert len(server.sent("AUTHENTICATE")) == 1


def test_a_server_that_ends_it_at_once_each_time_is_not_asked_for_ever(
    server: FakeImapServer, idle: Idle
) -> None:
    server.answers["IDLE"] = lambda session, tag, rest: session.send("+ idling", f"{tag} OK done")
    with pytest.raises(IdleRefused, match="ends it at once"):
        listen(idle)
    assert len(server.sent("IDLE")) == MOST_SHORT + 1


@pytest.mark.parametrize("answer", ["BAD unknown command", "NO not for you", "WHAT"])
def test_a_server_that_lies_is_told_apart(server: FakeImapServer, idle: Idle, answer: str) -> None:
    server.answers["IDLE"] = says(answer)
    with pytest.raises(IdleRefused, match="offers IDLE and refuses it: .* " + answer):
        idle.begin()


def test_a_server_without_it_is_not_asked(server: FakeImapServer, idle: Idle) -> None:
    server.capabilities = "AUTH=PLAIN LOGINDISABLED"
    with pytest.raises(IdleRefused, match="has no IDLE"):
        idle.begin()
    assert server.sent("IDLE") == server.sent("EXAMINE") == []


@pytest.mark.parametrize("told", ["OK [CAPABILITY IMAP4rev1] welcome", "OK welcome"])
def test_a_server_may_name_it_only_after_the_login_and_only_if_asked(
    server: FakeImapServer, idle: Idle, told: str
) -> None:
    server.capabilities = "AUTH=PLAIN LOGINDISABLED"

    def login(session: Session, tag: str, rest: str) -> None:
        session.send("+ ")
        session.rfile.readline()
        server.capabilities = "IDLE"
        session.send(f"{tag} {told}")

    server.answers["AUTHENTICATE"] = login
    idle.begin()
    assert server.idling


def test_the_end_of_the_connection_is_no_silence(server: FakeImapServer, idle: Idle) -> None:
    idle.begin()
    server.announce(HANG_UP)
    with pytest.raises(MailboxUnavailable, match="closed the connection"):
        idle.wait(LONG_S)


def test_news_in_the_last_breath_count(server: FakeImapServer, idle: Idle) -> None:
    def dies(session: Session, tag: str, rest: str) -> None:
        session.send("+ idling")
        begun.wait(LONG_S)
        session.wfile.write(b"* 4 EXISTS\r\n* BYE shutting down\r\n")
        raise HangUp

    begun = threading.Event()
    server.answers["IDLE"] = dies
    idle.begin()
    begun.set()
    assert idle.wait(LONG_S)
    with pytest.raises(MailboxUnavailable):
        idle.wait(LONG_S)


def test_a_server_that_says_bye_is_quoted(server: FakeImapServer, idle: Idle) -> None:
    server.answers["IDLE"] = bye("[UNAVAILABLE] we restart")
    with pytest.raises(MailboxUnavailable, match="we restart"):
        idle.begin()


@pytest.mark.parametrize("silent", ["IDLE", "DONE"])
def test_a_dead_path_is_noticed(server: FakeImapServer, silent: str) -> None:
    if silent == "IDLE":
        server.answers["IDLE"] = lambda session, tag, rest: server.stopping.wait()
    server.answers_done = False
    options = {"reissue_s": 0.02, "answer_s": 0.3}
    with (
        Idle(server.account(), ssl_context=server.ssl_context(), **options) as idle,
        pytest.raises(MailboxUnavailable, match=r"no answer within 0\.3 s"),
    ):
        listen(idle)


def test_another_thread_ends_the_waiting_and_the_server_is_told(server: FakeImapServer, idle: Idle) -> None:
    idle.begin()
    awake, waking = socket.socketpair()
    with awake, waking:
        threading.Timer(0.05, waking.send, [b"x"]).start()
        assert idle.wait(LONG_S, awake) is False
    idle.close()
    assert server.done_idle.acquire(timeout=LONG_S)


def test_a_server_that_never_ends_a_line_is_left(server: FakeImapServer, idle: Idle) -> None:
    def endless(session: Session, tag: str, rest: str) -> None:
        session.send("+ idling")
        while True:
            session.wfile.write(b"x" * 65_536)

    server.answers["IDLE"] = endless
    idle.begin()
    with pytest.raises(MailboxUnavailable, match="makes no sense"):
        idle.wait(LONG_S)


# --- a real server ----------------------------------------------------------------------------------------


@pytest.mark.servers("dovecot")
def test_dovecot_tells_of_mail_of_answers_and_of_drafts(
    dovecot: Dovecot, user: str, person: IMAPClient
) -> None:
    account, context = dovecot.account(user), dovecot.ssl_context()
    person.create_folder("Drafts")
    with (
        Folders(account, ssl_context=context) as folders,
        Idle(account, drafts=True, ssl_context=context, timeouts=PATIENT) as idle,
    ):
        place = folders.put_draft(b"Message-ID: <d@x>\r\n\r\nhello\r\n", datetime(2026, 3, 1, tzinfo=UTC))
        idle.begin()
        dovecot.deliver(user, b"Subject: one\r\n\r\none\r\n")
        assert idle.wait(LONG_S)
        person.noop()
        person.add_flags([1], ["\\Seen", "$CleoAccepted"])
        assert not idle.wait(1.0), "which is our own flag"
        person.add_flags([1], ["\\Answered"])
        assert idle.wait(LONG_S)
        assert folders.remove_draft(place)
        assert idle.wait(LONG_S), "NOTIFY"
