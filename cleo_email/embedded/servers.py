"""The embedded mail server's two protocols: IMAP by pymap, submission (RFC 6409) by aiosmtpd.

This module alone imports the two packages, which come with the extra ``embedded``, and it alone touches what
pymap keeps private, each time because pymap would otherwise refuse, change or lose a mail. The tests in
``tests/embedded/test_mailserver.py`` fail when an upgrade moves one of these places.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import ssl
import weakref
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from email.headerregistry import HeaderRegistry
from email.utils import format_datetime
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from proxyprotocol.result import ProxyResultUnknown
from proxyprotocol.sock import SocketInfo
from pymap.backend.dict import Config
from pymap.backend.dict import Login as PymapLogins
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxData, MailboxSet, Message
from pymap.concurrent import Subsystem
from pymap.config import BackendCapability
from pymap.imap import IMAPServer
from pymap.listtree import ListEntry, ListTree
from pymap.mime.parsed import ParsedHeaders
from pymap.parsing.message import AppendMessage
from pymap.user import UserMetadata
from pysasl.hashing import Cleartext

from cleo_email.accounts import Login

_MAX_BYTES = 50 * 1024 * 1024
_LINE_LIMIT = 1024 * 1024  # bytes: one STORE names thousands of UIDs, and some mails have very long lines
_HEADER_LIMIT = 8192  # characters
_HOST_NAME = "localhost"


class ImapServer:
    """The mailboxes of some accounts, INBOX and Sent, in memory.

    Custom keywords are refused (PERMANENTFLAGS has no ``\\*``), as at Microsoft 365, so that this way of the
    product is in use somewhere.
    """

    def __init__(self, logins: Iterable[Login], tls: ssl.SSLContext) -> None:
        # pymap answers BYE, to a SEARCH of all mail too, where the standard parser raises on one header.
        ParsedHeaders._registry = _LenientHeaders()
        self._config = _Config(tls)
        self._logins = PymapLogins(self._config)
        self._folders = {login.user: _Folders() for login in logins}
        self._writers: weakref.WeakSet[asyncio.StreamWriter] = weakref.WeakSet()
        for login in logins:
            user = UserMetadata(self._config, login.user, password=login.password)
            self._logins.users_dict[login.user] = user
            self._config.set_cache[login.user] = (self._folders[login.user], FilterSet())

    async def listen(self, host: str, port: int) -> asyncio.Server:
        """Listen with implicit TLS; port 0 takes a free one."""
        tls = self._config.ssl_context
        return await asyncio.start_server(self._connected, host, port, ssl=tls, limit=_LINE_LIMIT)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        peer = SocketInfo.get(writer, ProxyResultUnknown())
        await IMAPServer(self._logins, self._config)(reader, writer, peer)

    async def deliver(self, user: str, source: bytes) -> int:
        """File a mail in the user's INBOX, byte for byte; return its UID."""
        inbox = await self._folders[user].get_mailbox("INBOX")
        return (await inbox.append(AppendMessage(source, datetime.now(UTC), frozenset()), recent=True)).uid

    def close(self) -> None:
        """Cut every connection, without the TLS farewell that waits for the other side."""
        for writer in list(self._writers):
            writer.transport.abort()


class _Config(Config):
    """A configuration in code instead of pymap's command line."""

    greeting = b"cleo-email embedded mail server ready"  # the inherited one asks the DNS on each connection
    backend_capability = BackendCapability(
        idle=True, object_id=True, multi_append=True, custom=[b"SPECIAL-USE"]
    )

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(
            Namespace(passlib_cfg=None, proxy_protocol=None, debug=False),
            host=None,
            port=0,
            demo_data=False,
            demo_user="",
            demo_password="",
            ssl_context=tls,
            tls_enabled=False,  # of STARTTLS: the port speaks TLS from the first byte
            hash_context=Cleartext(),  # throw-away passwords in memory; hashes would slow each login
            cpu_subsystem=Subsystem.for_asyncio(),  # the other kind leaves an event loop open per thread
            max_append_len=_MAX_BYTES,
            reject_dnsbl=False,
        )


class _Folders(MailboxSet):
    """A user's folders. LIST says where sent mail goes (RFC 6154), as the services of the world do."""

    def __init__(self) -> None:
        super().__init__()
        self._inbox = _Folder(self._content_cache, self._thread_cache)
        self._set["Sent"] = _Folder(self._content_cache, self._thread_cache)
        self._subscribed["Sent"] = True

    async def list_mailboxes(self) -> ListTree:
        return _Tree(self.delimiter).update("INBOX", *self._set)


class _Tree(ListTree):
    def list(self) -> Iterable[ListEntry]:
        return [_Sent(**vars(entry)) if entry.name == "Sent" else entry for entry in super().list()]


class _Sent(ListEntry):
    @property
    def attributes(self) -> list[bytes]:
        return [*super().attributes, b"Sent"]


class _Folder(MailboxData):
    async def append(self, append_msg: AppendMessage, *, recent: bool = False) -> Message:
        """Keep the time zone, take every mail there is, and keep it byte for byte.

        pymap recurses into parts without a limit, and it drops the last byte of a mail that has no empty line
        after its headers.
        """
        dated = replace(append_msg, when=append_msg.when or datetime.now(UTC))
        try:
            message = await super().append(dated, recent=recent)
        except RecursionError:  # all of it becomes the body
            headless = replace(dated, literal=b"\r\n" + dated.literal)
            message = await super().append(headless, recent=recent)
        assert message._content is not None
        message._content._raw = memoryview(dated.literal)
        return message


class _LenientHeaders(HeaderRegistry):
    """The standard library's reading of headers, which raises on some real ones and is slow on long ones.

    Such a header counts as empty in SEARCH and ENVELOPE; the source is not touched.
    """

    def __call__(self, name: str, value: str) -> Any:
        try:
            return super().__call__(name, value if len(value) <= _HEADER_LIMIT else "")
        except Exception:  # noqa: BLE001 - IndexError, AttributeError, HeaderParseError and more are on record
            return super().__call__(name, "")


class _Session(SMTP):
    line_length_limit = _LINE_LIMIT


class SubmissionServer:
    """STARTTLS first, then AUTH, then mail: each recipient's copy goes into the INBOX of ``imap``.

    The handler methods have the names that aiosmtpd looks for.
    """

    def __init__(self, logins: Iterable[Login], imap: ImapServer, tls: ssl.SSLContext) -> None:
        self._logins = {login.user.casefold(): login for login in logins}
        self._imap = imap
        self._tls = tls
        self._sessions: weakref.WeakSet[SMTP] = weakref.WeakSet()

    async def listen(self, host: str, port: int) -> asyncio.Server:
        """Listen for submissions; port 0 takes a free one."""
        # Its lines hold addresses at INFO, message text at DEBUG, and a complaint of aiosmtpd about itself at
        # WARNING for each login.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        return await asyncio.get_running_loop().create_server(self._session, host, port)

    def close(self) -> None:
        """Cut every connection, without the TLS farewell that waits for the other side."""
        for session in list(self._sessions):
            if isinstance(session.transport, asyncio.WriteTransport):
                session.transport.abort()

    def _session(self) -> SMTP:
        session = _Session(
            self,
            hostname=_HOST_NAME,
            ident="ESMTP cleo-email embedded mail server",
            tls_context=self._tls,
            require_starttls=True,
            auth_required=True,
            authenticator=self._authenticate,
            data_size_limit=_MAX_BYTES,
            loop=asyncio.get_running_loop(),
        )
        self._sessions.add(session)
        return session

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        if mechanism not in ("PLAIN", "LOGIN") or not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        login = self._logins.get(data.login.decode("utf-8", "replace").casefold())
        expected = login.password.encode() if login else secrets.token_bytes(16)
        return AuthResult(success=hmac.compare_digest(expected, data.password), handled=False)

    def _user_for(self, address: str) -> str | None:
        """Return the account of an address; ``name+anything@domain`` is ``name@domain``."""
        local, _, domain = address.casefold().rpartition("@")
        names = (f"{local}@{domain}", f"{local.partition('+')[0]}@{domain}")
        return next((self._logins[name].user for name in names if name in self._logins), None)

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._user_for(address) is None:
            return "550 5.1.1 No such user here: mail is taken for local accounts only"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        queue_id = secrets.token_hex(5).upper()
        for recipient in dict.fromkeys(envelope.rcpt_tos):
            user = self._user_for(recipient)
            assert user is not None  # RCPT saw to it
            await self._imap.deliver(user, _trace(session, envelope, recipient, queue_id) + envelope.content)
        return f"250 2.0.0 OK: queued as {queue_id}"


def _trace(session: Session, envelope: Envelope, recipient: str, queue_id: str) -> bytes:
    """Return what a server puts on top when it delivers (RFC 5321 section 4.4)."""
    peer = session.peer[0] if isinstance(session.peer, tuple) else "unknown"
    sender = (envelope.mail_from or "").strip("<>")  # aiosmtpd spells the null sender with its brackets
    return (
        f"Return-Path: <{sender}>\r\n"
        f"Delivered-To: {recipient}\r\n"
        f"Received: from {session.host_name} ([{peer}])\r\n"
        f"\tby {_HOST_NAME} (cleo-email) with ESMTPSA id {queue_id}\r\n"
        f"\tfor <{recipient}>; {format_datetime(datetime.now(UTC).astimezone())}\r\n"
    ).encode("utf-8", "surrogateescape")
