"""A Redis that is full (``noeviction``) takes no new mail; what has happened is recorded all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cleo_email import jobs
from cleo_email.errors import StoreUnavailable, SubmissionUncertain
from cleo_email.store import State
from tests.support.bench import Bench
from tests.support.mails import mail
from tests.support.redis_server import RedisServer


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with RedisServer(tmp_path) as server:
        yield Bench(server.url)


def fill(bench: Bench) -> None:
    bench.redis.config_set("maxmemory-policy", "noeviction")
    bench.redis.config_set("maxmemory", 1)


def empty(bench: Bench) -> None:
    bench.redis.config_set("maxmemory", 0)


def test_a_full_redis_refuses_a_mail_and_keeps_nothing_of_it(bench: Bench) -> None:
    first = bench.receive(mail(1))
    before = sorted(bench.redis.keys())
    fill(bench)
    with pytest.raises(StoreUnavailable):
        bench.receive(mail(2))
    with pytest.raises(StoreUnavailable):
        bench.work(first.thread_id)
    left = [key for key in bench.redis.scan_iter() if not key.startswith(b"cleo:alive:")]
    assert sorted(left) == before
    empty(bench)
    assert not bench.receive(mail(2)).duplicate
    bench.work(first.thread_id)
    assert bench.record(first).state is State.REPLIED


def test_what_was_sent_is_recorded_in_a_full_redis_too(bench: Bench) -> None:
    """Else a mail that the server took would look as if nobody knew."""
    accepted = bench.receive(mail(1))
    bench.smtp.during = lambda: fill(bench)
    bench.work(accepted.thread_id)
    empty(bench)
    assert bench.record(accepted).state is State.REPLIED
    bench.work(accepted.thread_id)
    assert len(bench.smtp.sent) == 1


def test_that_nobody_knows_is_recorded_in_a_full_redis_too(bench: Bench) -> None:
    accepted = bench.receive(mail(1))
    bench.smtp.script = [SubmissionUncertain("the connection broke")]
    bench.smtp.during = lambda: fill(bench)
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.UNCERTAIN


def test_a_record_that_vanishes_under_work_ends_the_job_quietly(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accepted = bench.receive(mail(1))

    class Parts:
        answerer = bench.answering

    monkeypatch.setattr(jobs, "_app", Parts)
    asked = bench.agent.answer

    def empties_redis(*args: object, **kwargs: object) -> object:
        bench.redis.flushall()
        return asked(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.agent, "answer", empties_redis)
    jobs.answer(accepted.thread_id)
    assert bench.smtp.sent == []
    assert "is gone" in caplog.text
    assert "Traceback" not in caplog.text
