"""A poll that takes long lets new mail and the upkeep in between; what it has done is kept."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from redis import Redis

from cleo_email.errors import MailboxUnavailable, StoreUnavailable
from cleo_email.imap.mailbox import Mailbox
from cleo_email.pipeline import poll
from cleo_email.pipeline.poll import Poller
from cleo_email.pipeline.receive import Receiver
from cleo_email.screening.screen import Policy
from cleo_email.store import Record, Store
from cleo_email.store.queue import WakeQueue
from tests.support.bench import signer_on, upkeep_of
from tests.support.imap_server import FakeImapServer, Message, Session
from tests.support.mails import mail

MAILS = 12


class LongPoll:
    """A mailbox with more mail than one pass should take, in batches of three, on a clock that hurries."""

    def __init__(self, server: FakeImapServer, mailbox: Mailbox, redis: Redis) -> None:
        self.server, self.redis, self.store = server, redis, Store(redis, account="test")
        wake = WakeQueue(redis)
        self.receiver = Receiver(
            *(self.store, wake, Policy(frozenset({"agent@cleo.test"})), signer_on(redis)),
            max_age_days=7,
            retention_days=90,
        )
        self.upkeep = upkeep_of(self.store, mailbox, self.receiver)
        self.polling = Poller(
            *(self.store, mailbox, self.receiver, self.upkeep),
            max_bytes=10**6,
            max_age_days=7,
            timer=itertools.count().__next__,
        )
        self.upkeep.timer = itertools.count().__next__
        for number in range(MAILS):
            self.deliver(number)

    def deliver(self, number: int, **kind: str) -> None:
        today = datetime.now(UTC).strftime('"%d-%b-%Y %H:%M:%S +0000"')
        self.server.inbox.append(Message(mail(number, **kind), date=today))  # type: ignore[arg-type]

    def at_fetch(self, number: int, do: Callable[[], None]) -> None:
        """Do it while that batch of whole mails is fetched."""
        batches = itertools.count(1)

        def fetch(session: Session, tag: str, rest: str) -> None:
            if "BODY.PEEK[]" in rest and next(batches) == number:
                do()
            session.do_uid_fetch(tag, rest)

        self.server.answers["UID FETCH"] = fetch

    def order(self) -> list[int]:
        """The numbers of the mails as they were accepted."""
        records: list[Record] = sorted(self.store.messages.page(limit=100)[0], key=lambda one: one.id)
        return [int(one.message_id.partition("@")[0][2:]) for one in records]


@pytest.fixture
def desk(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LongPoll]:
    monkeypatch.setattr(poll, "BATCH_MESSAGES", 3)
    monkeypatch.setattr(poll, "LONG", 4)
    with (
        FakeImapServer() as server,
        Redis.from_url(redis_url) as redis,
        Mailbox(server.account(), ssl_context=server.ssl_context()) as mailbox,
    ):
        yield LongPoll(server, mailbox, redis)


def test_new_mail_is_taken_before_the_backlog(desk: LongPoll) -> None:
    desk.at_fetch(2, lambda: desk.deliver(50))
    assert desk.polling.run().accepted == MAILS + 1
    order = desk.order()
    assert order.index(50) < 7
    assert [number for number in order if number != 50] == list(range(MAILS))
    assert all("\\Seen" in message.flags for message in desk.server.inbox)
    assert desk.polling.run().accepted == 0


def test_mail_of_a_thread_that_waits_does_not_pass_it(desk: LongPoll) -> None:
    """The customer of the last mail in the backlog writes once more."""
    last = f"<q{MAILS - 1}@example.test>"

    def more() -> None:
        desk.deliver(51, sender=f"customer{MAILS - 1}@example.test", references=last)
        desk.deliver(52)

    desk.at_fetch(2, more)
    desk.polling.run()
    order = desk.order()
    assert order.index(52) < 8
    assert order[-2:] == [MAILS - 1, 51]
    waiting = desk.redis.lrange(f"cleo:conversation:{last}", 0, -1)
    assert len(waiting) == 2  # type: ignore[arg-type]


def test_mail_of_an_earlier_thread_passes_the_backlog(desk: LongPoll) -> None:
    desk.deliver(90)
    desk.polling.run()
    for number in range(30, 30 + MAILS):
        desk.deliver(number)

    def more() -> None:
        desk.deliver(91, sender="customer90@example.test", references="<q90@example.test>")
        desk.deliver(92, sender="customer90@example.test", references="<q90@example.test> <q91@example.test>")

    desk.at_fetch(2, more)
    assert desk.polling.run().accepted == MAILS + 2
    order = desk.order()[MAILS + 1 :]
    assert order.index(91) < order.index(92) < 9
    assert [number for number in order if number < 90] == list(range(30, 30 + MAILS))


def test_however_much_mail_comes_all_of_it_passes_the_backlog(desk: LongPoll) -> None:
    desk.at_fetch(2, lambda: [desk.deliver(number) for number in range(50, 50 + MAILS)] and None)
    desk.polling.run()
    order = desk.order()
    assert max(order.index(number) for number in range(50, 50 + MAILS)) < 6 + MAILS


def test_where_the_backlog_cannot_be_read_ahead_only_mail_that_answers_none_passes_it(desk: LongPoll) -> None:
    def refused(session: Session, tag: str, rest: str) -> None:
        if "REFERENCES" in rest:
            session.send(f"{tag} NO not these")
        else:
            session.do_uid_fetch(tag, rest)

    batches = itertools.count(1)

    def fetch(session: Session, tag: str, rest: str) -> None:
        if "BODY.PEEK[]" in rest and next(batches) == 2:
            desk.deliver(51, references="<elsewhere@example.test>")
            desk.deliver(52)
        refused(session, tag, rest)

    desk.server.answers["UID FETCH"] = fetch
    assert desk.polling.run().accepted == MAILS + 2
    assert desk.order().index(52) < 8
    assert desk.order()[-1] == 51


def test_answered_mail_is_flagged_in_between(desk: LongPoll, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    run = desk.upkeep.run

    def noted(*seconds: float) -> int:
        turns.append(desk.store.messages.count(desk.store.messages.page(limit=1)[0][0].state))
        return run(*seconds)

    monkeypatch.setattr(desk.upkeep, "run", noted)
    desk.polling.run()
    assert turns == [3, 6, 9, MAILS]


def test_what_a_long_pass_has_done_is_kept_when_redis_fails(
    desk: LongPoll, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.server.permanent_flags = "\\Seen \\Answered"  # nothing but the store knows what is accepted
    accept, batches = desk.receiver.accept_each, itertools.count(1)

    def failing(*mails: object, **how: object) -> object:
        if next(batches) == 5:
            raise StoreUnavailable("gone")
        return accept(*mails, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(desk.receiver, "accept_each", failing)
    with pytest.raises(StoreUnavailable):
        desk.polling.run()
    taken = desk.order()
    assert 3 <= len(taken) < MAILS
    monkeypatch.setattr(desk.receiver, "accept_each", accept)
    desk.deliver(53)
    again = desk.polling.run()
    assert again.accepted == MAILS + 1 - len(taken)
    assert again.duplicates <= 3, "only the batch that was not flagged"
    assert desk.order()[:MAILS] == list(range(MAILS))


def test_a_mailbox_that_is_made_anew_during_a_long_pass_gives_no_mail_twice(desk: LongPoll) -> None:
    """The UIDs that wait are those of other mails then."""

    def renewed() -> None:
        desk.server.uidvalidity += 1
        desk.server.inbox.reverse()
        for uid, message in enumerate(desk.server.inbox, 1):
            message.uid = uid

    upkeep, turns = desk.upkeep.run, itertools.count()

    def at_upkeep(*seconds: float) -> int:
        if next(turns) == 0:
            renewed()
            desk.polling.mailbox.close()
        return upkeep(*seconds)

    desk.upkeep.run = at_upkeep  # type: ignore[method-assign]
    with pytest.raises(MailboxUnavailable, match="UIDVALIDITY"):
        desk.polling.run()
    desk.polling.run(force=True)
    assert sorted(desk.order()) == list(range(MAILS))


def test_large_mail_is_not_fetched_ahead(desk: LongPoll, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else several of 25 MB would be in memory at once."""
    monkeypatch.setattr(poll, "BATCH_OCTETS", 100)
    accept = desk.receiver.accept_each
    fetched: list[int] = []

    def noted(mails: list[object], **how: object) -> object:
        asked = [line for line in desk.server.sent("UID FETCH") if "BODY.PEEK[]" in line]
        fetched.append(len(asked) - len(desk.order()))
        return accept(mails, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(desk.receiver, "accept_each", noted)
    assert desk.polling.run().accepted == MAILS
    assert max(fetched) == 1


def test_a_poll_that_a_person_asked_for_reads_everything_and_tells_how_far_it_is(desk: LongPoll) -> None:
    told: list[tuple[int, int]] = []
    desk.polling.run(force=True, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (MAILS, MAILS)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) >= 4
