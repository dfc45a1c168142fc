"""A bounce is attached to the delivery that it reports on, and never shown to the agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from email import message_from_bytes
from pathlib import Path
from typing import cast

import pytest
from redis import Redis

from cleo_email.errors import SubmissionUncertain, WrongState
from cleo_email.imap.mailbox import Mailbox
from cleo_email.imap.values import ACCEPTED, ANSWERED, FAILED, REPLIED, SEEN, MailboxStatus
from cleo_email.mail.model import Address, Receipt
from cleo_email.pipeline.receive import ReportDesk
from cleo_email.pipeline.send import NewMail, Sender
from cleo_email.pipeline.upkeep import Upkeep
from cleo_email.store import Accepted, Record, State, Store
from tests.support.agent_server import AgentServer
from tests.support.bench import FROM, Bench
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
        assert after["state"] == "failed"
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
    assert record.state is (State.REPLIED if proof is reply else State.FAILED)
    assert bench.store.filing.due(bench.clock.now) == [accepted.id], "a keyword, our copy"
    assert record.filing_begun > 0, "Sent is searched first: the server may have filed it by itself"
    assert bench.store.settling.due(bench.clock.now + 10**9) == []


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

    def connect(self) -> None:
        return

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
    assert mailbox.flags[1] == ((SEEN, ANSWERED, ACCEPTED, REPLIED) if proof is reply else (ACCEPTED, FAILED))


def test_a_bounce_of_a_mail_that_was_filed_long_ago_makes_no_second_copy(redis_url: str) -> None:
    bench = Bench(redis_url)
    accepted = bench.receive(mail(1), mailbox="1/1")
    bench.work(accepted.thread_id)
    bench.store.mailbox.set_sent_mode("client")
    mailbox = FakeMailbox()
    upkeep = Upkeep(
        *(bench.store, cast("Mailbox", mailbox), bench.intake),
        save_sent=True,
        max_bytes=10**6,
        clock=bench.clock,
        timer=lambda: 0.0,
    )
    upkeep.run()
    assert len(mailbox.sent) == 1
    bounce(bench, bench.record(accepted).reply_message_id)
    assert bench.record(accepted).reason.startswith("bounced")
    upkeep.run()
    assert len(mailbox.sent) == 1
    assert mailbox.flags[1] == (ACCEPTED, FAILED)


# --- an answer that came back -----------------------------------------------------------------------------


def report(message_id: str, *groups: tuple[str, str, str], number: int = 1) -> bytes:
    """A delivery status with (recipient, action, status) for each group."""
    fields = "\n\n".join(
        f"Final-Recipient: rfc822; {who}\nAction: {action}\nStatus: {status}\n"
        f"Diagnostic-Code: smtp; {status} said the server"
        for who, action, status in groups
    )
    old = BOUNCE[BOUNCE.index("Final-Recipient") : BOUNCE.index("\n\n--b\nContent-Type: text/rfc822")]
    text = BOUNCE.replace(old, fields).replace("bounce1", f"bounce{number}").format(message_id=message_id)
    return text.replace("\n", "\r\n").encode()


ANN, BOB = "ann@example.test", "bob@example.test"


def sent_to(bench: Bench, *recipients: str) -> Record:
    sender = Sender(bench.store, bench.wake, bench.signer, FROM, max_bytes=10**6, clock=bench.clock)
    sent = sender.send(NewMail(to=[Address(one) for one in recipients], subject="News", body="Hello"))
    bench.work(sent.thread_id)
    return bench.store.messages.get(sent.id)


def come_back(bench: Bench, record: Record, *groups: tuple[str, str, str], number: int = 1) -> Record:
    bench.receive(report(record.reply_message_id, *groups, number=number), envelope_from="")
    return bench.store.messages.get(record.id)


def test_retry_sends_the_kept_bytes_again_and_does_not_ask_the_agent(redis_url: str) -> None:
    bench = Bench(redis_url)
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    bounce(bench, bench.record(accepted).reply_message_id)
    record = bench.record(accepted)
    assert record.state is State.FAILED
    assert bench.store.messages.page(state="failed")[0][0].id == accepted.id
    for part in ("source", "answer", "answer:bytes"):
        assert bench.redis.ttl(f"cleo:m:{accepted.id}:{part}") == -1, "kept until a person has decided"
    bench.deciding.retry(accepted.id, by="cli")
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert len(bench.agent.asked) == 1
    assert bench.smtp.sent[0] == bench.smtp.sent[1]
    # It bounces once more.
    bench.receive(
        report(record.reply_message_id, ("customer1@example.test", "failed", "5.2.1"), number=2),
        envelope_from="",
    )
    assert bench.record(accepted).state is State.FAILED


def test_a_bounce_after_the_bytes_were_dropped_asks_nobody(redis_url: str) -> None:
    bench = Bench(redis_url)
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    bench.redis.delete(*(f"cleo:m:{accepted.id}:{part}" for part in ("source", "answer", "answer:bytes")))
    bounce(bench, bench.record(accepted).reply_message_id)
    with pytest.raises(WrongState, match="bounced, and its bytes were dropped"):
        bench.deciding.retry(accepted.id, by="cli")
    bench.deciding.dismiss(accepted.id, by="cli")
    assert bench.record(accepted).state is State.IGNORED


def test_one_of_two_that_bounces_is_no_failure_and_gets_it_again_alone(redis_url: str) -> None:
    bench = Bench(redis_url)
    record = come_back(bench, sent_to(bench, ANN, BOB), (BOB, "failed", "5.1.1"))
    assert record.state is State.REPLIED
    assert record.reason.startswith("bounced: 5.1.1 bob@example.test")
    assert record.addresses("bounced") == [BOB]
    bench.deciding.retry(record.id, by="cli")
    bench.work(record.thread_id)
    assert bench.smtp.sent[-1].recipients == (BOB,)
    assert bench.smtp.sent[-1].source == bench.smtp.sent[0].source
    assert bench.store.messages.get(record.id).state is State.REPLIED
    assert bench.deciding.retry(record.id, by="cli").state is State.REPLIED
    bench.work(record.thread_id)
    assert len(bench.smtp.sent) == 2, "it was decided before"


@pytest.mark.parametrize("together", [True, False])
def test_two_of_two_that_bounce_are_a_failure(redis_url: str, together: bool) -> None:
    bench = Bench(redis_url)
    record = sent_to(bench, ANN, BOB)
    groups = [(ANN, "failed", "5.1.1"), (BOB.upper(), "failed", "5.2.1")]
    if together:
        record = come_back(bench, record, *groups)
    else:
        for number, group in enumerate(groups):
            record = come_back(bench, record, group, number=number)
    assert record.state is State.FAILED
    assert record.addresses("bounced") == [ANN, BOB]


@pytest.mark.parametrize(
    ("action", "status"), [("delayed", "4.4.1"), ("delivered", "2.0.0"), ("relayed", "2.0.0")]
)
def test_what_is_no_bounce_fails_nothing(redis_url: str, action: str, status: str) -> None:
    bench = Bench(redis_url)
    record = come_back(bench, sent_to(bench, ANN), (ANN, action, status))
    assert record.state is State.REPLIED
    with pytest.raises(WrongState):
        bench.deciding.retry(record.id, by="cli")
    record = come_back(bench, record, (ANN, "failed", "5.4.7"), number=2)
    assert record.state is State.FAILED
    record = come_back(bench, record, (ANN, action, status), number=3)
    assert record.state is State.FAILED, "older news"


def test_one_delayed_and_one_failed(redis_url: str) -> None:
    bench = Bench(redis_url)
    record = come_back(bench, sent_to(bench, ANN, BOB), (ANN, "delayed", "4.4.1"), (BOB, "failed", "5.1.1"))
    assert record.state is State.REPLIED
    assert record.addresses("bounced") == [BOB]


def test_a_lone_recipient_who_forwards_is_meant_by_any_address(redis_url: str) -> None:
    bench = Bench(redis_url)
    record = come_back(bench, sent_to(bench, ANN), ("ann@private.example", "failed", "5.1.1"))
    assert record.state is State.FAILED
    record = come_back(bench, sent_to(bench, ANN, BOB), ("ann@private.example", "failed", "5.1.1"), number=2)
    assert record.state is State.REPLIED, "nobody knows which of the two"


def test_a_forged_bounce_sends_nothing_and_takes_nothing_away(redis_url: str) -> None:
    bench = Bench(redis_url)
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    ours = bench.record(accepted).reply_message_id
    bounce(bench, ours)
    bench.clock.pass_(3600)
    for thread in bench.store.conversations.due(bench.clock.now, 100):
        bench.work(thread)
    assert len(bench.smtp.sent) == 1
    # The customer answers: it did arrive, and the agent sees what it said.
    follow = bench.receive(mail(2, sender="customer1@example.test", references=f"<q1@example.test> {ours}"))
    assert follow.thread_id == accepted.thread_id
    bench.work(follow.thread_id)
    assert [turn.role for turn in bench.agent.asked[-1].history] == ["user", "assistant"]
    record = bench.record(accepted)
    assert record.state is State.REPLIED
    assert record.reason == "a reply to it shows that it arrived"
    with pytest.raises(WrongState):
        bench.deciding.retry(accepted.id, by="cli")


def test_a_bounce_of_an_id_that_we_never_gave_changes_nothing(redis_url: str) -> None:
    bench = Bench(redis_url)
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    bounce(bench, bench.record(accepted).reply_message_id.replace("cleo-", "cleo-x"))
    assert bench.record(accepted).state is State.REPLIED
