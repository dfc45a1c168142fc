"""The agent asks back by mail, waits for the reply, and goes on with it."""

from __future__ import annotations

import json
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest

from cleo_email.errors import AlreadyAnswered, SubmissionError
from cleo_email.mail.address import person
from cleo_email.mail.model import Address, Answer, Ask, InboundEmail, Receipt
from cleo_email.pipeline.callback import read_given
from cleo_email.pipeline.question import MAX_ASKS
from cleo_email.runtime import HOUR
from cleo_email.screening.dkim import Finding, Outcome
from cleo_email.screening.screen import Policy
from cleo_email.store import QUESTION, Accepted, Record, State, conversation_of
from cleo_email.web.operator.conversation import conversation
from tests.support.bench import FROM, Bench
from tests.support.folders import FakeFolders
from tests.support.mails import mail
from tests.support.people import FakeHands, PeopleBench, written

CUSTOMER, BOSS = "customer1@example.test", "boss@firma.test"
FOLLOWS = {"sender": CUSTOMER, "references": "<q1@example.test>"}
TO_CUSTOMER = Answer(ask=Ask("Which **order**?", context='{"step": 2}'))
TO_BOSS = Answer(ask=Ask("May I refund 40 €?", Address(BOSS)))


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url, ask_allowed=("@firma.test",))


class Check:
    """Stands for the check of signatures."""

    outcome = Outcome.PROVEN

    def check(self, source: bytes, mail: InboundEmail) -> Finding:
        return Finding(self.outcome, "" if self.outcome is Outcome.PROVEN else "no proof")


def drain(bench: Bench) -> None:
    """Let the worker handle whatever is due until nothing is."""
    for _ in range(30):
        due = bench.store.conversations.due(bench.clock(), 100)
        if not due:
            return
        for thread in due:
            bench.work(thread)
    raise AssertionError(f"still due: {due}")


def asked(bench: Bench, ask: Answer, **change: str) -> Accepted:
    bench.agent.script = [ask, Answer("final")]
    accepted = bench.receive(mail(1, **change))
    bench.clock.pass_(1)
    drain(bench)
    return accepted


def question(bench: Bench, accepted: Accepted) -> Record:
    return bench.store.messages.get(bench.record(accepted).asking)


def reply(bench: Bench, to: str, number: int = 50, **change: Any) -> Accepted:
    """A reply to the last mail that was sent, from its recipient."""
    sent = bench.smtp.sent[-1]
    bench.clock.pass_(1)
    change.setdefault("sender", sent.recipients[0])
    accepted = bench.receive(
        mail(number, references=sent.message_id, text=to, subject="Re: Question 1", **change)
    )
    bench.clock.pass_(1)
    drain(bench)
    return accepted


def header(source: bytes, name: str) -> str:
    found = message_from_bytes(source, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return str(found[name] or "")


def test_the_customer_is_asked_in_the_thread_and_the_reply_resumes_the_agent(bench: Bench) -> None:
    accepted = asked(bench, TO_CUSTOMER)
    record = bench.record(accepted)
    assert record.state is State.ANSWERING
    assert record.reason == f"asked {CUSTOMER}; waits until 2026-11-19T11:06:41.000Z"
    (sent,) = bench.smtp.sent
    assert sent.recipients == (CUSTOMER,)
    assert header(sent.source, "In-Reply-To") == "<q1@example.test>"
    assert header(sent.source, "Subject") == "Re: Question 1"
    assert b"Which order?" in sent.source or b"Which **order**?" in sent.source
    asked_ = question(bench, accepted)
    assert (asked_.state, asked_.ingress, asked_.outbound) == (State.REPLIED, QUESTION, accepted.id)
    answered = reply(bench, "The one of May.\r\n\r\nOn Tue, Cleo wrote:\r\n> Which order?")
    assert bench.record(answered).state is State.IGNORED
    assert bench.record(answered).reason == f"answers the agent's question about message {accepted.id}"
    first, second = bench.agent.asked
    resumed = second.resumed
    assert resumed == {
        "question": "Which **order**?",
        "answer": "The one of May.",
        "from_address": CUSTOMER,
        "context": {"step": 2},
    }
    without = {"callback": None, "resumed": None}
    assert first.model_copy(update=without) == second.model_copy(update=without), "the same request again"
    assert first.callback != second.callback
    assert bench.record(accepted).state is State.REPLIED
    assert len(bench.smtp.sent) == 2
    states = [step["reason"] for step in bench.store.messages.history(accepted.id)]
    assert f"{CUSTOMER} has answered the agent's question" in states


def test_later_mail_shows_question_and_answer_in_their_place(bench: Bench) -> None:
    accepted = asked(bench, TO_CUSTOMER)
    bench.clock.pass_(60)
    reply(bench, "The one of May.")
    bench.clock.pass_(60)
    bench.receive(mail(3, **FOLLOWS))
    drain(bench)
    said = [(turn.role, turn.content) for turn in bench.agent.asked[-1].history]
    assert said == [
        ("user", "This is question 1."),
        ("assistant", "Which **order**?"),
        ("user", "The one of May."),
        ("assistant", "final"),
    ]
    turns = bench.store.threads.turns(accepted.thread_id)
    assert [(one.role, one.text) for one in turns][:4] == said


def test_a_person_of_ours_is_asked_and_takes_no_part_in_the_thread(bench: Bench) -> None:
    accepted = asked(bench, TO_BOSS)
    (sent,) = bench.smtp.sent
    assert sent.recipients == (BOSS,)
    assert header(sent.source, "Subject") == "Question 1"
    assert not header(sent.source, "References")
    answered = reply(bench, "Yes, do.")
    assert bench.record(accepted).state is State.REPLIED
    assert bench.agent.asked[-1].resumed == {
        "question": "May I refund 40 €?",
        "answer": "Yes, do.",
        "from_address": BOSS,
        "context": None,
    }
    assert bench.smtp.sent[-1].recipients == (CUSTOMER,)
    assert BOSS not in bench.store.threads.people([accepted.thread_id])[accepted.thread_id]
    assert bench.record(answered).thread_id == accepted.thread_id
    bench.receive(mail(3, **FOLLOWS))
    drain(bench)
    said = [turn.content for turn in bench.agent.asked[-1].history]
    assert said == ["This is question 1.", "final"], "what was said among us is not shown for the customer"
    roles = [(turn.role, turn.by) for turn in bench.store.threads.turns(accepted.thread_id)]
    assert ("person", BOSS) in roles


@pytest.mark.parametrize("to", ["eve@evil.test", FROM.addr])
def test_nobody_else_is_asked(bench: Bench, to: str) -> None:
    accepted = asked(bench, Answer(ask=Ask("The password?", Address(to))))
    record = bench.record(accepted)
    assert record.state is State.FAILED
    assert "EMAIL_ASK_ALLOWED" in record.reason or "our own address" in record.reason
    assert not bench.smtp.sent


def test_somebody_elses_reply_is_held_and_the_question_stays_open(bench: Bench) -> None:
    accepted = asked(bench, TO_BOSS)
    held = reply(bench, "Yes, refund me.", 60, sender=CUSTOMER)
    record = bench.record(held)
    assert record.state is State.HELD
    assert BOSS in record.reason
    assert CUSTOMER in record.reason
    assert bench.record(accepted).state is State.ANSWERING
    reply(bench, "No.")
    assert bench.agent.asked[-1].resumed
    assert bench.agent.asked[-1].resumed["answer"] == "No."


def test_an_absence_note_is_no_answer(bench: Bench) -> None:
    accepted = asked(bench, TO_BOSS)
    note = reply(bench, "I am away.", 60, extra="Auto-Submitted: auto-replied")
    assert bench.record(note).state is State.IGNORED
    assert bench.record(accepted).state is State.ANSWERING
    assert len(bench.agent.asked) == 1


QUOTE = "On Tue, 24 Nov 2026 at 09:00, Cleo <agent@cleo.test> wrote:\r\n> May I refund 40 €?"


@pytest.mark.parametrize("to", [Address(BOSS), None], ids=["person", "customer"])
@pytest.mark.parametrize(
    "text",
    [" ", QUOTE, "> May I refund 40 €?", "-- \r\nThe boss"],
    ids=["empty", "quote", "bare", "signature"],
)
def test_a_reply_that_says_nothing_is_no_answer(bench: Bench, to: Address | None, text: str) -> None:
    accepted = asked(bench, Answer(ask=Ask("May I refund 40 €?", to)))
    empty = reply(bench, text)
    assert bench.record(empty).state is State.HELD
    assert "no text of its own" in bench.record(empty).reason
    assert bench.record(accepted).state is State.ANSWERING
    reply(bench, f"No.\r\n\r\n{QUOTE}", 51)
    assert bench.record(accepted).state is State.REPLIED
    assert (bench.agent.asked[-1].resumed or {})["answer"] == "No."


def test_a_person_may_let_a_reply_without_a_text_count(bench: Bench) -> None:
    accepted = asked(bench, TO_BOSS)
    empty = reply(bench, QUOTE)
    bench.deciding.release(empty.id, by="cli")
    drain(bench)
    assert bench.record(accepted).state is State.REPLIED
    assert (bench.agent.asked[-1].resumed or {})["answer"] == ""


def test_the_second_reply_of_a_customer_is_a_mail_of_the_thread(bench: Bench) -> None:
    accepted = asked(bench, TO_CUSTOMER)
    first = bench.smtp.sent[-1]
    reply(bench, "May.")
    again = bench.receive(mail(51, sender=CUSTOMER, references=first.message_id, text="No, June."))
    drain(bench)
    assert bench.record(again).state is State.REPLIED
    assert again.thread_id == accepted.thread_id
    assert bench.agent.asked[-1].message.text == "No, June."
    assert bench.agent.asked[-1].resumed is None


def test_the_second_reply_of_another_is_held(bench: Bench) -> None:
    asked(bench, TO_BOSS)
    first = bench.smtp.sent[-1]
    reply(bench, "Yes.")
    again = bench.receive(mail(51, sender=BOSS, references=first.message_id, text="No!"))
    assert bench.record(again).state is State.HELD
    assert "no message waits" in bench.record(again).reason


def test_two_replies_that_meet_resume_it_once(bench: Bench) -> None:
    accepted = asked(bench, TO_CUSTOMER)
    first = bench.smtp.sent[-1]
    two = []
    for n in range(2):
        answer = mail(50 + n, sender=CUSTOMER, references=first.message_id, text=f"Answer {n}.")
        two.append(bench.receive(answer))
        bench.clock.pass_(1)
    assert [conversation_of(bench.record(one)) for one in two] == [f"alone:{one.id}" for one in two]
    drain(bench)
    assert [bench.record(one).state for one in two] == [State.IGNORED, State.REPLIED]
    assert [one.resumed and one.resumed["answer"] for one in bench.agent.asked] == [None, "Answer 0.", None]
    assert bench.record(accepted).state is State.REPLIED


def test_what_else_the_customer_writes_meanwhile_waits_in_order(bench: Bench) -> None:
    accepted = asked(bench, TO_CUSTOMER)
    sent = bench.smtp.sent[-1]
    others = [bench.receive(mail(n, **FOLLOWS)) for n in (2, 3)]
    drain(bench)
    assert {bench.record(one).state for one in others} == {State.RECEIVED}
    bench.receive(mail(50, sender=CUSTOMER, references=sent.message_id, text="May."))
    drain(bench)
    assert [header(one.source, "In-Reply-To") for one in bench.smtp.sent[1:]] == [
        "<q1@example.test>",
        "<q2@example.test>",
        "<q3@example.test>",
    ]
    assert bench.record(accepted).state is State.REPLIED


def test_it_may_ask_five_times_about_one_message(bench: Bench) -> None:
    bench.agent.script = [TO_BOSS]
    accepted = bench.receive(mail(1))
    drain(bench)
    for number in range(MAX_ASKS):
        reply(bench, f"Answer {number}.", 50 + number)
    record = bench.record(accepted)
    assert len(bench.smtp.sent) == MAX_ASKS == 5
    assert record.state is State.FAILED
    assert "5 times" in record.reason
    answers = [one.resumed and one.resumed["answer"] for one in bench.agent.asked]
    assert answers == [None, *(f"Answer {number}." for number in range(5))]


def test_an_ask_by_callback_waits_and_its_token_ends_with_the_reply(bench: Bench) -> None:
    accepted = asked(bench, Answer(later=True))
    callback = bench.agent.asked[0].callback
    assert callback
    ask = {"ask": {"question": "May I?", "to": f"Boss <{BOSS}>", "context": {"a": [1]}}}
    assert bench.callbacks.give(accepted.id, read_given(ask), 0) == "accepted"
    drain(bench)
    assert bench.record(accepted).reason.startswith(f"asked {BOSS}")
    assert bench.callbacks.give(accepted.id, read_given(ask), 0) == "duplicate"
    with pytest.raises(AlreadyAnswered):
        bench.callbacks.give(accepted.id, read_given({"reply": "x"}), 0)
    reply(bench, "Yes.")
    assert bench.callbacks.number(accepted.id, callback.token) is None
    assert bench.agent.asked[-1].resumed
    assert bench.agent.asked[-1].resumed["context"] == {"a": [1]}
    assert bench.record(accepted).state is State.REPLIED


def test_nobody_answers_until_the_deadline(bench: Bench) -> None:
    accepted = asked(bench, TO_BOSS)
    bench.clock.pass_(24 * HOUR / 1000)
    drain(bench)
    record = bench.record(accepted)
    assert record.state is State.FAILED
    assert record.reason == "nobody answered the agent's question within 24 h (CLEO_AGENT_DEADLINE_HOURS)"
    late = reply(bench, "Yes.")
    assert bench.record(late).state is State.HELD
    bench.deciding.retry(accepted.id, by="cli")
    drain(bench)
    assert bench.agent.asked[-1].resumed is None, "asked anew"


def test_a_question_that_is_refused_or_comes_back_fails_the_message(bench: Bench) -> None:
    bench.smtp.script = [SubmissionError("550 no such user"), Receipt("250")]
    accepted = asked(bench, TO_BOSS)
    assert bench.record(accepted).state is State.FAILED
    assert bench.record(accepted).reason.startswith(f"the agent's question did not reach {BOSS}: 550")
    bench.agent.script = [TO_BOSS]
    bench.deciding.retry(accepted.id, by="cli")
    drain(bench)
    sent = bench.smtp.sent[-1]
    bounce = mail(
        70,
        sender="mailer-daemon@mx.firma.test",
        subject="Undelivered Mail Returned to Sender",
        text=f"Mail to {BOSS} could not be delivered: user unknown",
        references=sent.message_id,
        extra="Auto-Submitted: auto-replied\r\nX-Failed-Recipients: " + BOSS,
    )
    bench.receive(bounce, envelope_from="")
    record = bench.record(accepted)
    assert record.state is State.FAILED, record
    assert "did not reach" in record.reason


def test_a_question_is_not_sent_once_nobody_waits_for_it(bench: Bench) -> None:
    bench.agent.script = [TO_CUSTOMER]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    asked_ = question(bench, accepted)
    bench.deciding.take_over(accepted.id, by="cli")
    drain(bench)
    assert not bench.smtp.sent
    assert bench.store.messages.get(asked_.id).state is State.IGNORED
    bench.agent.script = [Answer("fine")]
    bench.deciding.hand_back(accepted.id, by="cli")
    drain(bench)
    assert bench.record(accepted).state is State.REPLIED


@pytest.mark.parametrize("mode", ["thread", "mail"])
def test_a_person_who_has_answered_from_the_mailbox_is_seen_before_the_question_leaves(
    redis_url: str, mode: str
) -> None:
    folders = FakeFolders()
    bench = PeopleBench(redis_url, folders, FakeHands(folders), mode=mode)
    bench.agent.script = [TO_CUSTOMER]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    bench.hands.file(written(CUSTOMER, "Let me see to it.", answers="<q1@example.test>"))
    drain(bench)
    assert not bench.smtp.sent
    assert bench.record(accepted).state is State.IGNORED
    assert bench.record(accepted).reason == "answered by a person"


def test_a_question_to_a_customer_keeps_the_rule_of_reviews(redis_url: str) -> None:
    bench = Bench(redis_url, review="always", ask_allowed=("@firma.test",))
    accepted = asked(bench, TO_CUSTOMER)
    asked_ = question(bench, accepted)
    assert asked_.state is State.HELD
    assert asked_.reason == "EMAIL_REVIEW=always; release it to have the question asked"
    assert not bench.smtp.sent
    bench.deciding.release(asked_.id, by="cli")
    drain(bench)
    assert len(bench.smtp.sent) == 1
    reply(bench, "May.")
    assert bench.record(accepted).state is State.REVIEW


@pytest.mark.parametrize("end", ["takeover", "retry", "deadline"])
def test_a_question_that_a_review_holds_ends_with_the_waiting(redis_url: str, end: str) -> None:
    bench = Bench(redis_url, review="always")
    accepted = asked(bench, TO_CUSTOMER)
    asked_ = question(bench, accepted)
    assert asked_.state is State.HELD
    if end == "takeover":
        bench.deciding.take_over(accepted.id, by="cli")
    elif end == "retry":
        bench.deciding.retry(accepted.id, by="cli")
    else:
        bench.clock.pass_(25 * HOUR / 1000)
    drain(bench)
    record = bench.store.messages.get(asked_.id)
    assert record.state is State.IGNORED, "nobody is told any more that it waits"
    assert record.reason == "no message waits for the answer to it any more"
    assert not bench.smtp.sent


def test_a_question_that_a_person_dismisses_fails_the_message(redis_url: str) -> None:
    bench = Bench(redis_url, review="first")
    accepted = asked(bench, TO_CUSTOMER)
    asked_ = question(bench, accepted)
    assert [(one.role, one.text, one.kept) for one in conversation(bench.store, asked_)[0]] == [
        ("user", "This is question 1.", False),
        ("agent", "Which **order**?", True),
    ]
    bench.deciding.dismiss(asked_.id, by="cli", reason="rude")
    assert bench.record(accepted).state is State.FAILED
    assert "a person dismissed it" in bench.record(accepted).reason


def test_people_see_question_and_reply_as_turns_of_the_thread(bench: Bench) -> None:
    accepted = asked(bench, TO_BOSS)
    reply(bench, "Yes, do.")
    said, _ = conversation(bench.store, bench.record(accepted))
    assert sorted((one.role, one.by, one.text) for one in said) == sorted(
        [
            ("user", CUSTOMER, "This is question 1."),
            ("agent", "agent", "May I refund 40 €?"),
            ("person", BOSS, "Yes, do."),
            ("agent", "agent", "final"),
        ]
    )


@pytest.mark.parametrize("proof", [Outcome.PROVEN, Outcome.UNPROVEN, Outcome.UNKNOWN])
def test_a_reply_is_proven_by_its_signature_where_that_is_asked_for(redis_url: str, proof: Outcome) -> None:
    """The worker looks while the thread waits: the reply needs no turn in it."""
    check = Check()
    bench = Bench(redis_url, sender_check=check, ask_allowed=(BOSS,))  # type: ignore[arg-type]
    accepted = asked(bench, TO_BOSS)
    check.outcome = proof
    answered = reply(bench, "Yes.")
    states = {
        Outcome.PROVEN: (State.IGNORED, State.REPLIED),
        Outcome.UNPROVEN: (State.HELD, State.ANSWERING),
        Outcome.UNKNOWN: (State.RECEIVED, State.ANSWERING),
    }
    assert (bench.record(answered).state, bench.record(accepted).state) == states[proof]
    check.outcome = Outcome.PROVEN
    if proof is Outcome.UNKNOWN:
        bench.clock.pass_(60)
    elif proof is Outcome.UNPROVEN:
        bench.deciding.release(answered.id, by="cli")
    drain(bench)
    assert (bench.record(answered).state, bench.record(accepted).state) == states[Outcome.PROVEN]


def test_a_reply_whose_sender_is_not_proven_is_taken_only_once_a_person_releases_it(redis_url: str) -> None:
    own = frozenset({FROM.addr})
    bench = Bench(redis_url, policy=Policy(own, authserv_id="mx.cleo.test"), ask_allowed=(BOSS,))
    passed = "Authentication-Results: mx.cleo.test; dmarc=pass header.from=example.test"
    accepted = asked(bench, TO_BOSS, extra=passed)
    held = reply(bench, "Yes.")
    assert bench.record(held).state is State.HELD
    assert "EMAIL_TRUSTED_AUTHSERV_ID" in bench.record(held).reason
    assert bench.record(accepted).state is State.ANSWERING
    bench.deciding.release(held.id, by="cli")
    drain(bench)
    assert bench.record(accepted).state is State.REPLIED
    assert bench.record(held).state is State.IGNORED


def test_who_is_asked_need_not_be_an_allowed_sender(redis_url: str) -> None:
    own = frozenset({FROM.addr})
    bench = Bench(redis_url, policy=Policy(own, allowed_senders=(CUSTOMER,)), ask_allowed=(BOSS,))
    accepted = asked(bench, TO_BOSS)
    reply(bench, "Yes.")
    assert bench.record(accepted).state is State.REPLIED


def test_questions_are_no_customers_mail(bench: Bench) -> None:
    accepted = asked(bench, TO_BOSS)
    asked_ = question(bench, accepted)
    day = bench.clock() // 86_400_000
    assert bench.redis.hget(f"cleo:figures:{day}", "arrived") == b"1"
    assert bench.redis.hget(f"cleo:figures:{day}", "answered") is None
    assert json.loads(asked_.people) == [person(BOSS)]
