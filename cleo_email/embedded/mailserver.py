"""A mail server for one's own machine: IMAP and SMTP submission with TLS, on the loopback interface.

It serves the demonstration and the tests, in a thread (``with MailServer(directory) as server``). Mail lives
in memory only. The extra ``embedded`` is needed where a server starts, not where this module is imported.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import ssl
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cleo_email.accounts import ImapAccount, Login, SmtpAccount
from cleo_email.embedded import INSTALL
from cleo_email.errors import CleoError

if TYPE_CHECKING:
    from cleo_email.embedded.servers import ImapServer, SubmissionServer

HOST = "127.0.0.1"
AGENT = "agent@cleo.test"
CUSTOMER = "customer@example.test"


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

    The authority's own key is never written: nobody can issue a second certificate. Files of an earlier run
    are replaced. Raises CleoError without the extra, OSError where the directory cannot be written.
    """
    try:
        import trustme
    except ImportError as error:
        raise _missing(error) from error
    authority = trustme.CA(organization_name="cleo-email throw-away CA")
    server = authority.issue_cert("localhost", HOST, "::1")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    _write(files.key_file, server.private_key_pem.bytes(), 0o600)
    _write(files.cert_file, b"".join(blob.bytes() for blob in server.cert_chain_pems), 0o644)
    _write(files.ca_file, authority.cert_pem.bytes(), 0o644)
    return files


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a new file, which has its mode from its first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def _new_logins() -> tuple[Login, ...]:
    return tuple(Login(address, secrets.token_urlsafe(16)) for address in (AGENT, CUSTOMER))


def _missing(error: ImportError) -> CleoError:
    return CleoError(f"the embedded mail server needs the package {error.name}: {INSTALL}")


class MailServer:
    """IMAP (implicit TLS) and SMTP (STARTTLS) for some accounts, in a thread.

    ``logins``: user names are mail addresses, by default one agent and one customer with random passwords.
    Mail to them and to ``name+tag@domain`` is delivered, all else is refused with 550. Port 0 takes a free
    port; ``imap_port`` and ``smtp_port`` say which after the start. Certificates are written to ``directory``
    unless ``certificates`` are given.

    ``start`` raises CleoError where the extra is missing or a port is taken. An object starts once.
    """

    def __init__(
        self,
        directory: Path,
        *,
        logins: Sequence[Login] | None = None,
        imap_port: int = 0,
        smtp_port: int = 0,
        certificates: Certificates | None = None,
    ) -> None:
        self._directory = directory
        self._certificates = certificates
        self.logins = _new_logins() if logins is None else tuple(logins)
        self.imap_port = imap_port
        self.smtp_port = smtp_port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="mail-server", daemon=True)
        self._started: Future[None] = Future()
        self._imap: ImapServer | None = None

    @property
    def certificates(self) -> Certificates:
        """What a client must trust (``certificates.ca_file``), and the server's own files."""
        if self._certificates is None:
            self._certificates = write_certificates(self._directory)
        return self._certificates

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
        try:
            from cleo_email.embedded.servers import ImapServer, SubmissionServer
        except ImportError as error:
            raise _missing(error) from error
        self._loop = asyncio.get_running_loop()
        tls = self.certificates.server_context()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.sleep, 0)  # the loop closes what was cut in its next round
            self._imap = ImapServer(self.logins, tls)
            self.imap_port = await _listen("IMAP", self._imap, self.imap_port, stack)
            submission = SubmissionServer(self.logins, self._imap, tls)
            self.smtp_port = await _listen("SMTP", submission, self.smtp_port, stack)
            self._started.set_result(None)
            await self._stop.wait()


async def _listen(name: str, server: ImapServer | SubmissionServer, port: int, stack: AsyncExitStack) -> int:
    try:
        listening = await server.listen(HOST, port)
    except OSError as error:
        text = f"the embedded {name} server cannot listen on {HOST}:{port}: {error.strerror}"
        raise CleoError(text) from error
    stack.callback(server.close)
    stack.callback(listening.close)
    return int(listening.sockets[0].getsockname()[1])
