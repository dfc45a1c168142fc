"""What two processes do to one key at the same moment: the second command of a pair comes too late."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from cleo_email.store import Identity, Record, State, Store, new_id

NOW = 1_795_000_000_000
KEY = "cleo:m:"


class Interrupted(Redis):
    """Runs ``between`` once, after the next command."""

    between: Callable[[], Any] | None = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        answer = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        act, self.between = self.between, None
        if act:
            act()
        return answer


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def interrupted(redis_url: str) -> Iterator[Interrupted]:
    with Interrupted.from_url(redis_url) as client:
        yield client


@pytest.fixture
def store(redis: Redis) -> Store:
    """That of the other process."""
    return Store(redis)


def accept(store: Store) -> str:
    record = Record(id=new_id(NOW), state=State.IGNORED, thread_id="<a@b>", received_at=NOW)
    store.messages.accept(record, b"mail", Identity("<a@b>"), ())
    return record.id


def test_who_gives_an_event_free_takes_it_from_nobody_else(
    interrupted: Interrupted, redis: Redis, store: Store
) -> None:
    """The claim expires just then, and the repeated request has stored the event."""
    claims = Store(interrupted).claims
    claim = claims.claim("mailgun:1")

    def meanwhile() -> None:
        redis.delete(claim.key)
        again = store.claims.claim("mailgun:1")
        assert again.is_ours
        store.claims.done(again, "stored", 60)

    interrupted.between = meanwhile
    claims.release(claim)
    if interrupted.between is not None:
        meanwhile()
    assert store.claims.claim("mailgun:1").note == "stored"


def test_an_event_that_was_given_free_may_come_again(store: Store) -> None:
    store.claims.release(store.claims.claim("mailgun:1"))
    assert store.claims.claim("mailgun:1").is_ours


def note(store: Store, id_: str) -> None:
    store.messages.note(id_, "looks", 1)


def replace(store: Store, id_: str) -> None:
    store.messages.replace_source(id_, b"the whole mail")


@pytest.mark.parametrize("write", [note, replace])
def test_a_record_that_is_forgotten_while_it_is_noted_leaves_no_rest(
    interrupted: Interrupted, redis: Redis, store: Store, write: Callable[[Store, str], None]
) -> None:
    id_ = accept(store)
    messages = Store(interrupted)
    interrupted.between = lambda: store.messages.forget(id_)
    write(messages, id_)
    store.messages.forget(id_)
    write(messages, id_)
    assert redis.keys(f"{KEY}*") == []


def test_what_is_noted_is_in_the_record(store: Store) -> None:
    id_ = accept(store)
    note(store, id_)
    replace(store, id_)
    record = store.messages.get(id_)
    assert (record.looks, record.partial, store.messages.source(id_)) == (1, 0, b"the whole mail")
