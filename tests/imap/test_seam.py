"""The inside of imaplib and IMAPClient on which cleo_email/imap/session.py leans.

If an upgrade fails here, read that file against the new version before the pin in setup.cfg is moved.
"""

from __future__ import annotations

import imaplib
import inspect
import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from imapclient import IMAPClient  # type: ignore[import-untyped]
from imapclient.exceptions import LoginError, ProtocolError  # type: ignore[import-untyped]
from imapclient.imap_utf7 import encode  # type: ignore[import-untyped]
from imapclient.response_parser import parse_response, parse_to_datetime  # type: ignore[import-untyped]

from tests.support.imap_server import FakeImapServer, hang_up, says


@pytest.fixture
def client(server: FakeImapServer) -> Iterator[IMAPClient]:
    client = IMAPClient("localhost", port=server.port, ssl_context=server.ssl_context(), timeout=20)
    yield client
    client._imap.shutdown()


def test_the_imaplib_object_and_its_state(client: IMAPClient, server: FakeImapServer) -> None:
    imap = client._imap
    assert isinstance(imap, imaplib.IMAP4)
    assert imap.state == "NONAUTH"
    assert imap.literal is None
    assert isinstance(imap.debug, int)
    assert isinstance(imap.untagged_responses, dict)
    assert isinstance(client.socket(), socket.socket)
    client.plain_login("ann", "secret")
    assert imap.state == "AUTH"
    assert server.sasl == [b"\0ann\0secret"]


def test_a_literal_follows_the_last_argument_once(client: IMAPClient, server: FakeImapServer) -> None:
    client.plain_login("ann", "secret")
    imap = client._imap
    assert imap.select('"INBOX"', False)[0] == "OK"
    imap.literal = b"<1@x>"
    assert imap.uid("SEARCH", "HEADER", "Message-ID")[0] == "OK"
    assert imap.literal is None
    assert server.sent("UID SEARCH")[0].endswith("HEADER Message-ID {5}")
    imap.literal = b"Subject: x\r\n\r\n"
    when = imaplib.Time2Internaldate(datetime(2026, 1, 2, tzinfo=UTC))
    assert imap._simple_command("APPEND", '"Sent"', "(\\Seen)", when)[0] == "OK"
    assert server.sent("APPEND")[0].endswith("{14}")
    assert imap.literal is None


def test_the_answer_to_select(client: IMAPClient) -> None:
    answers = {
        "OK": [b"[PERMANENTFLAGS (\\Seen \\*)] x", b"[UIDNEXT 4] x", b"Still here"],
        "PERMANENTFLAGS": [b"broken"],
        "UIDVALIDITY": [b"7"],
        "EXISTS": [b"3"],
        "READ-ONLY": [b""],
    }
    data = client._process_select_response(answers)
    assert data[b"PERMANENTFLAGS"] == (b"\\Seen", b"\\*")
    assert (data[b"UIDVALIDITY"], data[b"EXISTS"]) == (7, 3)
    assert b"READ-ONLY" in data


def test_where_imaplib_keeps_what_it_has_not_read_yet(client: IMAPClient) -> None:
    """``hand_over`` takes it from there; test_idle.py fails where a byte of it is lost."""
    imap = client._imap
    assert hasattr(imap, "_readbuf") or hasattr(imap.file, "peek")


def test_folders_and_their_names(client: IMAPClient) -> None:
    assert client._proc_folder_list([b'(\\Sent \\Noselect) "." "Entw&APw-rfe"', None, b""]) == [
        ((b"\\Sent", b"\\Noselect"), b".", "Entwürfe")
    ]
    assert encode("Entwürfe") == b"Entw&APw-rfe"


def test_messages_are_pairs_of_number_and_items() -> None:
    said = [(b"2 (UID 7 BODY[] {3}", b"a\r\n"), b" FLAGS (\\Seen))"]
    number, items = parse_response(said)
    assert number == 2
    assert items == (b"UID", 7, b"BODY[]", b"a\r\n", b"FLAGS", (b"\\Seen",))
    with pytest.raises(ProtocolError):
        parse_response([b"1 (UID 1 (("])
    parsed = parse_to_datetime(b"24-Nov-2026 10:00:00 +0100", normalise=False)
    assert parsed.astimezone(UTC) == datetime(2026, 11, 24, 9, tzinfo=UTC)


def test_errors_of_a_login_keep_what_was_beneath(server: FakeImapServer) -> None:
    for answer, kind in ((says("NO [INUSE] later"), imaplib.IMAP4.error), (hang_up, imaplib.IMAP4.abort)):
        server.answers["AUTHENTICATE"] = answer
        client = IMAPClient("localhost", port=server.port, ssl_context=server.ssl_context(), timeout=20)
        with pytest.raises(LoginError) as caught:
            client.sasl_login("PLAIN", lambda _: b"\0ann\0secret")
        assert type(caught.value.__context__) is kind
        client._imap.shutdown()
    assert issubclass(ProtocolError, imaplib.IMAP4.error)
    assert issubclass(LoginError, imaplib.IMAP4.error)
    assert issubclass(imaplib.IMAP4.abort, imaplib.IMAP4.error)
    assert issubclass(imaplib.IMAP4.readonly, imaplib.IMAP4.abort)


def test_how_imaplib_shows_a_bad(client: IMAPClient, server: FakeImapServer) -> None:
    server.answers["NOOP"] = says("BAD what?")
    with pytest.raises(imaplib.IMAP4.error, match=r"command error: BAD \[b'what\?'\]"):
        client._imap.noop()


def test_the_parameters_that_are_given() -> None:
    assert {"port", "ssl", "ssl_context", "timeout"} <= set(inspect.signature(IMAPClient).parameters)
    assert list(inspect.signature(IMAPClient.starttls).parameters) == ["self", "ssl_context"]
    assert list(inspect.signature(imaplib.IMAP4._simple_command).parameters) == ["self", "name", "args"]  # type: ignore[attr-defined]
