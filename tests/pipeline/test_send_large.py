"""Large mails: a few at once in a worker, read in pieces, and their memory given back."""

from __future__ import annotations

import random
import threading

import pytest
from redis import Redis

from cleo_email.mail.model import Address, AttachedFile
from cleo_email.pipeline import deliver as delivery
from cleo_email.pipeline.send import NewMail, Sender, SentMessage
from cleo_email.runtime import LargeWork
from cleo_email.store import State
from cleo_email.store.connection import PIECE, read_large
from cleo_email.store.files import pack, unpack
from tests.support.bench import FROM, Bench


def send(bench: Bench, size: int) -> SentMessage:
    outbound = Sender(bench.store, bench.wake, bench.signer, FROM, max_bytes=10**8, clock=bench.clock)
    file = AttachedFile("large.bin", "application/octet-stream", random.Random(size).randbytes(size))
    return outbound.send(NewMail([Address("anna@example.test")], "x", "y", attachments=[file]))


def test_who_waits_too_long_for_a_turn_uses_up_no_attempt(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "SENDING_TURN_S", 0.05)
    bench = Bench(redis_url)
    busy = [send(bench, 2_000_000) for _ in range(delivery.LARGE_AT_ONCE)]
    late, small = send(bench, 2_000_000), send(bench, 1000)
    arrived, go = threading.Semaphore(0), threading.Event()

    def during() -> None:
        arrived.release()
        go.wait(20)

    bench.smtp.during = during
    workers = [threading.Thread(target=bench.work, args=(one.thread_id,)) for one in busy]
    for worker in workers:
        worker.start()
    for _ in busy:
        assert arrived.acquire(timeout=10)
    bench.smtp.during = None
    bench.work(late.thread_id)
    bench.work(small.thread_id)
    record = bench.store.messages.get(late.id)
    assert (record.state, record.sends, record.data_ended_at) == (State.SUBMITTING, 0, 0)
    assert "large" in record.reason
    assert bench.store.messages.get(small.id).state is State.REPLIED
    go.set()
    for worker in workers:
        worker.join(10)
    bench.clock.now += delivery.LARGE_PAUSE_MS
    bench.work(late.thread_id)
    assert bench.store.messages.get(late.id).state is State.REPLIED
    assert len(bench.smtp.sent) == 4


def test_a_turn_is_for_large_things_only_and_is_given_back() -> None:
    work = LargeWork(1, from_bytes=10)
    with work.turn(10) as first, work.turn(10, patience=0.01) as second, work.turn(9) as small:
        assert (first, second, small) == (True, False, True)
    with work.turn(10, patience=0.01) as again:
        assert again
    with pytest.raises(ValueError, match="x"), work.turn(10):
        raise ValueError("x")
    with work.turn(10, patience=0.01) as again:
        assert again


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 7])
def test_what_is_read_in_pieces_is_whole(redis_url: str, size: int) -> None:
    data = random.Random(1).randbytes(size)
    with Redis.from_url(redis_url) as redis:
        redis.set("large", data)
        assert read_large(redis, "large") == data
        assert read_large(redis, "absent") is None


def test_files_that_wait_come_back_as_they_were() -> None:
    files = (
        AttachedFile("ü\n.pdf", "application/pdf", b"\n\n"),
        AttachedFile("empty", "text/plain", b""),
        AttachedFile("b", "image/png", bytes(range(256))),
    )
    assert unpack(pack(files)) == files
    assert unpack(pack(())) == ()
