"""How often the way of a mail goes to Redis and back: at 20 ms each that is what an answer waits for."""

from __future__ import annotations

import pytest
from redis import Redis

from cleo_email.store import State
from cleo_email.store.queue import ANSWERS, QueueReader, WakeQueue, queue
from tests.support.bench import Bench
from tests.support.mails import mail

MAILS = 5


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
