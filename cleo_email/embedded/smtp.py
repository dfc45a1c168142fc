"""The SMTP side of the embedded mail server: a submission server (RFC 6409) for local accounts only.

STARTTLS first, then AUTH, then mail; what is accepted lands in the INBOX of each recipient with the headers
on top that a delivering server adds. Imported only where the extra ``embedded`` is installed.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import ssl
import weakref
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from cleo_email.accounts import Login

HOST_NAME = "localhost"
_LINE_LIMIT = (
    1024 * 1024
)  # bytes; the 998 of RFC 5322 are what a sender should keep, not what a server enforces

# user, source (bytes as they are to be stored)
Deliver = Callable[[str, bytes], Awaitable[object]]


class Directory:
    """Who has an account here: which user a recipient address belongs to, and whether a password is right."""

    def __init__(self, logins: Iterable[Login]) -> None:
        self._logins = {login.user.casefold(): login for login in logins}
        self._domains = {user.rpartition("@")[2] for user in self._logins}

    def is_ours(self, address: str) -> bool:
        return address.casefold().rpartition("@")[2] in self._domains

    def user_for(self, address: str) -> str | None:
        """The account that receives mail for the address; ``name+anything@domain`` is ``name@domain``."""
        local, _, domain = address.casefold().rpartition("@")
        login = self._logins.get(f"{local}@{domain}") or self._logins.get(
            f"{local.partition('+')[0]}@{domain}"
        )
        return login.user if login else None

    def admits(self, user: str, password: bytes) -> bool:
        login = self._logins.get(user.casefold())
        expected = login.password.encode() if login else secrets.token_bytes(16)
        return hmac.compare_digest(expected, password)


class Submissions:
    """Takes mail for the accounts of ``directory`` and hands each copy to ``deliver``."""

    def __init__(
        self, directory: Directory, deliver: Deliver, tls: ssl.SSLContext, *, max_bytes: int
    ) -> None:
        self._handler = _Handler(directory, deliver)
        self._tls = tls
        self._max_bytes = max_bytes
        self._sessions: weakref.WeakSet[SMTP] = weakref.WeakSet()

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Listen for submissions; ``port`` 0 takes a free one."""
        # Its lines hold addresses at INFO, message text at DEBUG, and a complaint of aiosmtpd about itself at
        # WARNING for each login.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        return await asyncio.get_running_loop().create_server(self._session, host, port)

    def _session(self) -> SMTP:
        session = _Submission(
            self._handler,
            hostname=HOST_NAME,
            ident="ESMTP cleo-email embedded mail server",
            tls_context=self._tls,
            require_starttls=True,
            auth_required=True,
            authenticator=self._handler.authenticate,
            data_size_limit=self._max_bytes,
            loop=asyncio.get_running_loop(),
        )
        self._sessions.add(session)
        return session

    def close(self) -> None:
        """Cut every connection, without the TLS farewell that waits for the other side."""
        for session in list(self._sessions):
            if isinstance(session.transport, asyncio.WriteTransport):
                session.transport.abort()


class _Submission(SMTP):
    line_length_limit = _LINE_LIMIT


class _Handler:
    """The decisions that aiosmtpd asks for, by the names that it looks for."""

    def __init__(self, directory: Directory, deliver: Deliver) -> None:
        self._directory = directory
        self._deliver = deliver

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        if mechanism not in ("PLAIN", "LOGIN") or not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        user = data.login.decode("utf-8", "replace")
        return AuthResult(success=self._directory.admits(user, data.password), handled=False)

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if not self._directory.is_ours(address):
            return "550 5.7.1 Relay access denied: only local accounts are served here"
        if self._directory.user_for(address) is None:
            return "550 5.1.1 No such user here"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        assert isinstance(envelope.content, bytes)
        sender = (envelope.mail_from or "").strip("<>")  # aiosmtpd spells the null sender with its brackets
        queue_id = secrets.token_hex(5).upper()
        for recipient in dict.fromkeys(envelope.rcpt_tos):
            user = self._directory.user_for(recipient)
            assert user is not None  # RCPT saw to it
            trace = _trace(session, sender, recipient, queue_id)
            await self._deliver(user, trace + envelope.content)
        return f"250 2.0.0 OK: queued as {queue_id}"


def _trace(session: Session, sender: str, recipient: str, queue_id: str) -> bytes:
    """What a server puts on top when it delivers (RFC 5321 section 4.4)."""
    peer = session.peer[0] if isinstance(session.peer, tuple) else "unknown"
    stamp = format_datetime(datetime.now(UTC).astimezone())
    return (
        f"Return-Path: <{sender}>\r\n"
        f"Delivered-To: {recipient}\r\n"
        f"Received: from {session.host_name} ([{peer}])\r\n"
        f"\tby {HOST_NAME} (cleo-email) with ESMTPSA id {queue_id}\r\n"
        f"\tfor <{recipient}>; {stamp}\r\n"
    ).encode("utf-8", "surrogateescape")
