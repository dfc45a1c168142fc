"""From an account to a logged-in IMAP connection: TCP, TLS, login, ID.

No credential leaves before the connection is encrypted and the certificate verified. imaplib's own tracing is
switched off: at its finest level it copies every message body into strings for the log.
"""

from __future__ import annotations

import contextlib
import imaplib
import re
import ssl
from collections.abc import Callable

from imapclient import IMAPClient, SocketTimeout  # type: ignore[import-untyped]
from imapclient.exceptions import LoginError  # type: ignore[import-untyped]

from cleo_email import __version__
from cleo_email.accounts import ImapAccount, Login
from cleo_email.errors import (
    MailboxError,
    MailboxLoginRefused,
    MailboxUnavailable,
    TokenError,
    TokenUnavailable,
)

from .faults import CONVERSATION_FAULTS, login_refusal, unreachable
from .values import Timeouts
from .words import Words, xoauth2

STARTTLS_PORT = 143
_ATOM = re.compile(r"[A-Za-z0-9!#$&'+,\-./:;<=>?@^_`|~]+")  # narrower than RFC 3501's, and safe unquoted
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def connect(
    account: ImapAccount, context: ssl.SSLContext | None, timeouts: Timeouts, words: Words
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


def log_in(client: IMAPClient, login: Login, prefix: str, words: Words) -> frozenset[str]:
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


def _authenticate(client: IMAPClient, login: Login, prefix: str, words: Words) -> None:
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
    client: IMAPClient, login: Login, source: Callable[[], str], prefix: str, words: Words
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
