"""One IMAP connection (RFC 3501): connect, log in, run commands, and turn every fault into one of our errors.

No other file uses the internals of imaplib and IMAPClient.
"""

import ast
import contextlib
import imaplib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import LoginError, ProtocolError
from imapclient.imap_utf7 import decode as decode_utf7
from imapclient.imap_utf7 import encode as encode_utf7
from imapclient.response_parser import parse_response

from cleo_email import __version__
from cleo_email.accounts import ImapAccount, LoginMemory, plain_response, xoauth2_response
from cleo_email.certificates import certificate_advice
from cleo_email.errors import (
    MailboxError,
    MailboxLoginRefused,
    MailboxUnavailable,
    TokenError,
    TokenUnavailable,
    network_words,
)
from cleo_email.imap.values import ImapTimeouts, quoted, ranges
from cleo_email.scrub import Scrubber

STARTTLS_PORT = 143
_ATOM = re.compile(r"[A-Za-z0-9!#$&'+,\-./:;<=>?@^_`|~]+")  # narrower than RFC 3501's, and safe unquoted
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CODE = re.compile(r"\[([A-Z][A-Z0-9-]*)[\] ]", re.IGNORECASE)
_BAD = re.compile(r"command error: BAD (\[b.*\])", re.DOTALL)  # how imaplib shows the data of a BAD answer
_QUOTED_DATA = re.compile(r""":? b['"].*""")  # as in "unexpected response: b'…'"

# RFC 5530 codes (and RFC 3501's TRYCREATE) that stay until a person changes something.
_FOR_GOOD = frozenset(
    "ALREADYEXISTS AUTHORIZATIONFAILED CANNOT CONTACTADMIN EXPIRED NONEXISTENT NOPERM OVERQUOTA"
    " PRIVACYREQUIRED TOOBIG TRYCREATE".split()
)

# A NO to a login is about user or password, unless its code or its words say that it may pass by itself.
_LOGIN_LATER = frozenset("UNAVAILABLE INUSE LIMIT SERVERBUG".split())
_LATER_WORDS = re.compile(
    r"temporar|try (it )?again|again later|unavailable|(internal|server|system) error|timed? ?out|bandwidth"
    r"|(too many|maximum)[\w ]* (connections|sessions)",
    re.IGNORECASE,
)
_COMMAND = "the command LOGIN"  # beside the SASL mechanisms PLAIN and LOGIN

# A line of LIST (RFC 3501 section 7.2.2). Servers bend it, and one odd line must not spoil the others.
_FOLDER = re.compile(rb'\(([^)]*)\)\s+(?:NIL|"\\?(.)"|\S)\s+(.+)', re.IGNORECASE | re.DOTALL)
_QUOTED_NAME = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)

# All that imaplib and IMAPClient raise where a conversation fails. ``IMAP4.error`` covers abort, readonly,
# ProtocolError and LoginError; their parsers raise ValueError (binascii.Error and UnicodeError included),
# IndexError and TypeError on an answer that makes no sense, MemoryError and OverflowError on a nonsensical
# literal size, RecursionError on deep nesting. The position in the stream is then unknown: nothing more can
# be read from the connection.
_PARSER_FAULTS = (ValueError, IndexError, TypeError, MemoryError, OverflowError, RecursionError)
_CONVERSATION_FAULTS = (OSError, imaplib.IMAP4.error, *_PARSER_FAULTS)


class _Refused(MailboxError):
    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code  # the response code, where the server gave one


class RefusedForNow(_Refused, MailboxUnavailable):
    """A tagged NO or BAD; the connection is in order."""


class RefusedForGood(_Refused):
    """A tagged NO whose response code says that a person has to act."""


@dataclass(frozen=True)
class Folder:
    """A line of LIST. ``raw`` is the name as the server spells it, which every command of ours takes."""

    attributes: frozenset[str]  # in lower case
    delimiter: str  # '' for none
    raw: bytes

    @property
    def name(self) -> str:
        return folder_name(self.raw)


class ImapConnection:
    """A logged-in connection. Its methods raise MailboxError and its subclasses, nothing else."""

    def __init__(
        self,
        account: ImapAccount,
        context: ssl.SSLContext | None,
        timeouts: ImapTimeouts,
        memory: LoginMemory | None = None,
    ) -> None:
        self._account = account
        self._memory = memory or LoginMemory()
        self._place = f"{account.host}:{account.port}"
        self._timeouts = timeouts
        self._scrub = Scrubber()
        self._client = self._connect(context)
        self._imap: Any = self._client._imap
        self._alive = True
        self._asked_capabilities = False
        self.refusals = 0  # of any command
        self.selected: tuple[str | bytes, bool] | None = None  # (folder, read-only)
        try:
            with self._deadline(timeouts.command):
                self._capabilities = self._log_in()
        except BaseException:
            self._discard()
            raise
        with contextlib.suppress(OSError):  # else the end of a literal waits 40 ms for its acknowledgement
            self._client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._heard = time.monotonic()  # when the server last answered

    def is_alive(self, try_after: float) -> bool:
        """Return whether the connection lives; NOOP tries one that was quiet for ``try_after`` seconds."""
        if self._alive and time.monotonic() - self._heard >= try_after:
            sock = self._client.socket()
            try:
                with self._conversation("NOOP"):
                    sock.settimeout(self._timeouts.liveness)
                    self._answered("NOOP", self._imap.noop())
                    sock.settimeout(self._timeouts.read)
            except MailboxError:
                self._discard()
        return self._alive

    def offers(self, capability: str) -> bool:
        """Return whether the server has it. Some tell the whole list only where they are asked for it."""
        if capability not in self._capabilities and not self._asked_capabilities:
            self._asked_capabilities = True
            told = self._run("CAPABILITY", self._imap.capability)
            self._capabilities |= frozenset(_as_text(told).upper().split())
        return capability in self._capabilities

    def hand_over(self) -> tuple[socket.socket, bytes]:
        """Return the socket, and what it has brought that nobody has read yet.

        From then on the caller reads and writes; ``log_out`` closes it, and nothing else may be called.
        """
        self._alive = False
        sock: socket.socket = self._client.socket()
        sock.settimeout(0)
        kept = getattr(self._imap, "_readbuf", None)  # imaplib's own buffer, from Python 3.14 on
        if kept is not None:
            return sock, b"".join(kept)
        unread = b""
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            while ahead := self._imap.file.peek():
                unread += self._imap.file.read(len(ahead))
        return sock, unread

    # --- mailboxes (bytes: a name as the server spells it) -----------------------------------------------

    def select(self, folder: str | bytes, *, read_only: bool = False) -> dict[bytes, Any]:
        """Send SELECT, or EXAMINE if ``read_only`` or nothing else is allowed; return the data by name."""
        self.selected = None
        with self._conversation(f"SELECT {folder_name(folder)}"):
            try:
                data = self._select(folder, read_only)
            except imaplib.IMAP4.readonly:  # imaplib's own idea of a READ-ONLY answer; an abort by class only
                read_only = True
                data = self._select(folder, read_only)
        self.selected = (folder, read_only)
        return {**data, b"READ-ONLY": read_only or b"READ-ONLY" in data}

    def _select(self, folder: str | bytes, read_only: bool) -> dict[bytes, Any]:
        self._answered(f"SELECT {folder_name(folder)}", self._imap.select(_mailbox_name(folder), read_only))
        data: dict[bytes, Any] = self._client._process_select_response(self._imap.untagged_responses)
        return data

    def status(self, folder: str | bytes, *items: str) -> dict[str, int]:
        """Return what the server tells of these items (RFC 9051 section 6.3.11); it may leave one out."""
        asked = f"({' '.join(items)})"
        told = _as_text(self._run("STATUS", lambda: self._imap.status(_mailbox_name(folder), asked)))
        pairs = re.findall(r"(\w+) (\d{1,10})(?!\d)", told.rpartition("(")[2])
        return {name.upper(): int(number) for name, number in pairs}

    def folders(self) -> list[Folder]:
        """Return every folder whose line in the answer to LIST can be read."""
        data: list[Any] = []
        if "SPECIAL-USE" in self._capabilities:  # some servers say it only on request (RFC 6154 section 3)
            with contextlib.suppress(RefusedForNow, RefusedForGood):
                data = self._run("LIST", lambda: self._imap.list('""', '"*" RETURN (SPECIAL-USE)'))
        if not any(data):
            data = self._run("LIST", lambda: self._imap.list('""', '"*"'))
        return [folder for line in data if line and (folder := _folder(line))]

    def namespace(self) -> bytes | None:
        """Return the prefix of the personal namespace (RFC 2342), None where no sensible one is named."""
        if "NAMESPACE" not in self._capabilities:
            return None
        try:
            personal, *_ = parse_response(self._run("NAMESPACE", self._imap.namespace))
            prefix = personal[0][0]
        except (RefusedForNow, RefusedForGood, ProtocolError, *_PARSER_FAULTS):
            return None
        return prefix if isinstance(prefix, bytes) else None

    def create(self, folder: bytes) -> None:
        name = folder_name(folder)
        self._run(f"CREATE {name}", lambda: self._imap.create(_mailbox_name(folder)))
        with contextlib.suppress(RefusedForNow, RefusedForGood):  # most clients show subscribed folders only
            self._run(f"SUBSCRIBE {name}", lambda: self._imap.subscribe(_mailbox_name(folder)))

    def append(self, folder: bytes, flags: str, date: datetime, source: bytes) -> tuple[int, int] | None:
        """Store a message; return its (UIDVALIDITY, UID) where the server tells it (RFC 4315)."""

        def command() -> Any:
            # imaplib's own append() looks for other line ends, at five times the memory of the mail.
            self._imap.literal = source
            when = imaplib.Time2Internaldate(date)
            return self._imap._simple_command("APPEND", _mailbox_name(folder), f"({flags})", when)

        what = f"APPEND to {folder_name(folder)}"
        data = self._run(what, command, self._timeouts.command + len(source) / 100_000)
        told = re.search(r"\[APPENDUID (\d+) (\d+)\]", _as_text(data), re.IGNORECASE)
        return (int(told[1]), int(told[2])) if told else None

    # --- messages of the selected mailbox ---------------------------------------------------------------

    def search(self, *criteria: str, literal: bytes | None = None) -> list[int]:
        """Return the UIDs that match, ascending. ``literal`` is a last argument that cannot be quoted."""
        with self._conversation("SEARCH"):
            self._imap.response("SEARCH")  # forget what came unasked
            self._imap.literal = literal  # sent by imaplib after the last argument
            data = self._answered("SEARCH", self._imap.uid("SEARCH", *criteria))
            # A server may split its answer (one list of numbers each); a MODSEQ may follow (RFC 7162).
            numbers = " ".join(_as_text(line).partition("(")[0] for line in data if line)
            return sorted({int(number) for number in numbers.split()})

    def fetch(self, uid_set: str, items: str) -> dict[int, dict[bytes, Any]]:
        """Return what the server says of each message, by UID and upper-case item name."""
        return self._messages("FETCH", uid_set, items)

    def store(self, uid_set: str, flags: str, how: str = "+FLAGS") -> dict[int, dict[bytes, Any]]:
        """Add flags, or remove them; return the FLAGS of each message of which the server tells them."""
        return self._messages("STORE", uid_set, how, flags)

    def expunge(self, uid: int) -> None:
        r"""Remove this message, which is marked ``\Deleted``, and no other one.

        Without UIDPLUS (RFC 4315) the others that are marked lose the mark for the moment of an EXPUNGE.
        """
        if "UIDPLUS" in self._capabilities:
            self._run("UID EXPUNGE", lambda: self._imap.uid("EXPUNGE", str(uid)))
            return
        others = ranges([found for found in self.search("DELETED") if found != uid] or [0])
        if others != "0":
            self.store(others, "(\\Deleted)", "-FLAGS")
        try:
            self._run("EXPUNGE", self._imap.expunge)
        finally:
            if others != "0":
                self.store(others, "(\\Deleted)")

    def _messages(self, command: str, *arguments: str) -> dict[int, dict[bytes, Any]]:
        with self._conversation(command):
            self._imap.response("FETCH")  # forget what came unasked
            kind, data = self._imap.uid(command, *arguments)
            if kind == "NO" and response_code(data) == "EXPUNGEISSUED":
                # Some messages were expunged; the answers about the others count (RFC 2180 section 4.1).
                kind, data = "OK", self._imap.response("FETCH")[1]
            parsed = list(parse_response(self._answered(command, (kind, data))))
            found: dict[int, dict[bytes, Any]] = {}
            for items in parsed[1::2]:  # sequence number, items, sequence number, items …
                pairs = zip(items[::2], items[1::2], strict=True)
                named = {bytes(name).upper(): value for name, value in pairs}
                if isinstance(named.get(b"UID"), int):
                    found.setdefault(named[b"UID"], {}).update(named)
            return found

    # --- the conversation -------------------------------------------------------------------------------

    def _run(self, what: str, command: Callable[[], Any], seconds: float | None = None) -> list[Any]:
        with self._conversation(what, seconds):
            return self._answered(what, command())

    def _answered(self, what: str, answer: Any) -> list[Any]:
        """Return the data of an OK; raise the error for a NO, temporary unless its code says otherwise."""
        kind, data = answer
        self._heard = time.monotonic()
        if kind == "OK":
            return list(data)
        self.refusals += 1
        code = response_code(data)
        kind = RefusedForGood if code in _FOR_GOOD else RefusedForNow
        raise kind(f"{self._place}: {what} refused: the server says: {self._words(data)}", code)

    @contextlib.contextmanager
    def _conversation(self, what: str, seconds: float | None = None) -> Iterator[None]:
        """Run a command under a deadline; after a fault the connection is closed."""
        what = f"{what} failed"
        if not self._alive:
            raise MailboxUnavailable(f"{self._place}: {what}: the connection is closed")
        seconds = seconds or self._timeouts.command
        try:
            with self._deadline(seconds) as expired:
                yield
        except MailboxError:
            raise
        except _CONVERSATION_FAULTS as exc:
            if _BAD.search(str(exc)) and not isinstance(exc, imaplib.IMAP4.abort):
                raise RefusedForNow(f"{self._place}: {what}: the server says: {self._words(exc)}") from None
            self._discard()
            if expired.is_set():
                raise MailboxUnavailable(f"{self._place}: {what}: not done after {seconds:g} s") from None
            raise self._fault(exc, what) from None  # the original may show mail
        except BaseException:
            self._discard()
            raise

    @contextlib.contextmanager
    def _deadline(self, seconds: float) -> Iterator[threading.Event]:
        """Cut the connection after ``seconds``: a socket's own timeout starts anew with every byte.

        Another thread does it, because imaplib reads by itself (from 3.14 on its file cannot be replaced).
        """
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
        """Send LOGOUT, wait a second at most, and close."""
        with contextlib.suppress(MailboxError), self._conversation("LOGOUT"):
            self._client.socket().settimeout(1)
            self._imap.logout()
        self._discard()

    def _discard(self) -> None:
        self._alive = False
        self.selected = None
        _close(self._client)

    # --- connecting and logging in ----------------------------------------------------------------------

    def _connect(self, context: ssl.SSLContext | None) -> IMAPClient:
        """Return an encrypted connection, not yet logged in."""
        host, port, timeouts = self._account.host, self._account.port, self._timeouts
        implicit = port != STARTTLS_PORT
        client: IMAPClient | None = None
        try:
            # OpenSSL's default paths apply, which SSL_CERT_FILE and SSL_CERT_DIR override.
            context = context or ssl.create_default_context()
            client = IMAPClient(
                host,
                port=port,
                ssl=implicit,
                ssl_context=context if implicit else None,
                timeout=SocketTimeout(connect=timeouts.connect, read=timeouts.read),
            )
            client._imap.debug = 0
            client.normalise_times = False
            if not implicit:
                self._start_tls(client, context)
        except MailboxError:
            _close(client)
            raise
        except _CONVERSATION_FAULTS as exc:
            _close(client)
            raise self._fault(exc, dialling=True) from exc
        return client

    def _start_tls(self, client: IMAPClient, context: ssl.SSLContext) -> None:
        # A PREAUTH greeting forbids STARTTLS: an attacker may have sent it (RFC 3501 section 6.2.1).
        if client._imap.state != "NONAUTH" or not client.has_capability("STARTTLS"):
            raise MailboxError(
                f"{self._place}: the server offers no STARTTLS, and credentials never travel in clear; set"
                " EMAIL_IMAP_PORT to the server's TLS port (usually 993)"
            )
        client.starttls(context)
        client._imap.untagged_responses.clear()  # what was said in clear may be an attacker's

    def _log_in(self) -> frozenset[str]:
        """Log in once and return the server's capabilities afterwards.

        Raise MailboxLoginRefused for a NO that does not say that it may pass, MailboxError for credentials
        that cannot be sent and MailboxUnavailable for all else. Always ``from None``: the originals may
        repeat what was sent, and a traceback would print them.
        """
        try:
            if self._imap.state == "NONAUTH":
                self._authenticate()
            offered = frozenset(_as_text(name).upper() for name in self._client.capabilities())
            if "ID" in offered:
                self._identify()
        except LoginError as exc:  # every fault of the login, a lost connection too
            if _lost_meanwhile(exc):
                raise self._fault(exc.__context__ or exc) from None
            raise self._login_refusal(exc.__context__) from None
        except _CONVERSATION_FAULTS as exc:
            raise self._fault(exc) from None
        return offered

    def _authenticate(self) -> None:
        """Log in by a token, or by password: by the mechanism that worked last, else by one or two others.

        Some servers offer what they do not take and call the right password wrong. There is no third try,
        nor a second one after a mechanism that has worked before, since many servers lock an account.
        """
        login, memory = self._account.login, self._memory
        if login.access_token is not None:
            self._authenticate_by_token(login.access_token)
            return
        self._scrub.hide(login.password, plain_response(login.user, login.password))
        self._must_be_sendable("EMAIL_USER", login.user)
        self._must_be_sendable("EMAIL_PASSWORD", login.password)
        refusals: list[LoginError] = []
        for mechanism in self._mechanisms():
            worked, memory.works = memory.works and mechanism == memory.first, False
            try:
                self._try_password(mechanism)
            except _CONVERSATION_FAULTS as exc:
                if not isinstance(exc, LoginError) or _lost_meanwhile(exc):
                    if not refusals:
                        raise
                    memory.first = mechanism  # the session ended too early: it comes first next time
                    break
                refusals.append(exc)
                if worked or _passes(exc.__context__):
                    break
            else:
                memory.first, memory.works = mechanism, True
                return
        raise min(refusals, key=_vagueness)

    def _mechanisms(self) -> list[str]:
        """Return the one or two ways to send the password, the best first."""
        offered, login = self._client.capabilities(), self._account.login
        ascii_only = (login.user + login.password).isascii()
        usable = {
            "PLAIN": b"AUTH=PLAIN" in offered,
            _COMMAND: ascii_only and b"LOGINDISABLED" not in offered,
            "LOGIN": b"AUTH=LOGIN" in offered,
        }
        names = [name for name, possible in usable.items() if possible]
        if names == [_COMMAND]:
            names.append("PLAIN")  # a server need not name what every server should have
        if not names and ascii_only:
            raise MailboxError(f"{self._place}: the server takes no login by password; it may demand OAuth2")
        if not names:
            raise MailboxError(
                f"{self._place}: EMAIL_USER or EMAIL_PASSWORD holds a character outside ASCII, and the server"
                " offers neither AUTH=PLAIN nor AUTH=LOGIN, which could carry it"
            )
        return sorted(names, key=lambda name: name != self._memory.first)[:2]

    def _try_password(self, mechanism: str) -> None:
        client, user, password = self._client, self._account.login.user, self._account.login.password
        if mechanism == _COMMAND:
            # imaplib quotes the password only.
            client.login(user if _ATOM.fullmatch(user) else quoted(user), password)
        elif mechanism == "PLAIN":
            client.sasl_login("PLAIN", _answers(plain_response(user, password)))
        else:
            client.sasl_login("LOGIN", _answers(user.encode(), password.encode()))

    def _authenticate_by_token(self, access_token: Callable[[], str]) -> None:
        login = self._account.login
        try:
            token = access_token()
        except TokenUnavailable as exc:
            raise MailboxUnavailable(f"{self._place}: {exc}") from None
        except TokenError as exc:
            raise MailboxLoginRefused(f"{self._place}: {exc}") from None
        response = xoauth2_response(login.user, token)
        self._scrub.hide(token, response)
        self._must_be_sendable("the OAuth2 access token", token)
        try:
            self._client.sasl_login("XOAUTH2", _answers(response))
        except LoginError as exc:
            if login.token_refused is not None and not _lost_meanwhile(exc):
                login.token_refused(token)
            raise

    def _must_be_sendable(self, name: str, value: str) -> None:
        if _CONTROL.search(value):
            raise MailboxError(
                f"{self._place}: {name} holds a control character (a line break?) and cannot be sent"
            )

    def _identify(self) -> None:
        """Send ID (RFC 2971): NetEase refuses SELECT to a client that has not; a refusal means nothing."""
        try:
            self._client.id_({"name": "cleo-email", "version": __version__})
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error:
            return

    # --- errors -----------------------------------------------------------------------------------------

    def _words(self, data: object) -> str:
        return self._scrub.line(_as_text(data))

    def _login_refusal(self, data: object) -> MailboxError:
        """Return the error for a NO or BAD to LOGIN or AUTHENTICATE (RFC 5530 section 3).

        Many servers refuse a wrong password with a bare NO; one that means a fault of its own has codes and
        words for it. A BAD is about the command.
        """
        text = self._words(data)
        if _passes(data) or _BAD.search(str(data)):
            return MailboxUnavailable(
                f"{self._place}: login failed and the server does not say that user or password are wrong,"
                f" so it is tried again; the server says: {text}"
            )
        return MailboxLoginRefused(
            f"{self._place}: login refused, check EMAIL_USER and {self._account.login.setting} (or the"
            f" OAuth settings); the server says: {text}"
        )

    def _fault(self, exc: BaseException, what: str = "", *, dialling: bool = False) -> MailboxError:
        """Return the error for a fault of the network, of TLS or of the protocol.

        While ``dialling`` the settings of the server are the first suspect.
        """
        prefix = f"{self._place}: {what}" if what else self._place
        if isinstance(exc, ssl.SSLCertVerificationError):
            fault = self._words(exc.verify_message)
            advice = certificate_advice(fault, "EMAIL_IMAP_HOST")
            return MailboxError(f"{prefix}: the server's certificate is not trusted ({fault}); {advice}")
        hint = " (EMAIL_IMAP_HOST, EMAIL_IMAP_PORT)" if dialling and isinstance(exc, OSError) else ""
        if isinstance(exc, ssl.SSLError) and exc.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            hint = "; EMAIL_IMAP_PORT is usually 993, and 143 means STARTTLS"
            why = "the server does not speak TLS on this port"
        elif isinstance(exc, OSError):
            why = self._words(network_words(exc))
        elif isinstance(exc, imaplib.IMAP4.error) and not isinstance(exc, ProtocolError):
            why = _QUOTED_DATA.sub("", self._words(exc))  # the data of an answer may be of a mail
        else:
            why = f"the server's answer makes no sense to us ({type(exc).__name__})"
        return MailboxUnavailable(f"{prefix}: {why}{hint}")


def response_code(data: object) -> str:
    """Return the response code of an answer (RFC 3501 section 7.1, RFC 5530) in capitals, or ''."""
    found = _CODE.match(_as_text(data))
    return found.group(1).upper() if found else ""


def _as_text(data: object) -> str:
    """Return the text of bytes, of a list as imaplib gives it, or of an exception."""
    if isinstance(data, OSError):
        return str(data) or type(data).__name__
    if isinstance(data, BaseException):
        bad = _BAD.search(str(data))
        if bad:
            with contextlib.suppress(ValueError, SyntaxError):
                return "BAD " + _as_text(ast.literal_eval(bad[1]))
        data = list(data.args) if data.args else type(data).__name__
    if isinstance(data, list | tuple):
        return " ".join(_as_text(part) for part in data if part is not None)
    if isinstance(data, bytes):
        return data.decode("utf-8", "replace")
    return str(data)


def _folder(line: Any) -> Folder | None:
    """Return the folder in a line of LIST as imaplib gives it, None where there is none to be read."""
    text, literal = line if isinstance(line, tuple) else (line, None)
    found = _FOLDER.match(text)
    if found is None:
        return None
    attributes, delimiter, name = found.groups()
    if literal is not None:
        name = literal
    elif name.startswith(b'"'):
        # Some servers do not escape the quotes within; after the name a list may follow (RFC 5258).
        whole = _QUOTED_NAME.match(name)
        inner = name[1:-1] if name.endswith(b'"') and len(name) > 1 else whole and whole[1]
        name = re.sub(rb'\\([\\"])', rb"\1", inner or b"")
    else:
        name = name.partition(b' ("')[0]
    if not name or re.search(rb"[\x00\r\n]", name):
        return None
    flags = frozenset(_as_text(flag).lower() for flag in attributes.split())
    return Folder(flags, _as_text(delimiter or b""), name)


def folder_name(folder: str | bytes) -> str:
    """Return a mailbox name for people; one in no modified UTF-7 (RFC 3501 section 5.1.3) as it stands."""
    if isinstance(folder, str):
        return folder
    if folder.isascii():
        with contextlib.suppress(*_PARSER_FAULTS):
            return str(decode_utf7(folder))
    return folder.decode("utf-8", "replace")


def _mailbox_name(folder: str | bytes) -> bytes:
    """Return a mailbox name as a quoted string (RFC 3501 section 4.3)."""
    raw: bytes = encode_utf7(folder)
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _passes(data: object) -> bool:
    """Return whether a refused login may be accepted later with the same user and password."""
    code = response_code(data)
    if code == "AUTHENTICATIONFAILED":
        return False
    return code in _LOGIN_LATER or bool(_LATER_WORDS.search(_as_text(data)))


def _vagueness(refusal: LoginError) -> tuple[bool, bool]:
    """Order refused logins: the one that says most about the password first, a BAD last."""
    data = refusal.__context__
    return response_code(data) != "AUTHENTICATIONFAILED", bool(_BAD.search(str(data)))


def _answers(*answers: bytes) -> Callable[[bytes], bytes]:
    """Return the client's side of a SASL exchange: ``answers`` in turn, then empty ones.

    XOAUTH2's second challenge, an error document, takes an empty answer; the server then says NO.
    """
    left = list(answers)
    return lambda _challenge: left.pop(0) if left else b""


def _lost_meanwhile(error: LoginError) -> bool:
    """Return whether the connection ended during the login: IMAPClient wraps that as it wraps a NO."""
    return error.__context__ is None or isinstance(error.__context__, imaplib.IMAP4.abort)


def _close(client: IMAPClient | None) -> None:
    if client is not None:
        with contextlib.suppress(OSError, imaplib.IMAP4.error, ValueError):
            client._imap.shutdown()
