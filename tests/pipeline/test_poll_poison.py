"""A mail that the server cannot read stops no other: not its size, not its header, not the whole of it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from cleo_email.errors import MailboxUnavailable, StoreUnavailable
from cleo_email.imap.mailbox import Mailbox
from cleo_email.pipeline.decide import Decisions
from cleo_email.pipeline.poll import PATIENCE_MS, TRIES, Poller
from cleo_email.pipeline.receive import IncomingMail, Receiver
from cleo_email.runtime import DAY, HOUR, MINUTE, now_ms
from cleo_email.screening.screen import Policy
from cleo_email.store import Effects, State, Store
from cleo_email.store.mailbox import Trouble
from cleo_email.store.queue import WakeQueue
from tests.support.bench import signer_on, upkeep_of
from tests.support.channel import Rig
from tests.support.imap_server import FakeImapServer, HangUp, Message, Session
from tests.support.mails import AGENT, mail

OLD = '"24-Nov-2020 10:00:00 +0100"'
POLICY = Policy(frozenset({"agent@cleo.test"}))
Fault = Callable[[Session, str, str], None]


@pytest.fixture
def server() -> Iterator[FakeImapServer]:
    with FakeImapServer() as server:
        yield server


@pytest.fixture
def store(redis_url: str) -> Store:
    return Store(Redis.from_url(redis_url))


@pytest.fixture
def receiver(store: Store, redis_url: str) -> Receiver:
    redis = Redis.from_url(redis_url)
    return Receiver(store, WakeQueue(redis), POLICY, signer_on(redis), max_age_days=7, retention_days=90)


def deciding_on(store: Store, redis_url: str) -> Decisions:
    return Decisions(store, WakeQueue(Redis.from_url(redis_url)), POLICY)


@pytest.fixture
def polling(server: FakeImapServer, store: Store, receiver: Receiver, clock: LaterClock) -> Iterator[Poller]:
    with Mailbox(server.account(), ssl_context=server.ssl_context()) as mailbox:
        upkeep = upkeep_of(store, mailbox, receiver, save_sent=False, clock=clock)
        yield Poller(store, mailbox, receiver, upkeep, max_bytes=10**6, max_age_days=7, clock=clock)


class LaterClock:
    """The real time, and what the test lets pass."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead


@pytest.fixture
def clock() -> LaterClock:
    return LaterClock()


def poll_for(
    polling: Poller, clock: LaterClock, ms: int = PATIENCE_MS + HOUR, times: int = TRIES + 1
) -> None:
    """Poll again and again, evenly through a time."""
    for _ in range(times):
        clock.ahead += ms // times
        polling.run(force=True)


def hangs_up_on(uids: set[int], item: str) -> Fault:
    def fetch(session: Session, tag: str, rest: str) -> None:
        if item in rest and uids & {uid for uid, _ in session._chosen(rest)}:
            raise HangUp
        session.usual(tag, rest)

    return fetch


def today() -> str:
    return datetime.now(UTC).strftime('"%d-%b-%Y %H:%M:%S +0000"')


def fill(server: FakeImapServer, *numbers: int, date: str = "") -> None:
    server.inbox.extend(Message(mail(number), date=date or today()) for number in numbers)


def states(store: Store) -> dict[str, State]:
    return {record.message_id: record.state for record in store.messages.page(limit=100)[0]}


@pytest.mark.parametrize("item", ["RFC822.SIZE", "BODY.PEEK[]"])
def test_a_mail_that_cannot_be_looked_at_is_recorded_after_hours_and_asked_for_daily(
    polling: Poller, store: Store, server: FakeImapServer, clock: LaterClock, item: str
) -> None:
    fill(server, *range(1, 8))
    server.answers["UID FETCH"] = hangs_up_on({3}, item)
    polling.run()
    assert len(states(store)) == 6
    fill(server, 20)
    poll_for(polling, clock, PATIENCE_MS - HOUR)
    assert states(store)["<q20@example.test>"] is State.RECEIVED
    assert store.messages.count(State.FAILED) == 0
    poll_for(polling, clock)
    [quarantined] = store.messages.page(state=State.FAILED)[0]
    assert "UID 3" in quarantined.reason
    if item == "BODY.PEEK[]":  # its header can be had
        assert (quarantined.from_address, quarantined.subject) == ("customer3@example.test", "Question 3")
    assert "\\Seen" not in server.inbox[2].flags
    assert "$CleoFailed" in server.inbox[2].flags
    logins = len(server.sent("AUTHENTICATE"))
    polling.run()
    assert len(server.sent("AUTHENTICATE")) == logins, "it is not tried at every poll"
    del server.answers["UID FETCH"]
    clock.ahead += DAY
    polling.run()
    assert states(store)["<q3@example.test>"] is State.RECEIVED
    assert store.messages.get(quarantined.id).state is State.IGNORED
    assert server.inbox[2].flags >= {"\\Seen", "$CleoAccepted"}
    assert "$CleoFailed" not in server.inbox[2].flags


def poll_until(polling: Poller, clock: LaterClock, is_done: Callable[[], bool], every: int = MINUTE) -> None:
    """Poll on, also while the server is at fault."""
    for _ in range(200):
        if is_done():
            return
        clock.ahead += every
        with contextlib.suppress(MailboxUnavailable):
            polling.run(force=True)
    assert is_done()


def quarantine(
    polling: Poller, store: Store, server: FakeImapServer, clock: LaterClock, *uids: int
) -> dict[int, str]:
    """UID to the id of its record."""
    server.answers["UID FETCH"] = hangs_up_on(set(uids), "BODY.PEEK[]")
    # The mail by which the server is judged is chosen by chance, and may be a bad one many times in a row.
    poll_until(polling, clock, lambda: store.messages.count(State.FAILED) == len(uids), every=HOUR // 5)
    del server.answers["UID FETCH"]
    failed = store.messages.page(state=State.FAILED)[0]
    return {int(record.mailbox.partition("/")[2]): record.id for record in failed}


def set_aside(store: Store, uids: Iterable[int], since: int) -> None:
    """As mails are at which the connection was lost while none could be fetched."""
    state = store.mailbox.noted().state
    assert state
    again = dict.fromkeys(uids, since)
    store.mailbox.advance(state, done=(), again=again, troubles=dict.fromkeys(again, Trouble(0, since)))


@pytest.mark.parametrize("are_set_aside", [False, True])
def test_a_large_mail_comes_in_among_small_ones_that_cannot_be_fetched(
    polling: Poller, store: Store, server: FakeImapServer, clock: LaterClock, are_set_aside: bool
) -> None:
    polling.run()
    fill(server, *range(1, 5))
    server.inbox.append(Message(mail(20, text="x" * 5000), date=today()))
    if are_set_aside:
        set_aside(store, range(1, 6), clock())
    server.answers["UID FETCH"] = hangs_up_on(set(range(1, 5)), "BODY.PEEK[]")
    poll_until(polling, clock, lambda: bool(states(store)))
    assert states(store) == {"<q20@example.test>": State.RECEIVED}


def test_the_patience_with_a_mail_begins_with_its_own_first_failure(
    polling: Poller, store: Store, server: FakeImapServer, clock: LaterClock
) -> None:
    polling.run()
    fill(server, 1, 2, 3)
    set_aside(store, [2], clock() - PATIENCE_MS)
    server.answers["UID FETCH"] = hangs_up_on({2}, "BODY.PEEK[]")
    poll_until(polling, clock, lambda: len(states(store)) == 2)
    began = clock.ahead
    poll_until(polling, clock, lambda: clock.ahead > began + PATIENCE_MS - HOUR, every=HOUR // 4)
    assert store.messages.count(State.FAILED) == 0
    poll_until(polling, clock, lambda: store.messages.count(State.FAILED) == 1, every=HOUR // 4)


def test_what_is_fetched_at_last_comes_in_like_any_other_mail(
    polling: Poller,
    store: Store,
    redis_url: str,
    receiver: Receiver,
    server: FakeImapServer,
    clock: LaterClock,
) -> None:
    fill(server, 1, 2, 5)
    server.inbox.append(Message(mail(3, extra="Auto-Submitted: auto-replied"), date=today()))
    server.inbox.append(Message(mail(4), date=today()))
    ids = quarantine(polling, store, server, clock, 1, 2, 4, 5)
    elsewhere = receiver.accept(IncomingMail(mail(4), "raw"))
    deciding = deciding_on(store, redis_url)
    for id_ in ids.values():
        deciding.retry(id_, by="cli")
    polling.upkeep.run()  # at once, though the mailbox may rest after the hang-ups
    ended = {uid: store.messages.get(id_) for uid, id_ in ids.items()}
    assert {record.state for record in ended.values()} == {State.IGNORED}
    found = {record.message_id: record for record in store.messages.page(limit=50)[0] if record.message_id}
    assert {id_: found[id_].state for id_ in (f"<q{number}@example.test>" for number in range(1, 6))} == {
        "<q1@example.test>": State.RECEIVED,
        "<q2@example.test>": State.RECEIVED,
        "<q3@example.test>": State.IGNORED,
        "<q4@example.test>": State.RECEIVED,
        "<q5@example.test>": State.RECEIVED,
    }
    assert found["<q1@example.test>"].thread_id != found["<q2@example.test>"].thread_id
    assert found["<q1@example.test>"].id in ended[1].reason
    assert elsewhere.id in ended[5].reason, "taken by another way meanwhile: not twice"
    assert all("\\Seen" in message.flags for message in server.inbox)


def test_mails_in_quarantine_share_no_thread(
    polling: Poller, store: Store, server: FakeImapServer, clock: LaterClock
) -> None:
    fill(server, 1, 2, 3)
    ids = quarantine(polling, store, server, clock, 1, 2)
    assert len({store.messages.get(id_).thread_id for id_ in ids.values()}) == 2


def test_a_mail_that_still_cannot_be_delivered_stays_failed(
    polling: Poller, store: Store, redis_url: str, server: FakeImapServer, clock: LaterClock
) -> None:
    fill(server, 1, 2)
    ids = quarantine(polling, store, server, clock, 1)
    server.answers["UID FETCH"] = hangs_up_on({1}, "BODY.PEEK[]")
    deciding_on(store, redis_url).retry(ids[1], by="cli")
    polling.upkeep.run()  # at once, though the mailbox may rest after the hang-ups
    record = store.messages.get(ids[1])
    assert (record.state, "could not deliver" in record.reason) == (State.FAILED, True)


def test_a_mail_is_not_left_alone_before_its_record_is_durable(
    polling: Poller,
    store: Store,
    receiver: Receiver,
    server: FakeImapServer,
    clock: LaterClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(server, 1, 2)
    server.answers["UID FETCH"] = hangs_up_on({1}, "BODY.PEEK[]")
    poll_for(polling, clock, PATIENCE_MS - HOUR)

    def full(*_: object, **__: object) -> None:
        raise StoreUnavailable("out of memory")

    clock.ahead += 2 * HOUR
    with monkeypatch.context() as patch:
        patch.setattr(receiver, "quarantine", full)
        with pytest.raises(StoreUnavailable):
            polling.run(force=True)
    polling.run(force=True)
    assert store.messages.count(State.FAILED) == 1


def test_a_header_that_cannot_be_read_stops_neither_new_nor_old_mail(
    polling: Poller, store: Store, server: FakeImapServer, clock: LaterClock
) -> None:
    fill(server, 1, 2, 3, date=OLD)
    fill(server, 4)
    server.answers["UID FETCH"] = hangs_up_on({2}, "BODY.PEEK[HEADER]")
    polling.run()
    assert states(store) == {
        "<q1@example.test>": State.HELD,
        "<q3@example.test>": State.HELD,
        "<q4@example.test>": State.RECEIVED,
    }
    assert "\\Seen" in server.inbox[3].flags
    poll_for(polling, clock)
    assert store.messages.count(State.FAILED) == 1


@pytest.mark.parametrize("mails", [1, 3, 8])
@pytest.mark.parametrize("item", ["RFC822.SIZE", "BODY.PEEK["])
@pytest.mark.parametrize(
    "words",
    [
        "",
        "NO [OVERQUOTA] Account exceeded command or bandwidth limits.",
        "NO [UNAVAILABLE] Backend down",
        "NO [SERVERBUG] Internal error occurred",
        "NO Server is busy",
        "BAD Command Error. 12",
    ],
)
def test_a_server_that_reads_no_mail_at_all_blames_none(
    polling: Poller,
    store: Store,
    server: FakeImapServer,
    clock: LaterClock,
    mails: int,
    item: str,
    words: str,
) -> None:
    """However many wait and however long it lasts: the poll fails, and nothing is done about the mails."""
    date = OLD if mails == 8 else ""
    fill(server, *range(1, mails + 1), date=date)
    server.answers["UID FETCH"] = refuses({*range(1, 30)}, item, words)
    for _ in range(TRIES + 2):
        logins = len(server.sent("AUTHENTICATE"))
        with pytest.raises(MailboxUnavailable):
            polling.run(force=True)
        assert len(server.sent("AUTHENTICATE")) - logins <= 6
        clock.ahead += 2 * HOUR
    assert states(store) == {}
    assert store.health.read().polled == 0
    del server.answers["UID FETCH"]
    polling.run(force=True)
    assert len(states(store)) == mails
    assert set(states(store).values()) == {State.HELD if date else State.RECEIVED}


def refuses(uids: set[int], item: str, words: str) -> Fault:
    def fetch(session: Session, tag: str, rest: str) -> None:
        if item not in rest or not uids & {uid for uid, _ in session._chosen(rest)}:
            session.usual(tag, rest)
        elif words:
            session.send(f"{tag} {words}")
        else:
            raise HangUp

    return fetch


@pytest.mark.parametrize(
    "words", ["", "NO cannot read it", "NO [OVERQUOTA] Account exceeded bandwidth limits"]
)
def test_a_lone_mail_is_to_blame_only_once_another_was_fetched_for_hours(
    polling: Poller, store: Store, server: FakeImapServer, clock: LaterClock, words: str
) -> None:
    fill(server, 1)
    polling.run()
    fill(server, 2)
    server.answers["UID FETCH"] = refuses({2}, "BODY.PEEK[]", words)
    for _ in range(TRIES + 1):
        polling.run(force=True)
        clock.ahead += HOUR
    assert store.messages.count(State.FAILED) == (0 if "OVERQUOTA" in words else 1)
    assert store.messages.count(State.RECEIVED) == 1
    del server.answers["UID FETCH"]
    clock.ahead += DAY
    polling.run(force=True)
    assert states(store)["<q2@example.test>"] is State.RECEIVED


def test_a_mail_is_recorded_in_the_end_that_the_server_always_calls_a_passing_fault(
    polling: Poller, store: Store, server: FakeImapServer, clock: LaterClock
) -> None:
    """Dovecot says SERVERBUG of a file that it cannot open."""
    fill(server, 1)
    server.answers["UID FETCH"] = refuses({1}, "BODY.PEEK[", "NO [SERVERBUG] Internal error occurred")
    fill(server, 2, 3)
    for _ in range(30):
        polling.run(force=True)
        assert store.messages.count(State.FAILED) == (clock.ahead >= DAY)
        assert states(store)["<q3@example.test>"] is State.RECEIVED
        clock.ahead += HOUR
    [failed] = store.messages.page(state=State.FAILED)[0]
    assert (failed.from_address, failed.subject) == ("anna@example.test", "Question 1")


def test_where_the_server_says_how_long_it_is_left_alone_so_long(
    polling: Poller, store: Store, server: FakeImapServer
) -> None:
    fill(server, 1)
    words = "NO Server Busy. Suggested Backoff Time: 299910 milliseconds"
    server.answers["UID FETCH"] = refuses({1}, "BODY.PEEK[]", words)
    with pytest.raises(MailboxUnavailable):
        polling.run()
    assert 290_000 < store.ticks.tick_left_ms("poll") <= 299_910
    assert polling.run().resting


def test_mail_that_cannot_be_fetched_keeps_nothing_from_being_filed(
    polling: Poller, store: Store, server: FakeImapServer, clock: LaterClock
) -> None:
    fill(server, 1)
    polling.run(force=True)
    [record] = store.messages.page()[0]
    store.messages.move(record.id, State.FAILED, now=clock(), effects=Effects(filing=clock()))
    fill(server, 2)
    server.answers["UID FETCH"] = refuses({1, 2}, "BODY.PEEK[]", "NO [UNAVAILABLE] later")
    with pytest.raises(MailboxUnavailable):
        polling.run(force=True)
    assert "$CleoFailed" in server.inbox[0].flags


def test_an_old_mail_that_vanishes_before_it_is_read_leaves_no_record(
    polling: Poller, store: Store, server: FakeImapServer
) -> None:
    fill(server, 1, 2, date=OLD)

    def without_the_first(session: Session, tag: str, rest: str) -> None:
        if "BODY.PEEK[HEADER]" in rest and session._chosen(rest)[0][0] == 1:
            session.send(f"{tag} OK nothing")
        else:
            session.usual(tag, rest)

    server.answers["UID FETCH"] = without_the_first
    polling.run()
    assert states(store) == {"<q2@example.test>": State.HELD}


def test_a_released_mail_that_the_server_cannot_deliver_is_held_again(
    polling: Poller, store: Store, redis_url: str, receiver: Receiver, server: FakeImapServer
) -> None:
    fill(server, 1, 2, date=OLD)
    polling.run()
    ids = {record.message_id: record.id for record in store.messages.page(limit=10)[0]}
    deciding = deciding_on(store, redis_url)
    for id_ in ids.values():
        deciding.release(id_, by="cli")
    server.answers["UID FETCH"] = hangs_up_on({1}, "BODY.PEEK[]")
    polling.run_upkeep()
    assert states(store) == {"<q1@example.test>": State.HELD, "<q2@example.test>": State.RECEIVED}
    assert "could not deliver" in store.messages.get(ids["<q1@example.test>"]).reason


@pytest.mark.servers("dovecot")
@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file that its owner cannot read")
def test_a_file_that_dovecot_cannot_open_stops_no_other(tmp_path: Path, redis_url: str) -> None:
    with Rig(tmp_path, redis_url) as rig:
        rig.dovecot.fill(AGENT, mail(1), mail(2), mail(3))
        files = sorted(file for file in rig.dovecot.maildir(AGENT).rglob("17*") if file.is_file())
        os.chown(files[1], 0, 0)
        files[1].chmod(0)
        rig.start_worker()
        begun = time.monotonic()
        rig.smtp.wait_for(lambda server: len(server.mails) == 2, 20)
        rig.deliver(mail(4))
        rig.smtp.wait_for(lambda server: len(server.mails) == 3, 20)
        rig.start_web()
        rig.wait(lambda: rig.get("/readyz")[0] == 200)
        assert time.monotonic() - begun < 60
