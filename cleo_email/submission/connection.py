"""One SMTP connection in which nothing can take for ever: smtplib's protocol over a socket with deadlines."""

from __future__ import annotations

import ipaddress
import re
import smtplib
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cleo_email.deadlines import SUBMISSION_S, Deadline
from cleo_email.submission.words import Reply

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_CHUNK = 64 * 1024
_LONGEST_REPLY = 256 * 1024  # bytes; a server that says more is not answering any more
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_FQDN = re.compile(rf"(?:{_LABEL}\.)+[A-Za-z](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])")


@dataclass(frozen=True)
class Timeouts:
    """Seconds. ``connect``: each address of the server, and TLS. ``read``: a reply, or 64 kB of the body.
    ``end_of_data``: the reply to the final dot. ``total``: one submission, waiting and retry included."""

    connect: float = 10.0
    read: float = 30.0
    end_of_data: float = 60.0
    total: float = SUBMISSION_S


class _Lines:
    """What smtplib reads from instead of a buffered file, so that each read respects the deadline."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.buffer = b""

    def readline(self, limit: int) -> bytes:
        while (end := self.buffer.find(b"\n")) < 0 and len(self.buffer) < limit:
            chunk = self._connection.receive()
            if not chunk:
                break
            self.buffer += chunk
        length = min(end + 1 if end >= 0 else len(self.buffer), limit)
        line, self.buffer = self.buffer[:length], self.buffer[length:]
        return line

    def close(self) -> None:
        self.buffer = b""


class Connection(smtplib.SMTP):
    """A connected SMTP session. Every failure of the connection is an OSError (smtplib's are too).

    ``mails`` counts the mails accepted over it. The pool keeps ``deadline``, ``reused`` and ``idle_since``.
    """

    def __init__(self, timeouts: Timeouts, deadline: Deadline) -> None:
        super().__init__(local_hostname="localhost")  # not connected; the name is set by dial()
        self.timeouts = timeouts
        self.deadline = deadline
        self.patience = timeouts.read  # seconds for one whole reply
        self.mails = 0
        self.reused = False
        self.idle_since = 0.0
        self._reply_by = deadline
        self._received = 0

    # --- opening ----------------------------------------------------------------------------------------

    def dial(self, host: str, port: int, ehlo_name: str = "") -> None:
        """Connect; each address of the host has its own time-out."""
        problem = OSError("the name has no address")
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise socket.gaierror("no host name") from None
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self.deadline.cap(self.timeouts.connect))
                sock.connect(address)
            except OSError as error:
                sock.close()
                problem = error
                continue
            self.sock = sock
            self.local_hostname = ehlo_name or own_name(socket.gethostname(), sock.getsockname()[0])
            return
        raise problem

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Start TLS. What was received in clear before is thrown away (RFC 3207 section 4.2)."""
        assert self.sock is not None
        plain, self.sock = self.sock, None
        self.file = None
        plain.settimeout(self.deadline.cap(self.timeouts.connect))
        try:
            self.sock = context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
        self.ehlo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False

    def send_at_once(self) -> None:
        """TCP_NODELAY: else the final dot would wait up to 40 ms for the acknowledgement of the body.

        Only from here on: during the handshake it costs those 40 ms, where the server has left it off.
        """
        self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # --- talking ----------------------------------------------------------------------------------------

    def command(self, line: str) -> Reply:
        """Send one command and read its reply."""
        self.putcmd(line)
        return self.reply()

    def getreply(self) -> tuple[int, bytes]:
        """smtplib's, within ``patience`` seconds."""
        self._reply_by = Deadline(self.deadline.cap(self.patience))
        self._received = 0
        if self.file is None:
            self.file = _Lines(self)
        return super().getreply()

    def reply(self) -> Reply:
        """One whole reply. OSError if there is none, or none that can be understood."""
        try:
            code, text = self.getreply()
        except smtplib.SMTPResponseException as error:  # smtplib's way to say that a line is too long
            raise smtplib.SMTPServerDisconnected("unreadable reply") from error
        if not 200 <= code <= 599:
            raise smtplib.SMTPServerDisconnected(f"unreadable reply: {text[:100]!a}")
        return Reply(code, text.decode("utf-8", "replace"))

    def send(self, s: ReadableBuffer | str) -> None:
        """All of ``s``, in pieces that each have the read time-out. Unlike smtplib's, it never closes."""
        view = memoryview(s.encode("ascii") if isinstance(s, str) else s)
        for start in range(0, len(view), _CHUNK):
            sock = self._socket()
            sock.settimeout(self.deadline.cap(self.timeouts.read))
            sock.sendall(view[start : start + _CHUNK])

    def receive(self) -> bytes:
        """Some bytes of the reply that is being read; none at the end of the connection."""
        sock = self._socket()
        sock.settimeout(self._reply_by.cap(self.timeouts.total))
        chunk = sock.recv(8192)
        self._received += len(chunk)
        if self._received > _LONGEST_REPLY:
            raise OSError("endless reply")
        return chunk

    def unasked(self) -> bytes | None:
        """What the server said though it was not its turn: empty if it hung up, None if it said nothing."""
        if isinstance(self.file, _Lines) and self.file.buffer:
            return self.file.buffer
        try:
            sock = self._socket()
            sock.settimeout(0)
            return sock.recv(8192)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            return b""

    def leave(self) -> None:
        """Say QUIT, wait for nothing, close. Never raises an OSError."""
        try:
            self._socket().settimeout(1)
            self._socket().sendall(b"QUIT\r\n")
        except OSError:
            pass
        finally:
            self.close()

    def _socket(self) -> socket.socket:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("connection closed")
        return self.sock


def own_name(hostname: str, address: str) -> str:
    """The argument of EHLO: the machine's name if it is a full one, else an address literal (RFC 5321 4.1.4).

    No look-up: a reverse look-up may hang, and servers only check the form.
    """
    if len(hostname) <= 255 and _FQDN.fullmatch(hostname):
        return hostname
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "[127.0.0.1]"
    return f"[IPv6:{ip}]" if ip.version == 6 else f"[{ip}]"
