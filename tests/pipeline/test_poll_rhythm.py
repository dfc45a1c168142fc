"""When the mailbox is read again: after a poll, a fault, and a process that died in the middle."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from cleo_email.errors import MailboxError, MailboxLoginRefused
from cleo_email.imap.mailbox import Mailbox
from cleo_email.mail.model import OutboundEmail
from cleo_email.pipeline.poll import (
    BUSY_MS,
    LOCK,
    LOGIN_RESTS_MS,
    RESTS_MS,
    UNTOLD_MS,
    UPKEEP_PAUSE_MS,
    Poller,
    PollResult,
)
from cleo_email.pipeline.receive import Receiver
from cleo_email.pipeline.upkeep import RUN_S
from cleo_email.screening.screen import Policy
from cleo_email.store import Effects, Identity, Record, State, Store, new_id
from cleo_email.store.mailbox import filing_due
from cleo_email.store.queue import WakeQueue
from tests.support.bench import FakeClock, signer_on, upkeep_of
from tests.support.imap_server import FakeImapServer, Message, Session, first, hang_up, says
from tests.support.mails import mail

NOW = 1_795_000_000_000


@pytest.fixture
def server() -> Iterator[FakeImapServer]:
    with FakeImapServer() as server:
        yield server


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def store(redis: Redis) -> Store:
    return Store(redis)


@pytest.fixture
def clock() -> Callable[[], int]:
    return itertools.count(NOW).__next__


@pytest.fixture
def receiver(redis: Redis, store: Store, clock: Callable[[], int]) -> Receiver:
    policy = Policy(frozenset({"agent@cleo.test"}))
    return Receiver(
        store, WakeQueue(redis), policy, signer_on(redis), max_age_days=7, retention_days=90, clock=clock
    )


@pytest.fixture
def polling(
    server: FakeImapServer, receiver: Receiver, store: Store, clock: Callable[[], int]
) -> Iterator[Poller]:
    with Mailbox(server.account(), ssl_context=server.ssl_context()) as mailbox:
        upkeep = upkeep_of(store, mailbox, receiver, clock=clock)
        yield Poller(
            store, mailbox, receiver, upkeep, max_bytes=10**6, max_age_days=7, interval_s=60, clock=clock
        )


def test_the_next_poll_follows_the_interval(polling: Poller, store: Store) -> None:
    polling.run()
    assert 59_000 < store.ticks.tick_left_ms("poll") <= 60_000


def test_the_poll_of_a_process_that_died_is_asked_for_again_soon(polling: Poller, store: Store) -> None:
    assert store.ticks.tick("poll", UNTOLD_MS)
    assert UNTOLD_MS <= 20_000, "the ticker asks again for a poll that has not told its end"
    with store.locks.hold(LOCK):  # of a dead process: for some seconds it still says so
        assert polling.run().busy
        assert store.ticks.tick_left_ms("poll") <= BUSY_MS


def test_after_a_fault_the_mailbox_rests_and_then_is_tried_before_the_interval(
    polling: Poller, store: Store, server: FakeImapServer
) -> None:
    server.answers["SELECT"] = first(hang_up, 2)
    with pytest.raises(MailboxError):
        polling.run()
    assert 0 < store.ticks.tick_left_ms("poll") <= RESTS_MS[0]
    with pytest.raises(MailboxError):
        polling.run(force=True)
    assert RESTS_MS[0] < store.ticks.tick_left_ms("poll") <= RESTS_MS[1]


def test_what_a_person_asked_for_is_told_once(
    polling: Poller, store: Store, server: FakeImapServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers["AUTHENTICATE"] = says("NO [AUTHENTICATIONFAILED] wrong")
    with pytest.raises(MailboxLoginRefused):
        polling.run(force=True)
    assert caplog.records == [], "who asked prints it, and nothing tries again by itself"
    assert store.ticks.resting("poll"), "a worker waits all the same"


def test_a_poll_is_told_in_words() -> None:
    assert str(PollResult(accepted=1, held=2)) == "1 accepted, 2 held"
    assert str(PollResult()) == "nothing new"
    assert str(PollResult(busy=True)) == "another process is at it"


def test_upkeep_does_not_knock_where_the_login_is_refused(
    polling: Poller, store: Store, server: FakeImapServer
) -> None:
    """A server locks an account that keeps trying a wrong password, and with it everything."""
    record = _record(State.REPLIED)
    store.messages.accept(record, b"", Identity("a"), (), answer=_answer(record))
    store.filing.add(record.id, NOW)
    server.answers["AUTHENTICATE"] = says("NO [AUTHENTICATIONFAILED] wrong")
    with pytest.raises(MailboxLoginRefused):
        polling.run_upkeep()
    logins = len(server.sent("AUTHENTICATE"))
    assert polling.run_upkeep() is None
    assert polling.run().resting
    assert len(server.sent("AUTHENTICATE")) == logins == 1
    assert store.ticks.tick_left_ms("poll") > LOGIN_RESTS_MS[0] - 1000
    assert "EMAIL_PASSWORD" in store.health.read().poll_fault


@pytest.mark.parametrize("fault", [says("NO [OVERQUOTA] full"), hang_up])
def test_a_copy_that_the_server_does_not_take_stops_no_other(
    polling: Poller, store: Store, redis: Redis, server: FakeImapServer, fault: Callable[..., None]
) -> None:
    store.mailbox.set_sent_mode("client")
    records = [_record(State.REPLIED, number) for number in range(3)]
    for record in records:
        store.messages.accept(record, b"", Identity(record.id), (), answer=_answer(record))
        store.filing.add(record.id, NOW)
    server.answers["APPEND"] = first(fault)
    for _ in range(2):
        polling.run_upkeep()
        redis.delete("cleo:tick:chores-done", "cleo:tick:filing")  # the rest is over
    filed = [message.source for message in server.folders["Sent"]]
    assert filed == [_answer(record).source for record in records[1:]]
    assert store.filing.due(NOW + 1000) == []
    assert store.filing.due(NOW + 61_000) == [records[0].id], "it is tried again"


def test_where_there_can_be_no_sent_mail_is_read_all_the_same(
    polling: Poller, store: Store, server: FakeImapServer
) -> None:
    store.mailbox.set_sent_mode("client")
    record = _record(State.REPLIED)
    store.messages.accept(record, b"", Identity("a"), (), answer=_answer(record))
    store.filing.add(record.id, NOW)
    del server.folders["Sent"]
    server.answers["CREATE"] = says("NO [NOPERM] no")
    server.inbox.append(Message(mail(7)))
    for _ in range(2):
        assert polling.run(force=True)
    assert [r.message_id for r in store.messages.page(state=State.RECEIVED)[0]] == ["<q7@example.test>"]
    assert store.health.read().polled
    assert store.health.read().poll_fault == ""


def test_a_server_that_does_not_search_sent_shows_nothing_and_stops_nothing(
    polling: Poller, store: Store, server: FakeImapServer
) -> None:
    record = _record(State.SUBMITTING)
    store.messages.accept(record, b"", Identity("a"), (), answer=_answer(record))
    store.messages.move(record.id, State.UNCERTAIN, now=NOW, effects=Effects(pop=True, settling=NOW))
    usual = server.answers.get("UID SEARCH")

    def no_headers(session: Session, tag: str, rest: str) -> None:
        if "HEADER" in rest:
            session.send(f"{tag} NO [CANNOT] no")
        else:
            (usual or Session.usual)(session, tag, rest)

    server.answers["UID SEARCH"] = no_headers
    polling.run()
    assert store.messages.get(record.id).state is State.UNCERTAIN
    assert store.health.read().poll_fault == ""
    assert store.settling.due(NOW + 10**6) == [record.id], "it is looked for again"


def test_a_copy_that_is_never_taken_is_given_up_after_a_day(
    polling: Poller, store: Store, server: FakeImapServer, caplog: pytest.LogCaptureFixture
) -> None:
    store.mailbox.set_sent_mode("client")
    record = dataclasses.replace(_record(State.REPLIED), updated_at=NOW - 25 * 3_600_000)
    store.messages.accept(record, b"", Identity("a"), (), answer=_answer(record))
    store.filing.add(record.id, NOW)
    server.answers["APPEND"] = says("NO [OVERQUOTA] full")
    polling.run_upkeep()
    assert store.filing.due(NOW + 10**12) == []
    assert "given up" in caplog.text
    shown = str(store.messages.get(record.id).public()["reason"])
    assert "given up" in shown
    assert "OVERQUOTA" in shown


def test_a_copy_that_is_refused_is_told_where_people_look_until_it_is_filed(
    polling: Poller, store: Store, server: FakeImapServer
) -> None:
    store.mailbox.set_sent_mode("client")
    record = _record(State.REPLIED)
    store.messages.accept(record, b"", Identity("a"), (), answer=_answer(record))
    store.messages.note(record.id, "reason", "one of two recipients was refused")
    store.filing.add(record.id, NOW)
    server.answers["APPEND"] = first(says("NO [OVERQUOTA] full"))
    polling.run_upkeep()
    shown = str(store.messages.get(record.id).public()["reason"])
    assert shown.startswith("one of two recipients was refused; ")
    assert "not in Sent" in shown
    assert "[OVERQUOTA] full" in shown
    (fault,) = store.health.upkeep_faults()
    assert "[OVERQUOTA] full" in fault
    assert "EMAIL_SAVE_SENT=0" in fault
    store.filing.add(record.id, NOW)
    polling.upkeep.run()
    assert len(server.folders["Sent"]) == 1
    assert store.messages.get(record.id).public()["reason"] == "one of two recipients was refused"
    assert store.health.upkeep_faults() == []


def test_many_copies_for_sent_let_new_mail_in_between(
    receiver: Receiver, store: Store, server: FakeImapServer
) -> None:
    """After a burst of answers hundreds of copies wait; each run makes some, then the poll has its turn."""
    store.mailbox.set_sent_mode("client")
    records = [_record(State.REPLIED, number) for number in range(10)]
    for record in records:
        store.messages.accept(record, b"", Identity(record.id), (), answer=_answer(record))
        store.filing.add(record.id, NOW)
    seconds = itertools.count(0.0, RUN_S / 3)  # each copy takes a third of a run
    with Mailbox(server.account(), ssl_context=server.ssl_context()) as mailbox:
        upkeep = upkeep_of(store, mailbox, receiver, timer=seconds.__next__)
        assert upkeep.run() == 3
        assert len(store.filing.due(NOW + 10**9)) == 7
        assert not any(store.messages.get(record.id).filing_begun for record in records[3:])
        while upkeep.run():
            pass
    assert [message.source for message in server.folders["Sent"]] == [_answer(r).source for r in records]


def test_one_answer_tells_for_all_that_it_is_too_early_to_know_who_files(
    receiver: Receiver, store: Store, server: FakeImapServer
) -> None:
    """After the first burst of answers a search of Sent for each would keep the mailbox from new mail."""
    clock = FakeClock()
    records = [
        dataclasses.replace(_record(State.REPLIED, number), updated_at=clock.now) for number in range(12)
    ]
    for record in records:
        store.messages.accept(record, b"", Identity(record.id), (), answer=_answer(record))
        store.filing.add(record.id, clock.now)
    with Mailbox(server.account(), ssl_context=server.ssl_context()) as mailbox:
        upkeep = upkeep_of(store, mailbox, receiver, clock=clock)
        assert upkeep.run() == 0
        assert len(server.sent("UID SEARCH")) == 1
        assert store.filing.due(clock.now + 4000) == []
        assert len(store.filing.due(clock.now + 5000)) == 12
        clock.pass_(5)
        assert upkeep.run() == 12
    assert [message.source for message in server.folders["Sent"]] == [_answer(r).source for r in records]
    assert store.filing.due(clock.now + 10**9) == []


def test_what_was_answered_soon_is_filed_before_what_waited_long(
    receiver: Receiver, store: Store, server: FakeImapServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the copy for whoever wrote during a backlog would wait for those of the backlog."""
    monkeypatch.setattr("cleo_email.pipeline.upkeep.MOST_FLAGS", 4)
    store.mailbox.set_sent_mode("client")
    waited = [
        dataclasses.replace(_record(State.REPLIED, number), received_at=NOW - 3_600_000)
        for number in range(8)
    ]
    soon = dataclasses.replace(_record(State.REPLIED, 9), received_at=NOW - 61_000)
    for record in (*waited, soon):
        store.messages.accept(record, b"", Identity(record.id), (), answer=_answer(record))
        store.filing.add(record.id, filing_due(record.updated_at - record.received_at))
    with Mailbox(server.account(), ssl_context=server.ssl_context()) as mailbox:
        assert upkeep_of(store, mailbox, receiver, timer=itertools.count(0.0, RUN_S).__next__).run() == 1
    assert [message.source for message in server.folders["Sent"]] == [_answer(soon).source]


def test_upkeep_that_piled_up_is_done_once(polling: Poller, store: Store, server: FakeImapServer) -> None:
    """While a long poll has the mailbox, a wake-up for upkeep comes every other second."""
    assert polling.run_upkeep() == 0
    assert polling.run_upkeep() is None
    assert 0 < store.ticks.tick_left_ms("chores-done") <= UPKEEP_PAUSE_MS


def test_a_settled_send_is_not_searched_for_again(
    polling: Poller, store: Store, server: FakeImapServer
) -> None:
    record = _record(State.SUBMITTING)
    answer = _answer(record)
    store.messages.accept(record, b"", Identity("a"), (), answer=answer)
    store.messages.move(record.id, State.UNCERTAIN, now=NOW, effects=Effects(pop=True, settling=NOW))
    server.folders["Sent"].append(Message(answer.source))
    polling.run_upkeep()
    assert store.messages.get(record.id).state is State.REPLIED
    assert store.settling.due(NOW + 10**9) == []


def test_after_a_downtime_mail_is_caught_up_in_order_and_what_is_too_old_is_held(
    polling: Poller, store: Store, server: FakeImapServer
) -> None:
    """By the time at which the server got it, whatever its Date says; of old mail only the header is read."""
    for number, days in enumerate((400, 8, 6, 3, 0)):
        when = datetime.fromtimestamp(NOW / 1000, UTC) - timedelta(days=days)
        server.inbox.append(Message(mail(number), date=when.strftime('"%d-%b-%Y %H:%M:%S +0000"')))
    polling.run()
    records, _ = store.messages.page(limit=10)
    found = {record.message_id: record for record in records}
    assert [found[f"<q{n}@example.test>"].state for n in range(5)] == [State.HELD] * 2 + [State.RECEIVED] * 3
    assert "EMAIL_MAX_AGE_DAYS (7)" in found["<q1@example.test>"].reason
    assert b"This is question" not in (store.messages.source(found["<q1@example.test>"].id) or b"")
    order = sorted(r.id for r in records if r.state is State.RECEIVED)
    assert order == [found[f"<q{n}@example.test>"].id for n in (2, 3, 4)]
    assert ["\\Seen" in message.flags for message in server.inbox] == [False] * 2 + [True] * 3
    again = polling.run()
    assert (again.accepted, again.duplicates) == (0, 0)


def _record(state: State, number: int = 0) -> Record:
    return Record(
        id=new_id(NOW + number),
        state=state,
        thread_id=f"<{number}@example.test>",
        received_at=NOW,
        updated_at=NOW - 60_000,
        reply_message_id=f"<ours-{number}@cleo.test>",
    )


def _answer(record: Record) -> OutboundEmail:
    source = f"Message-ID: {record.reply_message_id}\r\n\r\nhello\r\n".encode()
    return OutboundEmail(record.reply_message_id, "agent@cleo.test", ("anna@example.test",), source)
