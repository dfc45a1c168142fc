"""Two strangers who quote the same unknown id at the same instant do not end up in one thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cleo_email.screening.dkim import SenderCheck
from cleo_email.screening.screen import Policy
from cleo_email.store import Accepted, State
from tests.screening.signing import BODY, FakeDns, head, sign
from tests.support.bench import FROM, Bench
from tests.support.mails import mail


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


def test_whoever_comes_second_by_a_moment_is_a_stranger(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newsletter that the channel never saw: two customers answer it in the same second."""
    real = bench.store.threads.by_our_ids_and_people
    first: list[Accepted] = []

    def overtaken(*asked: Any) -> Any:
        found = real(*asked)
        monkeypatch.setattr(bench.store.threads, "by_our_ids_and_people", real)
        first.append(bench.receive(mail(1, sender="anna@example.test", references="<news@shop.test>")))
        return found

    monkeypatch.setattr(bench.store.threads, "by_our_ids_and_people", overtaken)
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


def test_two_held_mails_that_quote_one_unknown_id_do_not_meet_when_they_are_released(redis_url: str) -> None:
    """Nobody takes part in their thread while both are held; the first one released makes it theirs."""
    bench = Bench(redis_url, policy=Policy(frozenset({FROM.addr}), allowed_senders=("@friends.test",)))
    anna = bench.receive(
        mail(1, sender="anna@example.test", references="<news@shop.test>", text="anna's secret")
    )
    bert = bench.receive(mail(2, sender="bert@example.test", references="<news@shop.test>"))
    assert anna.thread_id == bert.thread_id
    for accepted in (anna, bert):
        bench.deciding.release(accepted.id, by="cli")
    threads = [bench.record(accepted).thread_id for accepted in (anna, bert)]
    assert threads == ["<news@shop.test>", "<q2@example.test>"]
    for thread in threads:
        bench.work(thread)
    assert [bench.record(accepted).state for accepted in (anna, bert)] == [State.REPLIED] * 2
    assert [request.history for request in bench.agent.asked] == [(), ()]
    assert [record.id for record in bench.store.messages.page(thread_id=threads[0])[0]] == [anna.id]


def test_two_mails_that_are_proven_only_later_do_not_meet_either(redis_url: str) -> None:
    dns = FakeDns()
    dns.publish("example.com")
    bench = Bench(redis_url, sender_check=SenderCheck(dns))
    quoting = {"References": "<news@shop.test>"}
    anna = bench.receive(sign(head(Message_ID="<m1@example.com>", **quoting) + b"\r\n" + BODY))
    other = head(From="bert@example.com", Message_ID="<m2@example.com>", **quoting)
    bert = bench.receive(sign(other + b"\r\n" + BODY))
    assert anna.thread_id == bert.thread_id
    bench.work(anna.thread_id)
    bench.work(anna.thread_id)
    assert bench.record(bert).thread_id == "<m2@example.com>"
    bench.work("<m2@example.com>")
    assert [bench.record(accepted).state for accepted in (anna, bert)] == [State.REPLIED] * 2
    assert [request.history for request in bench.agent.asked] == [(), ()]
    assert bench.store.conversations.due(10**15, 1) == []
