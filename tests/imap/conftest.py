"""Servers and mailboxes for the tests of the IMAP edge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from imapclient import IMAPClient  # type: ignore[import-untyped]

from cleo_email.imap.mailbox import Mailbox
from cleo_email.imap.values import ImapTimeouts
from tests.support import dovecot as dovecot_module
from tests.support.dovecot import Dovecot
from tests.support.imap_server import FakeImapServer

PATIENT = ImapTimeouts(connect=20, read=20, liveness=20, command=60)  # with servers that answer
HASTY = ImapTimeouts(connect=20, read=1.5, liveness=1, command=60)  # with servers that let us wait on purpose
# All there from the start: Dovecot looks at a changed file of users once a second at most.
_USERS = [f"user{number}@example.com" for number in range(200)]
_unused = iter(_USERS)


@pytest.fixture(scope="package")
def dovecot() -> Iterator[Dovecot]:
    if reason := dovecot_module.missing():
        pytest.skip(reason)
    with Dovecot({name: f"secret of {name}" for name in _USERS}) as server:
        yield server


@pytest.fixture
def user(dovecot: Dovecot) -> str:
    """A user of the shared server who has no mail yet."""
    return next(_unused)


@pytest.fixture
def mailbox(dovecot: Dovecot, user: str) -> Iterator[Mailbox]:
    with Mailbox(dovecot.account(user), ssl_context=dovecot.ssl_context()) as box:
        yield box


@pytest.fixture
def person(dovecot: Dovecot, user: str) -> Iterator[IMAPClient]:
    """Another client of the same user, such as a person's mail program, with the inbox selected."""
    account = dovecot.account(user)
    with IMAPClient("localhost", port=account.port, ssl_context=dovecot.ssl_context(), timeout=20) as client:
        client.login(user, account.login.password)
        client.normalise_times = False
        client.select_folder("INBOX")
        yield client


@pytest.fixture
def server() -> Iterator[FakeImapServer]:
    """A fake server with three unread messages, whose UIDs are 1 to 3."""
    sources = (b"Subject: %d\r\nMessage-ID: <%d@x>\r\n\r\nbody %d\r\n" % (n, n, n) for n in (1, 2, 3))
    with FakeImapServer(*sources) as fake:
        yield fake


@pytest.fixture
def box(server: FakeImapServer) -> Iterator[Mailbox]:
    """A mailbox on the fake server."""
    with Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=PATIENT) as mailbox:
        yield mailbox


@pytest.fixture
def hasty_box(server: FakeImapServer) -> Iterator[Mailbox]:
    """One that soon loses patience."""
    with Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=HASTY) as mailbox:
        yield mailbox
