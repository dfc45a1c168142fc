"""Redis is lost: whoever got mail of ours finds the thread again, and nobody else does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from cleo_email.mail.message_id import Signer, derive_key
from cleo_email.mail.model import Address
from cleo_email.mail.parse import parse
from cleo_email.pipeline.send import NewMail, Sender
from cleo_email.store.threads import SigningKeys
from tests.support.bench import FROM, Bench, signer_on
from tests.support.mails import mail
from tests.support.redis_server import RedisServer

ANNA = "anna@example.test"


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    bench = Bench(redis_url)
    bench.sign_with(Signer("cleo.test", SigningKeys(bench.redis, [derive_key(b"secret")])))
    yield bench
    bench.redis.close()


def answered(bench: Bench) -> tuple[str, str]:
    """A thread in which Anna got an answer: its id, and the References of her next mail."""
    first = bench.receive(mail(1, sender=ANNA))
    bench.work(first.thread_id)
    return first.thread_id, f"<q1@example.test> {bench.smtp.sent[-1].message_id}"


def test_a_reply_finds_its_thread_after_redis_was_flushed(bench: Bench) -> None:
    thread, references = answered(bench)
    bench.redis.flushall()
    again = bench.receive(mail(2, sender=ANNA, references=references))
    assert again.thread_id == thread
    bench.work(thread)
    sent = parse(bench.smtp.sent[-1].source)
    assert sent.references[0] == "<q1@example.test>"
    third = bench.receive(mail(3, sender=ANNA, references=f"{references} {sent.message_id}"))
    assert third.thread_id == thread


def test_a_reply_that_quotes_nothing_but_a_later_id_of_ours_begins_a_new_thread(bench: Bench) -> None:
    thread, references = answered(bench)
    bench.redis.flushall()
    again = bench.receive(mail(2, sender=ANNA, references=references.split()[-1]))
    assert again.thread_id == "<q2@example.test>", "nothing tells the thread; it is no stranger's either"
    bench.work(again.thread_id)
    sent = parse(bench.smtp.sent[-1].source)
    third = bench.receive(mail(3, sender=ANNA, references=f"{references.split()[-1]} {sent.message_id}"))
    assert third.thread_id == again.thread_id
    assert bench.receive(mail(4, sender=ANNA, references=references)).thread_id == thread


def test_a_stranger_who_copies_the_ids_does_not_get_in(bench: Bench) -> None:
    thread, references = answered(bench)
    bench.redis.flushall()
    stranger = bench.receive(mail(2, sender="mallory@evil.test", references=references))
    assert stranger.thread_id == "<q2@example.test>"
    assert bench.receive(mail(3, sender=ANNA, references=references)).thread_id == thread
    for one in (4, 5):
        late = bench.receive(mail(one, sender="mallory@evil.test", references=references))
        assert late.thread_id != thread


def test_a_thread_that_cleo_began_is_found_again(bench: Bench) -> None:
    outbound = Sender(bench.store, bench.wake, bench.signer, FROM, max_bytes=10**6, clock=bench.clock)
    sent = outbound.send(NewMail([Address(ANNA)], "News", "Hello"))
    bench.work(sent.thread_id)
    bench.redis.flushall()
    stranger = bench.receive(mail(1, sender="mallory@evil.test", references=sent.message_id))
    assert stranger.thread_id != sent.thread_id
    assert bench.receive(mail(2, sender=ANNA, references=sent.message_id)).thread_id == sent.thread_id


def test_without_a_configured_key_all_processes_share_one_of_their_own(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.flushall()
        first, second = SigningKeys(client, []), SigningKeys(client, [])
        assert first() == second()
        assert len(first()[0]) == 32


def test_ids_signed_with_a_key_that_is_lost_fall_back_to_the_first_reference(redis_url: str) -> None:
    bench = Bench(redis_url)
    thread, references = answered(bench)
    bench.redis.flushall()
    bench.sign_with(signer_on(Redis.from_url(redis_url)))
    assert bench.receive(mail(2, sender=ANNA, references=references)).thread_id == thread
