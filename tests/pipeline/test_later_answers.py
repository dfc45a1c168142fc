"""Answers that come later: the agent works on them for minutes or days, and nothing waits with it."""

from __future__ import annotations

import json

import pytest

from cleo_email.agents.base import final_answer, payload_of
from cleo_email.errors import AgentError, AgentUnavailable, AlreadyAnswered, NotFound, WrongState
from cleo_email.mail.model import Answer, AttachedFile
from cleo_email.pipeline.callback import ACCEPTED, DUPLICATE, Progress, read_given
from cleo_email.runtime import HOUR
from cleo_email.store import Accepted, State
from tests.support.bench import Bench
from tests.support.mails import mail

LATER = Answer(later=True)
FOLLOWS = {"sender": "customer1@example.test", "references": "<q1@example.test>"}


@pytest.fixture
def bench(redis_url: str) -> Bench:
    bench = Bench(redis_url)
    bench.agent.script = [LATER]
    return bench


def asked(bench: Bench, number: int = 1, **change: str) -> Accepted:
    accepted = bench.receive(mail(number, **change))
    bench.work(accepted.thread_id)
    return accepted


def token(bench: Bench, number: int = -1) -> str:
    callback = bench.agent.asked[number].callback
    assert callback is not None
    return callback.token


def give(bench: Bench, accepted: Accepted, payload: object, by: str = "") -> str:
    """What the web process does with a callback."""
    number = bench.callbacks.number(accepted.id, by or token(bench))
    assert number is not None, "401"
    return bench.callbacks.give(accepted.id, read_given(payload), number)


def test_the_agent_answers_later_and_the_worker_goes_on_as_if_it_had_answered_then(bench: Bench) -> None:
    accepted = asked(bench)
    record = bench.record(accepted)
    assert (record.state, record.tries) == (State.ANSWERING, 0)
    assert record.reason == "the agent works on it until 2026-11-19T11:06:40.000Z"
    callback = bench.agent.asked[0].callback
    assert callback
    assert callback.url == f"https://cleo.example.test/email/answers/{accepted.id}"
    bench.clock.pass_(3600)
    bench.work(accepted.thread_id)
    assert len(bench.agent.asked) == 1
    files = [{"filename": "a.txt", "content_type": "text/plain", "content": "YWJj" * 4000}]
    assert give(bench, accepted, {"reply": "at last", "attachments": files}) == ACCEPTED
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert bench.history(accepted) == ["received", "answering", "answering", "submitting", "replied"]
    assert b"at last" in bench.smtp.sent[0].source
    assert len(bench.agent.asked) == 1
    assert bench.redis.keys("*:given") == []


def test_the_same_answer_again_is_a_duplicate_at_any_time_and_another_one_is_refused(bench: Bench) -> None:
    accepted = asked(bench)
    first = {"messages": [{"role": "tool", "content": "x"}, {"role": "assistant", "content": "one"}]}
    assert give(bench, accepted, first) == ACCEPTED
    assert give(bench, accepted, {"reply": "one"}) == DUPLICATE
    with pytest.raises(AlreadyAnswered, match="otherwise before; that stands"):
        give(bench, accepted, {"reply": "two"})
    bench.work(accepted.thread_id)
    assert give(bench, accepted, first) == DUPLICATE
    with pytest.raises(AlreadyAnswered):
        give(bench, accepted, {"reply": "two"})
    bench.work(accepted.thread_id)
    assert len(bench.smtp.sent) == 1


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"reply": 1},
        {"reply": "a", "ignore": "b"},
        {"progress": ""},
        {"progress": "\0\x1b"},
        {"progress": "a", "reply": "b"},
        [1],
        7,
    ],
)
def test_a_malformed_answer_is_refused_and_the_message_still_waits(bench: Bench, payload: object) -> None:
    accepted = asked(bench)
    with pytest.raises(AgentError):
        give(bench, accepted, payload)
    assert give(bench, accepted, {"reply": "well"}) == ACCEPTED


@pytest.mark.parametrize(
    ("payload", "state", "reason"),
    [
        ({"ignore": "spam"}, State.IGNORED, "spam"),
        ({"messages": []}, State.IGNORED, "no final answer"),
        ({"handoff": "beyond me"}, State.HELD, "handed over to a person: beyond me"),
        ({"reply": "so", "review": "not sure"}, State.REVIEW, "the agent asks for a review: not sure"),
    ],
)
def test_each_form_of_an_answer_has_its_usual_effect(
    bench: Bench, payload: dict[str, str], state: State, reason: str
) -> None:
    accepted = asked(bench)
    give(bench, accepted, payload)
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is state
    assert reason in bench.record(accepted).told


def test_a_fast_agent_calls_back_before_its_202_is_read(bench: Bench) -> None:
    accepted = bench.receive(mail(1))
    answer = bench.agent.answer

    def fast(request: object, *, deadline: float) -> Answer:
        found = answer(request, deadline=deadline)  # type: ignore[arg-type]
        give(bench, accepted, {"reply": "already done"})
        return found

    bench.agent.answer = fast  # type: ignore[assignment, method-assign]
    bench.work(accepted.thread_id)
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert len(bench.agent.asked) == 1


def test_what_came_by_callback_stands_where_the_agent_answers_otherwise_at_once(bench: Bench) -> None:
    accepted = bench.receive(mail(1))

    def both(request: object, *, deadline: float) -> Answer:
        bench.agent.asked.append(request)  # type: ignore[arg-type]
        give(bench, accepted, {"reply": "by callback"})
        return Answer("at once")

    bench.agent.answer = both  # type: ignore[assignment, method-assign]
    for _ in range(2):
        bench.work(accepted.thread_id)
    assert [b"by callback" in one.source for one in bench.smtp.sent] == [True]


def test_a_callback_counts_while_a_proxy_has_given_up_and_the_next_try_is_not_due(bench: Bench) -> None:
    bench.agent.script = [AgentUnavailable("504")]
    accepted = asked(bench)
    assert "try 1 of 6" in bench.record(accepted).reason
    give(bench, accepted, {"reply": "I went on working"})
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert len(bench.agent.asked) == 1


def test_after_the_sixth_failure_a_callback_that_was_accepted_still_counts(bench: Bench) -> None:
    bench.agent.script = [*[AgentUnavailable("504")] * 5, LATER]
    accepted = asked(bench)
    for _ in range(5):
        bench.clock.pass_(3600)
        bench.work(accepted.thread_id)
    assert bench.record(accepted).reason.startswith("the agent works on it until")
    give(bench, accepted, {"reply": "at last"})
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED


def test_after_the_deadline_it_has_failed_with_the_settings_name_and_the_thread_goes_on(bench: Bench) -> None:
    accepted = asked(bench)
    bench.agent.script = [Answer("fine")]
    second = bench.receive(mail(2, **FOLLOWS))
    bench.work(accepted.thread_id)
    assert bench.record(second).state is State.RECEIVED, "it waits"
    bench.clock.pass_(24 * HOUR / 1000)
    bench.work(accepted.thread_id)
    record = bench.record(accepted)
    assert record.state is State.FAILED
    assert record.reason == "the agent gave no answer within 24 h (CLEO_AGENT_DEADLINE_HOURS)"
    with pytest.raises(WrongState, match="it is failed: the agent gave no answer"):
        give(bench, accepted, {"reply": "too late"})
    bench.work(accepted.thread_id)
    assert bench.record(second).state is State.REPLIED
    old = token(bench, 0)
    bench.deciding.retry(accepted.id, by="cli")
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert bench.callbacks.number(accepted.id, old) is None, "the token of the old question is void"


def test_what_makes_the_conversation_due_by_the_way_asks_nobody(bench: Bench) -> None:
    accepted = asked(bench)
    second = bench.receive(mail(2, **FOLLOWS))
    bench.redis.zadd("cleo:active", {accepted.thread_id: bench.clock()})
    bench.work(accepted.thread_id)
    assert len(bench.agent.asked) == 1
    assert bench.redis.zscore("cleo:active", accepted.thread_id) == bench.record(accepted).waits_until
    give(bench, accepted, {"reply": "one"})
    for _ in range(3):
        bench.work(accepted.thread_id)
    assert bench.record(second).state is State.ANSWERING


def test_a_persons_decisions_end_the_waiting(bench: Bench) -> None:
    accepted = asked(bench)
    first = token(bench)
    bench.deciding.retry(accepted.id, by="cli")
    assert bench.callbacks.number(accepted.id, first) is None
    bench.work(accepted.thread_id)
    assert len(bench.agent.asked) == 2
    assert bench.record(accepted).waits_until
    bench.deciding.take_over(accepted.id, by="cli")
    with pytest.raises(WrongState, match="is held"):
        give(bench, accepted, {"reply": "too late"})
    bench.deciding.dismiss(accepted.id, by="cli")
    with pytest.raises(WrongState, match="is ignored"):
        give(bench, accepted, {"reply": "too late"})
    second = token(bench)
    bench.deciding.hand_back(accepted.id, by="cli")
    bench.deciding.release(accepted.id, by="cli")
    assert bench.callbacks.number(accepted.id, second) is None
    bench.work(accepted.thread_id)
    assert len(bench.agent.asked) == 3
    assert give(bench, accepted, {"reply": "now"}) == ACCEPTED
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED


def test_a_takeover_after_the_callback_and_before_the_worker_wins(bench: Bench) -> None:
    accepted = asked(bench)
    give(bench, accepted, {"reply": "late"})
    bench.deciding.take_over(accepted.id, by="cli")
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.HELD
    assert not bench.smtp.sent
    assert bench.redis.keys("*:given") == []


def test_a_token_is_for_one_question_about_one_message(bench: Bench) -> None:
    first, second = asked(bench, 1), asked(bench, 2)
    mine, other = token(bench, 0), token(bench, 1)
    assert bench.callbacks.number(first.id, mine) == 0
    for forged in ("", other, mine[:-1], mine + "A", mine.swapcase(), "x" * 43, "ü"):
        assert bench.callbacks.number(first.id, forged) is None, forged
    assert bench.callbacks.number(second.id, other) == 0
    for unknown in ("0" * 24, "x", f"{first.id}:source"):
        with pytest.raises(NotFound):
            bench.callbacks.number(unknown, mine)
    stored = [bench.redis.dump(key) or b"" for key in bench.redis.scan_iter()]
    assert not any(mine.encode() in one for one in stored), "nothing is stored in clear"


def test_progress_changes_the_reason_and_nothing_else(bench: Bench) -> None:
    accepted = asked(bench)
    before = bench.history(accepted)
    for step in range(3):
        assert give(bench, accepted, {"progress": f"step {step}\nof 3 " + "x" * 900}) == ACCEPTED
    record = bench.record(accepted)
    assert record.reason.startswith("the agent works on it until 2026-11-19T11:06:40.000Z: step 2 of 3 x")
    assert len(record.reason) < 600
    assert bench.history(accepted) == before
    assert not bench.smtp.sent
    assert bench.redis.zscore("cleo:active", accepted.thread_id) == record.waits_until
    give(bench, accepted, {"reply": "done"})
    with pytest.raises(WrongState):
        give(bench, accepted, {"progress": "more"})


def test_a_message_that_an_earlier_version_has_at_work_goes_on(bench: Bench) -> None:
    """Its record has none of the fields by which answers that come later are told apart."""
    accepted = bench.receive(mail(1))
    bench.store.messages.move(accepted.id, State.ANSWERING, now=bench.clock())
    names = "asked waits_until given asking asks resumed resumed_by question context".split()
    bench.redis.hdel(f"cleo:m:{accepted.id}", *names)
    bench.agent.script = [Answer("fine")]
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED


def test_what_is_stored_makes_the_same_answer_again() -> None:
    answer = Answer(
        "text", (AttachedFile("a.pdf", "application/pdf", b"\0\xff" * 9),), review="look", handoff="over"
    )
    for one in (answer, Answer(ignore="why"), Answer(handoff="why")):
        assert final_answer(json.loads(json.dumps(payload_of(one)))) == one
    assert read_given({"progress": " a\nb "}) == Progress("a b")
