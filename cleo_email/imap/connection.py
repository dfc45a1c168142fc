"""A connection that is made on first use and kept, and the folders that an account has for a special use."""

import ssl
from collections.abc import Callable
from typing import Self

from cleo_email.accounts import ImapAccount, LoginMemory
from cleo_email.errors import MailboxError
from cleo_email.imap.session import ImapConnection, folder_name
from cleo_email.imap.special_use import SpecialUse, create_folder, find_folder
from cleo_email.imap.values import ImapTimeouts

QUIET = 30.0  # seconds without an answer after which a kept connection is tried before it is used


def no_limit() -> None:
    """Let every login be made."""


def tell_nobody(_fault: MailboxError) -> None:
    """Do nothing about a connection that could not be made."""


class KeptConnection:
    """The connection of one account; not for several threads at once.

    After a fault it is closed and the next use makes a new one. Every method raises MailboxUnavailable for
    what may pass by itself, MailboxLoginRefused where user or password are wrong, and MailboxError for what a
    person has to change.
    """

    def __init__(
        self,
        account: ImapAccount,
        *,
        ssl_context: ssl.SSLContext | None = None,
        timeouts: ImapTimeouts | None = None,
    ) -> None:
        self.logins = 0
        # Called before each connection is made; a MailboxError that it raises forbids it.
        self.before_login: Callable[[], None] = no_limit
        # Called where a connection cannot be made.
        self.login_failed: Callable[[MailboxError], None] = tell_nobody
        self._account = account
        self._context = ssl_context
        self._timeouts = timeouts or ImapTimeouts()
        self._kept: ImapConnection | None = None
        self._memory = LoginMemory()
        self._folders: dict[SpecialUse, bytes] = {}
        self._ask_namespace = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Log out, if connected. The next use connects anew."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.log_out()

    def connect(self) -> None:
        """Connect and log in, unless a kept connection lives."""
        self._connection(try_after=0)

    def offers(self, capability: str) -> bool:
        """Return whether the server has this capability."""
        return self._connection().offers(capability)

    def look_up(self, use: SpecialUse) -> tuple[str, bool]:
        """Return the folder's name, '' where there is none, and whether this login may write to it."""
        folder = self._folder(use, create=False)
        if folder is None:
            return "", False
        # EXAMINE would be read-only for every login.
        return folder_name(folder), not self._connection().select(folder).get(b"READ-ONLY")

    def _connection(self, *, try_after: float = QUIET) -> ImapConnection:
        """Return the kept connection if it lives, or a new one."""
        if self._kept is None or not self._kept.is_alive(try_after):
            self._kept = None
            self.before_login()
            try:
                self._kept = ImapConnection(self._account, self._context, self._timeouts, self._memory)
            except MailboxError as fault:
                self.login_failed(fault)
                raise
            self.logins += 1
        return self._kept

    def _folder(self, use: SpecialUse, *, create: bool) -> bytes | None:
        """Return the folder of this use, created if need be; None if there is none."""
        if use not in self._folders:
            connection = self._connection()
            folders = connection.folders()
            found = find_folder(use, folders, self._namespace)
            if found is None and create:
                found = create_folder(use, connection, folders, self._namespace())
            if found is not None:
                self._folders[use] = found
        return self._folders.get(use)

    def _namespace(self) -> bytes | None:
        """Return the prefix of our namespace; None also where the question once ended the connection."""
        if not self._ask_namespace:
            return None
        self._ask_namespace = False
        prefix = self._connection().namespace()
        self._ask_namespace = True
        return prefix
