"""Foreign exceptions of an IMAP conversation, made ours."""

from __future__ import annotations

import imaplib
import re
import socket
import ssl

from imapclient.exceptions import ProtocolError  # type: ignore[import-untyped]

from cleo_email.errors import MailboxError, MailboxLoginRefused, MailboxUnavailable

from .words import Words, response_code

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


def refusal(prefix: str, said: object, words: Words) -> RefusedForNow | RefusedForGood:
    """The error for a tagged NO; without a telling code it is taken as temporary."""
    code = response_code(said)
    kind = RefusedForGood if code in _FOR_GOOD else RefusedForNow
    return kind(f"{prefix}: the server says: {words.line(said)}", code)


def login_refusal(prefix: str, said: object, words: Words) -> MailboxError:
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


def unreachable(prefix: str, exc: BaseException, words: Words, *, dialling: bool = False) -> MailboxError:
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


def _what_happened(exc: BaseException, words: Words) -> str:
    """Words of the network or of a BYE; never the data of an answer, which may be of somebody's mail."""
    if isinstance(exc, OSError):
        return words.line(exc)
    if isinstance(exc, imaplib.IMAP4.error) and not isinstance(exc, ProtocolError):
        return _QUOTED_DATA.sub("", words.line(exc))
    return f"the server's answer makes no sense to us ({type(exc).__name__})"
