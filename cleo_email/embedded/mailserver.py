"""A mail server for one's own machine: IMAP by pymap and submission (RFC 6409) by aiosmtpd, with TLS.

It serves the demonstration and the tests, in a thread (``with MailServer(directory) as server``). Mail lives
in memory only. The packages come with the extra ``embedded``. This module touches what pymap keeps private,
each time because pymap would otherwise change or lose a mail; ``tests/embedded/test_mailserver.py`` fails
when an upgrade moves one of these places.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
import ssl
import threading
import weakref
from argparse import Namespace
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.headerregistry import HeaderRegistry
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Self

import trustme
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

from cleo_email.accounts import ImapAccount, Login, SmtpAccount
from cleo_email.errors import CleoError

HOST = "127.0.0.1"
AGENT = "agent@cleo.test"
CUSTOMER = "customer@example.test"
_HOST_NAME = "localhost"
_MAX_BYTES = 50 * 1024 * 1024
_LINE_LIMIT = 1024 * 1024  # bytes: one STORE names thousands of UIDs, and some mails have very long lines


@dataclass(frozen=True)
class Certificates:
    """Files in PEM form. ``ca_file`` is what a client trusts (``SSL_CERT_FILE``)."""

    ca_file: Path
    cert_file: Path  # the server's certificate and its chain
    key_file: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a context that verifies host names and trusts this authority alone."""
        return ssl.create_default_context(cafile=self.ca_file)


def write_certificates(directory: Path) -> Certificates:
    """Make a new authority and a certificate for this machine: ``ca.pem``, ``server.pem``, ``server.key``.

    The authority's own key is never written, so that no second certificate can be issued. Files of an earlier
    run are replaced. Raises OSError where the directory cannot be written.
    """
    authority = trustme.CA(organization_name="cleo-email throw-away CA")
    server = authority.issue_cert("localhost", HOST, "::1")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    files.key_file.unlink(missing_ok=True)
    with os.fdopen(os.open(files.key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(server.private_key_pem.bytes())
    files.cert_file.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    files.ca_file.write_bytes(authority.cert_pem.bytes())
    return files


class MailServer:
    """IMAP (implicit TLS) and SMTP (STARTTLS) for some accounts, in a thread, on free ports.

    The user names of ``logins`` are mail addresses, by default one agent and one customer with random
    passwords. Mail to them and to ``name+tag@domain`` is delivered; other recipients are refused with 550.
    New certificates are written to ``directory`` unless ``certificates`` are given. An object starts once.
    """

    def __init__(
        self,
        directory: Path,
        *,
        logins: Sequence[Login] | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.certificates = certificates or write_certificates(directory)
        self.logins = logins or [Login(address, secrets.token_urlsafe(16)) for address in (AGENT, CUSTOMER)]
        self.imap_port = self.smtp_port = 0  # until the start
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="mail-server", daemon=True)
        self._started: Future[None] = Future()
        self._imap: _ImapServer | None = None

    def imap_account(self, address: str) -> ImapAccount:
        return ImapAccount(HOST, self.imap_port, self._login(address))

    def smtp_account(self, address: str) -> SmtpAccount:
        return SmtpAccount(HOST, self.smtp_port, self._login(address))

    def _login(self, address: str) -> Login:
        return next(login for login in self.logins if login.user == address)

    def deliver(self, address: str, source: bytes) -> int:
        """File bytes in the INBOX of an account, unchanged and without SMTP; return the UID."""
        if self._loop is None or self._imap is None:
            raise CleoError("the embedded mail server is not running")
        filing = self._imap.deliver(self._login(address).user, source)
        return asyncio.run_coroutine_threadsafe(filing, self._loop).result(timeout=60)

    def start(self) -> Self:
        """Return when both ports answer."""
        self._thread.start()
        self._started.result()
        return self

    def stop(self) -> None:
        """Close every connection and both ports; the mail is gone."""
        if self._loop and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        tls = self.certificates.server_context()
        self._imap = imap = _ImapServer(self.logins, tls)
        submission = _SubmissionServer(self.logins, imap, tls)
        listening = [
            await asyncio.start_server(imap.connected, HOST, 0, ssl=tls, limit=_LINE_LIMIT),
            await self._loop.create_server(submission.session, HOST, 0),
        ]
        self.imap_port, self.smtp_port = (server.sockets[0].getsockname()[1] for server in listening)
        self._started.set_result(None)
        await self._stop.wait()
        for server in listening:
            server.close()
        # Cut, for the TLS farewell would wait for the other side.
        for transport in [*imap.transports, *submission.transports]:
            transport.abort()
        await asyncio.sleep(0)  # the loop closes what was cut in its next round


class _ImapServer:
    """The mailboxes of some accounts, INBOX and Sent, in memory.

    Custom keywords are refused (PERMANENTFLAGS has no ``\\*``), as at Microsoft 365.
    """

    def __init__(self, logins: Iterable[Login], tls: ssl.SSLContext) -> None:
        # pymap answers BYE, to a SEARCH of all mail too, where the standard parser raises on one header.
        ParsedHeaders._registry = _LenientHeaders()
        self._config = _Config(tls)
        self._logins = PymapLogins(self._config)
        self._folders = {login.user: _Folders() for login in logins}
        self.transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        for login in logins:
            user = UserMetadata(self._config, login.user, password=login.password)
            self._logins.users_dict[login.user] = user
            self._config.set_cache[login.user] = (self._folders[login.user], FilterSet())

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.transports.add(writer.transport)
        peer = SocketInfo.get(writer, ProxyResultUnknown())
        await IMAPServer(self._logins, self._config)(reader, writer, peer)

    async def deliver(self, user: str, source: bytes) -> int:
        """File a mail in the user's INBOX, byte for byte; return its UID."""
        inbox = await self._folders[user].get_mailbox("INBOX")
        return (await inbox.append(AppendMessage(source, datetime.now(UTC), frozenset()), recent=True)).uid


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
        """Give a mail without a time the time with its zone, and keep each byte for byte.

        pymap drops the last byte of a mail that has no empty line after its headers.
        """
        dated = replace(append_msg, when=append_msg.when or datetime.now(UTC))
        message = await super().append(dated, recent=recent)
        assert message._content is not None
        message._content._raw = memoryview(dated.literal)
        return message


class _LenientHeaders(HeaderRegistry):
    """Count a header that the standard library raises on as empty in SEARCH and ENVELOPE."""

    def __call__(self, name: str, value: str) -> Any:
        try:
            return super().__call__(name, value)
        except Exception:  # noqa: BLE001 - IndexError, AttributeError, HeaderParseError and more are on record
            return super().__call__(name, "")


class _Smtp(SMTP):
    line_length_limit = _LINE_LIMIT


class _SubmissionServer:
    """STARTTLS first, then AUTH, then mail: each recipient's copy goes into the INBOX of ``imap``.

    The handler methods have the names that aiosmtpd looks for.
    """

    def __init__(self, logins: Iterable[Login], imap: _ImapServer, tls: ssl.SSLContext) -> None:
        self._logins = {login.user.casefold(): login for login in logins}
        self._imap = imap
        self._tls = tls
        self._sessions: weakref.WeakSet[SMTP] = weakref.WeakSet()
        # aiosmtpd logs addresses at INFO, message text at DEBUG, and a complaint about itself at each login.
        logging.getLogger("mail.log").setLevel(logging.ERROR)

    @property
    def transports(self) -> list[asyncio.WriteTransport]:
        found = (session.transport for session in self._sessions)
        return [transport for transport in found if isinstance(transport, asyncio.WriteTransport)]

    def session(self) -> SMTP:
        """Return the protocol of a new connection."""
        session = _Smtp(
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
            assert user is not None  # else RCPT was refused
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
