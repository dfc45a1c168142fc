"""The inside of smtplib on which cleo_email/smtp/session.py leans: it reads ``file`` and calls ``send``.

If another version of Python fails here, read that file against its smtplib.
"""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator

import pytest

from cleo_email.runtime import Deadline
from cleo_email.smtp.session import Reply, SmtpConnection, SmtpTimeouts


class Recorder(SmtpConnection):
    """Counts the calls that smtplib makes."""

    reads = 0
    sent = b""

    def receive(self) -> bytes:
        self.reads += 1
        return super().receive()

    def send(self, s: object) -> None:
        super().send(s)  # type: ignore[arg-type]
        self.sent += s.encode("ascii") if isinstance(s, str) else bytes(s)  # type: ignore[call-overload]


@pytest.fixture
def ends() -> Iterator[tuple[Recorder, socket.socket]]:
    ours, theirs = socket.socketpair()
    connection = Recorder(SmtpTimeouts(), Deadline(20))
    connection.sock = ours
    with theirs:
        yield connection, theirs
        connection.close()


def test_smtplib_connects_to_nothing_by_itself() -> None:
    connection = SmtpConnection(SmtpTimeouts(), Deadline(20))
    assert connection.sock is None
    assert connection.file is None
    with pytest.raises(OSError, match="connection closed"):
        connection.command("NOOP")


def test_smtplib_reads_through_our_file_only(ends: tuple[Recorder, socket.socket]) -> None:
    connection, server = ends
    server.sendall(b"220-first\r\n220 second\r\n250 too early")
    assert connection.reply() == Reply(220, "first\nsecond")
    assert connection.reads == 1
    assert connection.unasked() == b"250 too early"


def test_smtplib_sends_through_our_send_and_learns_the_extensions(
    ends: tuple[Recorder, socket.socket],
) -> None:
    connection, server = ends
    connection.local_hostname = "[127.0.0.1]"
    server.sendall(b"250-mx\r\n250-SIZE 1000\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n250 ok\r\n")
    assert connection.ehlo()[0] == 250
    assert connection.has_extn("starttls")
    assert connection.esmtp_features["size"] == "1000"
    assert connection.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
    assert (connection.ehlo_resp, connection.does_esmtp) == (
        b"mx\nSIZE 1000\nSTARTTLS\nAUTH PLAIN LOGIN",
        True,
    )
    assert connection.command("NOOP") == Reply(250, "ok")
    assert connection.sent == b"ehlo [127.0.0.1]\r\nNOOP\r\n"


def test_what_smtplib_raises_is_an_os_error(ends: tuple[Recorder, socket.socket]) -> None:
    connection, server = ends
    assert issubclass(smtplib.SMTPException, OSError)
    server.sendall(b"250 " + b"x" * 10_000 + b"\r\n")
    with pytest.raises(smtplib.SMTPServerDisconnected, match="unreadable reply"):
        connection.reply()


def test_close_leaves_neither_file_nor_socket(ends: tuple[Recorder, socket.socket]) -> None:
    connection, server = ends
    server.sendall(b"220 hello\r\n")
    connection.reply()
    assert connection.file is not None
    connection.close()
    assert connection.file is None
    assert connection.sock is None
    assert server.recv(10) == b""
