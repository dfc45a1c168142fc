"""A bounce is attached to the delivery that it reports on, and never shown to the agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from email import message_from_bytes
from pathlib import Path
from typing import cast

import pytest
from redis import Redis

from cleo_email.errors import SubmissionUncertain
from cleo_email.imap.mailbox import Mailbox
from cleo_email.imap.values import ACCEPTED, ANSWERED, REPLIED, SEEN, MailboxStatus
from cleo_email.mail.model import Receipt
from cleo_email.pipeline.receive import ReportDesk
from cleo_email.pipeline.upkeep import Upkeep
from cleo_email.store import Accepted, State, Store
from tests.support.agent_server import AgentServer
from tests.support.bench import Bench
from tests.support.channel import Rig
from tests.support.mails import mail

BOUNCE = """\
Return-Path: <>
From: Mail Delivery System <MAILER-DAEMON@mx.example.test>
To: agent@cleo.test
Subject: Undelivered Mail Returned to Sender
Message-ID: <bounce1@mx.example.test>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

I'm sorry to have to inform you that your message could not be delivered.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.test

Final-Recipient: rfc822; customer1@example.test
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 user unknown

--b
Content-Type: text/rfc822-headers

From: agent@cleo.test
Message-ID: {message_id}

--b--
"""


@pytest.mark.servers("dovecot")
def test_a_bounce_lands_on_the_record_of_the_delivery(tmp_path: Path, redis_url: str) -> None:
    with AgentServer() as agent, Rig(tmp_path, redis_url, env={"CLEO_AGENT": agent.url}) as rig:
        rig.start_web()
        rig.start_worker()
        rig.deliver(mail(1))
        rig.wait(lambda: rig.records("replied"))
        (record,) = rig.records("replied")
        rig.deliver(BOUNCE.format(message_id=record["reply_message_id"]).replace("\n", "\r\n").encode())
        rig.wait(lambda: rig.records("ignored"))
        after = rig.get(f"/email/messages/{record['id']}")[1]
        assert after["state"] == "replied"
        assert after["reason"].startswith("bounced: 5.1.1 customer1@example.test: ")
        assert "user unknown" in after["reason"]
        assert after["history"][-1]["reason"] == after["reason"]
        assert len(agent.requests()) == 1
        assert len(rig.replies()) == 1


def bounce(bench: Bench, message_id: str) -> None:
    bench.receive(BOUNCE.format(message_id=message_id).replace("\n", "\r\n").encode(), envelope_from="")


def reply(bench: Bench, message_id: str) -> None:
    bench.receive(mail(2, sender="customer1@example.test", references=f"<q1@example.test> {message_id}"))


def uncertain(bench: Bench) -> Accepted:
    bench.smtp.script = [SubmissionUncertain("connection lost"), Receipt("250")]
    accepted = bench.receive(mail(1), mailbox="1/1")
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.UNCERTAIN
    return accepted


@pytest.mark.parametrize("proof", [bounce, reply])
def test_the_mailbox_is_told_of_what_a_report_or_a_reply_proves(
    redis_url: str, proof: Callable[[Bench, str], None]
) -> None:
    bench = Bench(redis_url)
    accepted = uncertain(bench)
    proof(bench, bench.record(accepted).reply_message_id)
    record = bench.record(accepted)
    assert record.state is State.REPLIED
    assert bench.store.filing.due(bench.clock.now) == [accepted.id], "\\Answered, a keyword, our copy"
    assert record.filing_begun > 0, "Sent is searched first: the server may have filed it by itself"
    assert bench.store.settling.due(bench.clock.now + 10**9) == []


def test_a_bounce_of_a_mail_that_was_filed_long_ago_asks_for_no_second_copy(redis_url: str) -> None:
    bench = Bench(redis_url)
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    bench.store.filing.done(accepted.id)
    bounce(bench, bench.record(accepted).reply_message_id)
    assert bench.record(accepted).reason.startswith("bounced")
    assert bench.store.filing.due(bench.clock.now + 10**9) == []


def test_without_a_mailbox_nothing_waits_to_be_filed(redis_url: str) -> None:
    bench = Bench(redis_url)
    accepted = uncertain(bench)
    with Redis.from_url(redis_url) as redis:
        store = Store(redis)
        ReportDesk(store, clock=bench.clock).settle([accepted.id])
        assert store.messages.get(accepted.id).state is State.REPLIED
        assert store.filing.due(bench.clock.now + 10**9) == []


class FakeMailbox:
    """``sent`` are the Message-IDs in Sent."""

    def __init__(self, *sent: str) -> None:
        self.sent = list(sent)
        self.flags: dict[int, tuple[str, ...]] = {}

    def open(self) -> MailboxStatus:
        return MailboxStatus(1, read_only=False, keywords_allowed=True, exists=1)

    def add_flags(self, uids: Sequence[int], flags: Sequence[str]) -> set[int]:
        self.flags |= {uid: tuple(flags) for uid in uids}
        return set(uids)

    def remove_flags(self, uids: Sequence[int], flags: Sequence[str]) -> None:
        assert not {*flags} & {flag for uid in uids for flag in self.flags.get(uid, ())}

    def find_in_sent(self, message_id: str, **_: object) -> bool:
        return message_id in self.sent

    def append_sent(self, source: bytes, when: datetime) -> None:
        self.sent.append(str(message_from_bytes(source)["Message-ID"]))


@pytest.mark.parametrize("filed_by_server", [False, True])
@pytest.mark.parametrize("proof", [bounce, reply])
def test_what_is_proven_to_be_sent_lies_in_sent_exactly_once(
    redis_url: str, proof: Callable[[Bench, str], None], filed_by_server: bool
) -> None:
    bench = Bench(redis_url)
    accepted = uncertain(bench)
    ours = bench.record(accepted).reply_message_id
    # Of this server it is known that it does not file; a copy there may be of a process that died.
    bench.store.mailbox.set_sent_mode("client")
    mailbox = FakeMailbox(*[ours] * filed_by_server)
    proof(bench, ours)
    upkeep = Upkeep(
        *(bench.store, cast("Mailbox", mailbox), bench.intake),
        save_sent=True,
        max_bytes=10**6,
        clock=bench.clock,
        timer=lambda: 0.0,
    )
    for _ in range(2):
        upkeep.run()
        assert accepted.id not in bench.store.filing.due(bench.clock.now), "nothing is left to do"
    assert mailbox.sent.count(ours) == 1
    assert mailbox.flags[1] == (SEEN, ANSWERED, ACCEPTED, REPLIED)
