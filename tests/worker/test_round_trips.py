"""How often the way of a mail goes to Redis and back: at 20 ms each that is what an answer waits for."""

from __future__ import annotations

import threading

import pytest
from flask.testing import FlaskClient
from redis import Redis
from redis.connection import AbstractConnection

from cleo_email.imap.mailbox import Mailbox
from cleo_email.pipeline.poll import Poller
from cleo_email.settings import read_settings
from cleo_email.store import State
from cleo_email.store.queue import ANSWERS, QueueReader, WakeQueue, queue
from cleo_email.web.app import create_app
from tests.support.bench import Bench, upkeep_of
from tests.support.folders import FakeFolders
from tests.support.imap_server import FakeImapServer, Message
from tests.support.mails import mail
from tests.support.people import FakeHands, PeopleBench
from tests.support.web import BASE

MAILS = 5


def post(client: FlaskClient, path: str, number: int) -> tuple[int, str]:
    """Post a mail and return the status and the id of its record."""
    fields = {"from_address": f"{number}@example.test", "to_address": "agent@example.test", "subject": "?"}
    fields |= {"body": "Hello", "message_id": f"<{number}@example.test>"}
    if path.endswith("raw"):
        answer = client.post(path, data=mail(number), content_type="message/rfc822")
    else:
        answer = client.post(path, json=fields)
    return answer.status_code, answer.get_json()["id"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What this thread has sent to Redis: signs of life, and what other tests have left, count elsewhere."""
    asked: list[object] = []
    send, own = AbstractConnection.send_packed_command, threading.get_ident()

    def spy(self: AbstractConnection, command: object, check_health: bool = True) -> None:
        if threading.get_ident() == own:
            asked.append(command)
        send(self, command, check_health)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(AbstractConnection, "send_packed_command", spy)
    return asked


def trips(redis: Redis) -> int:
    return int(redis.info("stats")["total_reads_processed"])


@pytest.mark.parametrize(("same_thread", "most"), [(False, 16), (True, 18)])
def test_a_mail_is_taken_in_and_answered_in_few_round_trips(
    redis_url: str, same_thread: bool, most: int
) -> None:
    bench = Bench(redis_url)
    references = {"references": "<q1@example.test>", "sender": "anna@example.test"} if same_thread else {}
    before = 0
    with Redis.from_url(redis_url) as own:
        for number in range(1, MAILS + 2):
            if number == 2:  # the first one loads the scripts
                before = trips(own)
            accepted = bench.receive(mail(number, **references))
            bench.work(accepted.thread_id)
            assert bench.record(accepted).state is State.REPLIED
        spent = trips(own) - before - 1 - MAILS  # its own question, and the look at each record
    assert spent / MAILS <= most


@pytest.mark.parametrize("path", ["/email/incoming", "/email/incoming/raw"])
def test_a_webhook_costs_one_round_trip_with_the_wake_up(
    redis_url: str, asked: list[object], path: str
) -> None:
    with Redis.from_url(redis_url) as own:
        client = create_app(read_settings({**BASE, "REDIS_URL": redis_url}, dotenv=None)).test_client()
        answers: list[tuple[int, str]] = []
        before = 0
        for number in range(1, 5):
            if number == 2:  # the first one loads the script and asks for the time
                before = len(asked)
            answers.append(post(client, path, number))
        assert len(asked) - before == 3
        answers.append(post(client, path, 4))
        assert [status for status, _ in answers] == [202] * 4 + [200]
        jobs = queue(own, ANSWERS).get_jobs()
        woken = [job.args[0] for job in jobs]
        assert woken == [own.hget(f"cleo:m:{id_}", "thread_id").decode() for _, id_ in answers[:4]]
        assert {job.func_name for job in jobs} == {"cleo_email.jobs.answer"}


# A poll reads the mailbox, and a run of upkeep sets flags and files copies: of 20 mails it costs little more.
@pytest.mark.parametrize(("at_once", "most"), [(1, 43), (20, 15)])
def test_a_mail_from_the_mailbox_is_answered_flagged_and_filed_in_few_round_trips(
    redis_url: str, asked: list[object], at_once: int, most: int
) -> None:
    folders = FakeFolders()
    bench = PeopleBench(redis_url, folders, FakeHands(folders))
    bench.store.mailbox.set_sent_mode("client")
    with (
        Redis.from_url(redis_url) as own,
        FakeImapServer() as server,
        Mailbox(server.account(), ssl_context=server.ssl_context()) as mailbox,
    ):
        more = {"clock": bench.clock, "timer": lambda: 0.0, "drafts": bench.drafts}
        upkeep = upkeep_of(bench.store, mailbox, bench.intake, **more)
        sizes = {"max_bytes": 10**6, "max_age_days": 7}
        poller = Poller(bench.store, mailbox, bench.intake, upkeep, **sizes, clock=bench.clock)
        poller.run()  # reads the mailbox for the first time
        for turn in range(3):
            if turn == 1:  # the first one loads the scripts
                asked.clear()
            server.inbox.extend(Message(mail(turn * 100 + number)) for number in range(at_once))
            poller.run()
            for thread in bench.store.conversations.due(bench.clock(), at_once):
                bench.work(thread)
            own.delete("cleo:tick:chores-done")
            assert poller.run_upkeep() == at_once
        spent = len(asked) - 2 * 2  # the questions of this test
        assert len(server.folders["Sent"]) == 3 * at_once
        assert all("\\Answered" in message.flags for message in server.inbox)
        assert bench.store.filing.due(bench.clock() + 10**9) == []
    assert spent / (2 * at_once) <= most


def test_a_worker_that_waited_for_nothing_asks_nothing_more(redis_url: str, asked: list[object]) -> None:
    with Redis.from_url(redis_url) as redis:
        reader = QueueReader(redis, queue(redis, ANSWERS))
        WakeQueue(redis).wake("<1@example.test>")
        assert reader.wait(1)
        assert reader.take()[0] == "ours"
        asked.clear()
        assert not reader.wait(0.01)
        assert reader.is_empty
        assert len(asked) == 1


def test_a_wake_up_costs_a_worker_two_round_trips_and_one_in_a_backlog(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis, Redis.from_url(redis_url) as own:
        wake = WakeQueue(redis)
        reader = QueueReader(redis, queue(redis, ANSWERS))
        for number in range(4):
            wake.wake(f"<{number}@example.test>")
        reader.take()
        before = trips(own)
        reader.wait(1)
        assert [reader.take()[0] for _ in range(3)] == ["ours"] * 3
        assert reader.is_empty
        assert trips(own) - before == 1 + 3 + 1
        assert redis.keys("rq:job:*") == []
        assert redis.keys("cleo:woken:*") == [], "the sweeper may repeat what is lost from here on"


def test_a_wake_up_is_a_job_for_any_worker_of_rq_and_is_given_once(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        wake = WakeQueue(redis, answer_timeout_s=77)
        for _ in range(3):
            wake.wake("<a@example.test>")
        [job] = queue(redis, ANSWERS).get_jobs()
        assert (job.func_name, job.args, job.timeout) == ("cleo_email.jobs.answer", ["<a@example.test>"], 77)
        assert job.get_status() == "queued"
        wake.poll(1)
        [poll] = queue(redis, "cleo-email-mailbox").get_jobs()
        assert 0 < redis.ttl(poll.key) <= 2
