"""The servers that may hold the agent's mailbox, all with the same few methods for a test that counts."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from typing import Protocol

import trustme
from imapclient import IMAPClient

from cleo_email.accounts import Login
from cleo_email.embedded.mailserver import MailServer
from tests.support import dovecot, imap_server
from tests.support.dovecot import SENT_MARKED, Dovecot
from tests.support.imap_server import FakeImapServer, Message
from tests.support.mails import AGENT, PASSWORD

SENT_EXISTS = "mailbox Sent {\n  special_use = \\Sent\n  auto = create\n}"


class Inbox(Protocol):
    """``files`` puts a copy into Sent as a provider does that files by itself."""

    name: str
    password: str

    @property
    def port(self) -> int: ...
    @property
    def ca(self) -> bytes: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def deliver(self, *sources: bytes) -> None: ...
    def file(self, source: bytes) -> None: ...
    def unseen(self) -> int: ...
    def answered(self) -> set[str]: ...
    def sent(self) -> Counter[str]: ...


class ByImap:
    """What every real server can be asked by IMAP."""

    port: int
    context: ssl.SSLContext
    password = PASSWORD

    def login(self) -> IMAPClient:
        client = IMAPClient("127.0.0.1", self.port, ssl_context=self.context, timeout=20)
        client.plain_login(AGENT, self.password)
        return client

    @contextlib.contextmanager
    def client(self, folder: str, *, readonly: bool = True) -> Iterator[IMAPClient]:
        with self.login() as client:
            client.select_folder(folder, readonly=readonly)
            yield client

    def file(self, source: bytes) -> None:
        with self.client("INBOX") as client:
            client.append("Sent", source, ("\\Seen",), datetime.now(UTC))

    def unseen(self) -> int:
        with self.client("INBOX") as client:
            return len(client.search("UNSEEN"))

    def answered(self) -> set[str]:
        with self.client("INBOX") as client:
            return set(_ids(client, "ANSWERED"))

    def sent(self) -> Counter[str]:
        with self.client("Sent") as client:
            return Counter(_ids(client, "ALL"))


class DovecotInbox(ByImap):
    name = "Dovecot"

    def __init__(self, *, sent: str = SENT_MARKED) -> None:
        self.server = Dovecot(users={AGENT: PASSWORD}, inbox=sent)
        self.ca = self.server.ca_file.read_bytes()
        self.context = self.server.ssl_context()

    @property
    def port(self) -> int:  # type: ignore[override]
        return self.server.imaps_port

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def close(self) -> None:
        self.server.__exit__(None, None, None)

    def deliver(self, *sources: bytes) -> None:
        self.server.deliver(AGENT, *sources)


class EmbeddedInbox(ByImap):
    """Where no Dovecot is installed: no keywords, and its mail is gone when it stops."""

    name = "embedded"
    password = "geheim"  # pymap compares plain passwords in ASCII only

    def __init__(self, directory: Path) -> None:
        self._server = MailServer(directory / "embedded", logins=[Login(AGENT, self.password)])
        self.ca = self._server.certificates.ca_file.read_bytes()
        self.context = self._server.certificates.client_context()

    @property
    def port(self) -> int:  # type: ignore[override]
        return self._server.imap_port

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        raise NotImplementedError("its mail lives in memory")

    def close(self) -> None:
        self._server.stop()

    def deliver(self, *sources: bytes) -> None:
        for source in sources:
            self._server.deliver(AGENT, source)


class FakeInbox:
    """For what no real server does on demand: see ``tests/support/imap_server.py``."""

    name = "scripted"
    password = PASSWORD

    def __init__(self) -> None:
        self.server = FakeImapServer()
        ca: trustme.CA = imap_server._CA
        self.ca = ca.cert_pem.bytes()

    @property
    def port(self) -> int:
        return self.server.port

    def start(self) -> None:
        self.server.__enter__()

    def stop(self) -> None:
        raise NotImplementedError("a fault in its answers does better")

    def close(self) -> None:
        self.server.__exit__(None, None, None)

    def deliver(self, *sources: bytes) -> None:
        now = datetime.now(UTC).strftime('"%d-%b-%Y %H:%M:%S +0000"')
        self.server.inbox.extend(Message(source, date=now) for source in sources)

    def file(self, source: bytes) -> None:
        self.server.folders["Sent"].append(Message(source))

    def unseen(self) -> int:
        return sum("\\Seen" not in message.flags for message in self.server.inbox)

    def answered(self) -> set[str]:
        return {_id(m.source) for m in self.server.inbox if "\\Answered" in m.flags}

    def sent(self) -> Counter[str]:
        return Counter(_id(message.source) for message in self.server.folders["Sent"])


def usual(directory: Path) -> Inbox:
    """Dovecot where it is installed, else (or where CRASH_TEST_EMBEDDED is set) the embedded server."""
    if os.environ.get("CRASH_TEST_EMBEDDED") or dovecot.missing():
        return EmbeddedInbox(directory)
    return DovecotInbox(sent=SENT_EXISTS)


def _ids(client: IMAPClient, criterion: str) -> list[str]:
    uids = client.search(criterion)
    found = client.fetch(uids, ["BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]"]) if uids else {}
    return [
        _id(value) for parts in found.values() for key, value in parts.items() if key.startswith(b"BODY[")
    ]


def _id(source: bytes) -> str:
    return str(message_from_bytes(source)["Message-ID"]).strip()
