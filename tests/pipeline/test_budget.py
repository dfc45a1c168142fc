"""What may leave the mailbox: caps, repeated texts, the breaker, and what a person lets through."""

from __future__ import annotations

import logging

import pytest

from cleo_email.errors import SubmissionUnavailable, WrongState
from cleo_email.mail.model import Address, Answer, Receipt
from cleo_email.pipeline.budget import Limits
from cleo_email.pipeline.send import NewMail, Sender
from cleo_email.store import Accepted, State
from tests.support.bench import FROM, Bench
from tests.support.mails import mail

HOUR_S = 3600


def ask(bench: Bench, number: int, *, sender: str = "", thread: bool = False, text: str = "") -> Accepted:
    references = "<q1@example.test>" if thread else ""
    accepted = bench.receive(mail(number, sender=sender, references=references, text=text))
    bench.work(accepted.thread_id)
    return accepted


def test_the_breaker_holds_what_the_whole_mailbox_sends_too_much(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(redis_url, limits=Limits(per_hour=5))
    done = [ask(bench, number) for number in range(12)]
    states = [bench.record(one).state for one in done]
    assert states == [State.REPLIED] * 5 + [State.HELD] * 7
    assert "EMAIL_MAX_SENDS_PER_HOUR" in bench.record(done[5]).reason
    assert len(bench.smtp.sent) == 5
    assert len(bench.agent.asked) == 5, "nobody is asked for what cannot leave"
    lines = [r for r in caplog.records if r.levelno >= logging.WARNING and "MAX_SENDS" in r.getMessage()]
    assert len(lines) == 1, "one line for the opening, not one for each mail"
    bench.clock.pass_(HOUR_S + 1)
    assert bench.record(ask(bench, 20)).state is State.REPLIED


def test_what_the_mailboxs_limit_holds_costs_its_sender_nothing(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_hour=1, per_sender=2))
    assert bench.record(ask(bench, 1, sender="other@example.test")).state is State.REPLIED
    for number in (2, 3):
        assert "EMAIL_MAX_SENDS_PER_HOUR" in bench.record(ask(bench, number, sender="a@example.test")).reason
    bench.clock.pass_(HOUR_S + 1)
    assert bench.record(ask(bench, 4, sender="a@example.test")).state is State.REPLIED


def test_many_senders_cannot_have_one_address_flooded(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_sender=3))
    states = []
    for number in range(5):
        accepted = bench.receive(mail(number, extra="Reply-To: target@example.test"))
        bench.work(accepted.thread_id)
        states.append(bench.record(accepted).state)
    assert states == [State.REPLIED] * 3 + [State.HELD] * 2


def test_a_person_lets_a_held_mail_through_the_breaker(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_hour=1))
    ask(bench, 1)
    held = ask(bench, 2)
    assert bench.record(held).state is State.HELD
    bench.deciding.release(held.id, by="cli")
    bench.work(held.thread_id)
    assert bench.record(held).state is State.REPLIED


def test_a_mail_that_is_tried_again_counts_once(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_hour=2, per_thread=1, repeats=1))
    bench.smtp.script = [SubmissionUnavailable("450 later")] * 5 + [Receipt("250")]
    first = ask(bench, 1)
    for _ in range(5):
        bench.clock.pass_(300)
        bench.work(first.thread_id)
    assert bench.record(first).state is State.REPLIED
    assert bench.smtp.tries == 6
    assert bench.record(ask(bench, 2)).state is State.REPLIED
    assert bench.record(ask(bench, 3)).state is State.HELD


def test_the_same_answer_to_the_same_words_is_held_after_some_times(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(repeats=3))
    texts = ["I am away.", "I  am\naway. ", "i am away.", "I am away.", "Something else."]
    bench.agent.script = [Answer(text) for text in texts]
    first = ask(bench, 1, text="Out of office.")
    done = [first] + [
        ask(bench, number, sender="customer1@example.test", thread=True, text="Out of  office.")
        for number in range(2, 6)
    ]
    assert {one.thread_id for one in done} == {first.thread_id}
    states = [bench.record(one).state for one in done]
    assert states == [*[State.REPLIED] * 3, State.HELD, State.REPLIED]
    assert "same answer" in bench.record(done[3]).reason
    bench.deciding.release(done[3].id, by="cli")
    bench.work(first.thread_id)
    assert bench.record(done[3]).state is State.REPLIED
    assert len(bench.agent.asked) == 5, "the kept answer is sent, nobody is asked again"


def test_one_short_answer_to_different_questions_is_no_loop(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(repeats=3))
    bench.agent.script = [Answer("Yes.")]
    first = ask(bench, 1)
    more = [ask(bench, number, sender="customer1@example.test", thread=True) for number in range(2, 9)]
    assert {bench.record(one).state for one in (first, *more)} == {State.REPLIED}


def test_the_same_text_in_many_threads_and_to_many_people_is_no_loop(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits())
    assert {bench.record(ask(bench, number)).state for number in range(12)} == {State.REPLIED}


def test_the_caps_hold_where_mail_leaves_too(redis_url: str) -> None:
    """An answer that was kept before the settings were lowered, or by another way, still meets them."""
    bench = Bench(redis_url, limits=Limits(per_sender=2))
    bench.agent.script = [Answer(f"text {number}") for number in range(9)]
    done = [ask(bench, number, sender="one@example.test") for number in range(4)]
    assert [bench.record(one).state for one in done] == [State.REPLIED] * 2 + [State.HELD] * 2
    assert "EMAIL_MAX_REPLIES_PER_SENDER" in bench.record(done[3]).reason


def test_what_cleo_says_first_meets_the_breaker_and_can_be_released(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_hour=2, per_sender=1))
    outbound = Sender(bench.store, bench.wake, bench.signer, FROM, max_bytes=10**6, clock=bench.clock)
    sent = [
        outbound.send(NewMail([Address(f"p{number}@example.test")], "News", "The same news for everybody."))
        for number in range(4)
    ]
    for one in sent:
        bench.work(one.thread_id)
    states = [bench.store.messages.get(one.id).state for one in sent]
    assert states == [State.REPLIED] * 2 + [State.HELD] * 2
    bench.deciding.release(sent[2].id, by="cli")
    bench.work(sent[2].thread_id)
    assert bench.store.messages.get(sent[2].id).state is State.REPLIED
    assert [mail.recipients[0] for mail in bench.smtp.sent] == [
        f"p{number}@example.test" for number in range(3)
    ]


def test_one_final_answer_to_each_mail(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits())
    accepted = ask(bench, 1)
    for decide in (bench.deciding.release, bench.deciding.retry):
        with pytest.raises(WrongState):
            decide(accepted.id, by="cli")
    for state in State:
        if state is State.REPLIED:
            continue
        with pytest.raises(WrongState):
            bench.store.messages.move(accepted.id, state, now=bench.clock())
    bench.wake.wake(accepted.thread_id)
    bench.work(accepted.thread_id)
    assert len(bench.smtp.sent) == 1


def test_what_the_breaker_held_goes_on_by_itself_in_order_as_there_is_room(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_hour=3))
    done = []
    for number in range(7):
        bench.clock.pass_(1)  # the order of ids is that of time
        done.append(ask(bench, number))
    bench.sweeping.run()
    assert [bench.record(one).state for one in done[3:]] == [State.HELD] * 4, "the hour has not passed"
    bench.clock.pass_(HOUR_S + 1)
    bench.sweeping.run()
    for one in done[3:]:
        bench.work(one.thread_id)
    assert [bench.record(one).state for one in done] == [State.REPLIED] * 6 + [State.HELD]
    bench.clock.pass_(HOUR_S + 1)
    bench.sweeping.run()
    bench.work(done[6].thread_id)
    assert bench.record(done[6]).state is State.REPLIED
    assert len(bench.smtp.sent) == 7


def test_what_a_person_decided_meanwhile_does_not_go_on(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_hour=1))
    held = [ask(bench, number) for number in range(3)][1:]
    bench.deciding.dismiss(held[0].id, by="cli")
    bench.clock.pass_(HOUR_S + 1)
    bench.sweeping.run()
    assert [bench.record(one).state for one in held] == [State.IGNORED, State.RECEIVED]


def test_a_flood_of_made_up_senders_leaves_room_for_those_who_had_mail_before(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_hour=10))
    ask(bench, 1, sender="anna@example.test")
    bench.clock.pass_(2 * HOUR_S)
    flood = [ask(bench, number) for number in range(100, 120)]
    assert sum(bench.record(one).state is State.REPLIED for one in flood) == 10
    assert bench.record(ask(bench, 2, sender="Anna@example.test")).state is State.REPLIED
    assert bench.record(ask(bench, 3, sender="new@example.test")).state is State.HELD
    for number in range(10, 13):
        ask(bench, number, sender="anna@example.test")
    assert len(bench.smtp.sent) == 1 + 12, "and a fifth on top is all"


@pytest.mark.parametrize(
    "spelling", ["a{}@example.test", "a+{}@example.test", "A+{}+x@EXAMPLE.test", '"a+{}"@example.test']
)
def test_one_mailbox_is_one_sender_whatever_its_tags(redis_url: str, spelling: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_sender=2))
    done = [ask(bench, number, sender=spelling.format(number)) for number in range(4)]
    tagged = "+" in spelling
    expected = [State.REPLIED] * 2 + [State.HELD] * 2 if tagged else [State.REPLIED] * 4
    assert [bench.record(one).state for one in done] == expected


def test_every_recipient_of_a_mail_counts(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_hour=5, per_sender=2), reply_all=True)
    for number in range(3):  # each another sender, and the same victim in Cc
        accepted = bench.receive(mail(number, extra="Cc: victim@example.test"))
        bench.work(accepted.thread_id)
    assert [mail.recipients[-1] for mail in bench.smtp.sent] == ["victim@example.test"] * 2
    last = bench.receive(mail(9, extra="Cc: b@example.test"))
    bench.work(last.thread_id)
    assert "EMAIL_MAX_SENDS_PER_HOUR" in bench.record(last).reason, "two mails to two are four of five"


def test_a_mail_to_more_people_than_the_limit_needs_an_empty_hour(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_hour=2))
    outbound = Sender(bench.store, bench.wake, bench.signer, FROM, max_bytes=10**6, clock=bench.clock)
    people = [Address(f"p{number}@example.test") for number in range(4)]
    sent = outbound.send(NewMail(people, "News", "The same news for everybody."))
    bench.work(sent.thread_id)
    assert bench.store.messages.get(sent.id).state is State.REPLIED
    assert bench.record(ask(bench, 1)).state is State.HELD


def test_calls_of_an_agent_that_answers_nothing_are_limited_too(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_hour=3))
    bench.agent.script = [Answer(ignore="no")]
    done = [ask(bench, number) for number in range(9)]
    assert len(bench.agent.asked) == 6
    assert bench.record(done[6]).state is State.HELD
    assert "the agent was asked 6 times" in bench.record(done[6]).reason
    bench.clock.pass_(HOUR_S + 1)
    bench.sweeping.run()
    bench.work(done[6].thread_id)
    assert bench.record(done[6]).state is State.IGNORED
