"""Which mails are copies of one mail: a forged or an incomplete one never stands for the true one."""

from __future__ import annotations

import pytest

from cleo_email.pipeline.receive import IncomingMail
from cleo_email.screening.dkim import SenderCheck
from cleo_email.screening.screen import Policy
from cleo_email.store import State
from tests.screening.signing import FakeDns, sign
from tests.support.bench import FROM, Bench
from tests.support.mails import mail

PROOFS = Policy(frozenset({FROM.addr}), authserv_id="mx.cleo.test")
TRUE = mail(1)
GOOD = b"Authentication-Results: mx.cleo.test; dmarc=pass header.from=example.test\r\n"


def without(source: bytes, name: bytes) -> bytes:
    return b"\r\n".join(line for line in source.split(b"\r\n") if not line.startswith(name))


FORGERIES = {
    "other words, no Date": without(mail(1, text="Give me all."), b"Date"),
    "other words, the same Date": mail(1, text="Give me all."),
    "the same words, no Date": without(TRUE, b"Date"),
    "the same words": TRUE,
    "another Reply-To": mail(1, extra="Reply-To: spy@evil.test"),
    "another Cc": mail(1, extra="Cc: spy@evil.test"),
}


@pytest.mark.parametrize("forged", FORGERIES)
def test_a_forged_copy_that_comes_first_does_not_stand_for_a_mail_that_is_proven(
    redis_url: str, forged: str
) -> None:
    bench = Bench(redis_url, policy=PROOFS)
    assert bench.receive(FORGERIES[forged]).state is State.HELD
    true = bench.receive(GOOD + TRUE)
    assert not true.duplicate
    bench.work(true.thread_id)
    assert bench.record(true).state is State.REPLIED
    # And what comes again, by whatever way, is the same mail.
    assert bench.receive(GOOD + TRUE).id == true.id
    assert bench.receive(FORGERIES[forged]).duplicate
    assert len(bench.smtp.sent) == 1


@pytest.mark.parametrize("forged", FORGERIES)
def test_a_forged_copy_that_comes_first_does_not_stand_for_a_signed_mail(redis_url: str, forged: str) -> None:
    dns = FakeDns()
    dns.publish("example.test")
    bench = Bench(redis_url, sender_check=SenderCheck(dns))
    first = bench.receive(FORGERIES[forged])
    true = bench.receive(sign(TRUE, domain="example.test"))  # before anybody has asked DNS
    assert not first.duplicate
    assert not true.duplicate
    for thread in (first.thread_id, true.thread_id, first.thread_id):
        bench.work(thread)
    assert bench.record(first).state is State.HELD
    assert bench.record(true).state is State.REPLIED


@pytest.mark.parametrize("field", ["Reply-To", "Cc"])
def test_a_proven_sender_is_no_proof_of_who_gets_the_answer(redis_url: str, field: str) -> None:
    bench = Bench(redis_url, policy=PROOFS, reply_all=True)
    for source in (TRUE, mail(2, extra=f"{field}: spy@evil.test")):
        bench.work(bench.receive(GOOD + source).thread_id)
    plain, replayed = [request.message for request in bench.agent.asked]
    assert plain.authenticated is True
    assert replayed.authenticated is None
    assert any("the answer goes to spy@evil.test" in note for note in replayed.notes)


def test_a_signed_reply_to_is_proven_with_the_sender(redis_url: str) -> None:
    dns = FakeDns()
    dns.publish("example.test")
    bench = Bench(redis_url, sender_check=SenderCheck(dns))
    source = mail(1, extra="Reply-To: desk@example.test")
    bench.work(bench.receive(sign(source, domain="example.test")).thread_id)
    assert bench.agent.asked[0].message.authenticated is True


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Subject: ", b"Subject: Re: "), (b"Subject: ", b"Subject:  "), (b"\r\n\r\n", b"\r\n--x: y\r\n\r\n"),
        (b"\r\n\r\n", b"\r\n\r\n "), (b"From: ", b"FROM: "),
        (b"\r\n\r\n", b"\r\nContent-Type: text/html\r\n\r\n"),
        (b"To: ", b"to:"), (b"\r\n\r\n", b"\r\nSubject: x\r\n\r\n"), (b"\r\n\r\n", b"\r\n \r\n\r\n"),
    ],
)  # fmt: skip
def test_a_spoilt_copy_that_comes_first_does_not_stand_for_the_signed_mail(
    redis_url: str, old: bytes, new: bytes
) -> None:
    """Whoever has the mail as well (a Cc) may hand in a copy whose signature no longer holds."""
    dns = FakeDns()
    dns.publish("example.test")
    bench = Bench(redis_url, sender_check=SenderCheck(dns))
    signed = sign(TRUE, domain="example.test")
    spoilt = bench.receive(signed.replace(old, new, 1))
    bench.work(spoilt.thread_id)
    true = bench.receive(signed)
    assert not true.duplicate
    bench.work(bench.record(true).thread_id)
    answered = [one for one in (spoilt, true) if bench.record(one).state is State.REPLIED]
    assert len(answered) == len(bench.smtp.sent) == 1
    assert bench.receive(signed).duplicate


def test_a_copy_with_one_more_signature_is_answered_once(redis_url: str) -> None:
    dns = FakeDns()
    dns.publish("example.test")
    bench = Bench(redis_url, sender_check=SenderCheck(dns))
    signed = sign(TRUE, domain="example.test")
    first, second = bench.receive(signed), bench.receive(b"DKIM-Signature: v=1; d=list.test\r\n" + signed)
    assert not second.duplicate
    bench.work(first.thread_id)
    bench.work(second.thread_id)
    assert bench.record(first).state is State.REPLIED
    assert bench.record(second).state is State.IGNORED
    assert first.id in bench.record(second).reason
    assert len(bench.smtp.sent) == 1


@pytest.mark.parametrize("forged", ["other words, no Date", "another Reply-To", "another Cc"])
def test_two_mails_that_differ_in_content_are_two(redis_url: str, forged: str) -> None:
    bench = Bench(redis_url)
    for source in (FORGERIES[forged], TRUE):
        bench.work(bench.receive(source).thread_id)
    assert [mail.recipients for mail in bench.smtp.sent][-1] == ("customer1@example.test",)
    assert len(bench.smtp.sent) == 2
    assert bench.receive(TRUE).duplicate
    assert bench.receive(FORGERIES[forged]).duplicate


def test_white_space_at_the_ends_of_lines_makes_no_other_mail(redis_url: str) -> None:
    bench = Bench(redis_url)
    first = bench.receive(TRUE)
    assert bench.receive(TRUE + b"\r\n\r\n").id == first.id
    assert bench.receive(TRUE.replace(b"\r\n", b"\n")).id == first.id


def test_a_header_alone_claims_nothing_for_the_whole_mail(redis_url: str) -> None:
    """A forged copy that is too large to be downloaded is held, and known by its header only."""
    bench = Bench(redis_url)
    header = TRUE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    large = bench.receive(header, hold="30000000 bytes", partial=True)
    assert large.state is State.HELD
    whole = bench.receive(TRUE)
    assert not whole.duplicate
    # The other way round the header is that of a mail that is known.
    assert bench.receive(header, hold="it came long ago", partial=True).duplicate


def test_a_copy_by_another_channel_is_the_same_mail(redis_url: str) -> None:
    """A provider takes a mail apart and puts it together again: its bytes are others."""
    bench = Bench(redis_url)
    first = bench.receive(TRUE.replace(b"This is question", b"This  is = question"))
    again = bench.intake.accept(IncomingMail(without(TRUE, b"Date"), "postmark"))
    assert again.id == first.id


def test_claims_of_an_earlier_version_still_count(redis_url: str) -> None:
    bench = Bench(redis_url)
    first = bench.receive(TRUE)
    (key,) = bench.redis.keys("cleo:seen:mail:*")
    ((claim, id_),) = bench.redis.hgetall(key).items()
    bench.redis.delete(key)
    bench.redis.hset(key, claim.partition(b"|")[0], id_)
    assert bench.receive(TRUE).id == first.id
    bench.redis.delete(key)
    bench.redis.hset(key, "", id_)
    assert bench.receive(TRUE).id == first.id
