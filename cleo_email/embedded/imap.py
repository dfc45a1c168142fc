"""The IMAP side of the embedded mail server: pymap with its mailboxes in memory.

Its limits are wanted: no custom keywords (PERMANENTFLAGS has no ``\\*``), as with Microsoft 365. Mail is gone
when the process ends. Imported only where the extra ``embedded`` is installed.
"""

from __future__ import annotations

import asyncio
import ssl
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.headerregistry import HeaderRegistry
from typing import Any

from proxyprotocol.result import ProxyResultUnknown
from proxyprotocol.sock import SocketInfo
from pymap.backend.dict import Config, Login
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxData, MailboxSet, Message
from pymap.concurrent import Subsystem
from pymap.config import BackendCapability
from pymap.imap import IMAPServer
from pymap.listtree import ListEntry, ListTree
from pymap.mime.parsed import ParsedHeaders
from pymap.parsing.message import AppendMessage
from pymap.parsing.specials import ObjectId
from pymap.parsing.specials.flag import Seen
from pymap.user import UserMetadata
from pysasl.hashing import Cleartext

from cleo_email import accounts

_LINE_LIMIT = 1024 * 1024  # bytes: a STORE or FETCH may name thousands of UIDs in one line
_HEADER_LIMIT = 8192  # characters
_SENT = "Sent"


class Mailboxes:
    """The accounts and their folders: INBOX and Sent."""

    def __init__(self, logins: Iterable[accounts.Login], tls: ssl.SSLContext, *, max_bytes: int) -> None:
        ParsedHeaders._registry = _Headers()
        self._config = _Config(tls, max_bytes)
        self._login = Login(self._config)
        self._folders: dict[str, _Folders] = {}
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        for login in logins:
            user = UserMetadata(self._config, login.user, password=login.password)
            self._login.users_dict[login.user] = user
            self._folders[login.user] = _Folders()

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Listen with implicit TLS; ``port`` 0 takes a free one."""
        for user, folders in self._folders.items():
            await folders.add_mailbox(_SENT)
            await folders.set_subscribed(_SENT, subscribed=True)
            self._config.set_cache[user] = (folders, FilterSet())
        return await asyncio.start_server(
            self._connected, host, port, ssl=self._config.ssl_context, limit=_LINE_LIMIT
        )

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = SocketInfo.get(writer, ProxyResultUnknown())
        task = asyncio.current_task()
        assert task
        self._connections[task] = writer
        try:
            await IMAPServer(self._login, self._config)(reader, writer, peer)
        finally:
            del self._connections[task]

    async def deliver(self, user: str, source: bytes, *, seen: bool = False) -> int:
        """File a mail in the user's INBOX, byte for byte; returns its UID."""
        inbox = await self._folders[user].get_mailbox("INBOX")
        flags = frozenset({Seen}) if seen else frozenset()
        message = await inbox.append(AppendMessage(source, datetime.now(UTC), flags), recent=True)
        return message.uid

    async def close(self) -> None:
        """Tell each client BYE and cut its connection, without the TLS farewell that waits for it."""
        connections = dict(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        for writer in connections.values():
            writer.transport.abort()


class _Config(Config):
    """One configuration in code instead of pymap's command line."""

    def __init__(self, tls: ssl.SSLContext, max_bytes: int) -> None:
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
            max_append_len=max_bytes,
            reject_dnsbl=False,
        )

    @property
    def greeting(self) -> bytes:
        return b"cleo-email embedded mail server ready"  # the inherited one asks the DNS on each connection

    @property
    def backend_capability(self) -> BackendCapability:
        return BackendCapability(idle=True, object_id=True, multi_append=True, custom=[b"SPECIAL-USE"])


class _Folders(MailboxSet):
    """A user's folders, with the attribute that tells clients where sent mail goes (RFC 6154)."""

    def __init__(self) -> None:
        super().__init__()
        self._inbox = _Folder(self._content_cache, self._thread_cache)

    async def add_mailbox(self, name: str) -> ObjectId:
        async with self._set_lock.write_lock():
            if name in self._set:
                raise ValueError(name)
            self._set[name] = folder = _Folder(self._content_cache, self._thread_cache)
        return folder.mailbox_id

    async def list_mailboxes(self) -> ListTree:
        return _marked(await super().list_mailboxes())

    async def list_subscribed(self) -> ListTree:
        return _marked(await super().list_subscribed())


class _Folder(MailboxData):
    async def append(self, append_msg: AppendMessage, *, recent: bool = False) -> Message:
        """As inherited, but with a time zone, for every mail there is, and byte for byte.

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


class _Headers(HeaderRegistry):
    """The standard library's reading of headers, which raises on some real ones and is slow on long ones.

    pymap would answer with a BYE, to a SEARCH of the whole mailbox too. Such a header counts as empty in
    SEARCH and ENVELOPE; the source is not touched.
    """

    def __call__(self, name: str, value: str) -> Any:
        try:
            return super().__call__(name, value if len(value) <= _HEADER_LIMIT else "")
        except Exception:  # noqa: BLE001 - IndexError, AttributeError, HeaderParseError and more are on record
            return super().__call__(name, "")


class _SpecialUse(ListEntry):
    @property
    def attributes(self) -> Sequence[bytes]:
        own = [b"Sent"] if self.name == _SENT else []
        return [*super().attributes, *own]


class _Tree(ListTree):
    def list(self) -> Iterable[ListEntry]:
        for entry in super().list():
            yield _SpecialUse(entry.name, entry.exists, entry.marked, entry.has_children)


def _marked(tree: ListTree) -> ListTree:
    return _Tree(tree._delimiter).update(*(entry.name for entry in tree.list() if entry.exists))
