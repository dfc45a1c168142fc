"""What people decide: every decision in every state, twice, at once by two, and what leaves then."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import pytest

from cleo_email.errors import AgentError, InvalidField, SubmissionError, SubmissionUnavailable, WrongState
from cleo_email.mail.closing import Closing
from cleo_email.mail.model import Answer, AttachedFile, Receipt
from cleo_email.pipeline.budget import Limits
from cleo_email.pipeline.decide import _INSTEAD
from cleo_email.pipeline.send import NewMail, Sender
from cleo_email.store import Accepted, Draft, Effects, Record, State
from cleo_email.store.threads import Outlook
from tests.support.bench import FROM, Bench
from tests.support.mails import mail

FILE = AttachedFile("a.bin", "application/octet-stream", bytes(range(256)) * 20)
CLOSING = Closing({"": "Muster GmbH\nBerlin"}, {"": "A machine wrote this."})


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


ALONE = Outlook(is_taken=False, has_reviews=False, workflow=None)


def review(bench: Bench, number: int = 1, *, answer: Answer | None = None, **what: Any) -> Accepted:
    """A mail whose answer waits for a review."""
    answer = answer or Answer("**fine**", (FILE,))
    accepted = bench.receive(mail(number, **what))
    source = bench.store.messages.source(accepted.id)
    assert source is not None
    question = bench.answering._question(bench.record(accepted), source, ALONE)
    kept, _ = question.compose(answer)
    move = bench.store.messages.move
    move(accepted.id, State.ANSWERING, now=bench.clock())
    fields: dict[str, str | int] = {"text": question.text, "answer_text": answer.text}
    effects = Effects(fields=fields, answer=kept, pop=True)
    move(accepted.id, State.REVIEW, now=bench.clock(), reason="look at it", effects=effects)
    return accepted


def read(source: bytes) -> EmailMessage:
    found = message_from_bytes(source, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def text_of(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n").strip()


def page_of(message: EmailMessage) -> str:
    part = message.get_body(("html",))
    assert part is not None
    return str(part.get_content())


def last(bench: Bench, accepted: Accepted) -> dict[str, str]:
    return bench.store.messages.history(accepted.id)[-1]


# --- review -------------------------------------------------------------------------------------------------


def test_an_approved_answer_leaves_as_it_was_kept(bench: Bench) -> None:
    accepted = review(bench)
    kept = bench.store.messages.answer(accepted.id)
    record = bench.deciding.approve(accepted.id, by="anna")
    assert (record.state, record.answered_by, record.decided) == (State.SUBMITTING, "anna", "approve")
    assert last(bench, accepted)["by"] == "anna"
    bench.work(accepted.thread_id)
    assert kept is not None
    [sent] = bench.smtp.sent
    date = re.compile(rb"(?m)^Date: (.*)\r$")
    assert date.sub(b"", sent.source) == date.sub(b"", kept.source)
    assert replace(sent, source=b"") == replace(kept, source=b"")
    [left] = date.findall(sent.source)
    # Clients sort by it: it is when the answer was approved, not when it was written.
    assert parsedate_to_datetime(left.decode()).timestamp() == pytest.approx(record.updated_at / 1000, abs=1)
    assert bench.deciding.approve(accepted.id, by="bert").answered_by == "anna"
    bench.work(accepted.thread_id)
    assert len(bench.smtp.sent) == 1
    assert len(bench.agent.asked) == 0


@pytest.mark.parametrize("closing", [Closing(), CLOSING, replace(CLOSING, notices={})])
@pytest.mark.parametrize("files", [(), (FILE, replace(FILE, filename="Übersicht.pdf"))])
def test_an_edited_answer_is_the_same_mail_with_another_text(
    redis_url: str, closing: Closing, files: tuple[AttachedFile, ...]
) -> None:
    bench = Bench(redis_url, closing=closing)
    accepted = review(bench, answer=Answer("**fine**\n\n-- \nno signature", files), subject="Größe?")
    kept = bench.store.messages.answer(accepted.id)
    assert kept is not None
    body = "*Nein*, zu groß 😀.\n\n" + "x" * 2000
    bench.deciding.approve(accepted.id, by="anna", body=body)
    bench.work(accepted.thread_id)
    (sent,) = bench.smtp.sent
    before, after = read(kept.source), read(sent.source)
    assert before.items() == after.items()
    assert (sent.message_id, sent.recipients, sent.envelope_from) == (
        kept.message_id,
        kept.recipients,
        kept.envelope_from,
    )
    notice, signature = closing.notices.get("", ""), closing.signatures.get("", "")
    whole = [body, notice, signature and f"-- \n{signature}"]
    assert text_of(after) == "\n\n".join(filter(None, whole))
    assert "<em>Nein</em>" in page_of(after)
    assert ("A machine wrote this." in page_of(after)) is bool(notice)
    assert [(one.get_filename(), one.get_content()) for one in after.iter_attachments()] == [
        (one.filename, one.content) for one in files
    ]
    record = bench.record(accepted)
    assert (record.answer_text, record.state) == (body, State.REPLIED)
    assert b"\n" not in sent.source.replace(b"\r\n", b"")


def test_a_signature_in_the_new_text_is_not_doubled(redis_url: str) -> None:
    bench = Bench(redis_url, closing=CLOSING)
    accepted = review(bench)
    bench.deciding.approve(accepted.id, by="anna", body="Nein.\n\n-- \nMuster GmbH\nBerlin\n")
    kept = bench.store.messages.answer(accepted.id)
    assert kept is not None
    assert text_of(read(kept.source)) == "Nein.\n\nA machine wrote this.\n\n-- \nMuster GmbH\nBerlin"
    assert bench.record(accepted).answer_text == "Nein."


def test_an_answer_without_text_and_a_long_one_are_edited(redis_url: str) -> None:
    bench = Bench(redis_url, closing=CLOSING)
    accepted = review(bench, answer=Answer("", (FILE,)))
    bench.deciding.approve(accepted.id, by="anna", body="Here.")
    kept = bench.store.messages.answer(accepted.id)
    assert kept is not None
    assert text_of(read(kept.source)) == "Here.\n\nA machine wrote this.\n\n-- \nMuster GmbH\nBerlin"
    long = review(bench, 2, answer=Answer("word " * 30_000))
    bench.store.messages.note(long.id, "answer_text", ("word " * 30_000)[:100_000])
    bench.deciding.approve(long.id, by="anna", body="Short.")
    kept = bench.store.messages.answer(long.id)
    assert kept is not None
    assert text_of(read(kept.source)) == "Short.\n\n-- \nMuster GmbH\nBerlin"


@pytest.mark.parametrize("subject", ["Order 5", "Re: Größe", "x" * 1500, "AW: 你好" * 50])
def test_a_subject_is_taken_as_it_is_given(bench: Bench, subject: str) -> None:
    accepted = review(bench)
    kept = bench.store.messages.answer(accepted.id)
    bench.deciding.approve(accepted.id, by="anna", subject=subject)
    bench.work(accepted.thread_id)
    (sent,) = bench.smtp.sent
    assert kept is not None
    before, after = read(kept.source), read(sent.source)
    assert after["Subject"] == subject
    assert text_of(after) == text_of(before) == "**fine**"
    names = [name for name in before if name != "Subject"]
    assert [after[name] for name in names] == [before[name] for name in names]


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("body", {"body": ""}),
        ("body", {"body": " \r\n\t"}),
        ("body", {"body": "\x00"}),
        ("body", {"body": "x" * 2_000_000}),
        ("subject", {"subject": ""}),
        ("subject", {"subject": "\r\n"}),
        ("subject", {"subject": "x" * 2001}),
    ],
)
def test_what_cannot_be_sent_is_refused_and_still_waits(
    bench: Bench, field: str, given: dict[str, str]
) -> None:
    bench.deciding.max_bytes = 10**6
    accepted = review(bench)
    with pytest.raises(InvalidField) as fault:
        bench.deciding.approve(accepted.id, by="anna", **given)
    assert fault.value.field == field
    assert bench.record(accepted).state is State.REVIEW


def test_another_text_than_the_one_approved_is_refused(bench: Bench) -> None:
    accepted = review(bench)
    bench.deciding.approve(accepted.id, by="anna", body="Nein.")
    assert bench.deciding.approve(accepted.id, by="bert", body="Nein.").state is State.SUBMITTING
    for other in ({}, {"body": "Ja."}, {"body": "Nein.", "subject": "Nein"}):
        with pytest.raises(WrongState, match=r"approved by anna, changed \(by anna, .*another text"):
            bench.deciding.approve(accepted.id, by="bert", **other)
    bench.work(accepted.thread_id)
    assert text_of(read(bench.smtp.sent[0].source)) == "Nein."


def test_a_draft_that_was_edited_elsewhere_needs_the_text(bench: Bench) -> None:
    accepted = review(bench)
    draft = Draft(accepted.thread_id, bench.record(accepted).reply_message_id, "<q1@example.test>", "1/2")
    bench.store.drafts.put(accepted.id, replace(draft, edited=True))
    for subject in (None, "Re: x"):
        with pytest.raises(WrongState, match="edited in the mail client: send it from there, or approve"):
            bench.deciding.approve(accepted.id, by="anna", subject=subject)
    assert bench.deciding.approve(accepted.id, by="anna", body="Ja.").state is State.SUBMITTING


@pytest.mark.parametrize("decide", ["discard", "dismiss"])
def test_what_is_discarded_is_not_sent(bench: Bench, decide: str) -> None:
    accepted = review(bench)
    record = getattr(bench.deciding, decide)(accepted.id, by="anna", reason="not\nour tone")
    assert (record.state, record.reason) == (State.IGNORED, "discarded by anna: not our tone")
    for again in ("discard", "dismiss"):
        assert getattr(bench.deciding, again)(accepted.id, by="bert").reason == record.reason
    with pytest.raises(WrongState, match=r"is ignored: discarded by anna: not our tone \(by anna, .*release"):
        bench.deciding.approve(accepted.id, by="bert")
    bench.work(accepted.thread_id)
    assert bench.smtp.sent == []


def test_what_the_agent_decided_after_a_retry_is_not_called_the_persons(bench: Bench) -> None:
    bench.agent.script = [AgentError("broken"), Answer(ignore="it is spam")]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    bench.deciding.retry(accepted.id, by="anna")
    bench.work(accepted.thread_id)
    with pytest.raises(WrongState, match=r"is ignored: it is spam; only") as fault:
        bench.deciding.dismiss(accepted.id, by="anna")
    assert "retried" not in str(fault.value)


def test_what_was_discarded_or_withdrawn_is_answered_anew_when_it_is_released(bench: Bench) -> None:
    discarded, withdrawn = review(bench, 1), review(bench, 2)
    bench.deciding.discard(discarded.id, by="anna")
    move = bench.store.messages.move
    move(withdrawn.id, State.IGNORED, now=bench.clock(), reason="superseded", only_from=[State.REVIEW])
    bench.agent.script = [Answer("better")]
    for accepted in (discarded, withdrawn):
        assert bench.deciding.release(accepted.id, by="anna").state is State.RECEIVED
        bench.work(accepted.thread_id)
        assert text_of(read(bench.smtp.sent[-1].source)) == "better"


def test_what_is_answered_anew_was_answered_by_nobody_yet(bench: Bench) -> None:
    """Else the history says that a person has written what the agent writes now."""
    accepted = review(bench)
    bench.smtp.script = [SubmissionUnavailable("450"), Receipt("250 ok")]
    bench.deciding.approve(accepted.id, by="anna")
    bench.work(accepted.thread_id)
    assert bench.record(accepted).answered_by == "anna"
    bench.deciding.take_over(accepted.id, by="bert")
    bench.deciding.hand_back(accepted.id, by="bert")
    assert bench.record(accepted).answered_by == ""
    bench.clock.pass_(3600)
    bench.agent.script = [Answer("fine")]
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert bench.record(accepted).answered_by == ""


def test_a_decision_about_what_a_person_answered(bench: Bench) -> None:
    failed = in_state(bench, State.UNCERTAIN)
    bench.store.messages.note(failed.id, "answered_by", "mailbox")
    assert bench.deciding.retry(failed.id, by="anna").answered_by == ""


def test_an_approved_answer_that_failed_is_still_approved_when_it_is_retried(bench: Bench) -> None:
    accepted = review(bench)
    bench.deciding.approve(accepted.id, by="anna")
    bench.smtp.script = [ConnectionResetError("after DATA"), Receipt("250 ok")]
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.UNCERTAIN
    bench.deciding.retry(accepted.id, by="bert")
    bench.work(accepted.thread_id)
    assert (bench.record(accepted).state, bench.record(accepted).answered_by) == (State.REPLIED, "anna")


def test_an_approved_answer_is_held_by_no_limit(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_thread=1))
    for number in range(3):
        accepted = review(bench, number, message_id=f"<q{number}@x.test>", references="<t@x.test>")
        bench.deciding.approve(accepted.id, by="anna")
        bench.work(accepted.thread_id)
        assert bench.record(accepted).state is State.REPLIED


# --- every decision in every state --------------------------------------------------------------------------

DECISIONS = ("approve", "discard", "release", "dismiss", "retry")
ALLOWED = {
    State.RECEIVED: set(),
    State.ANSWERING: {"retry"},  # it waits for its next try
    State.REVIEW: {"approve", "discard", "dismiss"},
    State.SUBMITTING: {"retry"},
    State.REPLIED: set(),
    State.IGNORED: {"release"},
    State.HELD: {"release", "dismiss"},
    State.FAILED: {"retry", "dismiss"},
    State.UNCERTAIN: {"retry", "dismiss"},
}


def in_state(bench: Bench, state: State) -> Accepted:
    bench.agent.script, bench.smtp.script = [Answer("fine")], [Receipt("250")]
    if state is State.REVIEW:
        return review(bench)
    if state is State.FAILED:
        bench.agent.script = [AgentError("no")]
    if state is State.IGNORED:
        bench.agent.script = [Answer(ignore="spam")]
    if state is State.SUBMITTING:
        bench.smtp.script = [SubmissionUnavailable("450")]
    if state is State.UNCERTAIN:
        bench.smtp.script = [ConnectionResetError("after DATA")]
    accepted = bench.receive(mail(1), hold="look" if state is State.HELD else "")
    if state is State.ANSWERING:
        effects = Effects(due=bench.clock() + 10_000)
        bench.store.messages.move(accepted.id, State.ANSWERING, now=bench.clock(), effects=effects)
    elif state is not State.RECEIVED:
        bench.work(accepted.thread_id)
    assert bench.record(accepted).state is state
    return accepted


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("decision", DECISIONS)
def test_a_decision_is_taken_where_the_state_allows_it_and_twice(
    bench: Bench, state: State, decision: str
) -> None:
    accepted = in_state(bench, state)
    decide: Callable[..., Record] = getattr(bench.deciding, decision)
    steps = len(bench.history(accepted))
    if decision not in ALLOWED[state]:
        with pytest.raises(WrongState) as fault:
            decide(accepted.id, by="anna")
        assert f"message {accepted.id} is {state}" in str(fault.value)
        assert str(fault.value).endswith(_INSTEAD[state]), "what can be done"
        assert bench.record(accepted).state is state
        assert len(bench.history(accepted)) == steps
        return
    record = decide(accepted.id, by="anna")
    if state in (State.ANSWERING, State.SUBMITTING):
        assert record.state is state, "it is tried now"
        return
    assert record.state is not state
    assert last(bench, accepted)["by"] == "anna"
    assert decide(accepted.id, by="bert") == record
    assert len(bench.history(accepted)) == steps + 1


@pytest.mark.parametrize("state", State)
def test_a_takeover_stops_what_has_not_left(bench: Bench, state: State) -> None:
    accepted = in_state(bench, state)
    stops = state in (State.RECEIVED, State.ANSWERING, State.REVIEW, State.SUBMITTING)
    for by in ("anna", "bert"):
        record = bench.deciding.take_over(accepted.id, by=by, reason="I know her")
        assert record.state is (State.HELD if stops else state)
        taken = bench.store.threads.person(accepted.thread_id)
        assert taken is not None
        assert (taken["by"], taken["reason"]) == ("anna", "a person took it over: I know her")
    if stops:
        assert record.reason == "a person has this thread: I know her"
        assert last(bench, accepted)["by"] == "anna"
        assert record.text == "This is question 1."
        assert bench.store.messages.answer(accepted.id) is None
        for decide in (bench.deciding.release, bench.deciding.approve):
            with pytest.raises(WrongState, match="hand it back"):
                decide(accepted.id, by="bert")
    bench.clock.pass_(3600)
    bench.sweeping.run()
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is record.state
    assert len(bench.smtp.sent) == (state is State.REPLIED)
    for by in ("anna", "bert"):
        record = bench.deciding.hand_back(accepted.id, by=by, reason="done")
        assert record.state is (State.RECEIVED if stops else state)
        assert bench.store.threads.person(accepted.thread_id) is None
    if stops:
        assert (record.reason, record.with_person) == ("handed back by a person: done", 0)
        bench.smtp.script = [Receipt("250")]
        bench.work(accepted.thread_id)
        assert bench.record(accepted).state is State.REPLIED
        assert len(bench.smtp.sent) == 1


def test_mail_that_was_held_for_a_person_goes_to_the_agent_in_order_and_no_other(bench: Bench) -> None:
    first = bench.receive(mail(1, message_id="<t@x.test>"))
    bench.deciding.take_over(first.id, by="anna")
    more = []
    for number in range(3):
        bench.clock.pass_(1)
        source = mail(1, message_id=f"<{number}@x.test>", references="<t@x.test>", text=f"more {number}")
        more.append(bench.receive(source))
    spam = bench.receive(mail(1, message_id="<s@x.test>", references="<t@x.test>"), hold="spam")
    for one in more:
        bench.deciding.take_over(one.id, by="anna")
    assert {one.thread_id for one in (*more, spam)} == {first.thread_id}
    assert {bench.record(one).with_person for one in more} == {1}
    bench.deciding.hand_back(spam.id, by="anna")
    for _ in range(6):
        bench.work(first.thread_id)
    assert [asked.message.text for asked in bench.agent.asked] == [
        "This is question 1.",
        "more 0",
        "more 1",
        "more 2",
    ]
    assert bench.record(spam).state is State.HELD


def test_an_answer_that_a_limit_keeps_back_does_not_leave_in_a_persons_thread(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_hour=1))
    first, second = bench.receive(mail(1)), bench.receive(mail(2))
    bench.smtp.during = lambda: None
    source = bench.store.messages.source(second.id)
    assert source is not None
    kept, _ = bench.answering._question(bench.record(second), source, ALONE).compose(Answer("late"))
    now = bench.clock()
    move = bench.store.messages.move
    move(second.id, State.ANSWERING, now=now)
    move(second.id, State.SUBMITTING, now=now, effects=Effects(answer=kept))
    bench.work(first.thread_id)
    bench.work(second.thread_id)
    assert bench.record(second).state is State.HELD
    bench.deciding.take_over(second.id, by="anna")
    bench.clock.pass_(3 * 3600)
    bench.sweeping.run()
    bench.work(second.thread_id)
    assert (bench.record(second).state, bench.record(second).with_person) == (State.HELD, 1)
    assert len(bench.smtp.sent) == 1


def test_a_mail_that_an_application_sends_is_not_stopped_by_a_takeover(bench: Bench) -> None:
    sender = Sender(bench.store, bench.wake, bench.signer, FROM, max_bytes=10**6, clock=bench.clock)
    accepted = bench.receive(mail(1))
    to = [replace(FROM, addr="customer1@example.test")]
    sent = sender.send(NewMail(to=to, subject="s", body="b", thread_id=accepted.thread_id))
    bench.deciding.take_over(accepted.id, by="anna")
    bench.work(accepted.thread_id)
    assert bench.store.messages.get(sent.id).state is State.REPLIED


# --- two at once ------------------------------------------------------------------------------------------


def together(*calls: Callable[[], Record]) -> list[Record | Exception]:
    barrier = threading.Barrier(len(calls))

    def one(call: Callable[[], Record]) -> Record | Exception:
        barrier.wait()
        try:
            return call()
        except WrongState as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def test_of_two_people_at_once_one_decides_and_the_other_is_told(bench: Bench) -> None:
    deciding = bench.deciding
    for number in range(40):
        accepted = review(bench, number)
        pairs: list[tuple[Callable[..., Record], dict[str, str]]] = [
            (deciding.approve, {}),
            (deciding.approve, {"body": "Nein."}),
            (deciding.discard, {}),
            (deciding.approve, {}),
        ]
        calls = [partial(call, accepted.id, by=f"p{n}", **more) for n, (call, more) in enumerate(pairs)]
        results = together(*calls)
        decided = [entry for entry in bench.store.messages.history(accepted.id) if entry["by"] != "agent"]
        assert len(decided) == 1
        won = int(decided[0]["by"][1:])
        for n, result in enumerate(results):
            same = n == won or {n, won} == {0, 3}
            assert isinstance(result, Record) is same, (won, n, result)
            assert same or f"(by p{won}, " in str(result)
        bench.work(accepted.thread_id)
        assert bench.record(accepted).state is (State.IGNORED if won == 2 else State.REPLIED)


@pytest.mark.parametrize(
    ("decision", "state"), [("release", State.HELD), ("retry", State.FAILED), ("dismiss", State.FAILED)]
)
def test_the_same_decision_by_four_at_once_is_one(bench: Bench, decision: str, state: State) -> None:
    accepted = in_state(bench, state)
    decide: Callable[..., Record] = getattr(bench.deciding, decision)
    results = together(*(partial(decide, accepted.id, by=f"p{n}") for n in range(4)))
    assert all(isinstance(result, Record) for result in results)
    assert len([e for e in bench.store.messages.history(accepted.id) if e["by"] != "agent"]) == 1


def test_what_waits_for_its_next_try_is_retried_by_all_who_ask_at_once(bench: Bench) -> None:
    accepted = in_state(bench, State.SUBMITTING)
    results = together(*(partial(bench.deciding.retry, accepted.id, by=f"p{n}") for n in range(4)))
    assert [isinstance(result, Record) for result in results] == [True] * 4, results


@pytest.mark.parametrize("point", ["decide-after-move", "decide-after-thread"])
def test_a_takeover_that_dies_on_its_way_lets_no_answer_leave(
    bench: Bench, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody repeats the call that failed, and the customer writes again."""

    def dies(reached: str) -> None:
        if reached == point:
            raise SystemExit

    accepted = in_state(bench, State.SUBMITTING)
    behind = bench.receive(mail(2, sender="customer1@example.test", references="<q1@example.test>"))
    assert behind.thread_id == accepted.thread_id
    monkeypatch.setattr("cleo_email.pipeline.decide.crashpoint", dies)
    with pytest.raises(SystemExit):
        bench.deciding.take_over(accepted.id, by="anna")
    monkeypatch.undo()
    later = bench.receive(mail(3, sender="customer1@example.test", references="<q1@example.test>"))
    bench.clock.pass_(3600)
    bench.sweeping.run()
    for _ in range(3):
        bench.work(accepted.thread_id)
    assert ([bench.record(one).state for one in (accepted, behind, later)], bench.smtp.sent) == (
        [State.HELD] * 3,
        [],
    )
    assert bench.store.threads.person(accepted.thread_id)
    assert bench.deciding.hand_back(accepted.id, by="anna").state is State.RECEIVED


def test_a_takeover_while_the_mail_goes_out_leaves_no_half(bench: Bench) -> None:
    """Before the mark it is stopped, after it the record says that it was sent."""
    accepted = in_state(bench, State.SUBMITTING)
    bench.smtp.script = [SubmissionError("550")]
    bench.smtp.during = lambda: bench.deciding.take_over(accepted.id, by="anna")
    bench.deciding.retry(accepted.id, by="anna")
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.FAILED, "the mark stood when the thread was taken"
