"""Sent and Drafts as people and the agent share them, on a real Dovecot."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from imapclient import IMAPClient  # type: ignore[import-untyped]
from imapclient.imap_utf7 import encode  # type: ignore[import-untyped]

from cleo_email.imap import folders as folders_module
from cleo_email.imap.folders import Folders
from cleo_email.imap.session import RefusedForGood, RefusedForNow
from cleo_email.imap.special_use import DRAFTS, usual_names
from tests.support.dovecot import Dovecot
from tests.support.imap_server import FakeImapServer, says

pytestmark = pytest.mark.servers("dovecot")

WHEN = datetime(2026, 3, 1, 11, 30, tzinfo=UTC)


def mail(message_id: str, *, answers: str = "<in@x>", text: str = "hello") -> bytes:
    head = f"From: a@example.org\r\nMessage-ID: {message_id}\r\nIn-Reply-To: {answers}\r\nSubject: Re: x\r\n"
    return f"{head}\r\n{text}\r\n".encode()


@pytest.fixture(params=["one connection", "one for the inbox"])
def folders(
    dovecot: Dovecot, user: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Folders]:
    """Where Sent is large the inbox gets a connection of its own."""
    monkeypatch.setattr(folders_module, "SLOW_S", -1 if request.param == "one for the inbox" else 1000)
    with Folders(dovecot.account(user), ssl_context=dovecot.ssl_context()) as found:
        yield found


def uid_of(place: str) -> int:
    return int(place.partition("/")[2])


# --- Sent -------------------------------------------------------------------------------------------------


def test_where_there_is_no_sent_folder_there_is_no_position(server: FakeImapServer) -> None:
    server.sent_mark = ""
    server.folders.pop("Sent")
    with Folders(server.account(), ssl_context=server.ssl_context()) as folders:
        assert folders.sent_position() is None
        assert folders.sent_after(1, 0) is None
        asked = sum("LIST" in line for line in server.commands)
        assert folders.sent_after(1, 0) is None
        assert sum("LIST" in line for line in server.commands) == asked  # not before a minute has passed


def test_sent_mail_is_seen_the_moment_it_stands_there(folders: Folders, person: IMAPClient) -> None:
    person.create_folder("Sent")
    place = folders.sent_position()
    assert place is not None
    validity, before = place
    assert before == 0
    for number in range(1, 30):
        person.append("Sent", mail(f"<{number}@x>"))
        found = folders.sent_after(validity, number - 1)
        assert found is not None
        assert [one.uid for one in found] == [number]
        assert f"<{number}@x>".encode() in found[0].header
        assert folders.sent_source(number) == mail(f"<{number}@x>")
    assert folders.sent_after(validity, 29) == []
    assert folders.sent_position() == (validity, 29)
    assert folders.sent_source(77) == b""


def test_many_sent_mails_come_in_their_order(folders: Folders, person: IMAPClient) -> None:
    person.create_folder("Sent")
    for number in range(1, 40):
        person.append("Sent", mail(f"<{number}@x>"))
    place = folders.sent_position()
    assert place is not None
    found = folders.sent_after(place[0], 30)
    assert found is not None
    assert [one.uid for one in found] == list(range(31, 40))
    assert all(one.size == len(mail(f"<{one.uid}@x>")) for one in found)


def test_a_folder_made_anew_has_another_uidvalidity(folders: Folders, person: IMAPClient) -> None:
    person.create_folder("Sent")
    place = folders.sent_position()
    assert place is not None
    assert folders.sent_after(place[0] + 1, 0) is None


# --- the inbox --------------------------------------------------------------------------------------------


def test_what_somebody_answered_is_told_by_its_flag(
    dovecot: Dovecot, user: str, folders: Folders, person: IMAPClient
) -> None:
    dovecot.deliver(user, mail("<1@x>"), mail("<2@x>"), mail("<3@x>"))
    validity = person.select_folder("INBOX")[b"UIDVALIDITY"]
    places = {f"{validity}/{uid}" for uid in (1, 2, 3)}
    assert folders.answered(places) == frozenset()
    person.add_flags([2], ["\\Answered"])
    assert folders.answered(places) == {f"{validity}/2"}
    assert folders.answered({f"{validity + 1}/2"}) == frozenset()
    assert folders.answered(set()) == frozenset()
    person.select_folder("INBOX")
    assert b"\\Seen" not in person.fetch([1], ["FLAGS"])[1][b"FLAGS"]


def test_flags_and_sent_mail_are_seen_the_moment_they_are_there_by_turns(
    dovecot: Dovecot, user: str, folders: Folders, person: IMAPClient
) -> None:
    dovecot.deliver(user, mail("<1@x>"))
    place = f"{person.select_folder('INBOX')[b'UIDVALIDITY']}/1"
    person.create_folder("Sent")
    validity, _ = folders.sent_position() or (0, 0)
    for number in range(1, 16):
        person.append("Sent", mail(f"<{number}@x>"))
        assert [one.uid for one in folders.sent_after(validity, number - 1) or ()] == [number]
        assert folders.answered([place]) == frozenset()
        person.add_flags([1], ["\\Answered"])
        assert folders.answered([place]) == {place}
        person.remove_flags([1], ["\\Answered"])
    assert (folders._beside is not None) == (folders_module.SLOW_S < 0)


def test_where_sent_is_slow_to_select_the_inbox_is_looked_at_beside_it(
    server: FakeImapServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders_module, "SLOW_S", -1)
    with Folders(server.account(), ssl_context=server.ssl_context()) as folders:
        for looks in range(6):
            assert folders.sent_after(7, 0) == []
            server.inbox[1].flags = {"\\Answered"} if looks % 2 else set()
            assert folders.answered({"7/2"}) == ({"7/2"} if looks % 2 else set())
        assert len(server.sent("AUTHENTICATE")) == 2
        assert len(server.sent("EXAMINE")) == 4, "Sent and the inbox, then both once more, each kept since"


@pytest.mark.parametrize("answer", ["NO [LIMIT] too many connections", "NO LOGIN failed."])
def test_a_server_that_allows_no_second_connection_is_asked_for_it_once(
    server: FakeImapServer, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(folders_module, "SLOW_S", -1)
    with Folders(server.account(), ssl_context=server.ssl_context()) as folders:
        folders.connect()
        server.answers["AUTHENTICATE"] = says(answer)
        for looks in range(6):
            assert folders.sent_after(7, 0) == []
            server.inbox[1].flags = {"\\Answered"} if looks % 2 else set()
            assert folders.answered({"7/2"}) == ({"7/2"} if looks % 2 else set())
        assert len(server.sent("AUTHENTICATE")) == 2


# --- Drafts -----------------------------------------------------------------------------------------------


def test_a_draft_lies_in_drafts_until_it_is_removed(folders: Folders, person: IMAPClient) -> None:
    place = folders.put_draft(mail("<d@x>"), WHEN)
    person.select_folder("Drafts")
    found = person.fetch([uid_of(place)], ["FLAGS", "BODY.PEEK[]"])[uid_of(place)]
    assert {b"\\Draft", b"\\Seen"} <= set(found[b"FLAGS"])
    assert found[b"BODY[]"] == mail("<d@x>")
    assert folders.drafts_there([place]) == {place}
    assert folders.draft_source(place) == mail("<d@x>")
    assert folders.remove_draft(place) is True
    assert folders.drafts_there([place]) == frozenset()
    assert folders.draft_source(place) == b""
    assert folders.remove_draft(place) is False


def test_a_folder_for_drafts_that_was_missing_is_seen_at_once(folders: Folders, person: IMAPClient) -> None:
    """Whoever made it: a draft in it must not look like one that somebody deleted."""
    assert folders.find_draft("<d@x>", "") == ""
    place = folders.put_draft(mail("<d@x>"), WHEN)
    assert folders.drafts_there([place]) == {place}
    folders.remove_draft(place)
    person.delete_folder("Drafts")
    folders._folders.clear()
    with pytest.raises(RefusedForNow, match="no folder for drafts any more"):
        folders.drafts_there([place])
    person.create_folder("Drafts")
    person.append("Drafts", mail("<d@x>"), flags=["\\Draft"])
    assert folders.find_draft("<d@x>", "")


def test_a_draft_that_is_only_marked_as_deleted_is_gone(folders: Folders, person: IMAPClient) -> None:
    place = folders.put_draft(mail("<d@x>"), WHEN)
    person.select_folder("Drafts")
    person.add_flags([uid_of(place)], ["\\Deleted"])
    assert folders.drafts_there([place]) == frozenset()
    assert folders.find_draft("<d@x>", "<in@x>") == ""
    assert folders.remove_draft(place) is False


@pytest.mark.parametrize("new_id", ["<d@x>", "<of-the-client@x>"])
def test_a_draft_that_was_saved_anew_is_found(new_id: str, folders: Folders, person: IMAPClient) -> None:
    place = folders.put_draft(mail("<d@x>"), WHEN)
    person.select_folder("Drafts")
    person.append("Drafts", mail(new_id, text="better"), flags=["\\Draft"])
    person.delete_messages([uid_of(place)])
    person.expunge()
    assert folders.drafts_there([place]) == frozenset()
    found = folders.find_draft("<d@x>", "<in@x>")
    assert b"better" in folders.draft_source(found)
    assert folders.find_draft("<other@x>", "<else@x>") == ""


@pytest.mark.parametrize("uidplus", [True, False])
def test_only_our_draft_is_expunged(dovecot: Dovecot, user: str, person: IMAPClient, uidplus: bool) -> None:
    with Folders(dovecot.account(user), ssl_context=dovecot.ssl_context()) as folders:
        theirs = folders.put_draft(mail("<theirs@x>"), WHEN)
        place = folders.put_draft(mail("<d@x>"), WHEN)
        person.select_folder("Drafts")
        person.add_flags([uid_of(theirs)], ["\\Deleted"])
        connection = folders._connection()
        if not uidplus:
            connection._capabilities -= {"UIDPLUS"}
        assert folders.remove_draft(place) is True
        person.select_folder("Drafts")
        assert person.search() == [uid_of(theirs)]
        assert b"\\Deleted" in person.fetch([uid_of(theirs)], ["FLAGS"])[uid_of(theirs)][b"FLAGS"]


def test_a_server_that_tells_no_uid_is_asked_for_it(server: FakeImapServer) -> None:
    server.sent_mark = ""
    server.folders["Drafts"] = []
    with Folders(server.account(), ssl_context=server.ssl_context()) as folders:
        place = folders.put_draft(mail("<d@x>"), WHEN)
        assert folders.drafts_there([place]) == {place}


@pytest.mark.parametrize("name", ["Entwürfe", "Brouillons", "INBOX.Drafts", "草稿箱", "Черновики"])
def test_drafts_of_every_language_are_found(name: str, server: FakeImapServer) -> None:
    server.folders[encode(name).decode("ascii")] = []
    server.delimiter = "." if "." in name else "/"
    with Folders(server.account(), ssl_context=server.ssl_context()) as folders:
        folders.put_draft(mail("<d@x>"), WHEN)
    assert server.folders[encode(name).decode("ascii")]


def test_a_folder_in_which_nothing_can_be_removed_gets_no_draft(server: FakeImapServer) -> None:
    server.folders["Drafts"] = []
    usual = "* FLAGS (\\Seen)", "* 0 EXISTS", "* OK [UIDVALIDITY 1] ok"
    server.answers["SELECT"] = lambda session, tag, _: session.send(*usual, f"{tag} OK [READ-ONLY] done")
    with (
        Folders(server.account(), ssl_context=server.ssl_context()) as folders,
        pytest.raises(RefusedForGood, match="read-only"),
    ):
        folders.put_draft(mail("<d@x>"), WHEN)
    assert server.folders["Drafts"] == []


def test_names_of_drafts_are_none_of_sent_mail() -> None:
    assert not usual_names(DRAFTS).keys() & usual_names().keys()
