"""One mail that cannot be fetched or read keeps ``recover`` from no other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from redis import Redis

from cleo_email.imap.mailbox import Mailbox
from cleo_email.pipeline.receive import IncomingMail, Receiver
from cleo_email.pipeline.recover import Recoverer, Recovery
from cleo_email.screening.screen import Policy
from cleo_email.store import State, Store
from cleo_email.store.queue import WakeQueue
from tests.support.bench import signer_on
from tests.support.imap_server import FakeImapServer, HangUp, Message, Session
from tests.support.mails import mail

POLICY = Policy(frozenset({"agent@cleo.test"}))
DATE = '"24-Nov-2026 09:00:00 +0000"'
NOW = 1_795_521_600_000  # 24 November 2026, noon


@pytest.fixture
def server() -> Iterator[FakeImapServer]:
    with FakeImapServer() as server:
        yield server


@pytest.fixture
def store(redis_url: str) -> Store:
    return Store(Redis.from_url(redis_url))


@pytest.fixture
def recovering(server: FakeImapServer, store: Store, redis_url: str) -> Iterator[Recoverer]:
    redis = Redis.from_url(redis_url)
    receiver = Receiver(store, WakeQueue(redis), POLICY, signer_on(redis), max_age_days=7, retention_days=90)
    with Mailbox(server.account(), ssl_context=server.ssl_context()) as mailbox:
        yield Recoverer(store, mailbox, receiver, max_bytes=10**6, clock=lambda: NOW)


THE_SECOND_FAILED = {
    "<q1@example.test>": State.RECEIVED,
    "": State.FAILED,
    "<q3@example.test>": State.RECEIVED,
}


def states(store: Store) -> dict[str, State]:
    return {record.message_id: record.state for record in store.messages.page()[0]}


def recover(recovering: Recoverer, *, apply: bool) -> Recovery:
    return recovering.run(days=7, apply=apply, progress=lambda _done, _all: None)


@pytest.mark.parametrize("item", ["RFC822.SIZE", "BODY.PEEK[HEADER]", "BODY.PEEK[]"])
def test_a_mail_that_the_server_cannot_deliver_is_recorded_and_the_others_are_taken_up(
    recovering: Recoverer, store: Store, server: FakeImapServer, item: str
) -> None:
    def hangs_up(session: Session, tag: str, rest: str) -> None:
        if item in rest and 2 in {uid for uid, _ in session._chosen(rest)}:
            raise HangUp
        session.usual(tag, rest)

    server.inbox.extend(Message(mail(number), date=DATE) for number in (1, 2, 3))
    server.answers["UID FETCH"] = hangs_up
    dry = recover(recovering, apply=False)
    assert store.messages.page()[0] == []
    assert dry.failed == (0 if item == "BODY.PEEK[]" else 1), "the whole of a mail is not fetched for nothing"
    done = recover(recovering, apply=True)
    assert (done.taken_up, done.failed) == (2, 1)
    assert sorted(line.split("  ")[0].strip() for line in done.subjects) == ["failed", "taken up", "taken up"]
    assert states(store) == THE_SECOND_FAILED


def test_a_mail_that_cannot_be_read_is_recorded_and_the_others_are_taken_up(
    recovering: Recoverer, store: Store, server: FakeImapServer
) -> None:
    unreadable = b"X: 1\r\n" * 20_000 + mail(2)
    server.inbox.extend(Message(source, date=DATE) for source in (mail(1), unreadable, mail(3)))
    done = recover(recovering, apply=True)
    assert (done.taken_up, done.failed) == (2, 1)
    assert states(store) == THE_SECOND_FAILED


def test_the_dry_run_foretells_what_apply_does(
    recovering: Recoverer, store: Store, server: FakeImapServer
) -> None:
    """Known to Redis, held or ignored by a rule: none of them is taken up, and the dry run says so."""
    without_id = mail(4).replace(b"Message-ID: <q4@example.test>\r\n", b"")
    assert b"Message-ID" not in without_id
    unreadable = b"X: 1\r\n" * 20_000 + mail(5)
    automatic = mail(2, extra="Auto-Submitted: auto-replied")
    opened, large = mail(6), mail(7, text="x" * 10**6)
    for source in (mail(1), without_id):
        recovering.receiver.accept(IncomingMail(source, "basic"))
    sources = (mail(1), automatic, mail(3), without_id, unreadable, large)
    server.inbox.extend(Message(source, date=DATE) for source in sources)
    server.inbox.append(Message(opened, date=DATE, flags={"\\Seen"}))
    records = len(store.messages.page()[0])
    dry = recover(recovering, apply=False)
    assert len(store.messages.page()[0]) == records == 2
    done = recover(recovering, apply=True)
    assert dataclasses.replace(dry, applied=True) == done
    found = (done.known, done.ignored, done.taken_up, done.failed, done.held, done.unknown)
    assert found == (2, 1, 1, 1, 1, 1)
    again = recover(recovering, apply=False)
    assert (again.known, again.taken_up) == (7, 0)
