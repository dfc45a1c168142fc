"""The same edge on the mail server of the demo, which needs nothing installed and keeps no keywords."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from cleo_email.accounts import ImapAccount, Login
from cleo_email.embedded.mailserver import AGENT, Certificates
from cleo_email.errors import MailboxError, MailboxLoginRefused
from cleo_email.imap.mailbox import Mailbox
from cleo_email.imap.values import ACCEPTED, SEEN
from tests.support.mail_server import FaithfulMailServer

WHEN = datetime(2026, 3, 1, 11, 30, tzinfo=UTC)
SOURCE = (
    b"From: a@example.org\r\nSubject: x\r\nMessage-ID: <in@x>\r\n\r\n" + bytes(range(0x80, 0x100)) + b"\r\n"
)


@pytest.fixture
def mailbox(mail_server: FaithfulMailServer, ca: Certificates) -> Iterator[Mailbox]:
    with Mailbox(mail_server.imap_account(AGENT), ssl_context=ca.client_context()) as box:
        yield box


def test_a_mail_is_found_fetched_and_marked(mail_server: FaithfulMailServer, mailbox: Mailbox) -> None:
    mail_server.deliver(AGENT, SOURCE)
    mail_server.deliver(AGENT, SOURCE)
    status = mailbox.open()
    assert status.keywords_allowed is False
    uids = mailbox.search_unseen()
    assert len(uids) == 2
    infos = mailbox.describe(uids)
    assert [one.source for one in mailbox.fetch((uid, infos[uid].size) for uid in uids)] == [SOURCE, SOURCE]
    assert mailbox.fetch_headers(uids[0]) == SOURCE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert mailbox.search_unseen() == uids
    assert mailbox.search_since_uid(uids[0]) == uids[1:]
    assert mailbox.search_since_uid(uids[1]) == []
    assert mailbox.search_since(datetime.now(UTC).date()) == uids
    assert mailbox.add_flags(uids, [SEEN, ACCEPTED]) == set(uids)
    assert mailbox.add_flags(uids, [SEEN]) == set(uids)
    assert mailbox.search_unseen() == []
    assert mailbox.logins == 1


def test_sent_mail_is_filed_and_found(mailbox: Mailbox) -> None:
    mailbox.open()
    mailbox.append_sent(b"Message-ID: <out@x>\r\nSubject: x\r\n\r\nx\r\n", WHEN)
    assert mailbox.find_in_sent("<out@x>") is True
    assert mailbox.find_in_sent("<ut@x>") is False
    assert mailbox.search_unseen() == []


def test_a_wrong_password_and_an_unknown_certificate(
    mail_server: FaithfulMailServer, ca: Certificates
) -> None:
    right = mail_server.imap_account(AGENT)
    wrong = ImapAccount(right.host, right.port, Login(right.login.user, "wrong"))
    with pytest.raises(MailboxLoginRefused):
        Mailbox(wrong, ssl_context=ca.client_context()).open()
    with pytest.raises(MailboxError, match="SSL_CERT_FILE"):
        Mailbox(right).open()
