"""An older version may follow a newer one: what waits for a review is then something that it knows."""

from __future__ import annotations

import pytest

from cleo_email.mail.model import OutboundEmail
from cleo_email.store import Accepted, Effects, State
from tests.support.bench import Bench
from tests.support.mails import AGENT, mail

# What every released version knows; it passes over a record in another state as damaged.
KNOWN = {"received", "answering", "submitting", "replied", "ignored", "held", "failed", "uncertain"}


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


def waits(bench: Bench, number: int = 1) -> Accepted:
    accepted = bench.receive(mail(number))
    kept = OutboundEmail(f"<our{number}@cleo.test>", AGENT, (f"customer{number}@example.test",), mail(number))
    move = bench.store.messages.move
    move(accepted.id, State.ANSWERING, now=bench.clock())
    move(accepted.id, State.REVIEW, now=bench.clock(), effects=Effects(answer=kept, pop=True))
    return accepted


def raw_state(bench: Bench, accepted: Accepted) -> str:
    return bytes(bench.redis.hget(f"cleo:m:{accepted.id}", "state") or b"").decode()  # type: ignore[arg-type]


def test_a_review_is_in_a_state_that_an_older_version_knows(bench: Bench) -> None:
    accepted = waits(bench)
    assert raw_state(bench, accepted) in KNOWN
    assert bench.record(accepted).state is State.REVIEW
    assert [one.state for one in bench.store.messages.page()[0]] == [State.REVIEW]
    assert [one.id for one in bench.store.messages.page(state=State.REVIEW)[0]] == [accepted.id]
    assert bench.store.messages.page(state=State.HELD)[0] == []
    assert (bench.store.messages.count(State.REVIEW), bench.store.messages.count(State.HELD)) == (1, 0)


@pytest.mark.parametrize("then", [State.SUBMITTING, State.REPLIED, State.IGNORED, State.HELD, State.REVIEW])
def test_what_becomes_of_it_is_stored_as_that(bench: Bench, then: State) -> None:
    accepted = waits(bench)
    bench.store.messages.move(accepted.id, then, now=bench.clock(), only_from=[State.REVIEW])
    assert bench.record(accepted).state is then
    assert [one.id for one in bench.store.messages.page(state=then)[0]] == [accepted.id]
    assert raw_state(bench, accepted) == ("held" if then is State.REVIEW else then)


def test_what_is_held_becomes_no_review(bench: Bench) -> None:
    """Held first, then asked anew and waiting, then held by a person who took the thread over."""
    accepted = waits(bench)
    move = bench.store.messages.move
    for to in (State.HELD, State.RECEIVED, State.ANSWERING, State.REVIEW, State.HELD):
        move(accepted.id, to, now=bench.clock())
        assert bench.record(accepted).state is to


@pytest.mark.parametrize("to", ["submitting", "ignored"])
def test_what_an_older_version_made_of_it_counts(bench: Bench, to: str) -> None:
    """It releases or dismisses what it takes for held, and knows neither the field nor the index."""
    accepted = waits(bench)
    bench.redis.hset(f"cleo:m:{accepted.id}", "state", to)
    bench.redis.zadd(f"cleo:index:state:{to}", {accepted.id: 0})
    assert bench.record(accepted).state == to
    assert bench.store.messages.page(state=State.REVIEW)[0] == []
    assert [one.id for one in bench.store.messages.page(state=to)[0]] == [accepted.id]


def test_a_list_of_due_work_knows_a_review(bench: Bench) -> None:
    accepted = waits(bench)
    bench.store.drafting.add(accepted.id, bench.clock())
    bench.store.drafting.done_in(accepted.id, State.HELD)
    assert bench.store.drafting.due(bench.clock()) == [accepted.id], "it is in review, not held"
    bench.store.drafting.done_in(accepted.id, State.REVIEW)
    assert bench.store.drafting.due(bench.clock()) == []
