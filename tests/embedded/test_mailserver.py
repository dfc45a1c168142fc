from __future__ import annotations

import imaplib
import inspect
import os
import re
import smtplib
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.headerregistry import HeaderRegistry
from pathlib import Path

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError, LoginError
from imapclient.imapclient import SENT
from pymap.backend.dict.mailbox import MailboxData, MailboxSet, Message
from pymap.mime import MessageContent
from pymap.mime.parsed import ParsedHeaders

from cleo_email.accounts import Login
from cleo_email.embedded.mailserver import AGENT, CUSTOMER, Certificates, MailServer
from tests.support.mail_server import FaithfulMailServer
from tests.support.messages import SAMPLES

MAIL = (
    b"From: customer@example.test\r\nSubject: Hallo\r\nMessage-ID: <1@example.test>\r\n\r\n"
    b"Gr\xfc\xc3\xbce\r\n"
)


@contextmanager
def mailbox(server: MailServer, address: str) -> Iterator[IMAPClient]:
    account = server.imap_account(address)
    context = server.certificates.client_context()
    with IMAPClient(account.host, account.port, ssl_context=context, timeout=20) as client:
        client.login(account.login.user, account.login.password)
        yield client


@contextmanager
def submission(server: MailServer, address: str, *, login: bool = True) -> Iterator[smtplib.SMTP]:
    account = server.smtp_account(address)
    with smtplib.SMTP(account.host, account.port, timeout=20) as client:
        client.starttls(context=server.certificates.client_context())
        if login:
            client.login(account.login.user, account.login.password)
        yield client


def inbox(client: IMAPClient) -> dict[int, bytes]:
    client.select_folder("INBOX", readonly=True)
    uids = client.search("ALL")
    return {uid: data[b"BODY[]"] for uid, data in client.fetch(uids, ["BODY.PEEK[]"]).items()}


# --- SMTP to IMAP -------------------------------------------------------------------------------------------


def test_submitted_mail_lands_byte_for_byte_under_the_headers_of_a_delivery(
    mail_server: FaithfulMailServer,
) -> None:
    tricky = MAIL + b".\r\n..\r\n. x\r\nFrom here\r\n" + b"y" * 5000 + b"\r\n\x00\xff\r\n"
    with submission(mail_server, CUSTOMER) as client:
        client.ehlo("desk.example.test")
        assert client.sendmail(CUSTOMER, [AGENT], tricky) == {}
    with mailbox(mail_server, AGENT) as client:
        (source,) = inbox(client).values()
    assert source.endswith(tricky)
    trace = source.removesuffix(tricky).decode()
    assert re.fullmatch(
        r"Return-Path: <customer@example\.test>\r\n"
        r"Delivered-To: agent@cleo\.test\r\n"
        r"Received: from desk\.example\.test \(\[127\.0\.0\.1\]\)\r\n"
        r"\tby localhost \(cleo-email\) with ESMTPSA id [0-9A-F]+\r\n"
        r"\tfor <agent@cleo\.test>; \w{3}, \d{2} \w{3} \d{4} [\d:]{8} [+-]\d{4}\r\n",
        trace,
    )


def test_each_recipient_gets_a_copy_and_a_bounce_has_an_empty_return_path(
    mail_server: FaithfulMailServer,
) -> None:
    with submission(mail_server, AGENT) as client:
        client.sendmail("", [AGENT.upper(), "agent+order.7@cleo.test", CUSTOMER], MAIL)
    with mailbox(mail_server, AGENT) as client:
        sources = list(inbox(client).values())
    assert [source.split(b"\r\n")[1] for source in sources] == [
        b"Delivered-To: AGENT@CLEO.TEST",
        b"Delivered-To: agent+order.7@cleo.test",
    ]
    assert all(source.startswith(b"Return-Path: <>\r\n") for source in sources)
    with mailbox(mail_server, CUSTOMER) as client:
        assert len(inbox(client)) == 1


@pytest.mark.parametrize("stranger", ["nobody@cleo.test", "someone@gmail.com", "root", "agent@sub.cleo.test"])
def test_mail_for_anybody_else_is_refused_with_550(mail_server: FaithfulMailServer, stranger: str) -> None:
    with submission(mail_server, CUSTOMER) as client:
        refused = client.sendmail(CUSTOMER, [stranger, AGENT], MAIL)
        assert refused[stranger][0] == 550
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail(CUSTOMER, [stranger], MAIL)
    with mailbox(mail_server, AGENT) as client:
        assert len(inbox(client)) == 1


def test_no_login_in_clear_and_no_mail_without_a_login(mail_server: FaithfulMailServer) -> None:
    account = mail_server.smtp_account(CUSTOMER)
    with smtplib.SMTP(account.host, account.port, timeout=20) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.docmd("AUTH", "PLAIN AGEAYg==")[0] == 530
        assert client.mail(CUSTOMER)[0] == 530
    with submission(mail_server, CUSTOMER, login=False) as client:
        client.ehlo()
        assert client.mail(CUSTOMER)[0] == 530
        assert client.rcpt(AGENT)[0] in (503, 530)


@pytest.mark.parametrize("mechanism", ["auth_plain", "auth_login"])
def test_a_wrong_password_is_refused_and_both_mechanisms_take_the_right_one(
    mail_server: FaithfulMailServer, mechanism: str
) -> None:
    login = mail_server.smtp_account(CUSTOMER).login
    for user, password in [(login.user, "wrong"), ("nobody@cleo.test", login.password), (login.user, "")]:
        with submission(mail_server, CUSTOMER, login=False) as client:
            client.ehlo()
            client.user, client.password = user, password
            with pytest.raises(smtplib.SMTPAuthenticationError) as refusal:
                client.auth(mechanism.removeprefix("auth_").upper(), getattr(client, mechanism))
            assert refusal.value.smtp_code == 535
    with submission(mail_server, CUSTOMER, login=False) as client:
        client.ehlo()
        client.user, client.password = login.user, login.password
        assert client.auth(mechanism.removeprefix("auth_").upper(), getattr(client, mechanism))[0] == 235


def test_a_client_that_does_not_know_the_authority_gets_no_connection(
    mail_server: FaithfulMailServer,
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        imaplib.IMAP4_SSL(
            "127.0.0.1", mail_server.imap_port, ssl_context=ssl.create_default_context(), timeout=20
        )
    with (
        smtplib.SMTP("127.0.0.1", mail_server.smtp_port, timeout=20) as client,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        client.starttls(context=ssl.create_default_context())


# --- IMAP ---------------------------------------------------------------------------------------------------


def test_peeking_leaves_mail_unseen_and_flags_stick(mail_server: FaithfulMailServer) -> None:
    first, second = (mail_server.deliver(AGENT, MAIL) for _ in range(2))
    with mailbox(mail_server, AGENT) as client:
        client.select_folder("INBOX")
        assert client.search("UNSEEN") == [first, second]
        data = client.fetch([first], ["BODY.PEEK[]", "RFC822.SIZE", "INTERNALDATE", "BODY.PEEK[HEADER]"])[
            first
        ]
        assert data[b"BODY[]"] == MAIL
        assert data[b"RFC822.SIZE"] == len(MAIL)
        assert data[b"BODY[HEADER]"] == MAIL.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        client.normalise_times = False
        assert client.search("UNSEEN") == [first, second]
        assert b"\\Seen" in client.add_flags([first], [b"\\Seen", b"\\Answered"])[first]
        assert client.search("UNSEEN") == [second]
    with mailbox(mail_server, AGENT) as client:
        client.select_folder("INBOX")
        assert client.search("ANSWERED") == [first]


def test_the_time_of_arrival_is_now_with_a_zone(mail_server: FaithfulMailServer) -> None:
    uid = mail_server.deliver(AGENT, MAIL)
    with mailbox(mail_server, AGENT) as client:
        client.append("Sent", MAIL)
        client.normalise_times = False
        for folder in ("INBOX", "Sent"):
            client.select_folder(folder)
            (uid,) = client.search("ALL")
            arrived = client.fetch([uid], ["INTERNALDATE"])[uid][b"INTERNALDATE"]
            assert abs(arrived - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_copy_filed_in_the_sent_folder_is_found_by_its_message_id(mail_server: FaithfulMailServer) -> None:
    with mailbox(mail_server, AGENT) as client:
        assert client.find_special_folder(SENT) == "Sent"
        assert b"SPECIAL-USE" in client.capabilities()
        client.append("Sent", MAIL, flags=[b"\\Seen"])
        client.append("Sent", MAIL.replace(b"<1@", b"<2@"), flags=[b"\\Seen"])
        client.select_folder("Sent")
        (uid,) = client.search(["HEADER", "Message-ID", "<1@example.test>"])
        assert client.fetch([uid], ["BODY.PEEK[]"])[uid][b"BODY[]"] == MAIL
        assert client.search(["HEADER", "Message-ID", "<3@example.test>"]) == []


def test_custom_keywords_are_not_possible_as_on_some_servers(mail_server: FaithfulMailServer) -> None:
    uid = mail_server.deliver(AGENT, MAIL)
    with mailbox(mail_server, AGENT) as client:
        assert b"\\*" not in client.select_folder("INBOX")[b"PERMANENTFLAGS"]
        assert b"$CleoAccepted" not in client.add_flags([uid], [b"$CleoAccepted"]).get(uid, ())


def test_a_wrong_password_is_an_authentication_failure(mail_server: FaithfulMailServer) -> None:
    account = mail_server.imap_account(AGENT)
    for user, password in [(AGENT, "wrong"), ("nobody@cleo.test", account.login.password), (CUSTOMER, "")]:
        with (
            IMAPClient(
                account.host, account.port, ssl_context=mail_server.certificates.client_context(), timeout=20
            ) as client,
            pytest.raises(LoginError, match="AUTHENTICATIONFAILED"),
        ):
            client.login(user, password)


def test_a_mailbox_is_its_owners_alone(mail_server: FaithfulMailServer) -> None:
    mail_server.deliver(AGENT, MAIL)
    with mailbox(mail_server, CUSTOMER) as client:
        assert inbox(client) == {}


def test_a_command_may_name_thousands_of_uids(mail_server: FaithfulMailServer) -> None:
    uid = mail_server.deliver(AGENT, MAIL)
    with mailbox(mail_server, AGENT) as client:
        client.select_folder("INBOX")
        every_other = range(uid, uid + 60_000, 2)  # over 300 kB in one line
        assert list(client.add_flags(every_other, [b"\\Seen"])) == [uid]


HOSTILE = [
    b"",
    b"\r\n",
    b"Subject: no end of headers\r\n",
    b"Subject: no end of line",
    b"no header at all\r\n",
    b"Message-ID: <[id@microsoft.com]>\r\n\r\nx",
    b"Content-Type: text/plain; name*\r\n\r\nx",
    b"Date: Mon, 99 Foo 999999 99:99:99 +999999\r\n\r\nx",
    b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
        for level in range(50)
    ),
    b"\x00\xff\r\n" * 100,
]


def test_no_mail_is_refused_or_changed_and_none_ends_the_connection(mail_server: FaithfulMailServer) -> None:
    with mailbox(mail_server, AGENT) as client:
        client.select_folder("INBOX")
        for source in HOSTILE:
            uid = mail_server.deliver(AGENT, source)
            client.noop()
            data = client.fetch([uid], ["BODY.PEEK[]", "RFC822.SIZE", "BODY.PEEK[HEADER]", "FLAGS"])[uid]
            assert (data[b"BODY[]"], data[b"RFC822.SIZE"]) == (source, len(source))
        last = mail_server.deliver(AGENT, MAIL)
        client.noop()
        assert client.search(["HEADER", "Message-ID", "<1@example.test>"]) == [last]
        assert client.search(["SUBJECT", "Hallo"]) == [last]


def test_messages_of_every_kind_come_out_as_they_went_in(mail_server: FaithfulMailServer) -> None:
    expected = {mail_server.deliver(AGENT, sample.source): sample.source for sample in SAMPLES}
    with mailbox(mail_server, AGENT) as client:
        assert inbox(client) == expected


def test_every_real_message_comes_out_as_it_went_in(mail_server: FaithfulMailServer, corpora: Path) -> None:
    sources = [
        path.read_bytes()
        for path in sorted(corpora.rglob("*"))
        if path.is_file() and path.suffix not in (".json", ".md")
    ]
    assert len(sources) > 500
    expected = {mail_server.deliver(AGENT, source): source for source in sources}
    with mailbox(mail_server, AGENT) as client:
        assert inbox(client) == expected
        client.search(["HEADER", "Message-ID", "<1@example.test>"])


# --- life ---------------------------------------------------------------------------------------------------


def test_stopping_ends_connections_and_frees_the_ports(tmp_path: Path, ca: Certificates) -> None:
    with MailServer(tmp_path, certificates=ca) as server, mailbox(server, AGENT) as client:
        server.stop()
        with pytest.raises((OSError, IMAPClientError)):  # noqa: PT012 - the first command may still be sent
            for _ in range(3):
                client.noop()
        for port in (server.imap_port, server.smtp_port):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), 5)
    assert not [thread for thread in threading.enumerate() if thread.name == "mail-server"]


def test_it_stops_without_a_word_where_clients_have_just_gone(
    tmp_path: Path, ca: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    with MailServer(tmp_path, certificates=ca) as server:
        account, context = server.imap_account(AGENT), server.certificates.client_context()
        for _ in range(20):
            client = IMAPClient(account.host, account.port, ssl_context=context, timeout=20)
            client.login(account.login.user, account.login.password)
            client.select_folder("INBOX")
            client.idle()
            client.socket().shutdown(socket.SHUT_RDWR)
    assert not raised


def test_accounts_are_random_or_given(tmp_path: Path, ca: Certificates) -> None:
    passwords = {login.password for _ in range(2) for login in MailServer(tmp_path, certificates=ca).logins}
    assert len(passwords) == 4
    given = [Login("bot@firma.test", "s3cret"), Login("eva@kunde.test", "geheim")]
    with MailServer(tmp_path, certificates=ca, logins=given) as server:
        with submission(server, "eva@kunde.test") as client:
            client.sendmail("eva@kunde.test", ["bot@firma.test"], MAIL)
        with mailbox(server, "bot@firma.test") as client:
            assert len(inbox(client)) == 1


def test_the_private_parts_of_pymap_are_where_they_were() -> None:
    """An upgrade that moves one needs a look at ``tests/support/mail_server.py``, which replaces it."""
    folders = MailboxSet()
    assert isinstance(ParsedHeaders._registry, HeaderRegistry)
    assert isinstance(folders._inbox, MailboxData)
    assert folders._set == {}
    assert folders._subscribed == {}
    assert {"_content_cache", "_thread_cache"} <= vars(folders).keys()
    assert list(inspect.signature(MailboxData).parameters) == ["content_cache", "thread_cache"]
    assert "_content" in Message.__slots__
    assert "_raw" in MessageContent.__slots__


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_neither_use_nor_mere_construction_leaves_a_socket_open(tmp_path: Path, ca: Certificates) -> None:
    def sockets() -> set[str]:
        links = (os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd"))
        return {link for link in links if "socket:" in link}

    before = sockets()
    unused = MailServer(tmp_path, certificates=ca)
    with (
        MailServer(tmp_path, certificates=ca) as server,
        mailbox(server, AGENT),
        submission(server, AGENT) as smtp,
        socket.create_connection(("127.0.0.1", server.smtp_port), 20) as fresh,
    ):
        assert fresh.recv(3) == b"220"
        server.stop()
        smtp.close()
    unused.stop()
    assert sockets() - before == set()
