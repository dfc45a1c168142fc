"""Of several recipients those refused for now get the same bytes later, alone; nobody gets them twice."""

from __future__ import annotations

import itertools
import json

import pytest

from cleo_email.errors import (
    StoreUnavailable,
    SubmissionError,
    SubmissionLoginRefused,
    SubmissionUnavailable,
    SubmissionUncertain,
    WrongState,
)
from cleo_email.mail.model import Address, Receipt
from cleo_email.pipeline.send import NewMail, Sender
from cleo_email.store import Record, State, later_of
from tests.support.bench import FROM, Bench
from tests.support.mails import mail

ANN, BOB, EVE = "ann@example.test", "bob@example.test", "eve@example.test"
LATER = {BOB: "450 4.2.0 try later"}


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


def send(bench: Bench, *recipients: str) -> Record:
    """Store a mail to these and submit it once."""
    sender = Sender(bench.store, bench.wake, bench.signer, FROM, max_bytes=10**6, clock=bench.clock)
    sent = sender.send(NewMail(to=[Address(one) for one in recipients], subject="News", body="Hello"))
    bench.work(sent.thread_id)
    return bench.store.messages.get(sent.id)


def work_on_rest(bench: Bench, record: Record, seconds: float = 15) -> Record:
    bench.clock.pass_(seconds)
    if later_of(record.id) in bench.store.conversations.due(bench.clock.now, 100):
        bench.work(later_of(record.id))
    return bench.store.messages.get(record.id)


def given(bench: Bench) -> list[tuple[str, ...]]:
    return [one.recipients for one in bench.smtp.sent]


def is_over(bench: Bench, record: Record) -> bool:
    own = later_of(record.id)
    return own not in bench.store.conversations.due(10**15, 100) and not bench.redis.exists(
        f"cleo:conversation:{own}"
    )


def test_the_one_that_was_refused_for_now_gets_the_same_bytes_within_15_seconds(bench: Bench) -> None:
    bench.smtp.script = [Receipt("250", deferred=LATER), Receipt("250 ok")]
    record = send(bench, ANN, BOB)
    assert record.state is State.REPLIED
    assert "bob@example.test: 450 4.2.0 try later" in record.reason
    assert "the next try is due" in record.reason
    record = work_on_rest(bench, record)
    assert (record.state, record.reason, record.pending) == (State.REPLIED, "", "")
    assert given(bench) == [(ANN, BOB), (BOB,)]
    assert bench.smtp.sent[0].source == bench.smtp.sent[1].source
    assert is_over(bench, record)
    assert record.public()["recipients"] == [ANN, BOB]


def test_the_thread_does_not_wait_for_a_full_mailbox(bench: Bench) -> None:
    bench.smtp.script = [Receipt("250", deferred=LATER), Receipt("250 ok")]
    record = send(bench, ANN, BOB)
    ours = record.reply_message_id
    follow = bench.receive(mail(2, sender=ANN, references=ours))
    assert follow.thread_id == record.thread_id
    bench.work(follow.thread_id)
    assert bench.record(follow).state is State.REPLIED


def test_it_is_tried_with_back_off_for_72_hours(bench: Bench) -> None:
    bench.smtp.script = [
        Receipt("250", {EVE: "550 5.1.1 unknown"}, LATER),
        SubmissionUnavailable("every recipient was refused: 450 later"),
    ]
    record = send(bench, ANN, BOB, EVE)
    tries: list[int] = []
    for _ in range(72 * 60 + 120):
        before = bench.smtp.tries
        record = work_on_rest(bench, record, 60)
        if bench.smtp.tries > before:
            tries.append(bench.clock.now)
        assert record.state is State.REPLIED
    gaps = [later - sooner for sooner, later in itertools.pairwise(tries)]
    assert max(gaps) <= 3_660_000
    assert 70 < len(tries) < 90
    assert record.pending == ""
    assert "eve@example.test was refused: 550 5.1.1 unknown" in record.reason
    assert "bob@example.test: given up after 72 h" in record.reason
    assert is_over(bench, record)
    assert given(bench) == [(ANN, BOB, EVE)]


def test_a_later_refusal_for_good_is_told(bench: Bench) -> None:
    bench.smtp.script = [Receipt("250", deferred=LATER), SubmissionError("550 5.1.1 no such user")]
    record = work_on_rest(bench, send(bench, ANN, BOB))
    assert record.state is State.REPLIED
    assert "bob@example.test: 550 5.1.1 no such user" in record.reason
    assert is_over(bench, record)


def test_many_recipients_go_in_several_rounds(bench: Bench) -> None:
    people = [f"p{number}@example.test" for number in range(6)]
    many = "452 4.5.3 Too many recipients"
    bench.smtp.script = [
        Receipt("250", deferred=dict.fromkeys(people[2:], many)),
        Receipt("250", {people[2]: "550 5.1.1 unknown"}, dict.fromkeys(people[4:], many)),
        Receipt("250"),
    ]
    record = send(bench, *people)
    record = work_on_rest(bench, record)
    record = work_on_rest(bench, record)
    assert given(bench) == [tuple(people), tuple(people[2:]), tuple(people[4:])]
    assert record.reason == "p2@example.test was refused: 550 5.1.1 unknown"
    assert is_over(bench, record)


def test_a_refused_login_lets_them_wait_and_counts_no_attempt(bench: Bench) -> None:
    bench.smtp.script = [Receipt("250", deferred=LATER), SubmissionLoginRefused("535 no"), Receipt("250")]
    record = work_on_rest(bench, send(bench, ANN, BOB))
    assert json.loads(record.pending) == [BOB]
    assert record.sends == 1
    bench.redis.delete("cleo:tick:submission-probe")
    record = work_on_rest(bench, record, 25)
    assert record.pending == ""
    assert given(bench) == [(ANN, BOB), (BOB,)]


def test_retry_tries_them_now(bench: Bench) -> None:
    bench.smtp.script = [Receipt("250", deferred=LATER), SubmissionUnavailable("450"), Receipt("250")]
    record = work_on_rest(bench, send(bench, ANN, BOB))
    bench.deciding.retry(record.id, by="cli")
    record = work_on_rest(bench, record, 0)
    assert given(bench) == [(ANN, BOB), (BOB,)]
    with pytest.raises(WrongState):
        bench.deciding.retry(record.id, by="cli")


# --- what dies in between ---------------------------------------------------------------------------------


class Died(BaseException):
    """The process ends."""


def test_a_death_after_the_second_dot_sends_nothing_again_to_those_who_have_it(bench: Bench) -> None:
    bench.smtp.script = [Receipt("250", deferred=LATER), Receipt("250 ok")]
    record = send(bench, ANN, BOB)

    def die() -> None:
        raise Died

    bench.smtp.during = die
    with pytest.raises(Died):
        work_on_rest(bench, record)
    bench.smtp.during = None
    bench.clock.pass_(60)
    record = work_on_rest(bench, record)
    assert record.state is State.UNCERTAIN
    assert "it may have been sent to bob@example.test or not" in record.reason
    assert given(bench) == [(ANN, BOB)]
    assert is_over(bench, record)
    assert bench.store.settling.due(10**15) == [], "the copy in Sent is of the first submission"
    # A reply of the other one proves nothing about this one.
    bench.receive(mail(2, sender=ANN, references=record.reply_message_id))
    bench.work(record.thread_id)
    assert bench.store.messages.get(record.id).state is State.UNCERTAIN
    bench.deciding.retry(record.id, by="cli")
    bench.work(record.thread_id)
    assert given(bench) == [(ANN, BOB), (ANN,), (BOB,)]
    assert bench.store.messages.get(record.id).state is State.REPLIED


def test_a_death_between_the_two_submissions(bench: Bench) -> None:
    """The outcome of the first is one step: who has it, and who still waits."""
    bench.smtp.script = [Receipt("250", deferred=LATER), Receipt("250 ok")]
    moving = bench.store.messages.move

    def move(*args: object, **options: object) -> None:
        moving(*args, **options)  # type: ignore[arg-type]
        if args[1] is State.REPLIED:
            raise Died

    bench.store.messages.move = move  # type: ignore[method-assign]
    with pytest.raises(Died):
        send(bench, ANN, BOB)
    bench.store.messages.move = moving  # type: ignore[method-assign]
    (record,), _ = bench.store.messages.page()
    bench.work(record.thread_id)
    assert given(bench) == [(ANN, BOB)]
    assert work_on_rest(bench, record).pending == ""
    assert given(bench) == [(ANN, BOB), (BOB,)]


@pytest.mark.parametrize("taken_over", [False, True])
def test_an_outcome_of_the_rest_counts_though_redis_was_away(bench: Bench, taken_over: bool) -> None:
    bench.smtp.script = [Receipt("250", deferred=LATER), SubmissionUnavailable("450 later"), Receipt("250")]
    record = send(bench, ANN, BOB)
    left = [0]
    moving = bench.store.messages.move

    def move(*args: object, **options: object) -> None:
        if left[0]:
            left[0] -= 1
            if not left[0] and taken_over:
                bench.redis.delete(f"cleo:lock:conversation:{later_of(record.id)}")
                bench.smtp.during = None
                bench.work(later_of(record.id))
                assert bench.store.messages.get(record.id).state is State.UNCERTAIN
            raise StoreUnavailable("away")
        moving(*args, **options)  # type: ignore[arg-type]

    bench.store.messages.move = move  # type: ignore[method-assign]
    bench.smtp.during = lambda: left.__setitem__(0, 3)
    record = work_on_rest(bench, record)
    assert record.state is State.REPLIED
    assert json.loads(record.pending) == [BOB]
    bench.smtp.during = None
    record = work_on_rest(bench, record, 30)
    assert record.pending == ""
    assert given(bench) == [(ANN, BOB), (BOB,)]


def test_a_record_that_was_forgotten_leaves_nothing(bench: Bench) -> None:
    bench.smtp.script = [Receipt("250", deferred=LATER)]
    record = send(bench, ANN, BOB)
    bench.store.messages.forget(record.id)
    bench.clock.pass_(15)
    bench.work(later_of(record.id))
    assert is_over(bench, record)
    assert bench.smtp.tries == 1


def test_uncertain_at_once(bench: Bench) -> None:
    bench.smtp.script = [Receipt("250", deferred=LATER), SubmissionUncertain("lost")]
    record = work_on_rest(bench, send(bench, ANN, BOB))
    assert record.state is State.UNCERTAIN
    assert is_over(bench, record)
