"""The private Postfix and Dovecot that other tests build on."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Iterator

import pytest
from imapclient import IMAPClient

from tests.support import postfix

ANN, BOB = "ann@example.com", "bob@example.org"
MAIL = (
    b"From: ann@example.com\r\nSubject: Hallo\r\nMessage-ID: <1@example.com>\r\n"
    b"Date: Tue, 24 Nov 2026 09:00:00 +0000\r\n\r\n"
    b"Gr\xc3\xbc\xc3\x9fe\r\n.\r\n"
)

pytestmark = pytest.mark.servers("postfix", "dovecot")


@pytest.fixture(scope="module")
def servers() -> Iterator[postfix.PostfixAndDovecot]:
    if reason := postfix.missing():
        pytest.skip(reason)
    with postfix.PostfixAndDovecot({ANN: "secret", BOB: "geheim"}) as running:
        yield running


def inbox(servers: postfix.PostfixAndDovecot, user: str, count: int) -> list[bytes]:
    """The mail of a user, once there are ``count``."""
    account = servers.dovecot.account(user)
    context = servers.dovecot.ssl_context()
    deadline = time.monotonic() + 20
    with IMAPClient(account.host, account.port, ssl_context=context, timeout=20) as client:
        client.login(account.login.user, account.login.password)
        while True:
            client.select_folder("INBOX")
            uids = client.search("ALL")
            if len(uids) >= count:
                return [data[b"BODY[]"] for _, data in sorted(client.fetch(uids, ["BODY.PEEK[]"]).items())]
            assert time.monotonic() < deadline, servers.log()
            time.sleep(0.05)


def test_it_submits_after_starttls_and_login_and_delivers_to_dovecot(
    servers: postfix.PostfixAndDovecot,
) -> None:
    account = servers.account(ANN)
    with smtplib.SMTP(account.host, account.port, timeout=20) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.mail(ANN)[0] == 250
        assert client.rcpt("someone@elsewhere.test")[0] == 554  # relaying needs a login
    with smtplib.SMTP(account.host, account.port, timeout=20) as client:
        client.starttls(context=servers.dovecot.ssl_context())
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(ANN, "wrong")
        client.login(ANN, account.login.password)
        assert client.sendmail(ANN, [BOB], MAIL) == {}
        assert client.rcpt("nobody@example.org")[0] in (503, 550)
    (source,) = inbox(servers, BOB, 1)
    assert source.endswith(MAIL)
    assert source.startswith(b"Return-Path: <ann@example.com>\r\nDelivered-To: bob@example.org\r\n")


def test_implicit_tls_and_a_real_bounce_of_mail_to_elsewhere(servers: postfix.PostfixAndDovecot) -> None:
    account = servers.account(ANN, port=servers.smtps_port)
    context = servers.dovecot.ssl_context()
    with smtplib.SMTP_SSL(account.host, account.port, timeout=20, context=context) as client:
        client.login(ANN, account.login.password)
        assert client.sendmail(ANN, ["someone@elsewhere.test"], MAIL) == {}
    (bounce,) = inbox(servers, ANN, 1)
    assert bounce.startswith(b"Return-Path: <>\r\n")
    assert b"multipart/report; report-type=delivery-status" in bounce
    assert b"Final-Recipient: rfc822; someone@elsewhere.test" in bounce
    assert b"<1@example.com>" in bounce


def test_it_starts_again_on_the_same_ports(servers: postfix.PostfixAndDovecot) -> None:
    servers.stop()
    servers.start()
    with smtplib.SMTP("localhost", servers.smtp_port, timeout=20) as client:
        assert client.noop()[0] == 250
