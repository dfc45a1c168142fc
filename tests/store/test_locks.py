"""A dead worker's locks end soon; those of one that is slow, or that Redis was away from, stay its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from redis import Redis

from cleo_email.store import Identity, Lock, Record, State, Store, new_id
from cleo_email.store import locks as module
from cleo_email.store.locks import ALIVE_MS, BEAT_S, STEADY_S, Locks

NOW = 1_795_000_000_000
THREAD = "<q1@example.test>"


@dataclass
class Clock:
    """In place of ``time`` in the module."""

    redis: Redis
    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


class Process:
    """One worker. Its thread of signs of life is the test's."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self.clock, self.redis = clock, redis
        self.locks = Locks(redis)
        self.locks._thread = threading.current_thread()
        self.key = f"cleo:alive:{self.locks._process}"

    def lives(self) -> None:
        self.locks._beat()

    def is_silent(self) -> None:
        """So long that Redis has forgotten it."""
        assert 0 < self.redis.pttl(self.key) <= ALIVE_MS
        self.redis.delete(self.key)

    def takes(self, name: str = "mailbox") -> Lock | None:
        """It holds the lock from then on."""
        lock = self.locks._new(name)
        if self.locks._take(lock, ["", "", ""])[0] != b"taken":
            return None
        self.locks._held[lock.token] = lock
        return lock


@pytest.fixture
def clock(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    with Redis.from_url(redis_url) as redis:
        clock = Clock(redis)
        monkeypatch.setattr(module, "time", clock)
        yield clock


def steadily(clock: Clock, *processes: Process) -> None:
    for _ in range(int(STEADY_S / BEAT_S) + 1):
        for process in processes:
            process.lives()
        clock.now += BEAT_S


def test_a_dead_holders_lock_is_taken_by_one_that_has_reached_redis_all_along(clock: Clock) -> None:
    dead, other = Process(clock.redis, clock), Process(clock.redis, clock)
    assert dead.takes()
    steadily(clock, dead, other)
    assert other.takes() is None, "it lives"
    dead.is_silent()
    assert other.takes() is not None


def test_one_that_has_just_begun_calls_nobody_dead(clock: Clock) -> None:
    dead, fresh = Process(clock.redis, clock), Process(clock.redis, clock)
    assert dead.takes()
    dead.is_silent()
    fresh.lives()
    assert fresh.takes() is None
    steadily(clock, fresh)
    assert fresh.takes() is not None


def test_after_an_outage_of_redis_the_holders_have_time_to_say_that_they_live(clock: Clock) -> None:
    first, second = Process(clock.redis, clock), Process(clock.redis, clock)
    assert first.takes()
    steadily(clock, first, second)
    clock.now += 10  # while it was away nobody could say anything
    first.is_silent()
    second.is_silent()
    second.lives()
    assert second.takes() is None
    clock.now += BEAT_S
    second.lives()
    first.lives()
    steadily(clock, first, second)
    assert second.takes() is None, "the agent would be asked twice"


def test_one_whose_own_thread_was_late_calls_nobody_dead(clock: Clock) -> None:
    first, second = Process(clock.redis, clock), Process(clock.redis, clock)
    assert first.takes()
    steadily(clock, first, second)
    first.is_silent()
    clock.now += 2 * BEAT_S + 0.1
    assert second.takes() is None, "it has heard nothing of Redis lately"


def test_a_process_never_takes_what_it_holds_itself(clock: Clock) -> None:
    one = Process(clock.redis, clock)
    assert one.takes()
    steadily(clock, one)
    one.is_silent()
    assert one.takes() is None
    assert one.locks.free(["x"]) == ["x"]


def test_the_locks_of_earlier_versions_are_held_until_they_expire(clock: Clock) -> None:
    one = Process(clock.redis, clock)
    clock.redis.set("cleo:lock:mailbox", "0123456789abcdef", px=15_000)
    steadily(clock, one)
    assert one.takes() is None


def test_every_lock_is_renewed_in_one_step_and_a_lost_one_is_left_alone(clock: Clock) -> None:
    one = Process(clock.redis, clock)
    kept, lost = one.takes("a"), one.takes("b")
    assert kept
    assert lost
    clock.redis.pexpire(kept.key, 5_000)
    clock.redis.set(lost.key, "another's", px=5_000)
    clock.now += 60
    before = clock.redis.info("stats")["total_reads_processed"]
    one.lives()
    assert clock.redis.info("stats")["total_reads_processed"] - before == 2, "and the question itself"
    assert clock.redis.pttl(kept.key) > 20_000
    assert clock.redis.pttl(lost.key) <= 5_000


def test_a_conversation_of_a_dead_worker_is_free_and_its_message_comes_with_the_lock(clock: Clock) -> None:
    store = Store(clock.redis)
    record = Record(id=new_id(NOW), state=State.RECEIVED, thread_id=THREAD, received_at=NOW)
    store.messages.accept(record, b"the mail", Identity("<1>"), ())
    dead, other = Process(clock.redis, clock), Process(clock.redis, clock)
    assert dead.takes(f"conversation:{THREAD}")
    steadily(clock, dead, other)
    assert other.locks.free([THREAD, "other"]) == ["other"]
    dead.is_silent()
    assert other.locks.free([THREAD, "other"]) == [THREAD, "other"]
    with other.locks.hold_conversation(THREAD, lambda: NOW) as head:
        assert head is not None
        assert (head.id, head.source) == (record.id, b"the mail")
        assert store.messages.loaded(head.id, head.fields) == record
        with dead.locks.hold_conversation(THREAD, lambda: NOW) as second:
            assert second is None
    assert head.goes_on, "nobody has handled the message"
    assert not clock.redis.exists(f"cleo:lock:conversation:{THREAD}")
    with other.locks.hold_conversation(THREAD, lambda: NOW - 1) as early:
        assert early is None, "it is not due yet"
