"""Reading and marking on a real Dovecot."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from imapclient import IMAPClient  # type: ignore[import-untyped]

from cleo_email.errors import MailboxUnavailable
from cleo_email.imap.mailbox import Mailbox
from cleo_email.imap.values import ACCEPTED, ANSWERED, REPLIED, SEEN, ImapTimeouts
from tests.support.dovecot import Dovecot

pytestmark = pytest.mark.servers("dovecot")


def mail(number: int, body: bytes = b"hello\r\n") -> bytes:
    return (
        b"From: a@example.org\r\nSubject: %d\r\nMessage-ID: <%d@example.org>\r\n\r\n" % (number, number)
        + body
    )


def test_a_delivered_mail_is_found_described_and_fetched(
    dovecot: Dovecot, user: str, mailbox: Mailbox
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    dovecot.deliver(user, mail(1), mail(2))

    status = mailbox.open()
    assert (status.exists, status.read_only, status.keywords_allowed) == (2, False, True)
    assert status.uidvalidity > 0
    assert mailbox.search_unseen() == [1, 2]

    infos = mailbox.describe([1, 2])
    assert before <= infos[1].internal_date <= datetime.now(UTC) + timedelta(seconds=2)
    assert infos[1].internal_date.utcoffset() == timedelta(0)
    assert SEEN not in infos[1].flags

    fetched = list(mailbox.fetch((uid, info.size) for uid, info in infos.items()))
    assert [one.uid for one in fetched] == [1, 2]
    assert [len(one.source) for one in fetched] == [infos[1].size, infos[2].size]
    assert fetched[1].source.endswith(mail(2))


def test_nothing_but_marking_makes_mail_read(dovecot: Dovecot, user: str, mailbox: Mailbox) -> None:
    dovecot.deliver(user, mail(1))
    mailbox.open()
    list(mailbox.fetch([(1, 100)]))
    mailbox.fetch_one(1)
    mailbox.fetch_headers(1)
    mailbox.describe([1])
    assert mailbox.search_unseen() == [1]
    assert SEEN not in mailbox.describe([1])[1].flags
    assert mailbox.add_flags([1], [SEEN]) == {1}
    assert mailbox.search_unseen() == []


def test_the_header_alone(dovecot: Dovecot, user: str, mailbox: Mailbox) -> None:
    dovecot.deliver(user, mail(1, b"X" * 100_000))
    header = mailbox.fetch_headers(1)
    assert b"Subject: 1\r\n" in header
    assert header.endswith(b"\r\n\r\n")
    assert b"XXX" not in header


def test_a_huge_header_is_cut(dovecot: Dovecot, user: str, mailbox: Mailbox) -> None:
    dovecot.fill(user, b"Subject: big\nX-Long: " + b"y" * 900_000 + b"\n\nbody\n")
    header = mailbox.fetch_headers(1)
    assert header.startswith(b"Subject: big\r\n")
    assert len(header) == 256 * 1024


def test_mail_that_is_gone_is_absent(
    dovecot: Dovecot, user: str, mailbox: Mailbox, person: IMAPClient
) -> None:
    dovecot.deliver(user, mail(1), mail(2), mail(3))
    mailbox.open()
    assert mailbox.search_unseen() == [1, 2, 3]
    person.noop()
    person.delete_messages([2])
    person.expunge()
    # Our session has not been told yet: Dovecot gives NIL as the content of 2.
    assert [one.uid for one in mailbox.fetch([(1, 1), (2, 1), (3, 1)])] == [1, 3]
    assert sorted(mailbox.describe([1, 2, 3])) == [1, 3]
    assert mailbox.fetch_one(2) is None
    assert mailbox.add_flags([1, 2, 3], [SEEN]) == {1, 3}
    person.delete_messages([3])
    person.expunge()
    assert mailbox.fetch_headers(3) == b""
    person.delete_messages([1])
    person.expunge()
    assert mailbox.fetch_one(1) is None


def test_a_cursor_never_gives_an_old_mail_again(dovecot: Dovecot, user: str, mailbox: Mailbox) -> None:
    dovecot.deliver(user, mail(1), mail(2), mail(3))
    mailbox.open()
    assert mailbox.search_since_uid(0) == [1, 2, 3]
    assert mailbox.search_since_uid(1) == [2, 3]
    assert mailbox.search_since_uid(3) == []  # UID 4:* gives message 3 here
    assert mailbox.search_since_uid(2**32 - 1) == []


def test_a_cursor_finds_what_a_person_has_read_first(
    dovecot: Dovecot, user: str, mailbox: Mailbox, person: IMAPClient
) -> None:
    dovecot.deliver(user, mail(1))
    person.noop()
    person.fetch([1], ["BODY[]"])
    mailbox.open()
    assert mailbox.search_unseen() == []
    assert mailbox.search_since_uid(0) == [1]


def test_search_by_date_and_dates_in_utc(mailbox: Mailbox, person: IMAPClient) -> None:
    berlin = timezone(timedelta(hours=1))
    person.append("INBOX", mail(1), msg_time=datetime(2025, 3, 9, 12, tzinfo=berlin))
    person.append("INBOX", mail(2), msg_time=datetime(2025, 3, 10, 12, 30, tzinfo=berlin))
    mailbox.open()
    assert mailbox.search_since(date(2025, 3, 10)) == [2]
    assert mailbox.search_since(date(2025, 3, 9)) == [1, 2]
    assert mailbox.describe([2])[2].internal_date == datetime(2025, 3, 10, 11, 30, tzinfo=UTC)


def test_flags_are_confirmed_and_people_see_them(
    dovecot: Dovecot, user: str, mailbox: Mailbox, person: IMAPClient
) -> None:
    dovecot.deliver(user, mail(1), mail(2))
    mailbox.open()
    assert mailbox.add_flags([1, 2], [SEEN, ACCEPTED]) == {1, 2}
    assert mailbox.add_flags([2], [ANSWERED, REPLIED]) == {2}
    person.noop()
    flags = {uid: {flag.decode() for flag in found} for uid, found in person.get_flags([1, 2]).items()}
    assert flags[1] >= {SEEN, ACCEPTED}
    assert flags[2] >= {SEEN, ACCEPTED, ANSWERED, REPLIED}


def test_flags_that_were_there_already_are_confirmed_too(
    dovecot: Dovecot, user: str, mailbox: Mailbox, person: IMAPClient
) -> None:
    # Dovecot does not answer for a message whose flags a STORE leaves as they are.
    dovecot.deliver(user, mail(1), mail(2))
    person.noop()
    person.add_flags([1], [SEEN])
    mailbox.open()
    assert mailbox.add_flags([1, 2], [SEEN]) == {1, 2}
    assert mailbox.add_flags([1, 2, 77], [SEEN]) == {1, 2}
    assert mailbox.add_flags([], [SEEN]) == set()


def test_one_login_serves_many_polls(dovecot: Dovecot, user: str, mailbox: Mailbox) -> None:
    for number in range(1, 11):
        dovecot.deliver(user, mail(number))
        mailbox.open()
        assert mailbox.search_unseen() == [number]
        assert mailbox.add_flags([number], [SEEN]) == {number}
    assert mailbox.logins == 1


def test_thousands_of_unread_mails(dovecot: Dovecot, user: str, mailbox: Mailbox) -> None:
    dovecot.fill(user, *(b"Subject: %d\n\nx\n" % number for number in range(5000)))
    assert mailbox.open().exists == 5000
    uids = mailbox.search_unseen()
    assert len(uids) == 5000
    some = random.Random(5).sample(uids, 3000)  # few consecutive: the sets are as long as they get
    assert set(mailbox.describe(some)) == set(some)
    assert mailbox.add_flags(some, [SEEN, ACCEPTED]) == set(some)
    assert mailbox.search_unseen() == sorted(set(uids) - set(some))


def test_uids_of_before_a_change_of_uidvalidity_are_not_used(
    dovecot: Dovecot, user: str, person: IMAPClient
) -> None:
    person.create_folder("Desk")
    person.append("Desk", mail(1))
    person.append("Desk", mail(2))
    with Mailbox(dovecot.account(user), ssl_context=dovecot.ssl_context(), folder="Desk") as mailbox:
        before = mailbox.open()
        assert mailbox.search_unseen() == [1, 2]
        person.delete_folder("Desk")
        person.create_folder("Desk")
        for number in (7, 8, 9):
            person.append("Desk", mail(number))
        for _ in range(3):  # at first the server may be the one that ends the connection
            with pytest.raises(MailboxUnavailable):
                mailbox.add_flags([1, 2], [SEEN])
        assert mailbox.open().uidvalidity != before.uidvalidity
        assert mailbox.search_unseen() == [1, 2, 3]  # nothing was marked meanwhile


def test_a_restarted_server_is_not_noticed_by_the_next_poll() -> None:
    with Dovecot({"ann@example.com": "secret"}) as server:
        server.deliver("ann@example.com", mail(1))
        mailbox = Mailbox(
            server.account("ann@example.com"),
            ssl_context=server.ssl_context(),
            timeouts=ImapTimeouts(connect=5, read=5),
        )
        assert mailbox.open().exists == 1
        server.stop()
        with pytest.raises(MailboxUnavailable):
            mailbox.open()
        server.start()
        assert mailbox.open().exists == 1
        assert mailbox.search_unseen() == [1]
        server.stop()
        server.start()
        assert mailbox.open().exists == 1
        assert mailbox.logins == 3
        mailbox.close()


def test_a_closed_mailbox_opens_again(dovecot: Dovecot, user: str, mailbox: Mailbox) -> None:
    dovecot.deliver(user, mail(1))
    mailbox.open()
    mailbox.close()
    mailbox.close()
    assert mailbox.search_unseen() == [1]
    assert mailbox.logins == 2


def test_the_check_says_how_it_is(mailbox: Mailbox) -> None:
    line = mailbox.check()
    assert "INBOX: 0 messages" in line
    assert "keywords are kept" in line
    assert "\n" not in line
