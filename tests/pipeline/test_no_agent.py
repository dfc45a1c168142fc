"""Without CLEO_AGENT mail is taken in and held, and nobody is answered."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from cleo_email.agents.spec import NO_AGENT
from cleo_email.cli.check import examine_agent
from cleo_email.errors import SubmissionUnavailable
from cleo_email.mail.model import Receipt
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.screening.dkim import Finding, Outcome, SenderCheck
from cleo_email.screening.screen import Policy
from cleo_email.settings import read_settings
from cleo_email.store import State
from tests.support.bench import FROM, Bench
from tests.support.channel import Rig
from tests.support.mails import AGENT, mail

ENV = {
    "ENABLED_CLIENTS": "email",
    "EMAIL_SMTP_HOST": "127.0.0.1",
    "EMAIL_SMTP_PORT": "9",
    "EMAIL_USER": "agent@example.com",
    "EMAIL_PASSWORD": "hunter2",
}


@pytest.fixture
def bench(redis_url: str) -> Bench:
    bench = Bench(redis_url)
    bench.answering.agent, bench.intake.has_agent = None, False
    return bench


def with_agent(bench: Bench) -> None:
    bench.answering.agent, bench.intake.has_agent = bench.agent, True


def test_it_is_held_with_what_to_do_and_answered_once_it_is_released(bench: Bench) -> None:
    accepted = bench.receive(mail(1))
    assert accepted.state is State.RECEIVED, "the web process may do without CLEO_AGENT"
    bench.work(accepted.thread_id)
    record = bench.record(accepted)
    assert (record.state, record.tries) == (State.HELD, 0)
    assert "set CLEO_AGENT" in record.reason
    assert "cleo-email messages release" in record.reason
    assert bench.smtp.sent == []
    with_agent(bench)
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.HELD, "a person decides"
    bench.deciding.release(accepted.id, by="cli")
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert len(bench.agent.asked) == 1


def test_released_without_an_agent_it_is_held_again(bench: Bench) -> None:
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    bench.deciding.release(accepted.id, by="cli")
    bench.work(accepted.thread_id)
    assert (bench.record(accepted).state, bench.record(accepted).reason) == (State.HELD, NO_AGENT)


def test_polled_mail_is_held_from_the_start_so_that_nobody_takes_it_for_seen_to(bench: Bench) -> None:
    accepted = bench.intake.accept(IncomingMail(mail(1), "imap", mailbox="1/1"))
    assert accepted.state is State.HELD
    assert bench.record(accepted).reason == NO_AGENT
    with_agent(bench)
    bench.deciding.release(accepted.id, by="cli")
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED


def test_what_a_rule_holds_or_ignores_keeps_its_own_reason(redis_url: str) -> None:
    bench = Bench(redis_url, policy=Policy(frozenset({FROM.addr}), allowed_senders=("@example.org",)))
    bench.intake.has_agent = False
    stranger = bench.intake.accept(IncomingMail(mail(1), "imap", mailbox="1/1"))
    assert "EMAIL_ALLOWED_SENDERS" in bench.record(stranger).reason
    machine = mail(2, extra="Auto-Submitted: auto-replied")
    assert bench.intake.accept(IncomingMail(machine, "imap", mailbox="1/2")).state is State.IGNORED


def test_an_answer_that_is_kept_already_leaves_all_the_same(bench: Bench) -> None:
    with_agent(bench)
    bench.smtp.script = [SubmissionUnavailable("away"), Receipt("250 ok")]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.SUBMITTING
    bench.answering.agent = None
    bench.clock.pass_(3600)
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED


def test_the_sender_is_proven_first_where_that_is_asked_for(redis_url: str) -> None:
    """Else a release for want of an agent would also let a forged mail through."""
    bench = Bench(redis_url, sender_check=cast("SenderCheck", _NothingProven()))
    bench.answering.agent, bench.intake.has_agent = None, False
    accepted = bench.intake.accept(IncomingMail(mail(1), "imap", mailbox="1/1"))
    bench.work(accepted.thread_id)
    assert (bench.record(accepted).state, bench.record(accepted).reason) == (State.HELD, "nobody proves it")


class _NothingProven:
    def check(self, _source: bytes, _mail: object) -> Finding:
        return Finding(Outcome.UNPROVEN, "nobody proves it")


@pytest.mark.parametrize("value", [None, "", "  "])
def test_check_says_it(value: str | None) -> None:
    settings = read_settings({**ENV, **({} if value is None else {"CLEO_AGENT": value})}, dotenv=None)
    (finding,) = examine_agent(settings)
    assert finding.level == "warning"
    assert "set CLEO_AGENT" in finding.text
    assert "held" in finding.text


@pytest.mark.servers("dovecot")
def test_a_first_run_on_a_real_mailbox_answers_nobody(tmp_path: Path, redis_url: str) -> None:
    body = {"from_address": "anna@example.test", "to_address": AGENT, "subject": "s", "body": "b"}
    with Rig(tmp_path, redis_url, env={"CLEO_AGENT": ""}) as rig:
        rig.start_web()
        worker = rig.start_worker()
        rig.deliver(mail(1))
        assert rig.post(body)[0] == 202
        status, started = rig.post(
            {"workflow_id": "w", "user_ids": ["b@example.test"], "channel": "email"}, "/workflows"
        )
        assert status == 202, started
        rig.wait(lambda: len(rig.records("held")) == 3)
        assert rig.post({"to": "anna@example.test", "subject": "s", "body": "sent"}, "/email/send")[0] == 202
        rig.wait(lambda: len(rig.replies()) == 1)
        assert {record["reason"] for record in rig.records("held")} == {NO_AGENT}
        assert rig.log.read_text().count("CLEO_AGENT") - rig.log.read_text().count(NO_AGENT) == 2, "one line"
        worker.terminate()
        worker.wait(30)
        rig.start_worker(CLEO_AGENT="echo")
        ids = [record["id"] for record in rig.records("held")]
        assert rig.run("messages", "release", *ids).returncode == 0
        rig.wait(lambda: len(rig.replies()) == 4)
        assert "CLEO_AGENT is echo" in rig.log.read_text()
