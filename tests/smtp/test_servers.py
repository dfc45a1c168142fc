"""Submission through real servers: Postfix with Dovecot, and the embedded one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from imapclient import IMAPClient

from cleo_email.accounts import Login, SmtpAccount
from cleo_email.embedded.mailserver import AGENT, CUSTOMER, MailServer
from cleo_email.errors import StoreUnavailable, SubmissionError, SubmissionLoginRefused, SubmissionUnavailable
from cleo_email.mail.model import OutboundEmail
from cleo_email.smtp.pool import Submitter
from tests.smtp.test_transaction import mail_to
from tests.support import postfix

ANN, BOB = "ann@example.com", "bob@example.org"
PASSWORD = "Gehëim-ß-🔑"


@pytest.fixture(scope="module")
def servers() -> Iterator[postfix.PostfixAndDovecot]:
    if reason := postfix.missing():
        pytest.skip(reason)
    with postfix.PostfixAndDovecot({ANN: PASSWORD, BOB: "geheim"}) as running:
        yield running


@pytest.fixture
def submitter(servers: postfix.PostfixAndDovecot) -> Iterator[Submitter]:
    with Submitter(servers.account(ANN), context=servers.dovecot.ssl_context()) as made:
        yield made


def inbox(servers: postfix.PostfixAndDovecot, count: int) -> list[bytes]:
    """Bob's mail, once there are ``count``; it is taken out of the mailbox."""
    account = servers.dovecot.account(BOB)
    context = servers.dovecot.ssl_context()
    deadline = time.monotonic() + 30
    with IMAPClient(account.host, account.port, ssl_context=context, timeout=20) as client:
        client.login(account.login.user, account.login.password)
        while True:
            client.select_folder("INBOX")
            uids = client.search("ALL")
            if len(uids) >= count:
                found = [data[b"BODY[]"] for data in client.fetch(uids, ["BODY.PEEK[]"]).values()]
                client.delete_messages(uids)
                client.expunge()
                return found
            assert time.monotonic() < deadline, servers.log()
            time.sleep(0.05)  # a mailbox has no other way to be asked


def send(submitter: Submitter, mail: OutboundEmail | None = None) -> None:
    submitter.submit(mail or mail_to(BOB), before_end_of_data=lambda: None)


@pytest.mark.servers("postfix", "dovecot")
def test_mail_arrives_byte_for_byte(servers: postfix.PostfixAndDovecot, submitter: Submitter) -> None:
    """A password that is not ASCII, dots at line starts, a megabyte attached."""
    mail = mail_to(BOB, size=1_000_000)
    receipt = submitter.submit(mail, before_end_of_data=lambda: None)
    assert "queued as" in receipt.response
    (source,) = inbox(servers, 1)
    assert source.endswith(mail.source)


@pytest.mark.servers("postfix", "dovecot")
def test_implicit_tls(servers: postfix.PostfixAndDovecot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cleo_email.smtp.session.IMPLICIT_TLS", servers.smtps_port)
    account = servers.account(ANN, port=servers.smtps_port)
    with Submitter(account, context=servers.dovecot.ssl_context()) as submitter:
        assert "TLSv1.3, logged in as ann@example.com" in submitter.check()
        send(submitter)
    assert len(inbox(servers, 1)) == 1


@pytest.mark.servers("postfix", "dovecot")
def test_many_mails_from_many_threads(servers: postfix.PostfixAndDovecot, submitter: Submitter) -> None:
    def send_twenty() -> None:
        for _ in range(20):
            send(submitter)

    threads = [threading.Thread(target=send_twenty) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inbox(servers, 160)) == 160


@pytest.mark.servers("postfix", "dovecot")
def test_a_hook_that_raises_leaves_nothing_in_the_queue(
    servers: postfix.PostfixAndDovecot, submitter: Submitter
) -> None:
    def hook() -> None:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        submitter.submit(mail_to(BOB, markdown="never"), before_end_of_data=hook)
    send(submitter, mail_to(BOB, markdown="arrives"))
    (source,) = inbox(servers, 1)
    assert b"arrives" in source


@pytest.mark.servers("postfix", "dovecot")
def test_refusals(servers: postfix.PostfixAndDovecot, submitter: Submitter) -> None:
    receipt = submitter.submit(mail_to(BOB, "nobody@example.org"), before_end_of_data=lambda: None)
    assert list(receipt.refused) == ["nobody@example.org"]
    assert receipt.refused["nobody@example.org"].startswith("550 5.1.1")
    assert len(inbox(servers, 1)) == 1
    with pytest.raises(SubmissionError, match=r"550 5\.1\.1") as caught:
        send(submitter, mail_to("nobody@example.org"))
    assert not caught.value.retry_helps
    wrong = SmtpAccount("localhost", servers.smtp_port, Login(ANN, "falsch"))
    with (
        Submitter(wrong, context=servers.dovecot.ssl_context()) as stranger,
        pytest.raises(SubmissionLoginRefused, match=r"535 5\.7\.8"),
    ):
        send(stranger)


@pytest.mark.servers("postfix", "dovecot")
def test_a_recipient_who_is_refused_for_now(servers: postfix.PostfixAndDovecot, submitter: Submitter) -> None:
    send(submitter)  # the next mail finds a session that was kept
    receipt = submitter.submit(mail_to(BOB, "later@example.org"), before_end_of_data=lambda: None)
    assert list(receipt.deferred) == ["later@example.org"]
    assert receipt.refused == {}
    assert len(inbox(servers, 2)) == 2
    with pytest.raises(SubmissionUnavailable, match=r"450 4\.2\.0"):
        send(submitter, mail_to("later@example.org"))


@pytest.mark.servers("postfix", "dovecot")
def test_a_restart_of_the_server_is_survived(
    servers: postfix.PostfixAndDovecot, submitter: Submitter
) -> None:
    send(submitter)
    servers.stop()
    servers.start()
    send(submitter)
    assert len(inbox(servers, 2)) == 2


def test_the_embedded_server(mail_server: MailServer) -> None:
    account, context = mail_server.smtp_account(AGENT), mail_server.certificates.client_context()
    with Submitter(account, context=context) as submitter:
        assert submitter.check().startswith(f"{account.host}:{account.port}, TLSv1.3, logged in as {AGENT}")
        for _ in range(3):
            send(submitter, mail_to(CUSTOMER))
