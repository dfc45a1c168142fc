"""Two strangers who quote the same unknown id at the same instant do not end up in one thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from cleo_email.store import Accepted
from tests.bench import Bench
from tests.rig import mail


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


def test_whoever_comes_second_by_a_moment_is_a_stranger(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newsletter that the channel never saw: two customers answer it in the same second."""
    real = bench.store.threads.people
    first: list[Accepted] = []

    def overtaken(threads: Sequence[str]) -> Mapping[str, frozenset[str]]:
        found = real(threads)
        monkeypatch.setattr(bench.store.threads, "people", real)
        first.append(bench.receive(mail(1, sender="anna@example.test", references="<news@shop.test>")))
        return found

    monkeypatch.setattr(bench.store.threads, "people", overtaken)
    second = bench.receive(mail(2, sender="bert@example.test", references="<news@shop.test>"))
    assert first[0].thread_id == "<news@shop.test>"
    assert second.thread_id == "<q2@example.test>"
    bench.work(first[0].thread_id)
    bench.work(second.thread_id)
    assert [request.history for request in bench.agent.asked] == [(), ()]
    again = bench.receive(mail(3, sender="anna@example.test", references="<news@shop.test>"))
    assert again.thread_id == first[0].thread_id


def test_many_at_once_are_each_alone(bench: Bench) -> None:
    def post(number: int) -> Accepted:
        source = mail(number, sender=f"c{number}@example.test", references="<news@shop.test>")
        return bench.receive(source)

    with ThreadPoolExecutor(16) as pool:
        threads = [accepted.thread_id for accepted in pool.map(post, range(64))]
    assert len(set(threads)) == 64
