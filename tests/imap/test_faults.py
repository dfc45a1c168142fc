"""What a server can do wrong in the middle of a conversation."""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from cleo_email.accounts import ImapAccount, Login
from cleo_email.errors import MailboxError, MailboxUnavailable
from cleo_email.imap.mailbox import Mailbox
from cleo_email.imap.special_use import SENT
from cleo_email.imap.values import SEEN, BatchFailed, Fetched, ImapTimeouts
from tests.imap.conftest import HASTY, PATIENT
from tests.support.imap_server import (
    Answer,
    FakeImapServer,
    HangUp,
    Session,
    bye,
    first,
    hang_up,
    says,
    silence,
)

SIZES = [(1, 60), (2, 60), (3, 60)]


def half_a_literal(session: Session, tag: str, rest: str) -> None:
    session.send("* 1 FETCH (UID 1 BODY[] {100}", "Subject: secret subject")
    raise HangUp


def half_a_literal_then_silence(session: Session, tag: str, rest: str) -> None:
    session.send("* 1 FETCH (UID 1 BODY[] {100}", "Subject: secret subject")
    silence(session, tag, rest)


def one_message_then_bye(session: Session, tag: str, rest: str) -> None:
    session.send_message(1, session.server.inbox[0], rest)
    bye("[UNAVAILABLE] shutting down")(session, tag, rest)


def nonsense(session: Session, tag: str, rest: str) -> None:
    session.send("* 1 FETCH (UID 1 BODY[] (((secret subject", f"{tag} OK done")


def lost_in_the_stream(session: Session, tag: str, rest: str) -> None:
    session.send("* 1 FETCH (UID 1 BODY[] {5}", "Subject: secret subject", f"{tag} OK done")


def a_lie_about_a_size(session: Session, tag: str, rest: str) -> None:
    session.send("* 1 FETCH (UID 1 BODY[] {9999999999999999999999}", "x")
    silence(session, tag, rest)


@pytest.mark.parametrize(
    "fault",
    [
        half_a_literal,
        half_a_literal_then_silence,
        one_message_then_bye,
        nonsense,
        lost_in_the_stream,
        a_lie_about_a_size,
        hang_up,
        silence,
        says("NO [SERVERBUG] internal error"),
        says("NO [NOPERM] not yours"),
        says("BAD what?"),
    ],
)
def test_a_batch_that_fails_is_named_and_the_next_use_goes_on(
    fault: Answer, server: FakeImapServer, hasty_box: Mailbox
) -> None:
    box = hasty_box
    box.open()
    server.answers["UID FETCH"] = first(fault)
    began = time.monotonic()
    with pytest.raises(BatchFailed) as caught:
        list(box.fetch(SIZES))
    assert caught.value.uids == (1, 2, 3)
    assert caught.value.retry_helps
    assert time.monotonic() - began < 15
    assert "secret subject" not in "".join(traceback.format_exception(caught.value))
    assert [one.uid for one in box.fetch(SIZES)] == [1, 2, 3]
    assert box.search_unseen() == [1, 2, 3]


def test_one_message_that_the_server_cannot_read_stops_no_other(server: FakeImapServer, box: Mailbox) -> None:
    def poisoned(session: Session, tag: str, rest: str) -> None:
        if 2 in [uid for uid, _ in session._chosen(rest)] and "BODY" in rest:
            bye("Internal error occurred. Refer to server log")(session, tag, rest)
        session.usual(tag, rest)

    server.answers["UID FETCH"] = poisoned
    box.open()
    assert sorted(box.describe([1, 2, 3])) == [1, 2, 3]
    with pytest.raises(BatchFailed) as caught:
        list(box.fetch(SIZES))
    got: list[Fetched | None] = []
    failed: list[BatchFailed] = []
    for uid in caught.value.uids:
        try:
            got.append(box.fetch_one(uid))
        except BatchFailed as exc:
            failed.append(exc)
    assert [one.uid for one in got if one] == [1, 3]
    assert [exc.uids for exc in failed] == [(2,)]
    assert "Internal error occurred" in str(failed[0])


def test_a_message_without_content_is_reported_after_the_others(server: FakeImapServer, box: Mailbox) -> None:
    def nil(session: Session, tag: str, rest: str) -> None:
        if "BODY" not in rest:
            session.usual(tag, rest)
            return
        session.send("* 2 FETCH (UID 2 BODY[] NIL)")
        session.send_message(3, session.server.inbox[2], rest)
        session.send(f"{tag} OK done")

    server.answers["UID FETCH"] = nil
    got: list[int] = []
    with pytest.raises(BatchFailed) as caught:
        got.extend(one.uid for one in box.fetch(SIZES))  # 1 has gone, 2 has no content
    assert caught.value.uids == (2,)
    with pytest.raises(BatchFailed):
        box.fetch_one(2)


def test_messages_that_went_meanwhile_do_not_spoil_the_batch(server: FakeImapServer, box: Mailbox) -> None:
    def issued(session: Session, tag: str, rest: str) -> None:
        session.send_message(1, session.server.inbox[0], rest)
        session.send_message(3, session.server.inbox[2], rest)
        session.send(f"{tag} NO [EXPUNGEISSUED] some messages are gone")

    server.answers["UID FETCH"] = issued
    assert [one.uid for one in box.fetch(SIZES)] == [1, 3]
    assert box.logins == 1


def test_a_fault_of_the_connection_blames_no_message(server: FakeImapServer, box: Mailbox) -> None:
    box.open()
    server.answers["UID SEARCH"] = hang_up
    server.answers["AUTHENTICATE"] = says("NO [UNAVAILABLE] later")
    with pytest.raises(MailboxUnavailable):
        box.search_unseen()
    with pytest.raises(MailboxUnavailable) as caught:
        list(box.fetch(SIZES))
    assert not isinstance(caught.value, BatchFailed)


def test_a_half_open_connection_is_replaced(server: FakeImapServer, hasty_box: Mailbox) -> None:
    hasty_box.open()
    server.answers["NOOP"] = silence
    began = time.monotonic()
    assert hasty_box.open().exists == 3
    assert HASTY.liveness <= time.monotonic() - began < 10
    assert hasty_box.logins == 2


def test_the_usual_timeouts_notice_a_half_open_connection_within_90_s() -> None:
    usual = ImapTimeouts()
    assert usual.liveness + usual.connect + usual.read <= 90
    assert (usual.connect, usual.read) == (10, 60)


def test_a_good_bye_while_nobody_looked(server: FakeImapServer, box: Mailbox) -> None:
    box.open()
    server.answers["NOOP"] = first(bye("autologout after 30 minutes"))
    assert box.open().exists == 3
    assert box.logins == 2


def test_a_connection_that_was_quiet_for_long_is_tried_before_its_use(
    server: FakeImapServer, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.open()
    assert box.search_unseen() == [1, 2, 3]
    assert server.sent("NOOP") == []
    later = time.monotonic() + 31
    monkeypatch.setattr("cleo_email.imap.session.time", SimpleNamespace(monotonic=lambda: later))
    server.answers["NOOP"] = first(bye("autologout after 30 minutes"))
    assert box.add_flags([1], [SEEN]) == {1}
    assert box.logins == 2


def test_silence_ends_by_timeout_and_the_connection_with_it(
    server: FakeImapServer, hasty_box: Mailbox
) -> None:
    box = hasty_box
    box.open()
    server.answers["UID SEARCH"] = first(silence)
    with pytest.raises(MailboxUnavailable, match="no answer in time"):
        box.search_unseen()
    assert box.search_unseen() == [1, 2, 3]
    assert box.logins == 2


def test_a_server_that_drips_does_not_hold_us_for_ever(server: FakeImapServer) -> None:
    def drip(session: Session, tag: str, rest: str) -> None:
        while not session.server.stopping.wait(0.05):
            session.send("* OK still here")

    server.answers["UID SEARCH"] = drip
    patience = ImapTimeouts(connect=20, read=20, liveness=20, command=0.5)
    with Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=patience) as box:
        began = time.monotonic()
        with pytest.raises(MailboxUnavailable, match=r"not done after 0\.5 s"):
            box.search_unseen()
        assert 0.4 < time.monotonic() - began < 10


def open_sockets() -> int:
    targets = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            targets.append(os.readlink(entry))
        except FileNotFoundError:
            continue  # the one that read the folder
    return sum(target.startswith("socket:") for target in targets)


def test_no_threads_and_no_descriptors_are_left_behind(server: FakeImapServer) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("descriptors cannot be counted without /proc")
    server.answers["UID SEARCH"] = hang_up
    server.answers["SELECT"] = first(hang_up, 10)
    before = open_sockets()
    for _ in range(20):
        with (
            Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=PATIENT) as box,
            pytest.raises(MailboxUnavailable),
        ):
            box.search_unseen()
    refused = Mailbox(
        ImapAccount("localhost", server.port, Login("ann", "x")), timeouts=PATIENT
    )  # unknown CA
    for _ in range(5):
        with pytest.raises(MailboxError, match="certificate"):
            refused.open()

    for timer in [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]:
        timer.join(20)  # cancelled: it ends at once
        assert not timer.is_alive()
    deadline = time.monotonic() + 20  # the server's side of the connections is in this process too
    while open_sockets() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert open_sockets() <= before


# --- connecting -----------------------------------------------------------------------------------------


def test_a_closed_port(server: FakeImapServer) -> None:
    with FakeImapServer() as gone:
        account, context = gone.account(), gone.ssl_context()
    said = r"refused: nothing listens there, .* \(EMAIL_IMAP_HOST, EMAIL_IMAP_PORT\)$"
    with pytest.raises(MailboxUnavailable, match=said):
        Mailbox(account, ssl_context=context, timeouts=PATIENT).open()


def test_a_host_that_does_not_exist() -> None:
    account = ImapAccount("imap.invalid", 993, Login("ann", "secret"))
    with pytest.raises(MailboxUnavailable, match=r"imap\.invalid"):
        Mailbox(account, timeouts=PATIENT).open()


def test_an_unknown_name_is_said_in_words_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(MailboxUnavailable) as caught:
        Mailbox(ImapAccount("imap.exmaple.com", 993, Login("ann", "secret")), timeouts=PATIENT).open()
    assert str(caught.value) == (
        "imap.exmaple.com:993: no server of this name is known: look for a typo"
        " (EMAIL_IMAP_HOST, EMAIL_IMAP_PORT)"
    )


@pytest.mark.parametrize(
    "greeting", ["* BYE [UNAVAILABLE] too many connections", "* NO go away", "SSH-2.0-x", ""]
)
def test_a_greeting_that_is_none(greeting: str, server: FakeImapServer, box: Mailbox) -> None:
    server.greeting = greeting
    with pytest.raises(MailboxUnavailable):
        box.open()
    assert server.commands == []
    server.greeting = "* OK ready"
    assert box.open().exists == 3


def test_a_greeting_that_never_comes(server: FakeImapServer) -> None:
    server.greeting = None
    patience = ImapTimeouts(connect=0.3, read=0.3)
    with pytest.raises(MailboxUnavailable, match=r"no answer in time \(EMAIL_IMAP_HOST, EMAIL_IMAP_PORT\)"):
        Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=patience).open()


def test_a_port_that_does_not_speak_tls() -> None:
    with FakeImapServer(tls="starttls") as server, pytest.raises(MailboxUnavailable, match="EMAIL_IMAP_PORT"):
        Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=PATIENT).open()


# --- mailboxes of other kinds ---------------------------------------------------------------------------


def test_a_read_only_mailbox_says_so_instead_of_marking(server: FakeImapServer, box: Mailbox) -> None:
    server.read_only = True
    assert box.open().read_only is True
    assert [one.uid for one in box.fetch(SIZES)] == [1, 2, 3]
    with pytest.raises(MailboxError, match="read-only") as caught:
        box.add_flags([1], [SEEN])
    assert not caught.value.retry_helps
    assert server.sent("UID STORE") == []
    assert "READ-ONLY" in box.check()
    assert box.logins == 1


def test_a_mailbox_that_does_not_keep_seen_is_as_good_as_read_only(
    server: FakeImapServer, box: Mailbox
) -> None:
    server.permanent_flags = ""
    assert box.open().read_only is True


@pytest.mark.parametrize("permanent", ["\\Seen \\Answered", None])
def test_keywords_are_left_out_where_they_are_not_kept(
    permanent: str | None, server: FakeImapServer, box: Mailbox
) -> None:
    server.permanent_flags = permanent
    status = box.open()
    assert (status.read_only, status.keywords_allowed) == (False, False)
    assert box.add_flags([1, 2], [SEEN, "$CleoAccepted"]) == {1, 2}
    assert box.add_flags([1], ["$CleoReplied"]) == set()
    assert server.sent("UID STORE") == ["UID STORE 1:2 +FLAGS (\\Seen)"]


def test_our_keywords_are_kept_where_they_are_listed(server: FakeImapServer, box: Mailbox) -> None:
    server.permanent_flags = "\\Seen $cleoaccepted $cleoreplied $cleoheld $cleofailed"
    assert box.open().keywords_allowed is True


def test_keywords_that_the_server_refuses_after_all_do_not_prevent_seen(
    server: FakeImapServer, box: Mailbox
) -> None:
    def no_keywords(session: Session, tag: str, rest: str) -> None:
        if "$" in rest:
            session.send(f"{tag} NO [LIMIT] too many keywords")
        else:
            session.usual(tag, rest)

    server.answers["UID STORE"] = no_keywords
    assert box.add_flags([1], [SEEN, "$CleoAccepted"]) == {1}
    assert box.add_flags([1], ["$CleoAccepted"]) == set(), "keywords are for people, and stop no poll"
    assert box.logins == 1


def test_an_answer_about_another_message_confirms_nothing(server: FakeImapServer, box: Mailbox) -> None:
    # An unasked-for FETCH speaks of a sequence number; IMAPClient would take it for a UID.
    def other(session: Session, tag: str, rest: str) -> None:
        session.send("* 2 FETCH (FLAGS (\\Seen))", "* 1 FETCH (UID 9 FLAGS (\\Seen))", f"{tag} OK done")

    server.answers["UID STORE"] = other
    assert box.add_flags([2], [SEEN]) == set()


def test_many_uids_go_in_few_commands(server: FakeImapServer, box: Mailbox) -> None:
    server.folders["INBOX"] = []
    box.open()
    box.add_flags(range(10, 3010), [SEEN])
    sets = [f"{start}:{start + 499}" for start in range(10, 3010, 500)]
    assert [line.split()[2] for line in server.sent("UID STORE")] == sets
    server.commands.clear()
    box.add_flags(range(4_000_000_000, 4_000_004_000, 2), [SEEN])
    lines = server.sent("UID STORE")
    assert max(map(len, lines)) < 8000
    assert len(lines) <= 4


def test_a_mailbox_without_uidvalidity(server: FakeImapServer, box: Mailbox) -> None:
    server.uidvalidity = 0
    server.answers["STATUS"] = lambda session, tag, rest: session.send(
        '* STATUS "INBOX" ()', f"{tag} OK done"
    )
    with pytest.raises(MailboxError, match="UIDVALIDITY"):
        box.open()


@pytest.mark.parametrize(
    ("told", "selects", "exists"),
    [
        ("UIDVALIDITY 7 MESSAGES 5", 1, 5),
        ("MESSAGES 5 UIDVALIDITY 7 X-OWN 9", 1, 5),
        ("uidvalidity 7 messages 5", 1, 5),
        ("UIDVALIDITY 8 MESSAGES 5", 2, 3),
        ("UIDVALIDITY 7", 2, 3),
        ("MESSAGES 5", 2, 3),
        ("", 2, 3),
        (f"UIDVALIDITY 7 MESSAGES {'9' * 5000}", 2, 3),
    ],
)
def test_one_status_tells_whether_a_mailbox_is_still_selected(
    server: FakeImapServer, box: Mailbox, told: str, selects: int, exists: int
) -> None:
    """A number in the mailbox's name is none of its status."""
    server.answers["STATUS"] = lambda session, tag, rest: session.send(
        f'* STATUS "INBOX (UIDVALIDITY 9 MESSAGES 9)" ({told})', f"{tag} OK done"
    )
    assert box.open().exists == 3
    assert box.open().exists == exists
    assert len(server.sent("STATUS")) == 1
    assert len(server.sent("SELECT")) == selects


def test_the_end_of_a_literal_does_not_wait_for_an_acknowledgement(
    server: FakeImapServer, box: Mailbox
) -> None:
    """Else each copy for Sent and each search in it takes 40 ms longer."""
    box.open()
    assert box._kept is not None
    sock = box._kept._client.socket()
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.parametrize("answer", ["NO not of a selected mailbox", "BAD no such command"])
def test_a_server_that_refuses_status_is_asked_once(
    server: FakeImapServer, box: Mailbox, answer: str
) -> None:
    server.answers["STATUS"] = says(answer)
    for _ in range(4):
        assert box.open().exists == 3
    assert len(server.sent("STATUS")) == 1
    assert len(server.sent("SELECT")) == 4


def test_uidvalidity_that_changes_with_a_reconnect_voids_all_uids(
    server: FakeImapServer, box: Mailbox
) -> None:
    assert box.open().uidvalidity == 7
    server.answers["UID SEARCH"] = first(hang_up)
    with pytest.raises(MailboxUnavailable):
        box.search_unseen()
    server.uidvalidity = 8
    for _ in range(2):
        with pytest.raises(MailboxUnavailable, match="UIDVALIDITY"):
            box.add_flags([1], [SEEN])
    assert server.sent("UID STORE") == []
    assert box.open().uidvalidity == 8
    assert box.add_flags([1], [SEEN]) == {1}


@pytest.mark.parametrize(
    ("answer", "permanent"),
    [
        ("NO [NONEXISTENT] no such mailbox", True),
        ("NO [NOPERM] not yours", True),
        ("NO [INUSE] locked", False),
        ("NO SELECT Unsafe Login. Please contact us", False),
    ],
)
def test_a_mailbox_that_cannot_be_selected(
    answer: str, permanent: bool, server: FakeImapServer, box: Mailbox
) -> None:
    server.answers["SELECT"] = says(answer)
    for _ in range(2):
        with pytest.raises(MailboxError) as caught:
            box.open()
        assert caught.value.retry_helps is not permanent
        assert answer[3:] in str(caught.value)
    assert box.logins == 1


# --- long and odd answers -------------------------------------------------------------------------------


def test_more_unread_mail_than_fits_into_a_line(server: FakeImapServer, box: Mailbox) -> None:
    total = 120_000  # at ten digits each 1.3 MB, and imaplib refuses lines above 1 MB
    origin = 4_000_000_000

    def select(session: Session, tag: str, rest: str) -> None:
        session.send(f"* {total} EXISTS", "* OK [UIDVALIDITY 7] x", "* OK [UIDNEXT 4294967295] x")
        session.send(f"{tag} OK [READ-WRITE] done")

    def search(session: Session, tag: str, rest: str) -> None:
        low, _, high = rest.split()[2].partition(":")
        numbers = range(int(low), (total if high == "*" else int(high)) + 1)
        session.send("* SEARCH " + " ".join(str(origin + number) for number in numbers), f"{tag} OK done")

    server.answers.update({"SELECT": select, "UID SEARCH": search})
    patience = ImapTimeouts(connect=5, read=20)
    with Mailbox(server.account(), ssl_context=server.ssl_context(), timeouts=patience) as box:
        assert box.search_unseen() == list(range(origin + 1, origin + total + 1))


def test_an_answer_that_is_too_long_after_all(
    server: FakeImapServer, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imaplib._MAXLINE", 10_000)
    endless = "* SEARCH" + " 4000000000" * 1000
    server.answers["UID SEARCH"] = first(lambda session, tag, rest: session.send(endless, f"{tag} OK done"))
    with pytest.raises(MailboxUnavailable):
        box.search_unseen()
    assert box.search_unseen() == [1, 2, 3]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["* SEARCH 1 2", "* SEARCH 3"], [1, 2, 3]),
        (["* SEARCH 3 1 (MODSEQ 917162500)"], [1, 3]),
        (["* SEARCH"], []),
        (["* SEARCH "], []),
        ([], []),
    ],
)
def test_search_answers_of_every_kind(
    lines: list[str], expected: list[int], server: FakeImapServer, box: Mailbox
) -> None:
    server.answers["UID SEARCH"] = lambda session, tag, rest: session.send(*lines, f"{tag} OK done")
    assert box.search_unseen() == expected


@pytest.mark.parametrize(
    "date", ['"00-Jan-0000 00:00:00 +0000"', '"31-Dec-9999 23:00:00 -1400"', "NIL", '"x"']
)
def test_a_date_that_makes_no_sense_counts_as_now(date: str, server: FakeImapServer, box: Mailbox) -> None:
    server.inbox[0].date = date
    info = box.describe([1, 2])
    assert abs((datetime.now(UTC) - info[1].internal_date).total_seconds()) < 60
    assert info[2].internal_date == datetime(2026, 11, 24, 9, tzinfo=UTC)


def test_flags_of_every_kind(server: FakeImapServer, box: Mailbox) -> None:
    server.inbox[0].flags = {"\\Seen", "NIL", "123", "$Forwarded"}
    assert box.describe([1])[1].flags == {"\\Seen", "NIL", "123", "$Forwarded"}


# --- sent mail ------------------------------------------------------------------------------------------


def test_special_use_is_asked_for_where_it_is_told_only_on_request(
    server: FakeImapServer, box: Mailbox
) -> None:
    def on_request(session: Session, tag: str, rest: str) -> None:
        mark = "\\Sent" if "RETURN (SPECIAL-USE)" in rest else "\\HasNoChildren"
        session.send(f'* LIST ({mark}) "/" "Correspondence"', '* LIST () "/" "Sent"', f"{tag} OK done")

    server.capabilities += " SPECIAL-USE"
    server.answers["LIST"] = on_request
    server.folders["Correspondence"] = []
    assert box.look_up(SENT)[0] == "Correspondence"


def test_a_server_that_promises_special_use_and_does_not_know_it(
    server: FakeImapServer, box: Mailbox
) -> None:
    server.capabilities += " SPECIAL-USE"
    server.answers["LIST"] = first(says("BAD what?"))
    assert box.look_up(SENT)[0] == "Sent"
    assert box.logins == 1


def test_no_folder_for_sent_mail_can_be_had(server: FakeImapServer, box: Mailbox) -> None:
    del server.folders["Sent"]
    server.answers["CREATE"] = says("NO [NOPERM] you may not")
    with pytest.raises(MailboxError, match="no folder for sent mail"):
        box.append_sent(b"Subject: x\r\n\r\n", datetime.now(UTC))
    assert box.find_in_sent("<1@x>") is False


def test_a_full_mailbox_refuses_the_copy_for_good(server: FakeImapServer, box: Mailbox) -> None:
    server.answers["APPEND"] = says("NO [OVERQUOTA] mailbox is full")
    with pytest.raises(MailboxError, match="OVERQUOTA") as caught:
        box.append_sent(b"Subject: x\r\n\r\n", datetime.now(UTC))
    assert not caught.value.retry_helps
    assert len(server.sent("APPEND")) == 1


def test_a_search_of_sent_mail_that_fails_is_not_a_no(server: FakeImapServer, box: Mailbox) -> None:
    box.append_sent(b"Message-ID: <1@x>\r\n\r\n", datetime.now(UTC))
    assert box.find_in_sent("<1@x>") is True
    for fault in (hang_up, says("NO [UNAVAILABLE] index is broken"), bye("later")):
        server.answers["UID SEARCH"] = first(fault)
        with pytest.raises(MailboxUnavailable):
            box.find_in_sent("<1@x>")
    assert box.find_in_sent("<1@x>") is True
