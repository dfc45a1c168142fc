"""Mail that is accepted together: stored in one transaction, and each as if it had come alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from cleo_email.errors import StoreUnavailable
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.store import Accepted, Messages, State
from cleo_email.store.queue import ANSWERS, queue
from tests.support.bench import Bench
from tests.support.mails import mail
from tests.support.redis_server import RedisServer

UNREADABLE = b"From: a@example.test\r\n" + b"X: y\r\n" * 10_001 + b"\r\n"


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def take(bench: Bench, *sources: bytes, backlog: bool = False) -> list[Accepted]:
    mails = [IncomingMail(source, "imap", mailbox=f"7/{n}") for n, source in enumerate(sources, 1)]
    return bench.intake.accept_each(mails, backlog=backlog)


def waiting(bench: Bench, thread: str) -> list[str]:
    return [item.decode() for item in bench.redis.lrange(f"cleo:conversation:{thread}", 0, -1)]  # type: ignore[union-attr]


def wake_ups(bench: Bench) -> list[str]:
    ids = [item.decode() for item in bench.redis.lrange("rq:queue:cleo-email", 0, -1)]  # type: ignore[union-attr]
    jobs = queue(bench.redis, ANSWERS)
    return [job.args[0] for id_ in ids if (job := jobs.fetch_job(id_))]


def test_mails_of_many_threads_are_stored_in_their_order_with_one_wake_up_for_each_thread(
    bench: Bench,
) -> None:
    sources = [mail(n) for n in range(1, 6)]
    sources.insert(3, mail(9, sender="customer1@example.test", references="<q1@example.test>"))
    found = take(bench, *sources)
    assert [one.duplicate for one in found] == [False] * 6
    assert [one.id for one in found if one.id != found[3].id] == sorted(
        one.id for one in found if one.id != found[3].id
    )
    assert waiting(bench, "<q1@example.test>") == [found[0].id, found[3].id], "in order of arrival"
    assert found[3].id > found[0].id, "and so in every list"
    assert bench.redis.llen("rq:queue:cleo-email") == 5
    for one in found:
        assert bench.store.messages.source(one.id) == sources[found.index(one)]


@pytest.mark.parametrize("named", [True, False])
def test_a_mail_that_lies_there_twice_is_one(bench: Bench, named: bool) -> None:
    source = mail(1) if named else mail(1).replace(b"Message-ID: <q1@example.test>\r\n", b"")
    first, other, again = take(bench, source, mail(2), source)
    assert (first.duplicate, other.duplicate, again.duplicate) == (False, False, True)
    assert again.id == first.id
    assert bench.record(first).mailbox == "7/3", "where it was seen last"
    assert len(bench.store.messages.page()[0]) == 2


def test_whoever_the_mail_before_brought_in_takes_part_in_the_thread(bench: Bench) -> None:
    """As if the second had come a second later: it answers a mail of the same batch."""
    first, second, stranger = take(
        bench,
        mail(1, sender="anna@example.test", extra="Cc: bert@example.test"),
        mail(2, sender="bert@example.test", references="<q1@example.test>"),
        mail(3, sender="eve@example.test", references="<q1@example.test>"),
    )
    assert second.thread_id == first.thread_id
    assert stranger.thread_id == "<q3@example.test>"
    assert waiting(bench, first.thread_id) == [first.id, second.id]


def test_one_whose_thread_is_others_by_now_chooses_another_and_stops_no_other(bench: Bench) -> None:
    take(bench, mail(1, sender="anna@example.test", references="<q5@example.test>"))
    before, second, after = take(bench, mail(4), mail(5, sender="bert@example.test"), mail(6))
    assert second.thread_id == "email:bert@example.test"
    assert [bench.record(one).state for one in (before, second, after)] == [State.RECEIVED] * 3
    assert bench.redis.llen("rq:queue:cleo-email") == 4


def test_one_that_cannot_be_read_is_quarantined_alone(bench: Bench) -> None:
    before, unreadable, after = take(bench, mail(1), UNREADABLE, mail(2))
    assert [one.state for one in (before, unreadable, after)] == [
        State.RECEIVED,
        State.FAILED,
        State.RECEIVED,
    ]
    assert "cannot be read" in bench.record(unreadable).reason
    assert bench.store.messages.source(unreadable.id) == UNREADABLE


def test_redis_dies_in_the_middle_of_a_batch(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, sources = Bench(server.url), [mail(n) for n in range(6)]
    store = Messages._store_arrival
    calls: list[object] = []

    def dying(self: Messages, *args: object) -> object:
        calls.append(args)
        if len(calls) == 4:
            server.kill()
        return store(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Messages, "_store_arrival", dying)
    with pytest.raises(StoreUnavailable):
        take(bench, *sources)
    server.start()
    found = take(bench, *sources)
    assert len({one.id for one in found}) == len(bench.store.messages.page()[0]) == 6
    server.kill()
    server.start()
    assert all(one.duplicate for one in take(bench, *sources)), "what was acknowledged is in its file"


def test_redis_is_full_in_the_middle_of_a_batch(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two transactions: within one Redis looks at its memory once."""
    monkeypatch.setattr("cleo_email.store.messages.TOGETHER_OCTETS", 500_000)
    bench, random = Bench(server.url), Random(1)
    noise = [random.randbytes(150_000).hex() for _ in range(8)]
    sources = [mail(n, text=text) for n, text in enumerate(noise)]
    bench.redis.config_set("maxmemory-policy", "noeviction")
    used = int(bench.redis.info("memory")["used_memory"])  # type: ignore[index]
    bench.redis.config_set("maxmemory", used + 1_000_000)
    with pytest.raises(StoreUnavailable, match="is full"):
        take(bench, *sources)
    bench.redis.config_set("maxmemory", 0)
    assert 0 < len(bench.store.messages.page()[0]) < 8
    found = take(bench, *sources)
    assert len({one.id for one in found}) == len(bench.store.messages.page()[0]) == 8
    for one, source in zip(found, sources, strict=True):
        assert bench.store.messages.source(one.id) == source
        assert waiting(bench, one.thread_id) == [one.id]


def test_a_redis_that_refuses_our_scripts_keeps_nothing_of_a_batch(server: RedisServer) -> None:
    bench = Bench(server.url)
    bench.redis.acl_setuser("default", enabled=True, commands=["-evalsha"], reset=False)
    with pytest.raises(StoreUnavailable, match="does not permit"):
        take(bench, mail(1), mail(2))
    bench.redis.acl_setuser("default", enabled=True, commands=["+evalsha"], reset=False)
    assert bench.store.messages.page()[0] == []
    assert [one.duplicate for one in take(bench, mail(1), mail(2))] == [False, False]


def test_a_backlog_leaves_room_in_the_queue_and_whoever_writes_meanwhile_passes_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cleo_email.store.queue.MOST_WAITING", 4)
    monkeypatch.setattr("cleo_email.store.queue.CROWD", 3)
    take(bench, *(mail(n) for n in range(8)), backlog=True)
    assert wake_ups(bench) == [f"<q{n}@example.test>" for n in range(4)]
    take(bench, mail(20), mail(21))
    *fresh, first = wake_ups(bench)[:3]
    assert (sorted(fresh), first) == (["<q20@example.test>", "<q21@example.test>"], "<q0@example.test>")
    assert bench.sweeping.run() == 0, "there is no room"
    bench.redis.ltrim("rq:queue:cleo-email", 4, -1)
    bench.clock.pass_(1)
    assert bench.sweeping.run() == 2
    assert wake_ups(bench)[2:] == ["<q4@example.test>", "<q5@example.test>"], "longest waiting first"
