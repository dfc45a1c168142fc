"""A mail server for one's own machine: IMAP by pymap and submission (RFC 6409) by aiosmtpd, with TLS.

It serves the demonstration, and with ``tests/support/mail_server.py`` the tests, in a thread
(``with MailServer(directory) as server``). Mail lives in memory only. The packages come with the extra
``embedded``.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
import threading
import weakref
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Self

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session, TLSSetupException
from proxyprotocol.result import ProxyResultUnknown
from proxyprotocol.sock import SocketInfo
from pymap.backend.dict import Config
from pymap.backend.dict import Login as PymapLogins
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxSet
from pymap.concurrent import Subsystem
from pymap.imap import IMAPServer
from pymap.parsing.message import AppendMessage
from pymap.user import UserMetadata
from pysasl.hashing import Cleartext

from cleo_email.accounts import ImapAccount, Login, SmtpAccount

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
    run are replaced. Raise OSError where the directory cannot be written.
    """
    authority = trustme.CA(organization_name="cleo-email throw-away CA")
    server = authority.issue_cert("localhost", HOST, "::1")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    files.key_file.touch(0o600)
    files.key_file.write_bytes(server.private_key_pem.bytes())
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
        self._mailboxes = self._make_mailboxes()

    def _make_mailboxes(self) -> Mailboxes:
        return Mailboxes(self.logins, self.certificates.server_context())

    def imap_account(self, address: str) -> ImapAccount:
        return ImapAccount(HOST, self.imap_port, self._login(address))

    def smtp_account(self, address: str) -> SmtpAccount:
        return SmtpAccount(HOST, self.smtp_port, self._login(address))

    def _login(self, address: str) -> Login:
        return next(login for login in self.logins if login.user == address)

    def __enter__(self) -> Self:
        """Return when both ports answer."""
        self._thread.start()
        self._started.result()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close every connection and both ports; the mail is gone."""
        if self._loop and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        imap, tls = self._mailboxes, self.certificates.server_context()
        submission = _Submission(imap, tls)
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
            with suppress(AttributeError):  # of Python 3.11.2, for one that was closed twice
                transport.abort()
        await asyncio.sleep(0)  # the loop closes what was cut in its next round


class ImapConfig(Config):
    """A configuration in code instead of pymap's command line."""

    greeting = b"cleo-email embedded mail server ready"  # the inherited one asks the DNS on each connection

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


class Mailboxes:
    """The mailboxes of some accounts, in memory, by IMAP.

    Custom keywords are refused (PERMANENTFLAGS has no ``\\*``), as at Microsoft 365.
    """

    config = ImapConfig
    folders: type[MailboxSet] = MailboxSet

    def __init__(self, logins: Sequence[Login], tls: ssl.SSLContext) -> None:
        self.logins = {login.user.casefold(): login for login in logins}
        self.transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        self._config = self.config(tls)
        self._pymap = PymapLogins(self._config)
        self._folders = {login.user: self.folders() for login in logins}
        for login in logins:
            user = UserMetadata(self._config, login.user, password=login.password)
            self._pymap.users_dict[login.user] = user
            self._config.set_cache[login.user] = (self._folders[login.user], FilterSet())

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.transports.add(writer.transport)
        peer = SocketInfo.get(writer, ProxyResultUnknown())
        await IMAPServer(self._pymap, self._config)(reader, writer, peer)

    def owner(self, address: str) -> str | None:
        """Return the account of an address; ``name+anything@domain`` is ``name@domain``."""
        local, _, domain = address.casefold().rpartition("@")
        names = (f"{local}@{domain}", f"{local.partition('+')[0]}@{domain}")
        return next((self.logins[name].user for name in names if name in self.logins), None)

    async def deliver(self, user: str, source: bytes) -> int:
        """File a mail in the user's INBOX; return its UID."""
        inbox = await self._folders[user].get_mailbox("INBOX")
        return (await inbox.append(AppendMessage(source, datetime.now(UTC), frozenset()), recent=True)).uid


class _Session(SMTP):
    line_length_limit = _LINE_LIMIT

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # called again after STARTTLS
        self.event_handler.transports.add(transport)


class _Submission:
    """STARTTLS first, then AUTH, then mail: each recipient's copy goes into the INBOX of ``imap``.

    The handler methods have the names that aiosmtpd looks for.
    """

    def __init__(self, imap: Mailboxes, tls: ssl.SSLContext) -> None:
        self.transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        self._imap = imap
        self._tls = tls
        # aiosmtpd logs addresses at INFO, message text at DEBUG, and a complaint about itself at each login.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        logging.getLogger("mail.log").addFilter(_in_one_line)

    def session(self) -> SMTP:
        return _Session(
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

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        login = self._imap.logins.get(data.login.decode("utf-8", "replace").casefold())
        return AuthResult(
            success=login is not None and login.password.encode() == data.password, handled=False
        )

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._imap.owner(address) is None:
            return "550 5.1.1 No such user here: mail is taken for local accounts only"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        queue_id = secrets.token_hex(5).upper()
        for recipient in dict.fromkeys(envelope.rcpt_tos):
            user = self._imap.owner(recipient)
            assert user is not None  # else RCPT was refused
            await self._imap.deliver(user, _trace(session, envelope, recipient, queue_id) + envelope.content)
        return f"250 2.0.0 OK: queued as {queue_id}"


def _in_one_line(record: logging.LogRecord) -> bool:
    """Make one line of the traceback for a client that does not trust our certificate, or speaks no TLS."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, TLSSetupException):
        why = getattr(error.__cause__, "reason", None) or type(error.__cause__).__name__
        record.msg = f"a mail client ended TLS with the embedded mail server ({why}): does it trust its CA?"
        record.args, record.exc_info = (), None
    return True


def _trace(session: Session, envelope: Envelope, recipient: str, queue_id: str) -> bytes:
    """Return what a server puts on top when it delivers (RFC 5321 section 4.4)."""
    sender = (envelope.mail_from or "").strip("<>")  # aiosmtpd spells the null sender with its brackets
    return (
        f"Return-Path: <{sender}>\r\n"
        f"Delivered-To: {recipient}\r\n"
        f"Received: from {session.host_name} ([{HOST}])\r\n"
        f"\tby {_HOST_NAME} (cleo-email) with ESMTPSA id {queue_id}\r\n"
        f"\tfor <{recipient}>; {format_datetime(datetime.now(UTC).astimezone())}\r\n"
    ).encode("utf-8", "surrogateescape")
