"""Mail lies compressed in Redis where that saves something, and is read as it came, whoever stored it."""

from __future__ import annotations

import base64
from random import Random

import pytest

from cleo_email.errors import StoreUnavailable
from cleo_email.store import Accepted, State
from cleo_email.store.connection import read_large, redis_errors
from cleo_email.store.source import MARK, PIECE
from tests.support.bench import Bench
from tests.support.mails import mail

NOISE = Random(1).randbytes(3 * PIECE)
CODED = base64.encodebytes(NOISE[:60_001]).decode()
TEXT = "Every mail says the same thing again. " * 2000


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


def kind(bench: Bench, accepted: Accepted) -> str:
    return bytes(bench.redis.type(f"cleo:m:{accepted.id}:source")).decode()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "lies_as"),
    [
        (mail(1), "string"),
        (mail(1, text=TEXT), "list"),
        (mail(1) + NOISE, "string"),
        (mail(1, text="x" * PIECE)[:PIECE], "list"),
        ((mail(1) + NOISE)[:PIECE], "string"),
        (mail(1, text=NOISE[:PIECE].hex()), "list"),
        (mail(1, text=NOISE.hex()), "string"),  # more than 4 MiB
        (mail(1, text=base64.encodebytes(NOISE).decode()), "list"),
        (mail(1, text=TEXT + base64.encodebytes(NOISE[:60_000]).decode() + TEXT), "list"),
        (mail(1, text=CODED), "list"),
        (mail(1, text=TEXT + CODED + TEXT), "list"),
        (mail(1, text=f"\n{CODED}{TEXT}" * 20), "list"),
        (mail(1, text=CODED[:-9]), "list"),
        (mail(1, text=CODED.replace("\n", "=\n", 3)), "list"),
        (mail(1, text=base64.encodebytes(TEXT.encode()).decode()), "list"),
        (mail(1, text="".join(TEXT + NOISE[n : n + 20_000].hex() for n in range(30))), "list"),
        (MARK + b"0000000005hello", "list"),
    ],
)
def test_a_mail_is_read_as_it_came(bench: Bench, source: bytes, lies_as: str) -> None:
    accepted = bench.receive(source)
    assert kind(bench, accepted) == lies_as
    assert bench.store.messages.source(accepted.id) == source
    assert bench.store.messages.source_size(accepted.id) == len(source)
    bench.store.messages.replace_source(accepted.id, mail(2, text=TEXT))
    assert bench.store.messages.source(accepted.id) == mail(2, text=TEXT)
    bench.store.messages.replace_source(accepted.id, source)
    assert bench.store.messages.source(accepted.id) == source
    assert kind(bench, accepted) == lies_as


def test_a_mail_of_an_earlier_version_is_read(bench: Bench) -> None:
    accepted = bench.receive(mail(1, text=TEXT))
    bench.redis.set(f"cleo:m:{accepted.id}:source", mail(1, text=TEXT))
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert TEXT.strip() in bench.agent.asked[0].message.text


def test_an_earlier_version_leaves_a_mail_that_it_cannot_read_to_a_later_one(bench: Bench) -> None:
    """It reads strings; for another kind of value it gets an error, and tries again as if Redis were away."""
    accepted = bench.receive(mail(1, text=TEXT))
    with pytest.raises(StoreUnavailable), redis_errors():
        read_large(bench.redis, f"cleo:m:{accepted.id}:source")


def test_what_is_gone_is_none(bench: Bench) -> None:
    accepted = bench.receive(mail(1, text=TEXT))
    bench.redis.delete(f"cleo:m:{accepted.id}:source")
    assert bench.store.messages.source(accepted.id) is None
    assert bench.store.messages.source_size(accepted.id) == 0


def test_a_compressed_mail_is_dropped_some_days_after_its_end(bench: Bench) -> None:
    accepted = bench.receive(mail(1, text=TEXT))
    bench.work(accepted.thread_id)
    left = bench.redis.ttl(f"cleo:m:{accepted.id}:source")
    assert 6 * 86_400 < int(left) <= 7 * 86_400  # type: ignore[arg-type]


def test_a_record_holds_no_field_that_says_nothing(bench: Bench) -> None:
    accepted = bench.receive(mail(1))
    stored = bench.redis.hgetall(f"cleo:m:{accepted.id}")
    empty = {name for name, value in stored.items() if value in (b"", b"0")}  # type: ignore[union-attr]
    assert empty == {b"data_ended_at"}, "which scripts of every version compare"
