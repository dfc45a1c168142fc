"""A mail server for one's own machine: IMAP and SMTP submission with TLS, on the loopback interface.

In a thread (``with MailServer(directory) as server``) or as a process of its own
(``python -m cleo_email.embedded.mailserver --directory D``), which prints one line of JSON when it is ready.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cleo_email.accounts import ImapAccount, Login, SmtpAccount
from cleo_email.errors import CleoError

from .certificates import Certificates, write_certificates
from .extra import require

if TYPE_CHECKING:
    from .imap import Mailboxes

HOST = "127.0.0.1"
AGENT = "agent@cleo.test"
CUSTOMER = "customer@example.test"
_MAX_BYTES = 50 * 1024 * 1024


def new_logins(*addresses: str) -> tuple[Login, ...]:
    """A login with a fresh random password for each address, by default one agent and one customer."""
    return tuple(Login(address, secrets.token_urlsafe(16)) for address in addresses or (AGENT, CUSTOMER))


@dataclass(frozen=True)
class _Running:
    imap_port: int
    smtp_port: int
    mailboxes: Mailboxes


@asynccontextmanager
async def _serving(
    logins: Sequence[Login], certificates: Certificates, imap_port: int, smtp_port: int
) -> AsyncIterator[_Running]:
    """Both servers on the running loop, from the first accepted connection to the last."""
    require("pymap", "the embedded mail server")
    require("aiosmtpd", "the embedded mail server")
    from . import imap, smtp  # here, not above: their packages are an extra

    tls = certificates.server_context()
    mailboxes = imap.Mailboxes(logins, tls, max_bytes=_MAX_BYTES)
    submissions = smtp.Submissions(smtp.Directory(logins), mailboxes.deliver, tls, max_bytes=_MAX_BYTES)
    servers: list[asyncio.Server] = []
    try:
        servers.append(await _listening("IMAP", imap_port, mailboxes.serve(HOST, imap_port)))
        servers.append(await _listening("SMTP", smtp_port, submissions.serve(HOST, smtp_port)))
        imap_port, smtp_port = (server.sockets[0].getsockname()[1] for server in servers)
        yield _Running(imap_port, smtp_port, mailboxes)
    finally:
        for server in servers:
            server.close()
        submissions.close()
        await mailboxes.close()
        await asyncio.sleep(0)  # the loop closes what was cut in its next round


async def _listening(name: str, port: int, starting: Awaitable[asyncio.Server]) -> asyncio.Server:
    try:
        return await starting
    except OSError as error:
        raise CleoError(
            f"the embedded {name} server cannot listen on {HOST}:{port}: {error.strerror}"
        ) from error


class MailServer:
    """IMAP (implicit TLS) and SMTP (STARTTLS) for some accounts, in a thread; mail lives in memory only.

    ``logins``: user names are mail addresses; mail to them and to ``name+tag@domain`` is delivered, all else
    is refused with 550. Port 0 takes a free port; ``imap_port`` and ``smtp_port`` say which after the start.
    Certificates are written to ``directory`` unless ``certificates`` are given.

    ``start`` raises CleoError where the extra ``embedded`` is missing or a port is taken. One start to an
    object.
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
        self.logins = new_logins() if logins is None else tuple(logins)
        self.imap_port = imap_port
        self.smtp_port = smtp_port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mail-server", daemon=True)
        self._failure: BaseException | None = None
        self._mailboxes: Mailboxes | None = None

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
        """File bytes in the INBOX of an account, unchanged and without SMTP; returns the UID."""
        if self._loop is None or self._mailboxes is None:
            raise CleoError("the embedded mail server is not running")
        filing = self._mailboxes.deliver(self._login(address).user, source)
        return asyncio.run_coroutine_threadsafe(filing, self._loop).result(timeout=60)

    def start(self) -> Self:
        """Return when both ports answer."""
        self._thread.start()
        self._ready.wait()
        if self._failure:
            self._thread.join()
            raise self._failure
        return self

    def stop(self) -> None:
        """Close every connection and both ports; the mail is gone."""
        if self._loop and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that called start()
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with _serving(self.logins, self.certificates, self.imap_port, self.smtp_port) as running:
            self.imap_port, self.smtp_port = running.imap_port, running.smtp_port
            self._mailboxes = running.mailboxes
            self._ready.set()
            await self._stop.wait()


# --- as a process of its own --------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM. ``accounts.json`` in the directory is read if it is there, else made."""
    parser = argparse.ArgumentParser(prog="python -m cleo_email.embedded.mailserver", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="for certificates and accounts.json")
    parser.add_argument("--imap-port", type=int, default=0, help="implicit TLS; 0: a free one")
    parser.add_argument("--smtp-port", type=int, default=0, help="STARTTLS; 0: a free one")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    try:
        asyncio.run(_serve_until_signal(options.directory, options.imap_port, options.smtp_port))
    except CleoError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _serve_until_signal(directory: Path, imap_port: int, smtp_port: int) -> None:
    certificates = write_certificates(directory)
    accounts_file = directory / "accounts.json"
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _serving(read_logins(accounts_file), certificates, imap_port, smtp_port) as running:
        ready = {
            "ready": True,
            "host": HOST,
            "imap_port": running.imap_port,
            "smtp_port": running.smtp_port,
            "ca_file": str(certificates.ca_file),
            "accounts_file": str(accounts_file),  # not the passwords: this line may end in a log
        }
        print(json.dumps(ready), flush=True)
        await stop.wait()


def read_logins(path: Path) -> tuple[Login, ...]:
    """The accounts in a file of mode 0600, ``{"address": "password", ...}``; made if it is not there.

    Raises CleoError if the file holds anything else.
    """
    if not path.exists():
        logins = new_logins()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({login.user: login.password for login in logins}, file, indent=2)
        return logins
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise CleoError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(password, str) for password in found.values()):
        raise CleoError(f"{path} must be an object of addresses and passwords")
    return tuple(Login(address, password) for address, password in found.items())


if __name__ == "__main__":
    sys.exit(main())
