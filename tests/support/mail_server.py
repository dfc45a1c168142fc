"""The embedded mail server as the tests want it: no mail is changed, none ends a connection, Sent is marked.

This module touches what pymap keeps private, each time because pymap would otherwise change or lose a mail;
``tests/embedded/test_mailserver.py`` fails when an upgrade moves one of these places.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from email.headerregistry import HeaderRegistry
from typing import Any

from pymap.backend.dict.mailbox import MailboxData, MailboxSet, Message
from pymap.config import BackendCapability
from pymap.listtree import ListEntry, ListTree
from pymap.mime.parsed import ParsedHeaders
from pymap.parsing.message import AppendMessage

from cleo_email.embedded.mailserver import AGENT, ImapConfig, Mailboxes, MailServer


class FaithfulMailServer(MailServer):
    """Keeps every mail byte for byte, and takes bytes without SMTP."""

    def _make_mailboxes(self) -> Mailboxes:
        # pymap answers BYE, to a SEARCH of all mail too, where the standard parser raises on one header.
        ParsedHeaders._registry = _LenientHeaders()
        return _Mailboxes(self.logins, self.certificates.server_context())

    def environment(self, redis_url: str) -> dict[str, str]:
        """The settings of processes whose mailbox is the agent's."""
        login = self.smtp_account(AGENT).login
        return {
            "EMAIL_USER": login.user,
            "EMAIL_PASSWORD": login.password,
            "EMAIL_SMTP_HOST": "127.0.0.1",
            "EMAIL_SMTP_PORT": str(self.smtp_port),
            "EMAIL_IMAP_HOST": "127.0.0.1",
            "EMAIL_IMAP_PORT": str(self.imap_port),
            "SSL_CERT_FILE": str(self.certificates.ca_file),
            "REDIS_URL": redis_url,
        }

    def deliver(self, address: str, source: bytes) -> int:
        """File bytes in the INBOX of an account, unchanged and without SMTP; return the UID."""
        assert self._loop is not None, "the server is not running"
        filing = self._mailboxes.deliver(address, source)
        return asyncio.run_coroutine_threadsafe(filing, self._loop).result(timeout=60)


class _Folders(MailboxSet):
    """A user's folders. LIST says where sent mail goes (RFC 6154), as the services of the world do."""

    def __init__(self) -> None:
        super().__init__()
        self._inbox = _Folder(self._content_cache, self._thread_cache)
        self._set["Sent"] = _Folder(self._content_cache, self._thread_cache)
        self._subscribed["Sent"] = True

    async def list_mailboxes(self) -> ListTree:
        return _Tree(self.delimiter).update("INBOX", *self._set)


class _Config(ImapConfig):
    backend_capability = BackendCapability(
        idle=True, object_id=True, multi_append=True, custom=[b"SPECIAL-USE"]
    )


class _Mailboxes(Mailboxes):
    config = _Config
    folders = _Folders


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
        except Exception:  # IndexError, AttributeError, HeaderParseError and more are on record
            return super().__call__(name, "")
