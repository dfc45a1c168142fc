"""One IMAP connection: connect, log in, run commands, and turn every fault into one of our errors.

The only file that knows the inside of imaplib and IMAPClient.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import imaplib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import (
    LoginError,
    ProtocolError,
)
from imapclient.imap_utf7 import encode as encode_utf7
from imapclient.response_parser import parse_response

from cleo_email import __version__
from cleo_email.accounts import ImapAccount, Login
from cleo_email.errors import (
    MailboxError,
    MailboxLoginRefused,
    MailboxUnavailable,
    TokenError,
    TokenUnavailable,
)
from cleo_email.imap.values import ImapTimeouts

LIMIT = 300  # characters
_REMEMBERED = 12  # patterns: of the last three secrets, as each OAuth2 login brings a new token
_CODE = re.compile(r"\[([A-Z][A-Z0-9-]*)[\] ]", re.IGNORECASE)
_BAD = re.compile(r"command error: BAD (\[b.*\])", re.DOTALL)  # how imaplib shows the data of a BAD answer


class ServerWords:
    """Turns server text into one line of at most ``LIMIT`` characters in which no secret appears."""

    def __init__(self) -> None:
        self._secrets: list[re.Pattern[str]] = []

    def hide(self, user: str, secret: str) -> None:
        """From now on leave ``secret`` out, in every spelling in which a server could repeat it."""
        if not secret:
            return
        name, raw = (value.encode("utf-8", "surrogateescape") for value in (user, secret))
        encoded = [raw, b"\0" + name + b"\0" + raw, xoauth2(user, secret)]  # the second: SASL PLAIN, RFC 4616
        spellings = [secret, *(base64.b64encode(value).decode("ascii") for value in encoded)]
        self._secrets = [*map(_however_escaped, spellings), *self._secrets][:_REMEMBERED]

    def line(self, said: object) -> str:
        """``said``: bytes, a text, a list of them as imaplib gives it, or an exception."""
        text = _as_text(said)
        for secret in self._secrets:
            text = secret.sub("***", text)
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= LIMIT else text[: LIMIT - 1] + "…"


def _however_escaped(secret: str) -> re.Pattern[str]:
    """Matches ``secret`` with any backslashes put in (IMAP's quoted strings, Python's repr, both)."""
    letters = [_letter(char) for char in secret if char != "\\"]
    return re.compile(r"\\*".join(letters)) if letters else re.compile(re.escape(secret))


def _letter(char: str) -> str:
    if char.isascii():
        return re.escape(char)
    bytewise = "".join(rf"\\+x{octet:02x}" for octet in char.encode("utf-8", "surrogateescape"))
    return f"(?:{re.escape(char)}|{bytewise})"


def xoauth2(user: str, token: str) -> bytes:
    """The initial client response of SASL XOAUTH2 (Google's and Microsoft's mechanism, in no RFC)."""
    return f"user={user}\x01auth=Bearer {token}\x01\x01".encode("utf-8", "surrogateescape")


def is_bad(exc: BaseException) -> bool:
    """Whether imaplib's ``exc`` stands for a tagged BAD."""
    return _BAD.search(str(exc)) is not None


def response_code(said: object) -> str:
    """The response code of an answer (RFC 3501 section 7.1, RFC 5530) in capitals, or an empty string."""
    found = _CODE.match(_as_text(said))
    return found.group(1).upper() if found else ""


def _as_text(said: object) -> str:
    if isinstance(said, OSError):
        return str(said) or type(said).__name__
    if isinstance(said, BaseException):
        bad = _BAD.search(str(said))
        if bad:
            with contextlib.suppress(ValueError, SyntaxError):
                return "BAD " + _as_text(ast.literal_eval(bad[1]))
        said = list(said.args) if said.args else type(said).__name__
    if isinstance(said, list | tuple):
        return " ".join(_as_text(part) for part in said if part is not None)
    if isinstance(said, bytes):
        return said.decode("utf-8", "replace")
    return str(said)


# Everything by which imaplib and IMAPClient say that a conversation has failed. ``IMAP4.error`` covers abort,
# readonly, IMAPClient's ProtocolError and LoginError; ValueError is what their parsers raise on an
# answer that makes no sense (binascii.Error and UnicodeError included), MemoryError and OverflowError what a
# nonsensical literal size leads to, RecursionError a deeply nested answer. After any of them the position in
# the stream is unknown: the connection is of no more use.
CONVERSATION_FAULTS = (
    OSError,
    imaplib.IMAP4.error,
    ValueError,
    IndexError,
    TypeError,
    MemoryError,
    OverflowError,
    RecursionError,
)

_QUOTED_DATA = re.compile(r""":? b['"].*""")  # as in "unexpected response: b'…'"

_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})

# RFC 5530 codes (and RFC 3501's TRYCREATE) that stay until a person changes something.
_FOR_GOOD = frozenset(
    {
        "ALREADYEXISTS",
        "AUTHORIZATIONFAILED",
        "CANNOT",
        "CONTACTADMIN",
        "EXPIRED",
        "NONEXISTENT",
        "NOPERM",
        "OVERQUOTA",
        "PRIVACYREQUIRED",
        "TOOBIG",
        "TRYCREATE",
    }
)


class RefusedForNow(MailboxUnavailable):
    """A tagged NO or BAD: the connection is in order. ``code`` is the response code or empty."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class RefusedForGood(MailboxError):
    """A tagged NO whose code says that a person has to act."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def refusal(prefix: str, said: object, words: ServerWords) -> RefusedForNow | RefusedForGood:
    """The error for a tagged NO; without a telling code it is taken as temporary."""
    code = response_code(said)
    kind = RefusedForGood if code in _FOR_GOOD else RefusedForNow
    return kind(f"{prefix}: the server says: {words.line(said)}", code)


def login_refusal(prefix: str, said: object, words: ServerWords) -> MailboxError:
    """The error for a NO to LOGIN or AUTHENTICATE (RFC 5530 section 3).

    Only ``[AUTHENTICATIONFAILED]`` is an answer about the password. A bare NO is what many servers also send
    when their own directory is down: believing it would stop a mailbox for good over a fault of minutes.
    """
    code = response_code(said)
    text = words.line(said)
    if code == "AUTHENTICATIONFAILED":
        return MailboxLoginRefused(
            f"{prefix}: login refused, check EMAIL_USER and EMAIL_PASSWORD (or the OAuth settings);"
            f" the server says: {text}"
        )
    if code in _FOR_GOOD:
        return MailboxError(f"{prefix}: login not allowed; the server says: {text}")
    return MailboxUnavailable(
        f"{prefix}: login failed and the server does not say that user or password are wrong,"
        f" so it is tried again; the server says: {text}"
    )


def unreachable(
    prefix: str, exc: BaseException, words: ServerWords, *, dialling: bool = False
) -> MailboxError:
    """The error for a fault of the network, of TLS or of the protocol.

    ``dialling``: no conversation has begun, so that the settings of the server are the first suspect.
    """
    if isinstance(exc, ssl.SSLCertVerificationError):
        return MailboxError(
            f"{prefix}: the server's certificate is not trusted ({words.line(exc.verify_message)}); for a"
            " private CA let SSL_CERT_FILE or SSL_CERT_DIR name it, or set EMAIL_IMAP_HOST to the name in the"
            " certificate"
        )
    if isinstance(exc, ssl.SSLError) and exc.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return MailboxUnavailable(
            f"{prefix}: the server does not speak TLS on this port; EMAIL_IMAP_PORT is usually 993, and 143"
            " means STARTTLS"
        )
    hint = " (EMAIL_IMAP_HOST, EMAIL_IMAP_PORT)" if dialling and isinstance(exc, OSError) else ""
    if isinstance(exc, TimeoutError):
        return MailboxUnavailable(f"{prefix}: no answer in time{hint}")
    if isinstance(exc, socket.gaierror) and exc.errno in _NO_SUCH_NAME:
        return MailboxUnavailable(f"{prefix}: no server of this name is known: look for a typo{hint}")
    if isinstance(exc, ConnectionRefusedError):
        return MailboxUnavailable(f"{prefix}: refused: nothing listens there, or a firewall is between{hint}")
    return MailboxUnavailable(f"{prefix}: {_what_happened(exc, words)}{hint}")


def _what_happened(exc: BaseException, words: ServerWords) -> str:
    """Words of the network or of a BYE; never the data of an answer, which may be of somebody's mail."""
    if isinstance(exc, OSError):
        return words.line(exc)
    if isinstance(exc, imaplib.IMAP4.error) and not isinstance(exc, ProtocolError):
        return _QUOTED_DATA.sub("", words.line(exc))
    return f"the server's answer makes no sense to us ({type(exc).__name__})"


Answer = tuple[str, list[Any]]


class ImapConnection:
    """A logged-in connection. Raises MailboxError and its subclasses, nothing else."""

    def __init__(
        self, account: ImapAccount, context: ssl.SSLContext | None, timeouts: ImapTimeouts, words: ServerWords
    ) -> None:
        self._prefix = f"{account.host}:{account.port}"
        self._timeouts = timeouts
        self._words = words
        self._client = connect(account, context, timeouts, words)
        self._imap: imaplib.IMAP4 = self._client._imap
        self.alive = True
        self.heard = time.monotonic()  # when the server last answered
        self.selected: tuple[str, bool] | None = None  # (folder, read-only)
        try:
            with self._deadline(timeouts.command):
                self.capabilities = log_in(self._client, account.login, self._prefix, words)
        except BaseException:
            self.discard()
            raise
        self.heard = time.monotonic()

    # --- mailboxes --------------------------------------------------------------------------------------

    def noop(self, seconds: float) -> None:
        """Ask for a sign of life within ``seconds``."""
        sock = self._client.socket()
        with self.conversation("NOOP"):
            sock.settimeout(seconds)
            self._answered("NOOP", self._imap.noop())
            sock.settimeout(self._timeouts.read)

    def select(self, folder: str, *, read_only: bool = False) -> dict[bytes, Any]:
        """SELECT, or EXAMINE where asked for or where the server gives no more; the answer's data by name."""
        self.selected = None
        with self.conversation(f"SELECT {folder}"):
            try:
                data = self._select(folder, read_only=read_only)
            except imaplib.IMAP4.readonly:  # imaplib's own idea of a READ-ONLY answer; an abort by class only
                read_only = True
                data = self._select(folder, read_only=True)
        self.selected = (folder, read_only)
        return {**data, b"READ-ONLY": read_only or b"READ-ONLY" in data}

    def _select(self, folder: str, *, read_only: bool) -> dict[bytes, Any]:
        answer = self._imap.select(quoted(folder), read_only)
        self._answered(f"SELECT {folder}", answer)
        data: dict[bytes, Any] = self._client._process_select_response(self._imap.untagged_responses)
        return data

    def status(self, folder: str, item: str) -> int:
        """One number of STATUS, or 0."""
        said = self._run("STATUS", lambda: self._imap.status(quoted(folder), f"({item})"))
        found = re.search(rf"{item} (\d+)", _joined(said), re.IGNORECASE)
        return int(found.group(1)) if found else 0

    def folders(self) -> list[tuple[frozenset[str], str, str]]:
        """Every folder as (attributes in lower case, delimiter, name)."""
        said: list[Any] = []
        if "SPECIAL-USE" in self.capabilities:  # some servers tell only on request (RFC 6154 section 3)
            with contextlib.suppress(RefusedForNow):
                said = self._run("LIST", lambda: self._imap.list('""', '"*" RETURN (SPECIAL-USE)'))
        if not any(said):
            said = self._run("LIST", lambda: self._imap.list('""', '"*"'))
        with self.conversation("LIST"):
            return [
                (frozenset(_text(flag).lower() for flag in flags), _text(delimiter or b""), name)
                for flags, delimiter, name in self._client._proc_folder_list(said)
            ]

    def namespace(self) -> str | None:
        """The prefix of the personal namespace (RFC 2342), or None where the server tells none."""
        if "NAMESPACE" not in self.capabilities:
            return None
        with self.conversation("NAMESPACE"):
            personal = self._client.namespace().personal
        return personal[0][0] if personal else None

    def create(self, folder: str) -> None:
        self._run(f"CREATE {folder}", lambda: self._imap.create(quoted(folder)))
        with contextlib.suppress(RefusedForNow):  # most clients show subscribed folders only
            self._run(f"SUBSCRIBE {folder}", lambda: self._imap.subscribe(quoted(folder)))

    def append(self, folder: str, flags: str, date: Any, source: bytes) -> None:
        self._run(
            f"APPEND to {folder}",
            lambda: self._append(quoted(folder), flags, date, source),
            seconds=self._timeouts.command + len(source) / 100_000,
        )

    def _append(self, folder: str, flags: str, date: Any, source: bytes) -> tuple[str, list[Any]]:
        """imaplib's own looks for other line ends, at five times the memory of the mail; ours are right."""
        imap: Any = self._imap
        imap.literal = source
        said: tuple[str, list[Any]] = imap._simple_command(
            "APPEND", folder, f"({flags})", imaplib.Time2Internaldate(date)
        )
        return said

    # --- messages of the selected mailbox ---------------------------------------------------------------

    def search(self, *criteria: str, literal: bytes | None = None) -> list[int]:
        """UIDs that match, ascending. ``literal`` is the last argument, where it cannot be quoted."""
        with self.conversation("SEARCH"):
            self._imap.response("SEARCH")  # forget what came unasked
            self._client._imap.literal = literal  # sent by imaplib after the last argument
            said = self._answered("SEARCH", self._imap.uid("SEARCH", *criteria))
            # A server may split its answer (one list of numbers each); a MODSEQ may follow (RFC 7162).
            numbers = " ".join(_text(line).partition("(")[0] for line in said if line)
            return sorted({int(number) for number in numbers.split()})

    def fetch(self, uid_set: str, items: str) -> dict[int, dict[bytes, Any]]:
        """What the server tells of each message, by UID and upper-case item name."""
        return self._messages("FETCH", uid_set, items)

    def store(self, uid_set: str, flags: str) -> dict[int, dict[bytes, Any]]:
        """Add flags; the resulting FLAGS of each message that the server speaks of."""
        return self._messages("STORE", uid_set, "+FLAGS", flags)

    def _messages(self, command: str, *arguments: str) -> dict[int, dict[bytes, Any]]:
        with self.conversation(command):
            self._imap.response("FETCH")  # forget what came unasked
            kind, said = self._imap.uid(command, *arguments)
            if kind == "NO" and response_code(said) == "EXPUNGEISSUED":
                # Messages have gone meanwhile; what was told of the others stands (RFC 2180 section 4.1).
                kind, said = "OK", self._imap.response("FETCH")[1]
            said = self._answered(command, (kind, said))
            found: dict[int, dict[bytes, Any]] = {}
            parsed = list(parse_response(said))
            for items in parsed[1::2]:  # sequence number, items, sequence number, items …
                named = {
                    bytes(name).upper(): value for name, value in zip(items[::2], items[1::2], strict=True)
                }
                if isinstance(named.get(b"UID"), int):
                    found.setdefault(named[b"UID"], {}).update(named)
            return found

    # --- the conversation -------------------------------------------------------------------------------

    def _run(self, what: str, command: Callable[[], Any], *, seconds: float | None = None) -> list[Any]:
        with self.conversation(what, seconds):
            return self._answered(what, command())

    def _answered(self, what: str, answer: Any) -> list[Any]:
        kind, said = answer
        self.heard = time.monotonic()
        if kind != "OK":
            raise refusal(f"{self._prefix}: {what} refused", said, self._words)
        return list(said)

    @contextlib.contextmanager
    def conversation(self, what: str, seconds: float | None = None) -> Iterator[None]:
        """Everything that is said to the server is said in here."""
        prefix = f"{self._prefix}: {what} failed"
        if not self.alive:
            raise MailboxUnavailable(f"{prefix}: the connection is closed")
        seconds = seconds or self._timeouts.command
        try:
            with self._deadline(seconds) as expired:
                yield
        except MailboxError:
            raise
        except CONVERSATION_FAULTS as exc:
            if is_bad(exc) and not isinstance(exc, imaplib.IMAP4.abort):
                raise RefusedForNow(f"{prefix}: the server says: {self._words.line(exc)}", "BAD") from None
            self.discard()
            if expired.is_set():
                raise MailboxUnavailable(f"{prefix}: not done after {seconds:g} s") from None
            raise unreachable(prefix, exc, self._words) from None  # the original may show mail
        except BaseException:
            self.discard()
            raise

    @contextlib.contextmanager
    def _deadline(self, seconds: float) -> Iterator[threading.Event]:
        """Cut the connection after ``seconds``: a socket's own timeout starts anew with every byte."""
        expired = threading.Event()

        def cut() -> None:
            expired.set()
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown: it would take the TLS state away from under the reading thread.
                socket.socket.shutdown(self._client.socket(), socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield expired
        finally:
            timer.cancel()

    def log_out(self) -> None:
        """Say good-bye, waiting a second at most, and close."""
        try:
            with self.conversation("LOGOUT"):
                self._client.socket().settimeout(1)
                self._imap.logout()
        except MailboxError:
            pass  # it is gone either way
        self.discard()

    def discard(self) -> None:
        self.alive = False
        self.selected = None
        discard(self._client)


def quoted(folder: str) -> str:
    """A mailbox name as a quoted string in modified UTF-7 (RFC 3501 sections 4.3 and 5.1.3)."""
    name: str = encode_utf7(folder).decode("ascii")
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(part: Any) -> str:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)


def _joined(said: list[Any]) -> str:
    return " ".join(_text(part) for part in said if part is not None)


STARTTLS_PORT = 143
_ATOM = re.compile(r"[A-Za-z0-9!#$&'+,\-./:;<=>?@^_`|~]+")  # narrower than RFC 3501's, and safe unquoted
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def connect(
    account: ImapAccount, context: ssl.SSLContext | None, timeouts: ImapTimeouts, words: ServerWords
) -> IMAPClient:
    """An encrypted connection, not yet logged in.

    Raises MailboxError (certificate, no STARTTLS on port 143) or MailboxUnavailable.
    """
    prefix = f"{account.host}:{account.port}"
    implicit = account.port != STARTTLS_PORT
    client: IMAPClient | None = None
    try:
        # OpenSSL's default paths apply, which SSL_CERT_FILE and SSL_CERT_DIR override.
        context = context or ssl.create_default_context()
        client = IMAPClient(
            account.host,
            port=account.port,
            ssl=implicit,
            ssl_context=context if implicit else None,
            timeout=SocketTimeout(connect=timeouts.connect, read=timeouts.read),
        )
        client._imap.debug = 0
        client.normalise_times = False
        if not implicit:
            _start_tls(client, context, prefix)
    except MailboxError:
        discard(client)
        raise
    except CONVERSATION_FAULTS as exc:
        discard(client)
        raise unreachable(prefix, exc, words, dialling=True) from exc
    return client


def _start_tls(client: IMAPClient, context: ssl.SSLContext, prefix: str) -> None:
    """RFC 3501 section 6.2.1. A PREAUTH greeting forbids STARTTLS: somebody may be in between."""
    if client._imap.state != "NONAUTH" or not client.has_capability("STARTTLS"):
        raise MailboxError(
            f"{prefix}: the server offers no STARTTLS, and credentials never travel in clear; set"
            " EMAIL_IMAP_PORT to the server's TLS port (usually 993)"
        )
    client.starttls(context)
    # What was said in clear may be anybody's (RFC 3501 section 6.2.1).
    client._imap.untagged_responses.clear()


def log_in(client: IMAPClient, login: Login, prefix: str, words: ServerWords) -> frozenset[str]:
    """Log in once and return the server's capabilities afterwards.

    Raises MailboxLoginRefused only where the server says so, MailboxError for credentials that cannot be sent
    and MailboxUnavailable for all else.
    """
    try:
        if client._imap.state == "NONAUTH":
            _authenticate(client, login, prefix, words)
        offered = frozenset(name.decode("ascii", "replace").upper() for name in client.capabilities())
        if "ID" in offered:
            _identify(client)
    except MailboxError:
        raise
    except LoginError as exc:
        # IMAPClient wraps every fault of the login, a lost connection too. ``from None``: the originals may
        # repeat what was sent, and a traceback would print them.
        cause = exc.__context__
        if cause is None or isinstance(cause, imaplib.IMAP4.abort):
            raise unreachable(prefix, cause or exc, words) from None
        raise login_refusal(prefix, cause, words) from None
    except CONVERSATION_FAULTS as exc:
        raise unreachable(prefix, exc, words) from None
    return offered


def _authenticate(client: IMAPClient, login: Login, prefix: str, words: ServerWords) -> None:
    if login.access_token is not None:
        _authenticate_by_token(client, login, login.access_token, prefix, words)
        return
    words.hide(login.user, login.password)
    _must_be_sendable(prefix, "EMAIL_USER", login.user)
    _must_be_sendable(prefix, "EMAIL_PASSWORD", login.password)
    offered = client.capabilities()
    ascii_only = (login.user + login.password).isascii()
    if b"AUTH=PLAIN" in offered:
        client.plain_login(login.user, login.password)
    elif b"LOGINDISABLED" not in offered and ascii_only:
        user = login.user
        if not _ATOM.fullmatch(user):  # imaplib quotes the password only
            user = '"' + user.replace("\\", "\\\\").replace('"', '\\"') + '"'
        client.login(user, login.password)
    elif b"AUTH=LOGIN" in offered:
        client.sasl_login("LOGIN", _answers(login.user.encode(), login.password.encode()))
    elif ascii_only:
        raise MailboxError(f"{prefix}: the server takes no login by password; it may demand OAuth2")
    else:
        raise MailboxError(
            f"{prefix}: EMAIL_USER or EMAIL_PASSWORD holds a character outside ASCII, and the server offers"
            " neither AUTH=PLAIN nor AUTH=LOGIN, which could carry it"
        )


def _authenticate_by_token(
    client: IMAPClient, login: Login, source: Callable[[], str], prefix: str, words: ServerWords
) -> None:
    try:
        token = source()
    except TokenUnavailable as exc:
        raise MailboxUnavailable(f"{prefix}: {exc}") from None
    except TokenError as exc:
        raise MailboxLoginRefused(f"{prefix}: {exc}") from None
    words.hide(login.user, token)
    _must_be_sendable(prefix, "the OAuth2 access token", token)
    try:
        client.sasl_login("XOAUTH2", _answers(xoauth2(login.user, token)))
    except LoginError as exc:
        lost = exc.__context__ is None or isinstance(exc.__context__, imaplib.IMAP4.abort)
        if login.token_refused is not None and not lost:
            login.token_refused(token)
        raise


def _must_be_sendable(prefix: str, name: str, value: str) -> None:
    if _CONTROL.search(value):
        raise MailboxError(f"{prefix}: {name} holds a control character (a line break?) and cannot be sent")


def _answers(*answers: bytes) -> Callable[[bytes], bytes]:
    """The client's side of a SASL exchange in fixed words; after the last of them nothing.

    To XOAUTH2's second challenge, an error document, an empty answer is due; the server then says NO.
    """
    left = list(answers)
    return lambda _challenge: left.pop(0) if left else b""


def _identify(client: IMAPClient) -> None:
    """RFC 2971. NetEase refuses SELECT to clients that have not said who they are; nobody else minds."""
    try:
        client.id_({"name": "cleo-email", "version": __version__})
    except imaplib.IMAP4.abort:
        raise
    except imaplib.IMAP4.error:
        return  # a NO or BAD to a courtesy


def discard(client: IMAPClient | None) -> None:
    """Close the socket of a connection that is of no more use."""
    if client is not None:
        with contextlib.suppress(OSError, imaplib.IMAP4.error, ValueError):
            client._imap.shutdown()


QUIET = 30.0  # seconds without an answer after which a kept connection is tried before it is used


class KeptConnection:
    """Gives the live connection of an account, and a new one where it has died. Not for several threads."""

    def __init__(self, account: ImapAccount, context: ssl.SSLContext | None, timeouts: ImapTimeouts) -> None:
        self.account = account
        self.logins = 0
        self._context = context
        self._timeouts = timeouts
        self._words = ServerWords()
        self._wire: ImapConnection | None = None

    def wire(self, *, try_after: float = QUIET) -> ImapConnection:
        """The kept connection, tried by NOOP if last heard of ``try_after`` seconds ago; or a new one.

        Raises what :class:`Wire` raises when it connects.
        """
        wire = self._wire
        if wire is not None and wire.alive and time.monotonic() - wire.heard >= try_after:
            try:
                wire.noop(self._timeouts.liveness)
            except MailboxError:
                wire.discard()
        if wire is None or not wire.alive:
            self._wire = None
            self._wire = wire = ImapConnection(self.account, self._context, self._timeouts, self._words)
            self.logins += 1
        return wire

    def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None and wire.alive:
            wire.log_out()
