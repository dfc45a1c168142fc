"""Whose mail is touched how: what people had read stays theirs, and what nobody is answered stays unread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from cleo_email.errors import MailboxUnavailable
from cleo_email.imap.mailbox import Mailbox
from cleo_email.pipeline.decide import Decisions
from cleo_email.pipeline.poll import READ_BEFORE, Poller
from cleo_email.pipeline.receive import Receiver
from cleo_email.pipeline.upkeep import UNANSWERED, Upkeep
from cleo_email.runtime import DAY, HOUR, MINUTE
from cleo_email.screening.screen import Policy
from cleo_email.store import Effects, Record, State, Store
from cleo_email.store.mailbox import UidState
from cleo_email.store.queue import WakeQueue
from tests.support.bench import FakeClock, signer_on
from tests.support.dovecot import Dovecot
from tests.support.imap_server import Answer, FakeImapServer, HangUp, Message, Session, first, says
from tests.support.mail_server import FaithfulMailServer
from tests.support.mails import AGENT, mail

POLICY = Policy(frozenset({"agent@cleo.test"}))


class Desk:
    """A poller on a clock of the test's, and what people do beside it."""

    def __init__(self, mailbox: Mailbox, redis: Redis, *, mark_unanswered: bool = False) -> None:
        self.clock = FakeClock()
        self.redis, self.mailbox = redis, mailbox
        self.store = Store(redis, account="test")
        wake, clock = WakeQueue(redis), self.clock
        receiver = Receiver(
            self.store, wake, POLICY, signer_on(redis), max_age_days=7, retention_days=90, clock=clock
        )
        upkeep = Upkeep(
            *(self.store, mailbox, receiver),
            save_sent=False,
            max_bytes=10**6,
            mark_unanswered=mark_unanswered,
            clock=clock,
        )
        self.polling = Poller(
            *(self.store, mailbox, receiver, upkeep), max_bytes=10**6, max_age_days=7, clock=clock
        )
        self.deciding = Decisions(self.store, wake, POLICY, clock=clock)

    def poll(self, minutes: int = 20) -> None:
        self.clock.now += minutes * MINUTE
        self.redis.delete("cleo:rest:poll")
        self.polling.run()

    def message(self, number: int, days: float = 0, *flags: str, extra: str = "") -> Message:
        when = datetime.fromtimestamp((self.clock() - days * DAY) / 1000, UTC)
        return Message(
            mail(number, extra=extra), set(flags), when.strftime('"%d-%b-%Y %H:%M:%S +0000"'), number
        )

    def states(self) -> dict[str, State]:
        return {record.message_id: record.state for record in self.store.messages.page(limit=100)[0]}

    def end(self, to: State) -> Record:
        """The agent's part with the one mail that waits for it."""
        [record] = self.store.messages.page(state=State.RECEIVED)[0]
        effects = Effects(pop=True, filing=self.clock())
        if to is State.REPLIED:
            for state in (State.ANSWERING, State.SUBMITTING):
                self.store.messages.move(record.id, state, now=self.clock())
        self.store.messages.move(record.id, to, now=self.clock(), reason="so", effects=effects)
        return self.store.messages.get(record.id)


@pytest.fixture
def server() -> Iterator[FakeImapServer]:
    with FakeImapServer() as server:
        yield server


@pytest.fixture
def desk(server: FakeImapServer, redis_url: str) -> Iterator[Desk]:
    with (
        Mailbox(server.account(), ssl_context=server.ssl_context()) as mailbox,
        Redis.from_url(redis_url) as redis,
    ):
        yield Desk(mailbox, redis)


# --- what people had read before the installation -------------------------------------------------------


@pytest.mark.parametrize("uidnext", [None, 0, 1, 10**6, 2**32 - 1])
def test_whatever_the_server_says_of_uidnext_read_mail_is_left_alone(
    desk: Desk, server: FakeImapServer, uidnext: int | None
) -> None:
    server.uidnext = uidnext
    server.inbox.extend([desk.message(number, number, "\\Seen") for number in range(1, 9)])
    for _ in range(3):
        desk.poll()
    assert desk.states() == {}
    server.inbox.append(desk.message(20))
    desk.poll()
    assert desk.states() == {"<q20@example.test>": State.RECEIVED}


def test_a_fetch_that_fails_at_one_poll_brings_back_no_read_mail(desk: Desk, server: FakeImapServer) -> None:
    """New mail, or old mail that somebody marks unread months later: the cursor goes nowhere."""
    server.inbox.extend([desk.message(number, number, "\\Seen") for number in range(1, 6)])
    server.inbox.append(desk.message(6, 0))
    server.answers["UID FETCH"] = first(says("NO bad"), 3)
    for _ in range(3):
        with contextlib.suppress(MailboxUnavailable):
            desk.poll()
    desk.poll(60)
    assert desk.states() == {"<q6@example.test>": State.RECEIVED}
    server.inbox[0].flags.clear()
    server.inbox.append(desk.message(7))
    server.answers["UID FETCH"] = first(says("NO bad"), 2)
    for _ in range(4):
        with contextlib.suppress(MailboxUnavailable):
            desk.poll(60)
    assert desk.states().keys() == {"<q6@example.test>", "<q7@example.test>"}


def test_mail_read_before_the_installation_is_known_again_under_any_uid(
    desk: Desk, server: FakeImapServer
) -> None:
    """Read minutes before it: moved out and back, marked unread, under a new UIDVALIDITY, without dates."""
    read = [desk.message(number, 1 / 1440, "\\Seen") for number in (1, 2, 3)]
    server.inbox.extend(read)
    desk.poll(0)
    read[0].uid = 10
    read[1].uid, read[1].flags = 11, set()
    server.inbox.sort(key=lambda message: message.uid)
    desk.poll()
    assert desk.states() == {"<q2@example.test>": State.HELD}
    assert desk.store.messages.page()[0][0].reason == READ_BEFORE
    server.uidvalidity = 8
    for message in server.inbox:
        message.flags.clear()
        message.date = desk.message(1).date
    server.inbox.append(desk.message(20))
    desk.poll(1)
    found = desk.states()
    assert found.pop("<q20@example.test>") is State.RECEIVED
    assert set(found.values()) == {State.HELD}


@pytest.mark.parametrize("kept", ["installed with this version", "an earlier version"])
def test_a_mailbox_that_is_restored_without_flags_and_dates_answers_nobody(
    desk: Desk, server: FakeImapServer, kept: str
) -> None:
    if kept == "an earlier version":
        desk.redis.hset("cleo:mailbox:test:cursor", "7", 3)
        desk.store.health.polled(desk.clock())
    else:
        desk.poll()
    desk.clock.now += HOUR
    now = desk.message(1).date
    old = [desk.message(number, 40) for number in range(1, 4)]
    for message in old:
        written = datetime.fromtimestamp((desk.clock() - 40 * DAY) / 1000, UTC)
        header = written.strftime("Date: %a, %d %b %Y %H:%M:%S +0000").encode()
        message.source = message.source.replace(b"Date: Tue, 24 Nov 2026 09:00:00 +0100", header)
        message.date = now
    server.inbox.extend(old)
    server.uidvalidity = 8
    desk.poll()
    assert set(desk.states().values()) == {State.HELD}
    assert len(desk.states()) == 3


def test_mail_that_is_moved_in_later_is_never_lost_and_answered_only_if_it_is_new(
    desk: Desk, server: FakeImapServer
) -> None:
    desk.poll()
    desk.clock.now += 3 * DAY
    desk.poll()
    server.inbox.extend(
        [
            desk.message(10, 0, "\\Seen"),  # a person was quicker
            desk.message(11, 1, "\\Seen"),  # moved here from another folder
            desk.message(12, 1),  # the same, unread: new mail of yesterday
            desk.message(13, 30, "\\Seen"),
            desk.message(14, 5),  # from before the installation
            desk.message(15, 0, "\\Seen", "\\Answered"),
            desk.message(16, 0, "$CleoAccepted"),  # Redis was lost, or it was copied
        ]
    )
    desk.poll(1)
    assert desk.states() == {
        "<q10@example.test>": State.RECEIVED,
        "<q11@example.test>": State.HELD,
        "<q12@example.test>": State.RECEIVED,
        "<q14@example.test>": State.HELD,
    }


def test_uids_that_appear_out_of_order_are_found(desk: Desk, server: FakeImapServer) -> None:
    server.inbox.append(desk.message(1, 0, "\\Seen"))
    desk.poll()
    server.inbox.append(desk.message(20))
    desk.poll()
    server.inbox.insert(1, desk.message(10))
    desk.poll(1)
    desk.poll(20)
    assert desk.states().keys() == {"<q20@example.test>", "<q10@example.test>"}


# --- what becomes of the unread mark --------------------------------------------------------------------


@pytest.mark.parametrize("to", sorted(UNANSWERED))
def test_the_marks_of_a_mail_follow_its_state(desk: Desk, server: FakeImapServer, to: State) -> None:
    message = desk.message(1)
    server.inbox.append(message)
    desk.poll()
    assert message.flags == {"\\Seen", "$CleoAccepted"}
    record = desk.end(to)
    desk.poll()
    keyword = {State.HELD: {"$CleoHeld"}, State.FAILED: {"$CleoFailed"}}.get(to, set())
    assert message.flags == {"$CleoAccepted", *keyword}, "unread again for the people of the mailbox"
    message.flags.add("\\Seen")  # a person reads it
    for _ in range(3):
        desk.poll()
    assert "\\Seen" in message.flags, "it is taken off once"
    if to is State.IGNORED:
        return
    (desk.deciding.release if to is State.HELD else desk.deciding.retry)(record.id, by="cli")
    desk.poll()
    assert message.flags == {"\\Seen", "$CleoAccepted"}
    desk.end(State.REPLIED)
    desk.poll()
    assert message.flags == {"\\Seen", "\\Answered", "$CleoAccepted", "$CleoReplied"}


def test_a_mail_that_a_person_had_opened_stays_read(desk: Desk, server: FakeImapServer) -> None:
    message = desk.message(1)
    desk.poll()
    desk.clock.now += MINUTE
    message = desk.message(1, 0, "\\Seen")
    server.inbox.append(message)
    desk.poll(0)
    desk.end(State.FAILED)
    desk.poll()
    assert message.flags == {"\\Seen", "$CleoAccepted", "$CleoFailed"}


def test_mail_that_a_rule_holds_or_ignores_is_never_marked_as_read(
    desk: Desk, server: FakeImapServer
) -> None:
    held, ignored = desk.message(1, 30), desk.message(2, 0, extra="Auto-Submitted: auto-replied")
    server.inbox.extend([held, ignored])
    desk.poll()
    assert held.flags == {"$CleoAccepted", "$CleoHeld"}
    assert ignored.flags == {"$CleoAccepted"}
    [record] = desk.store.messages.page(state=State.HELD)[0]
    desk.deciding.dismiss(record.id, by="cli")
    desk.poll()
    assert held.flags == {"$CleoAccepted"}


@pytest.mark.parametrize("keywords", [True, False])
def test_with_the_old_way_everything_is_marked_as_read(
    server: FakeImapServer, redis_url: str, keywords: bool
) -> None:
    server.permanent_flags = "\\Seen \\Answered" + " \\*" * keywords
    with (
        Mailbox(server.account(), ssl_context=server.ssl_context()) as mailbox,
        Redis.from_url(redis_url) as redis,
    ):
        desk = Desk(mailbox, redis, mark_unanswered=True)
        server.inbox.extend([desk.message(1, 30), desk.message(2)])
        desk.poll()
        desk.end(State.FAILED)
        desk.poll()
        assert all("\\Seen" in message.flags for message in server.inbox)


@pytest.mark.parametrize("keywords", ["kept", "not kept", "promised and refused"])
def test_mail_that_stays_unread_is_fetched_once(desk: Desk, server: FakeImapServer, keywords: str) -> None:
    server.permanent_flags = "\\Seen \\Answered" if keywords == "not kept" else "\\Seen \\Answered \\*"
    server.inbox.extend([desk.message(number, 30) for number in range(1, 30)])
    if "refused" in keywords:
        server.answers["UID STORE"] = says("NO [LIMIT] too many keywords")
    desk.poll()
    assert len(desk.states()) == 29
    fetched = len(server.sent("UID FETCH"))
    for _ in range(4):
        desk.poll()
    assert len(server.sent("UID FETCH")) == fetched
    assert all("\\Seen" not in message.flags for message in server.inbox)


def test_flags_that_the_server_refuses_stop_no_poll(desk: Desk, server: FakeImapServer) -> None:
    message = desk.message(1)
    server.inbox.append(message)
    desk.poll()
    desk.end(State.HELD)
    server.answers["UID STORE"] = says("NO [NOPERM] not that one")
    desk.poll()
    assert desk.store.health.read().poll_fault == ""
    del server.answers["UID STORE"]
    desk.poll()
    assert message.flags == {"$CleoAccepted", "$CleoHeld"}


# --- servers whose searches, UIDs and mails are bent ----------------------------------------------------


def finds_all(session: Session, tag: str, rest: str) -> None:
    session.send("* SEARCH " + " ".join(str(uid) for uid, _ in session.numbered()), f"{tag} OK done")


def finds_none(session: Session, tag: str, rest: str) -> None:
    session.send("* SEARCH", f"{tag} OK done")


def finds_last_of_uids(session: Session, tag: str, rest: str) -> None:
    if " UID " in rest.partition("SEARCH")[2]:
        session.send(f"* SEARCH {max(uid for uid, _ in session.numbered())}", f"{tag} OK done")
    else:
        session.usual(tag, rest)


@pytest.mark.parametrize("fault", [finds_all, first(finds_none), first(finds_none, 3), finds_last_of_uids])
def test_a_search_that_finds_too_much_or_nothing_answers_no_read_mail(
    desk: Desk, server: FakeImapServer, fault: Answer
) -> None:
    server.inbox.extend([desk.message(number, number / 10, "\\Seen") for number in range(1, 9)])
    server.inbox.append(desk.message(9))
    server.answers["UID SEARCH"] = fault
    for _ in range(4):
        with contextlib.suppress(MailboxUnavailable):
            desk.poll()
    server.inbox.extend([desk.message(20), desk.message(21)])
    server.inbox[0].flags.clear()
    for _ in range(2):
        desk.poll()
    assert desk.states() == {f"<q{number}@example.test>": State.RECEIVED for number in (9, 20, 21)}


@pytest.mark.parametrize("words", ["", "NO [SERVERBUG] Internal error occurred", "NO cannot read it"])
def test_a_read_mail_that_cannot_be_fetched_keeps_no_installation_from_its_start(
    desk: Desk, server: FakeImapServer, words: str
) -> None:
    def fetch(session: Session, tag: str, rest: str) -> None:
        if "HEADER" not in rest or 30 not in {uid for uid, _ in session._chosen(rest)}:
            session.usual(tag, rest)
        elif words:
            session.send(f"{tag} {words}")
        else:
            raise HangUp

    server.inbox.extend([desk.message(number, number / 20, "\\Seen") for number in range(1, 101)])
    server.answers["UID FETCH"] = fetch
    desk.poll()
    server.inbox.append(desk.message(200))
    desk.poll()
    assert desk.states() == {"<q200@example.test>": State.RECEIVED}


def test_new_mail_is_found_that_gets_the_uid_of_a_deleted_one(desk: Desk, server: FakeImapServer) -> None:
    server.inbox.extend([desk.message(number, number / 10, "\\Seen") for number in range(1, 9)])
    desk.poll()
    server.inbox[:] = server.inbox[:3]
    desk.clock.pass_(60)
    server.inbox.append(desk.message(20))
    server.inbox[-1].uid = 4
    server.inbox[1].flags.clear()
    desk.poll()
    assert desk.states() == {"<q20@example.test>": State.RECEIVED}


@pytest.mark.parametrize("uid", [2**31 + 5, 2**32 - 1, 2**40])
def test_a_uid_that_is_not_there_hides_no_mail(desk: Desk, server: FakeImapServer, uid: int) -> None:
    def search(session: Session, tag: str, rest: str) -> None:
        session.send(f"* SEARCH {uid}")
        session.usual(tag, rest)

    server.inbox.extend([desk.message(number, number / 10, "\\Seen") for number in range(1, 9)])
    desk.poll()
    server.answers["UID SEARCH"] = first(search)
    desk.poll()
    server.inbox.append(desk.message(20, 0, "\\Seen"))
    desk.poll()
    assert desk.states() == {"<q20@example.test>": State.RECEIVED}


# --- what it costs --------------------------------------------------------------------------------------


@pytest.mark.servers("dovecot")
def test_ten_thousand_mails_left_unread_cost_a_poll_nothing(redis_url: str) -> None:
    with Dovecot(users={AGENT: "secret"}) as dovecot, Redis.from_url(redis_url) as redis:
        dovecot.fill(AGENT, *(mail(number) for number in range(10_000)))
        with Mailbox(dovecot.account(AGENT), ssl_context=dovecot.ssl_context()) as mailbox:
            _left_unread(mailbox, redis, 10_000)


def test_two_thousand_mails_left_unread_cost_nothing_without_keywords(tmp_path: Path, redis_url: str) -> None:
    with FaithfulMailServer(tmp_path / "mail") as server, Redis.from_url(redis_url) as redis:
        for number in range(2000):
            server.deliver(AGENT, mail(number))
        context = server.certificates.client_context()
        with Mailbox(server.imap_account(AGENT), ssl_context=context) as mailbox:
            _left_unread(mailbox, redis, 2000)


def _state_of(validity: int, highest: int, now: int) -> UidState:
    return UidState(validity, 0, highest, now - DAY, 0, now, now)


def _left_unread(mailbox: Mailbox, redis: Redis, count: int) -> None:
    """Note the mails as taken and left unread, and poll: no command names them, whatever their number."""
    desk = Desk(mailbox, redis)
    status = mailbox.open()
    uids = mailbox.search_unseen()
    assert len(uids) == count
    desk.store.mailbox.begin(_state_of(status.uidvalidity, max(uids), desk.clock()), [], [])
    desk.store.mailbox.leave(uids)
    mailbox.add_flags(uids, ["$CleoAccepted", "$CleoHeld"])
    desk.polling.run()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("search_unseen", "search_untaken", "search_since", "describe", "fetch"):
            patch.delattr(mailbox.__class__, name)
        desk.polling.run()
    assert desk.states() == {}
    assert desk.store.mailbox.noted().again == {}
