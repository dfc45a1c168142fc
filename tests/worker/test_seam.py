"""The inside of RQ's worker on which cleo_email/worker/rq_threads.py leans.

If an upgrade fails here, read that file against the new version before the pin in setup.cfg is moved.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis
from rq.queue import Queue
from rq.utils import utcparse
from rq.worker import SimpleWorker

from cleo_email.store.queue import ANSWER_JOB, ANSWERS, KEPT_S, PlainJob, PlainSerializer, WakeQueue, queue
from cleo_email.worker.rq_threads import ThreadWorker

OVERRIDDEN = (
    "_set_ip_address _install_signal_handlers procline subscribe unsubscribe heartbeat set_state"
    " check_for_suspension dequeue_job_and_maintain_ttl execute_job teardown"
).split()


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_what_is_overridden_is_still_there_and_called_alike(name: str) -> None:
    assert parameters(getattr(ThreadWorker, name)) == parameters(getattr(SimpleWorker, name))


def test_the_constants_that_are_replaced_are_still_there() -> None:
    for name in ("death_penalty_class", "job_class", "max_connection_wait_time", "log_result_lifespan"):
        assert hasattr(SimpleWorker, name), name
    assert isinstance(SimpleWorker.connection_timeout, property)


def test_what_runs_a_job_takes_all_it_needs_as_arguments() -> None:
    """It is called in many threads at once: RQ 2 kept the execution on the worker instead."""
    assert parameters(SimpleWorker.perform_job) == ["self", "job", "queue", "execution"]
    assert parameters(SimpleWorker.prepare_execution) == ["self", "job"]
    assert parameters(SimpleWorker.maintain_heartbeats) == ["self", "job", "execution"]
    assert parameters(Queue.push_job_id)[:4] == ["self", "job_id", "pipeline", "at_front"]


def test_the_attributes_of_a_worker_and_a_queue(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        worker = ThreadWorker(redis, "seam", slots=1)
        assert worker._stop_requested is False
        assert worker._state == "starting"
        assert worker.executions == {}
        assert [queue.name for queue in worker.queues] == ["seam"]
        assert worker.queues[0].intermediate_queue_key.endswith(":seam:intermediate")
        worker._over = True  # ends its thread of heartbeats


def test_a_wake_up_is_a_job_as_rq_makes_it(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        WakeQueue(redis, answer_timeout_s=77).wake("<q1@example.test>")
        (ours,) = redis.keys("rq:job:*")
        job = queue(redis, ANSWERS).enqueue(
            ANSWER_JOB, "<q1@example.test>", job_timeout=77, description=ANSWER_JOB, **KEPT_S
        )
        made, theirs = redis.hgetall(ours), redis.hgetall(job.key)
        assert made.pop(b"woken") == b"cleo:woken:<q1@example.test>"
        assert made.keys() == theirs.keys()
        assert made[b"data"] == zlib.decompress(theirs[b"data"])
        for at in (b"created_at", b"enqueued_at"):
            assert abs(utcparse(made[at].decode()) - utcparse(theirs[at].decode())) < timedelta(minutes=1)
            assert len(made[at]) == len(theirs[at])
        others = made.keys() - {b"data", b"created_at", b"enqueued_at"}
        assert {name: made[name] for name in others} == {name: theirs[name] for name in others}
        assert PlainJob.fetch(job.id, redis, PlainSerializer).args == ["<q1@example.test>"]
