"""The folder of sent mail, on a real Dovecot."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
from imapclient import IMAPClient  # type: ignore[import-untyped]

from cleo_email.imap.mailbox import Mailbox
from cleo_email.imap.special_use import SENT
from cleo_email.imap.values import SEEN
from tests.support.dovecot import Dovecot, missing

pytestmark = pytest.mark.servers("dovecot")

WHEN = datetime(2026, 3, 1, 11, 30, tzinfo=UTC)


def copy(message_id: str) -> bytes:
    return f"From: a@example.org\r\nMessage-ID: {message_id}\r\nSubject: Re: x\r\n\r\nhello\r\n".encode()


def test_a_copy_is_filed_as_read_with_its_date(mailbox: Mailbox, person: IMAPClient) -> None:
    assert mailbox.look_up(SENT) == ("", False)
    mailbox.append_sent(copy("<1@x>"), WHEN)
    assert mailbox.look_up(SENT)[0] == "Sent"
    person.select_folder("Sent", readonly=True)
    found = person.fetch([1], ["FLAGS", "INTERNALDATE", "BODY.PEEK[]"])[1]
    assert SEEN.encode() in found[b"FLAGS"]
    assert found[b"INTERNALDATE"] == WHEN
    assert found[b"BODY[]"] == copy("<1@x>")
    assert "Sent" in [name for _, _, name in person.list_sub_folders()]


def test_a_copy_is_found_by_its_whole_message_id(mailbox: Mailbox) -> None:
    assert mailbox.find_in_sent("<1@x>") is False
    mailbox.append_sent(copy("<abc.1@x>"), WHEN)
    assert mailbox.find_in_sent("<abc.1@x>") is True
    assert mailbox.find_in_sent("<1@x>") is False
    assert mailbox.find_in_sent("abc.1@x") is False
    assert mailbox.find_in_sent("bc.1@") is False  # SEARCH HEADER alone says yes here
    assert mailbox.find_in_sent("<abc.2@x>") is False
    assert mailbox.find_in_sent("<abc.1@x>", since=date(2026, 3, 1)) is True
    assert mailbox.find_in_sent("<abc.1@x>", since=date(2026, 3, 2)) is False


@pytest.mark.parametrize(
    "message_id",
    [
        '<"quoted \\" part"@x>',
        "<back\\slash@x>",
        "<(paren){5}*%]@x>",
        "<two words@x>",
        "<grüße@exämple.org>",
        "<" + "long" * 60 + "@example.org>",
    ],
)
def test_message_ids_of_every_kind_are_found(message_id: str, mailbox: Mailbox) -> None:
    mailbox.append_sent(copy("<other@x>"), WHEN)
    assert mailbox.find_in_sent(message_id) is False
    mailbox.append_sent(copy(message_id), WHEN)
    assert mailbox.find_in_sent(message_id) is True


def test_a_folded_message_id_is_found(mailbox: Mailbox) -> None:
    mailbox.append_sent(b"Message-ID:\r\n <folded@x>\r\nSubject: x\r\n\r\nx\r\n", WHEN)
    assert mailbox.find_in_sent("<folded@x>") is True


def test_looking_into_sent_mail_leaves_the_inbox_as_it_was(
    dovecot: Dovecot, user: str, mailbox: Mailbox
) -> None:
    dovecot.deliver(user, copy("<in@x>"), copy("<in2@x>"))
    mailbox.open()
    mailbox.append_sent(copy("<out@x>"), WHEN)
    fetched = mailbox.fetch([(1, 10_000_000), (2, 10_000_000)])  # two batches
    assert next(fetched).source.endswith(copy("<in@x>"))
    assert mailbox.find_in_sent("<out@x>") is True
    assert mailbox.find_in_sent("<in@x>") is False
    assert next(fetched).source.endswith(copy("<in2@x>"))
    assert mailbox.find_in_sent("<out@x>") is True
    assert mailbox.search_unseen() == [1, 2]
    assert mailbox.add_flags([1], [SEEN]) == {1}
    assert mailbox.logins == 1


def test_what_sent_mail_answers(mailbox: Mailbox) -> None:
    assert mailbox.answered_ids(date(2026, 3, 1)) == frozenset()
    replies = (b"<a@x>", b"\r\n <b@x> (from Ann)\r\n\t<c@x>", b"no id at all")
    for number, reply in enumerate(replies):
        mailbox.append_sent(b"Message-ID: <%d@y>\r\nIn-Reply-To: %b\r\n\r\nx\r\n" % (number, reply), WHEN)
    mailbox.append_sent(copy("<new@y>"), WHEN)
    assert mailbox.answered_ids(date(2026, 3, 1)) == {"<a@x>", "<b@x>", "<c@x>"}
    assert mailbox.answered_ids(date(2026, 3, 2)) == frozenset()


def test_a_sent_folder_that_was_deleted_meanwhile_comes_back(mailbox: Mailbox, person: IMAPClient) -> None:
    mailbox.append_sent(copy("<1@x>"), WHEN)
    person.delete_folder("Sent")
    mailbox.append_sent(copy("<2@x>"), WHEN)
    assert mailbox.find_in_sent("<2@x>") is True
    assert mailbox.find_in_sent("<1@x>") is False


# --- other servers' habits ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def below_inbox() -> Iterator[Dovecot]:
    """Everything lies below INBOX, and no folder is marked."""
    if reason := missing():
        pytest.skip(reason)
    users = {f"{name}@example.com": "secret" for name in ("a", "b", "c", "d", "e")}
    with Dovecot(users, inbox="prefix = INBOX.\n  separator = .") as server:
        yield server


@pytest.fixture
def unmarked() -> Iterator[Dovecot]:
    if reason := missing():
        pytest.skip(reason)
    with Dovecot({"a@example.com": "secret"}, inbox="separator = /") as server:
        yield server


def client_of(server: Dovecot, user: str) -> IMAPClient:
    client = IMAPClient("localhost", port=server.imaps_port, ssl_context=server.ssl_context(), timeout=20)
    client.login(user, "secret")
    return client


def test_the_folder_is_created_in_our_own_namespace(below_inbox: Dovecot) -> None:
    with Mailbox(below_inbox.account("a@example.com"), ssl_context=below_inbox.ssl_context()) as mailbox:
        assert mailbox.look_up(SENT) == ("", False)
        mailbox.append_sent(copy("<1@x>"), WHEN)
        assert mailbox.look_up(SENT)[0] == "INBOX.Sent"
        assert mailbox.find_in_sent("<1@x>") is True


def test_a_server_without_namespace_that_keeps_all_below_inbox(
    below_inbox: Dovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cleo_email.imap.session.ImapConnection.namespace", lambda self: None)
    with Mailbox(below_inbox.account("b@example.com"), ssl_context=below_inbox.ssl_context()) as mailbox:
        mailbox.append_sent(copy("<1@x>"), WHEN)
        assert mailbox.look_up(SENT)[0] == "INBOX.Sent"


@pytest.mark.parametrize(
    ("user", "name"), [("c@example.com", "Gesendete Objekte"), ("d@example.com", "SENT")]
)
def test_usual_names_are_known_below_inbox(user: str, name: str, below_inbox: Dovecot) -> None:
    with client_of(below_inbox, user) as person:
        person.create_folder(f"INBOX.{name}")
        person.create_folder("INBOX.Entwürfe")
        person.create_folder("INBOX.Projekte.Sent items")
    with Mailbox(below_inbox.account(user), ssl_context=below_inbox.ssl_context()) as mailbox:
        assert mailbox.look_up(SENT)[0] == f"INBOX.{name}"


def test_the_most_usual_name_wins_and_other_peoples_folders_do_not_count(unmarked: Dovecot) -> None:
    user = "a@example.com"
    with client_of(unmarked, user) as person:
        for name in ("Archiv/Sent", "Gesendet", "Éléments envoyés", "Sent Items"):
            person.create_folder(name)
    with Mailbox(unmarked.account(user), ssl_context=unmarked.ssl_context()) as mailbox:
        assert mailbox.look_up(SENT)[0] == "Sent Items"
    with client_of(unmarked, user) as person:
        person.delete_folder("Sent Items")
        person.delete_folder("Gesendet")
    with Mailbox(unmarked.account(user), ssl_context=unmarked.ssl_context()) as mailbox:
        assert mailbox.look_up(SENT)[0] == "Éléments envoyés"
        mailbox.append_sent(copy("<1@x>"), WHEN)
        assert mailbox.find_in_sent("<1@x>") is True
