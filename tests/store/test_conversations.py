"""A conversation goes on whatever is taken off it, and by whom."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from cleo_email.store import Identity, Record, State, Store, new_id
from cleo_email.store.threads import Conversations
from tests.support.bench import head_of

NOW = 1_795_000_000_000
THREAD = "<q1@example.test>"


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    with Redis.from_url(redis_url) as client:
        yield Store(client)


def accept(store: Store, number: int) -> str:
    record = Record(id=new_id(NOW + number), state=State.RECEIVED, thread_id=THREAD, received_at=NOW)
    store.messages.accept(record, b"mail", Identity(f"<{number}>"), ())
    return record.id


def test_an_id_without_a_record_is_dropped_and_the_next_one_is_due(store: Store) -> None:
    first, second = accept(store, 1), accept(store, 2)
    store.messages.forget(first)
    assert head_of(store, THREAD, NOW) == first
    store.conversations.drop_head(THREAD, first)
    assert head_of(store, THREAD, NOW) == second
    assert store.conversations.due(NOW + 10, 5) == [THREAD]
    store.conversations.drop_head(THREAD, second)
    assert store.conversations.due(NOW + 10, 5) == []


def test_a_mail_that_comes_while_the_last_one_is_dropped_stays_due(redis_url: str) -> None:
    """Between two commands another process may add a mail: the thread must not be forgotten then."""
    with Redis.from_url(redis_url) as other, _Interrupted.from_url(redis_url) as client:
        store = Store(other)
        first = accept(store, 1)
        client.between = lambda: accept(store, 2)
        Conversations(client).drop_head(THREAD, first)
        client.between()
        assert store.conversations.due(NOW + 10, 5) == [THREAD]


class _Interrupted(Redis):
    """Runs ``between`` after each command but the first."""

    between = staticmethod(lambda: None)
    _asked = 0

    def execute_command(self, *args, **options):  # type: ignore[no-untyped-def]
        self._asked += 1
        if self._asked > 1 and args[0] == "ZREM":
            self.between()
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
