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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cleo_email.accounts import LoginMemory, SmtpAccount, plain_response, xoauth2_response
from cleo_email.certificates import certificate_advice
from cleo_email.crashpoints import crashpoint
from cleo_email.errors import (
    SubmissionError,
    SubmissionLimited,
    SubmissionLoginRefused,
    SubmissionUnavailable,
    SubmissionUncertain,
    TokenError,
    TokenUnavailable,
    network_words,
)
from cleo_email.mail.model import OutboundEmail, Receipt
from cleo_email.runtime import SUBMISSION_S, Deadline
from cleo_email.scrub import Scrubber
from cleo_email.smtp.reply import Reply

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


IMPLICIT_TLS = 465
_CHUNK = 64 * 1024
_LONGEST_REPLY = 256 * 1024  # bytes; a server that says more is not answering any more
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_FQDN = re.compile(rf"(?:{_LABEL}\.)+[A-Za-z](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])")
# What OpenSSL says of bytes that are no TLS.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "RECORD_LAYER_FAILURE"})
# How long a greeting may be awaited before a second connection looks whether TLS is spoken here.
_SILENCE_S = 2.0


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
    pool sets ``deadline``, ``idle_since`` and ``doubted``: on a session that was kept, a refusal may be about
    the session (its login, a limit of its own), and counts only once a new one brings it too.
    """

    def __init__(self, timeouts: SmtpTimeouts, deadline: Deadline) -> None:
        super().__init__(local_hostname="localhost")  # not connected; the name is set by dial()
        self.timeouts = timeouts
        self.deadline = deadline
        self.patience = timeouts.read  # seconds for one whole reply
        self.scrub = Scrubber()
        self.mails = 0
        self.doubted = False
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

    def is_silent(self, seconds: float) -> bool:
        """Return whether the server says nothing for so long. Only before TLS; what it says stays unread."""
        sock = self._socket()
        sock.settimeout(self.deadline.cap(seconds))
        try:
            sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        return False

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

    def refusal(self, stage: str, reply: Reply, *, of_recipient: bool = False) -> SubmissionError:
        """Return the error for a reply to ``stage`` that is not the hoped-for one."""
        words = self.scrub.line(f"the server answers {stage} with {reply}")
        if self.doubted:
            return LinkLost(words)
        if reply.is_of_login:
            return SubmissionLoginRefused(words)
        if reply.is_limit(of_recipient=of_recipient):
            return SubmissionLimited(words, permanent=reply.permanent)
        if reply.code == 421:  # RFC 5321 section 3.8: it closes the connection
            return LinkLost(words)
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


class _SecondLogin(OSError):
    """After the refusal of one mechanism the session takes no second: a new session may."""


def open_session(
    account: SmtpAccount,
    context: ssl.SSLContext,
    timeouts: SmtpTimeouts,
    deadline: Deadline,
    memory: LoginMemory | None = None,
) -> SmtpConnection:
    """Connect, secure and log in. Where that fails raise a fitting SubmissionError and leave nothing open."""
    memory = memory or LoginMemory()
    token = _token(account)
    try:
        return _open(account, context, SmtpConnection(timeouts, deadline), token, memory)
    except _SecondLogin as refused:
        memory.refused = True  # the new session tries the other mechanism alone
        try:
            return _open(account, context, SmtpConnection(timeouts, deadline), token, memory)
        except SubmissionLoginRefused as error:
            raise SubmissionLoginRefused(f"{error}; before that {refused}") from None


def _open(
    account: SmtpAccount, context: ssl.SSLContext, connection: SmtpConnection, token: str, memory: LoginMemory
) -> SmtpConnection:
    scrub = connection.scrub
    user, password = account.login.user, account.login.password
    scrub.hide(password, plain_response(user, password))
    scrub.hide(token, xoauth2_response(user, token))
    place = f"{account.host}:{account.port}"
    try:
        _connect(connection, account, context)
        _log_in(connection, account, token, memory)
        connection.send_at_once()
    except BaseException as error:
        connection.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            why = f"{place} shows a certificate that is not trusted ({error.verify_message})"
            advice = certificate_advice(error.verify_message, "EMAIL_SMTP_HOST")
            raise SubmissionError(scrub.line(f"{why}; {advice}")) from None
        if isinstance(error, OSError) and not isinstance(error, _SecondLogin):
            raise LinkLost(_no_session(error, account, scrub)) from None
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


class _TlsAtOnce(OSError):
    """The server waits for a TLS handshake where a greeting in clear was expected."""


def _no_session(error: OSError, account: SmtpAccount, scrub: Scrubber) -> str:
    """Return why there is no session, with the settings to look at before the words of others."""
    place, implicit = f"{account.host}:{account.port}", account.port == IMPLICIT_TLS
    if isinstance(error, _TlsAtOnce):
        return f"{place} speaks TLS at once: set EMAIL_SMTP_PORT=465 (every other port means STARTTLS)"
    if implicit and isinstance(error, ssl.SSLError) and error.reason in _NOT_TLS:
        advice = "set EMAIL_SMTP_PORT=587 (465 means TLS at once, every other port STARTTLS)"
        return f"{place} does not begin with TLS: {advice}"
    settings = "EMAIL_SMTP_HOST" if isinstance(error, socket.gaierror) else "EMAIL_SMTP_HOST, EMAIL_SMTP_PORT"
    return scrub.line(f"no session with {place} ({settings}): {network_words(error)}")


def _connect(connection: SmtpConnection, account: SmtpAccount, context: ssl.SSLContext) -> None:
    implicit = account.port == IMPLICIT_TLS
    connection.dial(account.host, account.port)
    if implicit:
        connection.secure(context, account.host)
        greeting = connection.reply()
    else:
        greeting = _greeting(connection, account, context)
    _expect(220, "the connection", connection, greeting)
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


def _greeting(connection: SmtpConnection, account: SmtpAccount, context: ssl.SSLContext) -> Reply:
    """Return the greeting. Where it is late or none, look whether the server waits for TLS instead.

    A server may take its time on purpose, so that silence alone proves nothing.
    """
    looked = False
    try:
        if connection.is_silent(min(_SILENCE_S, connection.timeouts.read)):
            looked = True
            if not _speaks_tls(connection, account, context):
                return connection.reply()
        else:
            return connection.reply()
    except OSError:
        if looked or not _speaks_tls(connection, account, context):
            raise
    raise _TlsAtOnce


def _speaks_tls(first: SmtpConnection, account: SmtpAccount, context: ssl.SSLContext) -> bool:
    """Return whether a TLS handshake on a second connection is answered as one, trusted or not."""
    seconds = min(_SILENCE_S, first.timeouts.connect)
    second = SmtpConnection(SmtpTimeouts(connect=seconds), Deadline(first.deadline.cap(2 * seconds)))
    try:
        second.dial(account.host, account.port)
        second.secure(context, account.host)
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return False
    except ssl.SSLError as error:
        return error.reason not in _NOT_TLS
    except OSError:
        return False
    finally:
        second.close()
    return True


def _ehlo(connection: SmtpConnection) -> None:
    code, text = connection.ehlo()
    _expect(250, "EHLO", connection, Reply(code, text.decode("utf-8", "replace")))


def _expect(code: int, stage: str, connection: SmtpConnection, reply: Reply) -> None:
    if reply.code != code:
        raise connection.refusal(stage, reply)


def _log_in(connection: SmtpConnection, account: SmtpAccount, token: str, memory: LoginMemory) -> None:
    user, password = account.login.user, account.login.password
    if not token and not password:
        return
    place = f"{account.host}:{account.port}"
    offered = connection.esmtp_features.get("auth", "").upper().split()
    if not offered:
        raise SubmissionError(
            f"{place} offers no login, and a password or token is set: "
            "check EMAIL_SMTP_HOST and EMAIL_SMTP_PORT"
        )
    if token:
        _log_in_by_token(connection, account, token)
        return
    usable = sorted((name for name in ("PLAIN", "LOGIN") if name in offered), key=lambda x: x != memory.first)
    if not usable:
        words = f"{place} offers no login that is known here, only {' '.join(offered)}"
        raise SubmissionError(connection.scrub.line(words))
    said: list[str] = []
    for name in usable[:1] if memory.refused else usable:
        try:
            reply = _by_password(connection, name, user, password)
        except OSError as error:
            if said:
                raise _SecondLogin(connection.scrub.line("; ".join(said))) from error
            raise
        if reply.code == 235:
            memory.first, memory.refused = name, False
            return
        if said and reply.code in (421, 503):
            raise _SecondLogin(connection.scrub.line("; ".join(said)))
        if not reply.permanent:
            raise _login_fault(connection, account, reply)
        said.append(f"{name}: {reply}")
        memory.first = next((other for other in usable if other != name), name)
    memory.refused = True
    words = f"the server refuses the login of {user} (EMAIL_USER, {account.login.setting}): {'; '.join(said)}"
    raise SubmissionLoginRefused(connection.scrub.line(words))


def _log_in_by_token(connection: SmtpConnection, account: SmtpAccount, token: str) -> None:
    # Without an initial response: with one, long tokens exceed what some servers take on a command line.
    # After a second 334, which holds the reason, the refusal itself follows an empty answer.
    user = account.login.user
    reply = _authenticate(connection, "XOAUTH2", xoauth2_response(user, token), b"")
    if reply.code == 235:
        return
    if reply.permanent and account.login.token_refused:
        account.login.token_refused(token)
    raise _login_fault(connection, account, reply)


def _by_password(connection: SmtpConnection, mechanism: str, user: str, password: str) -> Reply:
    if mechanism == "LOGIN":
        answers = [value.encode("utf-8", "surrogateescape") for value in (user, password)]
        return _authenticate(connection, "LOGIN", *answers)
    # RFC 4616: UTF-8, which smtplib's own login() cannot send.
    response = plain_response(user, password)
    return _authenticate(connection, f"PLAIN {_base64(response)}", response)


def _login_fault(connection: SmtpConnection, account: SmtpAccount, reply: Reply) -> SubmissionError:
    """Return the error for a reply to AUTH that is not 235, where no other mechanism is left to try."""
    login = account.login
    if reply.permanent:
        # Any 5xx here is about the account and not about the mail, which must not fail for it.
        setting = "EMAIL_OAUTH_…" if login.access_token else login.setting
        words = f"the server refuses the login of {login.user} (EMAIL_USER, {setting}): {reply}"
        return SubmissionLoginRefused(connection.scrub.line(words))
    words = f"{account.host} lets nobody in for now, it does not say that the password is wrong: {reply}"
    # It concerns every mail: if each of them tried, the account would soon be locked.
    return SubmissionLimited(connection.scrub.line(words), permanent=False)


def _authenticate(connection: SmtpConnection, command: str, *answers: bytes) -> Reply:
    """Send AUTH and an answer to each challenge (RFC 4954 section 4); a further one ends the exchange."""
    reply = connection.command(f"AUTH {command}")
    for answer in answers:
        if reply.code != 334:
            break
        reply = connection.command(_base64(answer))
    return connection.command("*") if reply.code == 334 else reply


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
        refused, deferred = _envelope(connection, mail)
        reply = connection.command("DATA")
        if reply.accepted:
            raise LinkLost(scrub.line(f"DATA: {reply}"))
        if reply.code != 354:
            raise connection.refusal("DATA", reply, of_recipient=True)
        _send_body(connection, body)
    except OSError as error:
        words = f"the connection broke before the mail was complete: {network_words(error)}"
        raise LinkLost(scrub.line(words)) from None

    connection.doubted = False
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
        words = (
            f"the connection broke after the mail was complete and before its answer: {network_words(error)}"
        )
        raise SubmissionUncertain(scrub.line(words)) from None
    if not reply.accepted:
        if reply.code < 400:
            raise SubmissionUncertain(scrub.line(f"the server answers the mail with {reply}"))
        if reply.code == 421:
            connection.close()
        raise _for_the_caller(connection.refusal("the mail", reply, of_recipient=True))
    connection.mails += 1
    return Receipt(scrub.line(reply), refused, deferred)


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


def _envelope(connection: SmtpConnection, mail: OutboundEmail) -> tuple[dict[str, str], dict[str, str]]:
    """Send MAIL and RCPT. Return those of the recipients that were refused for good, and for now, each with
    the reason, where another was accepted; else raise."""
    size = _size(connection, len(mail.source))
    sender, paths = _path(mail.envelope_from), {one: _path(one) for one in mail.recipients}
    reply = connection.command(f"MAIL FROM:<{sender}>{size}")
    if not reply.accepted:
        raise connection.refusal("MAIL", reply)
    replies: dict[str, Reply] = {}
    for recipient, path in paths.items():
        reply = connection.command(f"RCPT TO:<{path}>")
        if not reply.accepted:
            if reply.code == 421 or reply.is_of_login or connection.doubted:
                raise connection.refusal(f"RCPT {recipient}", reply, of_recipient=True)
            replies[recipient] = reply
    later = {one: reply for one, reply in replies.items() if _may_pass(reply)}
    if len(replies) == len(paths):
        raise _all_refused(connection, replies, later)
    said = {one: connection.scrub.line(reply) for one, reply in replies.items()}
    return {one: said[one] for one in replies if one not in later}, {one: said[one] for one in later}


def _may_pass(reply: Reply) -> bool:
    """Return whether a recipient that was refused so may be accepted later, or with another mail."""
    return not reply.permanent or reply.has_many_recipients or reply.is_limit(of_recipient=True)


def _all_refused(
    connection: SmtpConnection, replies: Mapping[str, Reply], later: Mapping[str, Reply]
) -> SubmissionError:
    words = "; ".join(f"{who}: {reply}" for who, reply in replies.items())
    words = connection.scrub.line(f"every recipient was refused: {words}")
    limits = [reply for reply in replies.values() if reply.is_limit(of_recipient=True)]
    if limits:
        return SubmissionLimited(words, permanent=all(reply.permanent for reply in limits))
    return SubmissionUnavailable(words) if later else SubmissionError(words)


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
    if not re.match(r"[45][0-9][0-9](?:[ -]|\Z)", line):
        return LinkLost(connection.scrub.line(f"the server breaks the mail off with {line}"))
    return connection.refusal("the text of the mail", Reply(int(line[:3]), line[4:]), of_recipient=True)


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
