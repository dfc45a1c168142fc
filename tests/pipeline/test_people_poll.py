"""What a poll does about people, on a real server: flags, copies in Sent, and the order of looking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from imapclient import IMAPClient  # type: ignore[import-untyped]

from cleo_email.errors import AgentError, MailboxUnavailable
from cleo_email.imap.folders import Folders
from cleo_email.imap.mailbox import Mailbox
from cleo_email.mail.model import Answer
from cleo_email.pipeline.logins import LOGINS, LoginsUsedUp, limit_logins
from cleo_email.pipeline.poll import Poller
from cleo_email.pipeline.upkeep import Upkeep
from cleo_email.store import Record, State
from tests.support import dovecot as dovecot_module
from tests.support.dovecot import Dovecot
from tests.support.mails import AGENT, mail
from tests.support.people import ImapHands, PeopleBench, written

pytestmark = pytest.mark.servers("dovecot")
CUSTOMER = "customer1@example.test"


class Desk(PeopleBench):
    """A bench with the whole mailbox: the inbox is polled, and upkeep flags and files."""

    def __init__(self, url: str, server: Dovecot, client: IMAPClient) -> None:
        context, account = server.ssl_context(), server.account(AGENT)
        self.server, self.client = server, client
        self.imap = Folders(account, ssl_context=context)
        super().__init__(url, self.imap, ImapHands(client))
        self.mailbox = Mailbox(account, ssl_context=context)
        upkeep = Upkeep(
            *(self.store, self.mailbox, self.intake),
            save_sent=True,
            max_bytes=10**6,
            drafts=self.drafts,
            clock=self.clock,
        )
        self.poller = Poller(
            *(self.store, self.mailbox, self.intake, upkeep),
            max_bytes=10**6,
            max_age_days=7,
            clock=self.clock,
        )

    def poll(self) -> None:
        self.clock.pass_(70)
        self.redis.delete("cleo:rest:poll")
        self.poller.run()

    def deliver(self, source: bytes) -> None:
        self.client.append("INBOX", source, msg_time=None)

    def only(self) -> Record:
        (found,) = (one for one in self.store.messages.page()[0] if one.ingress == "imap")
        return self.store.messages.get(found.id)

    def flags(self) -> set[str]:
        self.client.select_folder("INBOX", readonly=True)
        ((_, items),) = self.client.fetch(self.client.search(), ["FLAGS"]).items()
        return {flag.decode() for flag in items[b"FLAGS"]}

    def sent(self) -> int:
        self.client.select_folder("Sent", readonly=True)
        return len(self.client.search())


@pytest.fixture
def desk(redis_url: str) -> Iterator[Desk]:
    if reason := dovecot_module.missing():
        pytest.skip(reason)
    with Dovecot({AGENT: "secret"}) as server:
        context, port = server.ssl_context(), server.account(AGENT).port
        with IMAPClient("localhost", port=port, ssl_context=context, timeout=20) as client:
            client.login(AGENT, "secret")
            desk = Desk(redis_url, server, client)
            desk.poll()
            yield desk
            desk.mailbox.close()
            desk.imap.close()


def test_a_mail_that_a_person_answered_is_not_unread_again(desk: Desk) -> None:
    desk.deliver(mail(1))
    desk.poll()
    assert "\\Seen" in desk.flags()
    desk.hands.file(written(CUSTOMER, "I see to it.", answers="<q1@example.test>"))
    desk.poll()
    desk.poll()
    assert desk.only().state is State.IGNORED
    assert {"\\Seen", "\\Answered"} <= desk.flags()
    assert desk.sent() == 1


def test_a_mail_whose_draft_was_deleted_is_unread_for_people(desk: Desk) -> None:
    desk.deliver(mail(1))
    desk.poll()
    desk.answer_waits(_accepted(desk))
    desk.poll()
    desk.hands.delete_drafts()
    for _ in range(3):
        desk.poll()
    assert desk.only().reason == "a person deleted the draft"
    assert "\\Seen" not in desk.flags()


def test_a_draft_that_a_person_sent_is_filed_once(desk: Desk) -> None:
    desk.deliver(mail(1))
    desk.poll()
    desk.answer_waits(_accepted(desk))
    desk.poll()
    (source,) = desk.hands.drafts()
    desk.hands.delete_drafts()
    desk.hands.file(source)
    for _ in range(3):
        desk.poll()
    assert desk.only().state is State.REPLIED
    assert {"\\Seen", "\\Answered", "$CleoReplied"} <= desk.flags()
    assert desk.sent() == 1


@pytest.mark.parametrize(
    ("step", "there", "not_there"),
    [
        (Answer("fine"), {"\\Seen", "\\Answered", "$CleoReplied"}, {"$CleoHeld"}),
        (AgentError("no"), {"$CleoFailed"}, {"\\Seen", "\\Answered"}),
        (Answer("fine", review="look"), {"\\Seen"}, {"\\Answered", "$CleoReplied"}),
    ],
)
def test_superseded_mail_is_flagged_as_the_mail_that_superseded_it(
    desk: Desk, step: Answer | Exception, there: set[str], not_there: set[str]
) -> None:
    """It is answered together with it, or waits with it: also where that one is superseded, too."""
    desk.agent.script = [Answer("one", review="look"), Answer("two", review="look"), step]
    for number in (1, 2, 3):
        desk.deliver(mail(number, sender=CUSTOMER, references="<q1@example.test>" * (number > 1)))
        desk.poll()
        (thread,) = {one.thread_id for one in desk.store.messages.page()[0]}
        desk.work(thread)
        desk.poll()
    reasons = [record.reason[:21] for record in desk.store.messages.page()[0]]
    assert reasons[1:] == ["superseded by message"] * 2
    desk.client.select_folder("INBOX", readonly=True)
    for items in desk.client.fetch(desk.client.search(), ["FLAGS"]).values():
        flags = {flag.decode() for flag in items[b"FLAGS"]}
        assert there <= flags
        assert not not_there & flags


def test_mail_and_answer_that_come_together(desk: Desk) -> None:
    desk.deliver(mail(1))
    desk.hands.file(written(CUSTOMER, "I see to it.", answers="<q1@example.test>"))
    desk.poll()
    record = desk.only()
    assert record.reason == "answered by a person"
    desk.work(record.thread_id)
    assert desk.agent.asked == []


def test_what_people_do_never_keeps_new_mail_from_being_read(desk: Desk, monkeypatch: Any) -> None:
    def away(*_: object) -> None:
        raise MailboxUnavailable("no route")

    monkeypatch.setattr(desk.imap, "sent_after", away)
    desk.deliver(mail(1))
    desk.poll()
    record = desk.only()
    assert record.state is State.RECEIVED
    assert desk.store.health.upkeep_faults() == [
        "nobody looks in Sent whether people have answered themselves (or set EMAIL_TAKEOVER=off): no route"
    ]
    desk.work(record.thread_id)
    assert desk.only().state is State.REPLIED


def test_its_logins_are_counted_with_those_of_the_poll(desk: Desk) -> None:
    desk.imap.before_login = lambda: limit_logins(desk.store.ticks)
    with suppress(LoginsUsedUp):
        for _ in range(LOGINS):
            desk.imap.close()
            desk.takeover.read_sent()
    desk.imap.close()
    desk.deliver(mail(1))
    desk.poll()
    record = desk.only()
    assert record.state is State.RECEIVED
    assert desk.store.health.upkeep_faults() == []
    desk.work(record.thread_id)
    assert desk.only().state is State.REPLIED


def _accepted(desk: Desk) -> Any:
    record = desk.only()

    class Found:
        id, thread_id = record.id, record.thread_id

    return Found
