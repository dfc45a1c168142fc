"""One SMTP session: connect, TLS, login, and one mail over it (RFC 5321 section 3.3).

Replies are read under deadlines. Credentials are never sent in clear, not on loopback either. Before the end
of DATA the caller records that the server may have the mail. No other file uses smtplib's internals.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import re
import smtplib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cleo_email.accounts import SmtpAccount, plain_response, xoauth2_response
from cleo_email.certificates import certificate_advice
from cleo_email.crashpoints import crashpoint
from cleo_email.errors import (
    SubmissionError,
    SubmissionLoginRefused,
    SubmissionUnavailable,
    SubmissionUncertain,
    TokenError,
    TokenUnavailable,
)
from cleo_email.mail.model import OutboundEmail, Receipt
from cleo_email.runtime import SUBMISSION_S, Deadline
from cleo_email.scrub import Scrubber

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


IMPLICIT_TLS = 465
_CHUNK = 64 * 1024
_LONGEST_REPLY = 256 * 1024  # bytes; a server that says more is not answering any more
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_FQDN = re.compile(rf"(?:{_LABEL}\.)+[A-Za-z](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])")
_LOGIN_CODES = frozenset({530, 534, 535, 538})  # RFC 4954 section 6


class Reply(NamedTuple):
    """One reply (RFC 5321 section 4.2); ``text`` has a line for each line of it."""

    code: int
    text: str

    @property
    def accepted(self) -> bool:
        return 200 <= self.code < 300

    @property
    def permanent(self) -> bool:
        return 500 <= self.code < 600

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class LinkLost(SubmissionUnavailable):
    """The connection broke or was closed (421) before the end of DATA: a new one may work at once."""


@dataclass(frozen=True)
class SmtpTimeouts:
    """Seconds.

    ``connect``: each address of the server, and TLS; ``read``: a reply, or 64 kB of the body;
    ``end_of_data``: the reply to the final dot; ``total``: one submission, waiting and retry included.
    """

    connect: float = 10.0
    read: float = 30.0
    end_of_data: float = 60.0
    total: float = SUBMISSION_S


class _Lines:
    """Stands in for the file from which smtplib reads, so that each read respects the deadline."""

    def __init__(self, connection: SmtpConnection) -> None:
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


class SmtpConnection(smtplib.SMTP):
    """One SMTP session. Every failure of the connection is an OSError (smtplib's are too).

    ``scrub`` makes what the server says fit to be shown; ``mails`` counts the mails accepted over it. The
    pool sets ``deadline``, ``reused`` and ``idle_since``.
    """

    def __init__(self, timeouts: SmtpTimeouts, deadline: Deadline) -> None:
        super().__init__(local_hostname="localhost")  # not connected; the name is set by dial()
        self.timeouts = timeouts
        self.deadline = deadline
        self.patience = timeouts.read  # seconds for one whole reply
        self.scrub = Scrubber()
        self.mails = 0
        self.reused = False
        self.idle_since = 0.0
        self._reply_by = deadline
        self._received = 0

    # --- opening ----------------------------------------------------------------------------------------

    def dial(self, host: str, port: int) -> None:
        """Connect; each address of the host has its own time-out within the deadline."""
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
            self.local_hostname = own_name(socket.gethostname(), sock.getsockname()[0])
            return
        raise problem

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Start TLS. What was received in clear before is thrown away (RFC 3207 section 4.2)."""
        self.file = None
        plain = self._socket()
        plain.settimeout(self.deadline.cap(self.timeouts.connect))
        self.sock = context.wrap_socket(plain, server_hostname=host)
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
        self.putcmd(line)
        return self.reply()

    def getreply(self) -> tuple[int, bytes]:
        """Read a reply as smtplib does, within ``patience`` seconds."""
        self._reply_by = Deadline(self.deadline.cap(self.patience))
        self._received = 0
        if self.file is None:
            self.file = _Lines(self)
        return super().getreply()

    def reply(self) -> Reply:
        """Return one whole reply. Raise OSError if there is none, or none that can be understood."""
        try:
            code, text = self.getreply()
        except smtplib.SMTPResponseException as error:  # smtplib's way to say that a line is too long
            raise smtplib.SMTPServerDisconnected("unreadable reply") from error
        if not 200 <= code <= 599:
            raise smtplib.SMTPServerDisconnected(f"unreadable reply: {text[:100]!a}")
        return Reply(code, text.decode("utf-8", "replace"))

    def send(self, s: ReadableBuffer | str) -> None:
        """Send ``s`` in pieces that each have the read time-out. Unlike smtplib's, it never closes."""
        view = memoryview(s.encode("ascii") if isinstance(s, str) else s)
        for start in range(0, len(view), _CHUNK):
            sock = self._socket()
            sock.settimeout(self.deadline.cap(self.timeouts.read))
            sock.sendall(view[start : start + _CHUNK])

    def receive(self) -> bytes:
        """Return some bytes of the reply that is being read; none at the end of the connection."""
        sock = self._socket()
        sock.settimeout(self._reply_by.cap(self.timeouts.total))
        chunk = sock.recv(8192)
        self._received += len(chunk)
        if self._received > _LONGEST_REPLY:
            raise OSError("endless reply")
        return chunk

    def unasked(self) -> bytes | None:
        """Return what the server sent unasked: b"" if it hung up, None if it sent nothing."""
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
        with contextlib.suppress(OSError):
            self._socket().settimeout(1)
            self._socket().sendall(b"QUIT\r\n")
        self.close()

    def refusal(self, stage: str, reply: Reply) -> SubmissionError:
        """Return the error for a reply to ``stage`` that is not the hoped-for one."""
        words = self.scrub.line(f"the server answers {stage} with {reply}")
        if reply.code == 421:  # RFC 5321 section 3.8: it closes the connection
            return LinkLost(words)
        if reply.code in _LOGIN_CODES:
            return SubmissionLoginRefused(words)
        return SubmissionError(words) if reply.permanent else SubmissionUnavailable(words)

    def _socket(self) -> socket.socket:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("connection closed")
        return self.sock


def own_name(hostname: str, address: str) -> str:
    """Return the argument of EHLO: a full ``hostname``, else an address literal (RFC 5321 section 4.1.4).

    Without a reverse look-up, which may hang; servers only check the form.
    """
    if len(hostname) <= 255 and _FQDN.fullmatch(hostname):
        return hostname
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "[127.0.0.1]"
    return f"[IPv6:{ip}]" if ip.version == 6 else f"[{ip}]"


# --- connecting and logging in --------------------------------------------------------------------------


def open_session(
    account: SmtpAccount, context: ssl.SSLContext, timeouts: SmtpTimeouts, deadline: Deadline
) -> SmtpConnection:
    """Connect, secure and log in. Where that fails raise a fitting SubmissionError and leave nothing open."""
    token = _token(account)
    connection = SmtpConnection(timeouts, deadline)
    scrub = connection.scrub
    user, password = account.login.user, account.login.password
    scrub.hide(password, plain_response(user, password))
    scrub.hide(token, xoauth2_response(user, token))
    place = f"{account.host}:{account.port}"
    try:
        _connect(connection, account, context)
        _log_in(connection, account, token)
        connection.send_at_once()
    except BaseException as error:
        connection.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            why = f"{place} shows a certificate that is not trusted ({error.verify_message})"
            advice = certificate_advice(error.verify_message, "EMAIL_SMTP_HOST")
            raise SubmissionError(scrub.line(f"{why}; {advice}")) from None
        if isinstance(error, OSError):
            raise LinkLost(scrub.line(f"no session with {place}: {error}{_hint(error, account)}")) from None
        raise
    return connection


def _token(account: SmtpAccount) -> str:
    """Return the access token, or '' for a login by password."""
    if account.login.access_token is None:
        return ""
    try:
        return account.login.access_token()
    except TokenUnavailable as error:
        raise SubmissionUnavailable(str(error)) from None
    except TokenError as error:
        raise SubmissionLoginRefused(str(error)) from None


def _hint(error: OSError, account: SmtpAccount) -> str:
    if isinstance(error, socket.gaierror):
        return " (EMAIL_SMTP_HOST)"
    if isinstance(error, ConnectionRefusedError):
        return " (EMAIL_SMTP_HOST, EMAIL_SMTP_PORT)"
    signs = ("wrong version", "unreadable reply", "timed out", "no answer within")
    if not any(sign in str(error).lower() for sign in signs):
        return ""
    meaning = "TLS at once" if account.port == IMPLICIT_TLS else "STARTTLS"
    return f" (EMAIL_SMTP_PORT {account.port} means {meaning}; 465 means TLS at once, every other STARTTLS)"


def _connect(connection: SmtpConnection, account: SmtpAccount, context: ssl.SSLContext) -> None:
    implicit = account.port == IMPLICIT_TLS
    connection.dial(account.host, account.port)
    if implicit:
        connection.secure(context, account.host)
    _expect(220, "the connection", connection, connection.reply())
    _ehlo(connection)
    if implicit:
        return
    if not connection.has_extn("starttls"):
        raise SubmissionError(
            f"{account.host}:{account.port} offers no STARTTLS, and nothing is sent in clear: "
            "set EMAIL_SMTP_PORT to a port with STARTTLS (587) or with TLS at once (465)"
        )
    _expect(220, "STARTTLS", connection, connection.command("STARTTLS"))
    connection.secure(context, account.host)
    _ehlo(connection)


def _ehlo(connection: SmtpConnection) -> None:
    code, text = connection.ehlo()
    _expect(250, "EHLO", connection, Reply(code, text.decode("utf-8", "replace")))


def _expect(code: int, stage: str, connection: SmtpConnection, reply: Reply) -> None:
    if reply.code != code:
        raise connection.refusal(stage, reply)


def _log_in(connection: SmtpConnection, account: SmtpAccount, token: str) -> None:
    user, password = account.login.user, account.login.password
    place = f"{account.host}:{account.port}"
    if not token and not password:
        return
    offered = connection.esmtp_features.get("auth", "").upper().split()
    if not offered:
        raise SubmissionError(
            f"{place} offers no login, and a password or token is set: "
            "check EMAIL_SMTP_HOST and EMAIL_SMTP_PORT"
        )
    if token:
        # Without an initial response: with one, long tokens exceed what some servers take on a command line.
        # After a second 334, which holds the reason, the refusal itself follows an empty answer.
        reply = _authenticate(connection, "XOAUTH2", xoauth2_response(user, token), b"")
    elif "PLAIN" in offered:
        # RFC 4616: UTF-8, which smtplib's own login() cannot send.
        reply = connection.command(f"AUTH PLAIN {_base64(plain_response(user, password))}")
    elif "LOGIN" in offered:
        reply = _authenticate(
            connection, "LOGIN", *(v.encode("utf-8", "surrogateescape") for v in (user, password))
        )
    else:
        words = f"{place} offers no login that is known here, only {' '.join(offered)}"
        raise SubmissionError(connection.scrub.line(words))
    if reply.code == 235:
        return
    settings = "EMAIL_USER, EMAIL_OAUTH_…" if token else f"EMAIL_USER, {account.login.setting}"
    words = connection.scrub.line(f"the server refuses the login of {user} ({settings}): {reply}")
    if reply.code == 421:
        raise LinkLost(words)
    if token and reply.permanent and account.login.token_refused:
        account.login.token_refused(token)
    # Any 5xx here is about the account and not about the mail, which must not fail for it.
    raise SubmissionLoginRefused(words) if reply.permanent else SubmissionUnavailable(words)


def _authenticate(connection: SmtpConnection, mechanism: str, *answers: bytes) -> Reply:
    """Send AUTH and an answer to each challenge (RFC 4954 section 4)."""
    reply = connection.command(f"AUTH {mechanism}")
    for answer in answers:
        if reply.code != 334:
            break
        reply = connection.command(_base64(answer))
    return reply


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


_PATH = re.compile(r"[\x21-\x7e ]{1,300}\Z")
_BARE_LINE_END = re.compile(rb"\r\n|\r|\n")


def transact(
    connection: SmtpConnection, mail: OutboundEmail, before_end_of_data: Callable[[], None]
) -> Receipt:
    """Hand ``mail`` over. After LinkLost, SubmissionUncertain or a foreign exception the session is dead.

    Raise LinkLost for what a new session may cure at once, SubmissionUnavailable, SubmissionError,
    SubmissionLoginRefused, SubmissionUncertain, and what ``before_end_of_data`` raises.
    """
    scrub = connection.scrub
    body = dot_stuffed(mail.source)
    try:
        refused = _envelope(connection, mail)
        reply = connection.command("DATA")
        if reply.code != 354:
            raise (
                LinkLost(scrub.line(f"DATA: {reply}"))
                if reply.accepted
                else connection.refusal("DATA", reply)
            )
        _send_body(connection, body)
    except OSError as error:
        raise LinkLost(scrub.line(f"the connection broke before the mail was complete: {error}")) from None

    try:
        before_end_of_data()
    except BaseException:
        # No QUIT: in the middle of DATA the server must see nothing but the end of the connection.
        connection.close()
        raise
    if (received := connection.unasked()) is not None:  # without its final dot no mail is accepted
        raise _for_the_caller(_broken_off(received, connection))
    try:
        reply = _end_of_data(connection)
    except OSError as error:
        raise SubmissionUncertain(
            scrub.line(f"the connection broke after the mail was complete and before its answer: {error}")
        ) from None
    if not reply.accepted:
        if reply.code < 400:
            raise SubmissionUncertain(scrub.line(f"the server answers the mail with {reply}"))
        if reply.code == 421:
            connection.close()
        raise _for_the_caller(connection.refusal("the mail", reply))
    connection.mails += 1
    return Receipt(response=scrub.line(reply), refused=refused)


def dot_stuffed(source: bytes) -> bytes:
    """Return ``source`` as DATA takes it (RFC 5321 section 4.5.2), without the final dot.

    Line ends other than CRLF, which a server might read as the end of the mail, become CRLF, and the last
    line gets one.
    """
    if not source.count(b"\r\n") == source.count(b"\n") == source.count(b"\r"):
        source = _BARE_LINE_END.sub(b"\r\n", source)
    if not source.endswith(b"\r\n"):
        source += b"\r\n"
    stuffed = source.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def _envelope(connection: SmtpConnection, mail: OutboundEmail) -> dict[str, str]:
    """Send MAIL and RCPT; return the refused recipients, where another was accepted, each with the reason."""
    scrub, size = connection.scrub, _size(connection, len(mail.source))
    reply = connection.command(f"MAIL FROM:<{_path(mail.envelope_from)}>{size}")
    if not reply.accepted:
        error = connection.refusal("MAIL", reply)
        # A session that was kept may be at a limit of its own or have lost its login.
        raise LinkLost(str(error)) if connection.reused else error
    refused: dict[str, Reply] = {}
    for recipient in mail.recipients:
        reply = connection.command(f"RCPT TO:<{_path(recipient)}>")
        if reply.code == 421:
            raise connection.refusal(f"RCPT {recipient}", reply)
        if not reply.accepted:
            refused[recipient] = reply
    if len(refused) < len(mail.recipients):
        return {recipient: scrub.line(reply) for recipient, reply in refused.items()}
    each = "; ".join(f"{who}: {why}" for who, why in refused.items())
    words = scrub.line(f"every recipient was refused: {each}")
    if refused and all(reply.permanent for reply in refused.values()):
        raise SubmissionError(words)
    raise SubmissionUnavailable(words)


def _size(connection: SmtpConnection, size: int) -> str:
    """Return MAIL's SIZE parameter (RFC 1870), where offered; raise where the mail is above the limit."""
    if not connection.has_extn("size"):
        return ""
    limit = connection.esmtp_features["size"].strip()
    if limit.isascii() and limit.isdigit() and 0 < int(limit[:20]) < size:
        raise SubmissionError(f"the mail has {size} bytes and the server takes at most {limit[:20]}")
    return f" SIZE={size}"


def _path(address: str) -> str:
    if not _PATH.match(address) or set("<>") & set(address):
        raise SubmissionError(f"{address[:100]!a} cannot stand in an envelope")
    return address


def _send_body(connection: SmtpConnection, body: bytes) -> None:
    """Send the mail without its final dot. What the server says meanwhile can only be a refusal."""
    failure: OSError | None = None
    try:
        connection.send(body)
    except OSError as error:
        failure = error
    received = connection.unasked()
    if failure is not None and not received:
        raise failure
    if received is not None:
        raise _broken_off(received, connection)


def _broken_off(received: bytes, connection: SmtpConnection) -> SubmissionError:
    """Return the error for what the server said, or for its hanging up, before the final dot was sent."""
    connection.close()  # the session is out of step from here on
    if not received:
        return LinkLost("the server hung up before the mail was complete")
    line = received.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    code = int(line[:3]) if re.match(r"[45][0-9][0-9](?:[ -]|\Z)", line) else 421
    words = connection.scrub.line(f"the server breaks the mail off with {line}")
    return SubmissionError(words) if code >= 500 else LinkLost(words)


def _for_the_caller(error: SubmissionError) -> SubmissionError:
    """Return an error that the pool does not retry, since ``before_end_of_data`` has been called."""
    return SubmissionUnavailable(str(error)) if isinstance(error, LinkLost) else error


def _end_of_data(connection: SmtpConnection) -> Reply:
    # From here on the answer matters more than the clock of the whole submission.
    connection.deadline = Deadline(connection.timeouts.end_of_data)
    connection.patience = connection.timeouts.end_of_data
    connection.send(b".\r\n")
    crashpoint("submit-after-end-of-data")
    reply = connection.reply()
    connection.patience = connection.timeouts.read
    return reply
