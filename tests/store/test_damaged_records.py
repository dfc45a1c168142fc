"""A record that cannot be read (a hand in Redis, a lost field) stops no page, no thread and no sweep."""

from __future__ import annotations

from typing import Any

import pytest

from cleo_email.errors import NotFound
from cleo_email.store import AT_WORK, Accepted, State
from tests.support.bench import Bench
from tests.support.mails import mail


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


def damage(bench: Bench, accepted: Accepted, field: str = "state") -> None:
    bench.redis.hdel(f"cleo:m:{accepted.id}", field)


@pytest.mark.parametrize("field", ["state", "thread_id", "id", "received_at"])
def test_a_page_shows_the_others_and_the_damage_is_told_once(
    bench: Bench, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, damaged, last = [bench.receive(mail(number)) for number in (1, 2, 3)]
    damage(bench, damaged, field)
    for _ in range(2):
        assert {record.id for record in bench.store.messages.page()[0]} == {first.id, last.id}
    with pytest.raises(NotFound, match="damaged"):
        bench.store.messages.get(damaged.id)
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [damaged.id in line for line in told] == [True]


@pytest.mark.parametrize(("field", "value"), [("state", "lost"), ("tries", "many")])
def test_a_value_that_is_none_is_damage_too(bench: Bench, field: str, value: str) -> None:
    accepted = bench.receive(mail(1))
    bench.redis.hset(f"cleo:m:{accepted.id}", field, value)
    assert bench.store.messages.page() == ([], None)


def test_the_next_mail_of_the_thread_is_answered(bench: Bench) -> None:
    damaged = bench.receive(mail(1))
    second = bench.receive(mail(2, sender="customer1@example.test", references="<q1@example.test>"))
    assert second.thread_id == damaged.thread_id
    damage(bench, damaged)
    for _ in range(2):
        bench.work(damaged.thread_id)
    assert bench.record(second).state is State.REPLIED
    assert bench.store.messages.source(damaged.id) == mail(1), "it is still there for a person"


def test_a_damaged_record_is_forgotten_in_its_time_like_any_other(bench: Bench) -> None:
    damaged, whole = bench.receive(mail(1)), bench.receive(mail(2))
    bench.work(whole.thread_id)
    damage(bench, damaged)
    bench.clock.pass_(91 * 86_400)
    assert bench.sweeping.forget() == 2
    assert bench.sweeping.forget() == 0
    assert bench.store.messages.older_than(bench.clock.now, 10) == []
    left = [key for key in bench.redis.keys("cleo:*") if damaged.id.encode() in key]
    assert left == []
    assert bench.redis.zscore("cleo:index:state:received", damaged.id) is None


def test_what_a_person_releases_just_then_is_not_forgotten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = bench.store.messages
    accepted = bench.receive(mail(1))
    messages.move(accepted.id, State.HELD, now=bench.clock())
    bench.clock.pass_(91 * 86_400)
    forget = messages.forget

    def meanwhile(id_: str, **options: Any) -> Any:
        bench.deciding.release(accepted.id, by="cli")
        return forget(id_, **options)

    monkeypatch.setattr(messages, "forget", meanwhile)
    assert bench.sweeping.forget() == 0
    assert bench.record(accepted).state in AT_WORK
