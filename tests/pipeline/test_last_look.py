"""The last look before the final dot: shared by those that wait for it, and never too early."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cleo_email.pipeline.last_look import LastLook
from cleo_email.pipeline.takeover import SharedFolders, Takeover
from cleo_email.store import State
from tests.support import races
from tests.support.bench import FROM
from tests.support.folders import FakeFolders
from tests.support.mails import mail
from tests.support.people import FakeHands, PeopleBench, written

CUSTOMER = "customer1@example.test"


@pytest.fixture
def folders() -> FakeFolders:
    return FakeFolders()


@pytest.fixture
def bench(redis_url: str, folders: FakeFolders) -> PeopleBench:
    return PeopleBench(redis_url, folders, FakeHands(folders))


def looks(folders: FakeFolders) -> int:
    return folders.calls.count("sent_after")


def test_those_that_wait_share_a_look(bench: PeopleBench, folders: FakeFolders) -> None:
    """The first one looks; the others, which came during it, need one that began later, and share that."""
    records = [bench.record(bench.receive(mail(number))) for number in range(1, 9)]
    people = bench.delivery.people
    assert people is not None
    begun, go_on = threading.Event(), threading.Event()

    def slow(name: str) -> None:
        if name == "sent_after" and not begun.is_set():
            begun.set()
            assert go_on.wait(20)

    folders.before = slow
    folders.calls.clear()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(people.look, records[0])
        assert begun.wait(20)
        others = [pool.submit(people.look, record) for record in records[1:]]
        while len(people._asking) < len(others):
            assert not any(one.done() for one in others)
        go_on.set()
        assert [one.result(20) for one in (first, *others)] == [""] * 8
    assert looks(folders) == 2


def test_a_look_that_began_before_is_not_enough(bench: PeopleBench, folders: FakeFolders) -> None:
    first, second = bench.receive(mail(1)), bench.receive(mail(2))
    people = bench.delivery.people
    assert people is not None
    begun, go_on = threading.Event(), threading.Event()
    after = folders.sent_after

    def slow(validity: int, uid: int) -> Any:
        found = after(validity, uid)
        if not begun.is_set():
            begun.set()
            assert go_on.wait(20)
        return found

    folders.sent_after = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        early = pool.submit(people.look, bench.record(first))
        assert begun.wait(20)
        bench.hands.file(written("customer2@example.test", "I see to it.", answers="<q2@example.test>"))
        late = pool.submit(people.look, bench.record(second))
        while not people._asking:
            assert not late.done()
        go_on.set()
        early.result(20)
        late.result(20)
    assert bench.record(first).state is State.RECEIVED
    assert bench.record(second).state is State.IGNORED


def test_a_fault_ends_the_look_of_all(bench: PeopleBench, folders: FakeFolders) -> None:
    """Also one that nobody foresaw: no submission waits for ever."""
    records = [bench.record(bench.receive(mail(number))) for number in range(1, 5)]
    people = bench.delivery.people
    assert people is not None

    def fail(name: str) -> None:
        raise RuntimeError(name)

    folders.before = fail
    with ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(people.look, record) for record in records]
        assert all(task.exception(20) or task.result() == "" for task in tasks)


def test_processes_that_look_at_the_same_time_do_it_once(redis_url: str, bench: PeopleBench) -> None:
    """As others did in the meantime what each of them does next."""
    folders = bench.folders._folders
    firsts = [bench.receive(mail(number)) for number in range(1, 11)]
    for number in range(1, 11):
        answers, id_ = f"<q{number}@example.test>", f"<person{number}@client.test>"
        source = written(f"customer{number}@example.test", "Mine.", answers=answers, message_id=id_)
        bench.hands.file(source)
    barrier = threading.Barrier(4)

    def process() -> None:
        shared = SharedFolders(folders)
        takeover = Takeover(bench.store, shared, frozenset({FROM.addr}), clock=bench.clock)
        look = LastLook(takeover, bench.drafts)
        barrier.wait(20)
        assert look.look(bench.record(firsts[0])) == ""

    with ThreadPoolExecutor(4) as pool:
        for task in [pool.submit(process) for _ in range(4)]:
            task.result(30)
    for first in firsts:
        assert bench.record(first).state is State.IGNORED
        assert len(bench.turns(first.thread_id)) == 1
        steps = [step["state"] for step in bench.store.messages.history(first.id)]
        assert steps.count("ignored") == 1


@pytest.mark.servers("dovecot")
def test_a_persons_answer_at_random_instants_is_never_doubled(redis_url: str) -> None:
    """A thousand of them: ``python -m benchmarks.takeover``."""
    rng = random.Random(13)
    with races.sharing(redis_url) as bench:
        found = [races.run(bench, number, rng) for number in range(1, 51)]
    assert [race for race in found if race.is_doubled] == []
    assert {race.ours_left for race in found} == {False, True}
