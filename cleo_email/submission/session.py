"""Opening a session: connect, TLS, login. Credentials never travel in clear, not on loopback either."""

from __future__ import annotations

import base64
import socket
import ssl
from dataclasses import dataclass

from cleo_email.accounts import SmtpAccount
from cleo_email.deadlines import Deadline
from cleo_email.errors import (
    SubmissionError,
    SubmissionLoginRefused,
    SubmissionUnavailable,
    TokenError,
    TokenUnavailable,
)
from cleo_email.submission.connection import Connection, Timeouts
from cleo_email.submission.words import LinkLost, Reply, Scrubber, refusal

IMPLICIT_TLS = 465


@dataclass(eq=False)
class Session:
    """A logged-in connection, and what makes its server's words fit to be shown."""

    connection: Connection
    scrub: Scrubber


def open_session(
    account: SmtpAccount, context: ssl.SSLContext, timeouts: Timeouts, deadline: Deadline, ehlo_name: str = ""
) -> Session:
    """Connect, secure and log in; raises a fitting SubmissionError and then leaves nothing open."""
    token = _token(account)
    connection = Connection(timeouts, deadline)
    password = account.login.password
    scrub = Scrubber([password, token, *_responses(account.login.user, password, token)])
    place = f"{account.host}:{account.port}"
    try:
        _connect(connection, account, context, ehlo_name, scrub)
        _log_in(connection, account, token, scrub)
        connection.send_at_once()
    except ssl.SSLCertVerificationError as error:
        connection.close()
        raise SubmissionError(
            scrub.line(
                f"{place} shows a certificate that is not trusted ({error.verify_message}); "
                "for a private CA set SSL_CERT_FILE or SSL_CERT_DIR"
            )
        ) from None
    except OSError as error:
        connection.close()
        raise LinkLost(scrub.line(f"no session with {place}: {error}{_hint(error, account)}")) from None
    except BaseException:
        connection.close()
        raise
    return Session(connection, scrub)


def _token(account: SmtpAccount) -> str:
    """The access token, or '' for a login by password."""
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
    if any(
        sign in str(error).lower()
        for sign in ("wrong version", "unreadable reply", "timed out", "no answer within")
    ):
        spoken = "TLS at once" if account.port == IMPLICIT_TLS else "STARTTLS"
        return (
            f" (EMAIL_SMTP_PORT {account.port} means {spoken}; 465 means TLS at once, every other STARTTLS)"
        )
    return ""


def _connect(
    connection: Connection, account: SmtpAccount, context: ssl.SSLContext, ehlo_name: str, scrub: Scrubber
) -> None:
    connection.dial(account.host, account.port, ehlo_name)
    if account.port == IMPLICIT_TLS:
        connection.secure(context, account.host)
    _expect(220, "the connection", connection.reply(), scrub)
    _ehlo(connection, scrub)
    if account.port == IMPLICIT_TLS:
        return
    if not connection.has_extn("starttls"):
        raise SubmissionError(
            f"{account.host}:{account.port} offers no STARTTLS, and nothing is sent in clear: "
            "set EMAIL_SMTP_PORT to a port with STARTTLS (587) or with TLS at once (465)"
        )
    _expect(220, "STARTTLS", connection.command("STARTTLS"), scrub)
    connection.secure(context, account.host)
    _ehlo(connection, scrub)


def _ehlo(connection: Connection, scrub: Scrubber) -> None:
    code, text = connection.ehlo()
    _expect(250, "EHLO", Reply(code, text.decode("utf-8", "replace")), scrub)


def _expect(code: int, stage: str, reply: Reply, scrub: Scrubber) -> None:
    if reply.code != code:
        raise refusal(stage, reply, scrub)


# --- login ----------------------------------------------------------------------------------------------


def _log_in(connection: Connection, account: SmtpAccount, token: str, scrub: Scrubber) -> None:
    user, password = account.login.user, account.login.password
    if not token and not password:
        return
    offered = connection.esmtp_features.get("auth", "").upper().split()
    if not offered:
        raise SubmissionError(
            f"{account.host}:{account.port} offers no login, and a password or token is set: "
            "check EMAIL_SMTP_HOST and EMAIL_SMTP_PORT"
        )
    if token:
        reply = _xoauth2(connection, user, token)
    elif "PLAIN" in offered:
        # RFC 4616: UTF-8, which smtplib's own login() cannot send.
        reply = connection.command(f"AUTH PLAIN {_b64(_plain(user, password))}")
    elif "LOGIN" in offered:
        reply = _login(connection, user, password)
    else:
        words = f"{account.host}:{account.port} offers no login that is known here, only {' '.join(offered)}"
        raise SubmissionError(scrub.line(words))
    if reply.code == 235:
        return
    settings = "EMAIL_USER, EMAIL_OAUTH_…" if token else "EMAIL_USER, EMAIL_PASSWORD"
    words = scrub.line(f"the server refuses the login of {user} ({settings}): {reply}")
    if reply.code == 421:
        raise LinkLost(words)
    if token and reply.permanent and account.login.token_refused:
        account.login.token_refused(token)
    # Any 5xx here is about the account and not about the mail, which must not fail for it.
    raise SubmissionLoginRefused(words) if reply.permanent else SubmissionUnavailable(words)


def _login(connection: Connection, user: str, password: str) -> Reply:
    reply = connection.command("AUTH LOGIN")
    for answer in (user, password):
        if reply.code != 334:
            return reply
        reply = connection.command(_b64(answer))
    return reply


def _xoauth2(connection: Connection, user: str, token: str) -> Reply:
    # Without an initial response: with one, long tokens exceed what some servers take on a command line.
    reply = connection.command("AUTH XOAUTH2")
    if reply.code == 334:
        reply = connection.command(_b64(_bearer(user, token)))
    if reply.code == 334:  # the reason, in base64; the refusal itself follows an empty answer
        reply = connection.command("")
    return reply


def _plain(user: str, password: str) -> str:
    return f"\0{user}\0{password}"


def _bearer(user: str, token: str) -> str:
    return f"user={user}\1auth=Bearer {token}\1\1"


def _responses(user: str, password: str, token: str) -> list[str]:
    return [_plain(user, password) if password else "", _bearer(user, token) if token else ""]


def _b64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")
