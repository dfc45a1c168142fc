"""What the mail server said about a mail is known, whatever becomes of Redis and the lock meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cleo_email.errors import StoreUnavailable, SubmissionError, SubmissionUnavailable
from cleo_email.mail.model import Receipt
from cleo_email.store import Accepted, State
from tests.support.bench import Bench, head_of
from tests.support.mails import mail


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


class Away:
    """Redis is away for the next ``times`` moves of records from ``begin`` on; then ``meanwhile`` runs."""

    def __init__(self, bench: Bench, times: int, meanwhile: Callable[[], Any] = lambda: None) -> None:
        self.left = 0
        self._times, self._meanwhile = times, meanwhile
        self._move = bench.store.messages.move
        bench.store.messages.move = self.move  # type: ignore[method-assign]

    def begin(self) -> None:
        self.left = self._times

    def move(self, *args: Any, **options: Any) -> None:
        if self.left:
            self.left -= 1
            if not self.left:
                self._meanwhile()
            raise StoreUnavailable("Redis does not answer")
        self._move(*args, **options)


def take_over(bench: Bench, accepted: Accepted) -> Callable[[], None]:
    """The lock expires, and another worker finds that the end of DATA was sent and no answer recorded."""

    def act() -> None:
        bench.redis.delete(f"cleo:lock:conversation:{accepted.thread_id}")
        tries = bench.smtp.tries
        bench.work(accepted.thread_id)
        assert bench.record(accepted).state is State.UNCERTAIN
        assert bench.smtp.tries == tries

    return act


@pytest.mark.parametrize("taken_over", [False, True])
def test_a_temporary_refusal_is_one_though_redis_was_away_when_it_came(
    bench: Bench, taken_over: bool
) -> None:
    first = bench.receive(mail(1))
    away = Away(bench, 3, take_over(bench, first) if taken_over else lambda: None)
    bench.smtp.script = [SubmissionUnavailable("450 later"), Receipt("250 ok")]
    bench.smtp.during = away.begin
    bench.work(first.thread_id)
    record = bench.record(first)
    assert (record.state, record.sends, record.data_ended_at) == (State.SUBMITTING, 1, 0)
    assert "450 later" in record.reason
    assert bench.store.settling.due(bench.clock.now + 10**9) == []

    bench.smtp.during = None
    bench.clock.pass_(15)
    bench.work(first.thread_id)
    assert bench.record(first).state is State.REPLIED
    assert len(bench.smtp.sent) == 1


@pytest.mark.parametrize("taken_over", [False, True])
def test_a_permanent_refusal_is_one_though_redis_was_away_when_it_came(
    bench: Bench, taken_over: bool
) -> None:
    accepted = bench.receive(mail(1))
    away = Away(bench, 3, take_over(bench, accepted) if taken_over else lambda: None)
    bench.smtp.script = [SubmissionError("550 no")]
    bench.smtp.during = away.begin
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.FAILED
    assert "550 no" in bench.record(accepted).reason


def test_a_mail_whose_end_was_not_sent_is_not_uncertain_though_redis_noted_the_mark(bench: Bench) -> None:
    """Redis kept the mark and died before it could say so: then the end of DATA is not sent."""
    accepted = bench.receive(mail(1))
    marking = bench.store.messages.mark_data_end
    lost = [True]

    def mark(*args: Any, **options: Any) -> None:
        marking(*args, **options)
        if lost.pop():
            raise StoreUnavailable("the answer was lost")

    bench.store.messages.mark_data_end = mark  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.SUBMITTING
    lost.append(False)
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert len(bench.smtp.sent) == 1


def test_a_person_who_decided_meanwhile_is_not_overruled(bench: Bench) -> None:
    accepted = bench.receive(mail(1))

    def decide() -> None:
        take_over(bench, accepted)()
        bench.deciding.retry(accepted.id, by="cli")

    away = Away(bench, 2, decide)
    bench.smtp.script = [SubmissionError("550 no"), Receipt("250 ok")]
    bench.smtp.during = away.begin
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.SUBMITTING
    assert "retried by a person" in bench.record(accepted).reason
    bench.smtp.during = None
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED


def test_the_order_of_a_thread_survives_an_outcome_without_the_lock(bench: Bench) -> None:
    """Nobody took over: the mail keeps its place before the next one."""
    first = bench.receive(mail(1))
    second = bench.receive(mail(2, sender="customer1@example.test", references="<q1@example.test>"))
    away = Away(bench, 2, lambda: bench.redis.delete(f"cleo:lock:conversation:{first.thread_id}"))
    bench.smtp.script = [SubmissionUnavailable("450 later"), Receipt("250 ok")]
    bench.smtp.during = away.begin
    bench.work(first.thread_id)
    bench.smtp.during = None
    bench.clock.pass_(15)
    assert head_of(bench.store, first.thread_id, bench.clock.now) == first.id
    bench.work(first.thread_id)
    bench.work(first.thread_id)
    assert [bench.record(one).state for one in (first, second)] == [State.REPLIED] * 2
