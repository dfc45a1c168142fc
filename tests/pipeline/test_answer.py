"""One message through the services: states, retries, limits, and who gets the answer."""

from __future__ import annotations

import time
from datetime import datetime
from email import message_from_bytes, policy

import pytest

from cleo_email.errors import (
    AgentError,
    AgentUnavailable,
    SubmissionError,
    SubmissionLoginRefused,
    SubmissionUnavailable,
    SubmissionUncertain,
)
from cleo_email.mail.model import Answer, AttachedFile, Receipt
from cleo_email.pipeline.budget import Limits
from cleo_email.pipeline.deliver import LockedRecord
from cleo_email.runtime import backoff_ms
from cleo_email.screening.screen import Policy
from cleo_email.store import State
from tests.support.bench import FROM, Bench
from tests.support.mails import mail


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


def test_the_way_of_a_mail_is_in_its_history(bench: Bench) -> None:
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    record = bench.record(accepted)
    assert record.state is State.REPLIED
    assert record.reply_message_id == bench.smtp.sent[0].message_id
    assert bench.history(accepted) == ["received", "answering", "submitting", "replied"]
    bench.work(accepted.thread_id)
    assert len(bench.smtp.sent) == 1


def test_an_agent_that_is_away_is_asked_again_later_and_the_thread_waits(bench: Bench) -> None:
    bench.agent.script = [AgentUnavailable("503"), AgentUnavailable("503"), Answer("at last")]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    record = bench.record(accepted)
    assert record.state is State.ANSWERING
    assert "try 1 of 6 failed" in record.reason
    bench.work(accepted.thread_id)
    assert len(bench.agent.asked) == 1, "not due yet"
    bench.clock.pass_(backoff_ms(1) / 1000)
    assert backoff_ms(1) <= 15_000
    bench.work(accepted.thread_id)
    bench.clock.pass_(20)
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert bench.record(accepted).attempts == 3
    assert len({request.id for request in bench.agent.asked}) == 1


def test_after_six_tries_it_fails_alone_and_the_next_in_its_thread_goes_on(bench: Bench) -> None:
    bench.agent.script = [*[AgentUnavailable("503 busy")] * 6, Answer("fine")]
    first = bench.receive(mail(1))
    second = bench.receive(mail(2, sender="customer1@example.test", references="<q1@example.test>"))
    assert second.thread_id == first.thread_id
    for _ in range(6):
        bench.work(first.thread_id)
        bench.clock.pass_(3600)
    assert bench.record(first).state is State.FAILED
    assert "503 busy" in bench.record(first).reason
    assert bench.store.messages.source(first.id) is not None
    bench.work(first.thread_id)
    assert bench.record(second).state is State.REPLIED
    history = [(turn.role, turn.content) for turn in bench.agent.asked[-1].history]
    assert history == [("user", "This is question 1.")], "the agent knows what went unanswered"


@pytest.mark.parametrize(
    ("step", "state"),
    [
        (AgentError("malformed"), State.FAILED),
        (Answer(ignore="spam"), State.IGNORED),
        (Answer(""), State.IGNORED),
        (ValueError("a bug"), State.ANSWERING),
    ],
)
def test_what_the_agent_says_decides_the_state(bench: Bench, step: Answer | Exception, state: State) -> None:
    bench.agent.script = [step]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is state
    assert bench.record(accepted).reason
    assert bench.smtp.tries == 0


def test_a_bug_of_ours_ends_in_failed_after_bounded_attempts(bench: Bench) -> None:
    bench.agent.script = [ValueError("text-of-a-mail-3f9c")]
    accepted = bench.receive(mail(1))
    for _ in range(20):
        bench.work(accepted.thread_id)
        bench.clock.pass_(7200)
    record = bench.record(accepted)
    assert record.state is State.FAILED
    assert "ValueError" in record.reason
    assert "text-of-a-mail-3f9c" not in record.reason
    assert len(bench.agent.asked) <= 12


def test_what_the_mail_server_refused_is_not_counted_as_a_fault_of_ours(bench: Bench) -> None:
    """A server that says 4xx for half a day has used up nothing of the 72 hours that are promised."""
    bench.smtp.script = [SubmissionUnavailable("450 later")]
    accepted = bench.receive(mail(1))
    for _ in range(20):
        bench.work(accepted.thread_id)
        bench.clock.pass_(3700)
    submit, bench.smtp.submit = bench.smtp.submit, broken  # type: ignore[method-assign]
    bench.work(accepted.thread_id)
    record = bench.record(accepted)
    assert (record.state, record.faults, record.attempts) == (State.SUBMITTING, 1, 22)
    bench.clock.pass_(backoff_ms(1) / 1000)
    bench.smtp.submit, bench.smtp.script = submit, [Receipt("250")]  # type: ignore[method-assign]
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED


def broken(*_: object, **__: object) -> Receipt:
    raise ValueError("a bug")


def test_after_a_retry_faults_of_ours_are_counted_anew(bench: Bench) -> None:
    bench.smtp.submit = broken  # type: ignore[method-assign]
    accepted = bench.receive(mail(1))

    def until_it_fails() -> int:
        for count in range(1, 50):
            bench.work(accepted.thread_id)
            if bench.record(accepted).state is State.FAILED:
                return count
            bench.clock.pass_(3700)
        return 0

    first = until_it_fails()
    assert first > 1
    assert "12 unexpected faults" in bench.record(accepted).reason
    bench.deciding.retry(accepted.id, by="cli")
    assert until_it_fails() == first


def test_a_retry_sends_the_kept_bytes_and_asks_nobody_again(bench: Bench) -> None:
    bench.smtp.script = [SubmissionUnavailable("450 later"), SubmissionUnavailable("421"), Receipt("250")]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    kept = bench.store.messages.answer(accepted.id)
    assert bench.record(accepted).state is State.SUBMITTING
    assert "450 later" in bench.record(accepted).reason
    for _ in range(2):
        bench.clock.pass_(30)
        bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert bench.smtp.sent == [kept]
    assert len(bench.agent.asked) == 1


def test_temporary_faults_of_submission_are_given_up_after_72_hours(bench: Bench) -> None:
    bench.smtp.script = [SubmissionUnavailable("450 later")]
    accepted = bench.receive(mail(1))
    for _ in range(200):
        bench.work(accepted.thread_id)
        if bench.record(accepted).state is not State.SUBMITTING:
            break
        bench.clock.pass_(3600)
    assert bench.record(accepted).state is State.FAILED
    assert "72 h" in bench.record(accepted).reason
    assert bench.clock.now - bench.record(accepted).received_at > 72 * 3600 * 1000


def test_a_permanent_refusal_fails_and_a_person_can_retry(bench: Bench) -> None:
    bench.smtp.script = [SubmissionError("550 no"), Receipt("250")]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.FAILED
    bench.deciding.retry(accepted.id, by="cli")
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert len(bench.agent.asked) == 1
    assert bench.deciding.retry(accepted.id, by="cli").state is State.REPLIED
    bench.work(accepted.thread_id)
    assert len(bench.smtp.sent) == 1, "it was decided before"


def test_a_refused_login_stops_all_sending_and_uses_up_no_attempt(bench: Bench) -> None:
    bench.smtp.script = [SubmissionLoginRefused("535 wrong"), Receipt("250")]
    first, second = bench.receive(mail(1)), bench.receive(mail(2))
    bench.store.ticks.tick("submission-probe", 1)  # consumed at once: expires in a millisecond
    bench.work(first.thread_id)
    assert "535" in bench.store.health.read().submission_fault
    assert bench.store.ticks.tick("submission-probe", 60_000)
    bench.work(second.thread_id)
    assert bench.smtp.tries == 1, "nobody knocks again"
    for accepted in (first, second):
        record = bench.record(accepted)
        assert (record.state, record.sends, record.attempts) == (State.SUBMITTING, 0, 1)
    bench.redis.delete("cleo:tick:submission-probe")
    bench.clock.pass_(60)
    bench.work(first.thread_id)
    assert bench.store.health.read().submission_fault == ""
    bench.work(second.thread_id)
    assert bench.record(second).state is State.REPLIED


def test_a_break_after_the_end_of_data_is_uncertain_and_is_not_sent_again(bench: Bench) -> None:
    bench.smtp.script = [SubmissionUncertain("connection lost"), Receipt("250")]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.UNCERTAIN
    assert bench.store.settling.due(bench.clock.now) == [accepted.id]
    bench.work(accepted.thread_id)
    assert bench.smtp.tries == 1


def test_what_is_uncertain_again_after_a_retry_is_searched_for_from_the_start(bench: Bench) -> None:
    bench.smtp.script = [SubmissionUncertain("connection lost")]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    bench.store.messages.note(accepted.id, "looks", 4)
    bench.store.settling.done(accepted.id)
    bench.deciding.retry(accepted.id, by="cli")
    assert bench.store.settling.due(bench.clock.now) == []
    bench.work(accepted.thread_id)
    record = bench.record(accepted)
    assert (record.state, record.looks) == (State.UNCERTAIN, 0)
    assert bench.store.settling.due(bench.clock.now) == [accepted.id]


def test_a_process_that_died_after_the_end_of_data_leaves_an_uncertain_message(bench: Bench) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    bench.smtp.during = die
    accepted = bench.receive(mail(1))
    with pytest.raises(KeyboardInterrupt):
        bench.work(accepted.thread_id)
    bench.smtp.during = None
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.UNCERTAIN
    assert bench.smtp.tries == 1


def test_a_fault_of_ours_after_the_end_of_data_never_makes_a_message_fail(bench: Bench) -> None:
    """``failed`` says that nothing was sent: a person, or ``retry --failed``, would send it twice."""
    bench.smtp.script = [*[SubmissionUnavailable("450 later")] * 14, ValueError("a bug")]
    accepted = bench.receive(mail(1))
    for _ in range(15):
        bench.work(accepted.thread_id)
        bench.clock.pass_(3700)
    record = bench.record(accepted)
    assert (record.state, record.data_ended_at > 0) == (State.UNCERTAIN, True)
    assert "ValueError" in record.reason
    assert "bug" not in record.reason
    assert bench.store.settling.due(bench.clock.now) == [accepted.id], "Sent is searched for it"
    bench.work(accepted.thread_id)
    assert bench.smtp.tries == 15


def test_a_fault_of_ours_after_the_outcome_changes_nothing(bench: Bench) -> None:
    accepted = bench.receive(mail(1))
    hand_over = bench.delivery.submit

    def stumbles(work: LockedRecord) -> None:
        hand_over(work)
        raise ValueError("a bug")

    bench.delivery.submit = stumbles  # type: ignore[method-assign]
    bench.work(accepted.thread_id)
    record = bench.record(accepted)
    assert (record.state, record.reason) == (State.REPLIED, "")


def test_a_reply_to_an_uncertain_mail_shows_that_it_was_sent(bench: Bench) -> None:
    bench.smtp.script = [SubmissionUncertain("connection lost"), Receipt("250")]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    ours = bench.record(accepted).reply_message_id
    bench.receive(mail(2, sender="customer1@example.test", references=f"<q1@example.test> {ours}"))
    assert bench.record(accepted).state is State.REPLIED
    assert "reply" in bench.record(accepted).reason


def test_who_lost_the_conversation_records_and_sends_nothing(bench: Bench) -> None:
    accepted = bench.receive(mail(1))
    key = f"cleo:lock:conversation:{accepted.thread_id}"
    bench.agent.answer = lambda request, deadline: (bench.redis.set(key, "thief"), Answer("late"))[1]  # type: ignore[method-assign]
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.ANSWERING
    assert bench.smtp.tries == 0


def test_a_partial_refusal_is_success_with_its_reason(bench: Bench) -> None:
    bench.smtp.script = [Receipt("250", {"b@example.test": "550 unknown"})]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert "b@example.test" in bench.record(accepted).reason


def test_caps_hold_and_a_person_releases(redis_url: str) -> None:
    bench = Bench(redis_url, limits=Limits(per_thread=2, per_sender=3))
    first = bench.receive(mail(1))
    more = [
        bench.receive(mail(n, sender="customer1@example.test", references="<q1@example.test>"))
        for n in (2, 3)
    ]
    for _ in range(3):
        bench.work(first.thread_id)
    assert bench.record(more[0]).state is State.REPLIED
    held = bench.record(more[1])
    assert held.state is State.HELD
    assert "EMAIL_MAX_REPLIES_PER_THREAD" in held.reason
    others = [bench.receive(mail(n, sender="customer1@example.test")) for n in (4, 5)]
    for other in others:
        bench.work(other.thread_id)
    assert bench.record(others[0]).state is State.REPLIED
    assert "EMAIL_MAX_REPLIES_PER_SENDER" in bench.record(others[1]).reason
    bench.deciding.release(held.id, by="cli")
    bench.work(first.thread_id)
    assert bench.record(more[1]).state is State.REPLIED
    bench.clock.pass_(2 * 3600 + 1)
    late = bench.receive(mail(6, sender="customer1@example.test"))
    bench.work(late.thread_id)
    assert bench.record(late).state is State.REPLIED


def reply_headers(bench: Bench) -> tuple[str, str]:
    parsed = message_from_bytes(bench.smtp.sent[-1].source, policy=policy.default)
    return str(parsed["To"]), str(parsed["Cc"] or "")


@pytest.mark.parametrize(
    ("reply_to", "to", "note"),
    [
        ("other@example.test", "other@example.test", ""),
        ("boss@elsewhere.test", "customer1@example.test", "EMAIL_ALLOWED_SENDERS"),
        ("agent@cleo.test", "customer1@example.test", "our own address"),
    ],
)
def test_reply_to_is_followed_only_where_it_could_have_written(
    redis_url: str, reply_to: str, to: str, note: str
) -> None:
    bench = Bench(redis_url, policy=Policy(frozenset({FROM.addr}), allowed_senders=("@example.test",)))
    accepted = bench.receive(mail(1, extra=f"Reply-To: {reply_to}"))
    bench.work(accepted.thread_id)
    assert to in reply_headers(bench)[0]
    assert bench.smtp.sent[-1].recipients == (to,)
    steps = bench.store.messages.history(accepted.id)
    assert note in steps[2]["reason"]


@pytest.mark.parametrize("wished", ["foo", "ä@example.test", "a@b@example.test", "a@-x.test", "a@x..test"])
def test_a_reply_to_that_is_no_address_costs_nobody_the_answer(redis_url: str, wished: str) -> None:
    bench = Bench(redis_url, reply_all=True)
    source = mail(1, extra=f"Reply-To: {wished}\r\nCc: {wished}, b@example.test")
    accepted = bench.receive(source)
    bench.work(accepted.thread_id)
    assert bench.smtp.sent[-1].recipients == ("customer1@example.test", "b@example.test")


@pytest.mark.parametrize("sender", ["root", "a@x..test", "ä@example.test"])
def test_nobody_is_asked_about_a_mail_that_cannot_be_answered(redis_url: str, sender: str) -> None:
    bench = Bench(redis_url)
    assert bench.receive(mail(1, sender=sender)).state is State.HELD
    reachable = bench.receive(mail(2, sender=sender, extra="Reply-To: b@example.test"))
    bench.work(reachable.thread_id)
    assert bench.smtp.sent[-1].recipients == ("b@example.test",)


def test_what_a_thread_holds_is_not_sent_to_whom_a_forged_mail_names(redis_url: str) -> None:
    bench = Bench(redis_url)
    bench.work(bench.receive(mail(1, extra="Reply-To: private@example.test")).thread_id)
    assert bench.smtp.sent[-1].recipients == ("private@example.test",)
    follow_up = {"sender": "customer1@example.test", "references": "<q1@example.test>"}
    for number, wished, to in (
        (2, "spy@elsewhere.test", "customer1@example.test"),
        (3, "private@example.test", "private@example.test"),
    ):
        accepted = bench.receive(mail(number, extra=f"Reply-To: {wished}", **follow_up))
        bench.work(accepted.thread_id)
        assert bench.smtp.sent[-1].recipients == (to,)
    assert "takes no part in this thread" in str(bench.store.messages.history(bench_id(bench, 2)))
    proven = bench.receive(mail(4, extra="Reply-To: new@example.test", **follow_up), authenticated=True)
    bench.work(proven.thread_id)
    assert bench.smtp.sent[-1].recipients == ("new@example.test",)


def bench_id(bench: Bench, number: int) -> str:
    (record,), _ = bench.store.messages.page(message_id=f"<q{number}@example.test>")
    return record.id


def test_reply_all_reaches_the_allowed_others_only_when_asked_for(redis_url: str) -> None:
    cc = "Cc: b@example.test, c@elsewhere.test, agent@cleo.test, customer1@example.test"
    allowed = Policy(frozenset({FROM.addr}), allowed_senders=("@example.test",))
    for reply_all, expected in ((False, ""), (True, "b@example.test")):
        bench = Bench(redis_url, policy=allowed, reply_all=reply_all)
        accepted = bench.receive(mail(7 + reply_all, sender="customer1@example.test", extra=cc))
        bench.work(accepted.thread_id)
        assert reply_headers(bench)[1] == expected


def test_a_cc_takes_part_in_the_thread_and_a_held_strangers_cc_does_not(redis_url: str) -> None:
    bench = Bench(redis_url, policy=Policy(frozenset({FROM.addr}), authserv_id="mx.cleo.test"))
    good = "Authentication-Results: mx.cleo.test; dmarc=pass header.from=example.test"
    first = bench.receive(mail(1, extra=f"{good}\r\nCc: b@example.test"))
    forged = mail(
        2, sender="customer1@example.test", references="<q1@example.test>", extra="Cc: spy@example.test"
    )
    assert bench.receive(forged).thread_id == first.thread_id
    bench.work(first.thread_id)
    colleague = mail(3, sender="b@example.test", references="<q1@example.test>", extra=good)
    assert bench.receive(colleague).thread_id == first.thread_id
    spy = mail(4, sender="spy@example.test", references="<q1@example.test>", extra=good)
    assert bench.receive(spy).thread_id == "<q4@example.test>"


def test_attachments_of_the_answer_travel_in_the_same_mail(bench: Bench) -> None:
    content = bytes(range(256)) * 50
    bench.agent.script = [Answer("see the file", (AttachedFile("ü.bin", "application/x-test", content),))]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    parsed = message_from_bytes(bench.smtp.sent[0].source, policy=policy.default)
    (part,) = list(parsed.iter_attachments())
    assert (part.get_filename(), part.get_content()) == ("ü.bin", content)


def test_large_attachments_reach_the_agent_by_name_only(redis_url: str) -> None:
    bench = Bench(redis_url, max_attachment_bytes=10)
    source = (
        "From: a@example.test\r\nMessage-ID: <att@example.test>\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nsee files\r\n'
        '--b\r\nContent-Disposition: attachment; filename="small.txt"\r\n\r\ntiny\r\n'
        '--b\r\nContent-Disposition: attachment; filename="big.txt"\r\n\r\nmuch too large\r\n--b--\r\n'
    )
    accepted = bench.receive(source.encode())
    bench.work(accepted.thread_id)
    shown = {a.filename: (a.size, a.content) for a in bench.agent.asked[0].message.attachments}
    assert shown == {"small.txt": (4, "dGlueQ=="), "big.txt": (14, "")}
    assert "tiny" in bench.agent.asked[0].message.full_text


def test_an_unreadable_mail_is_kept_as_failed(bench: Bench) -> None:
    deep = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(20_000)
    )
    accepted = bench.receive(b"From: a@example.test\r\nMessage-ID: <deep@example.test>\r\n" + deep)
    record = bench.record(accepted)
    assert record.state in (State.FAILED, State.RECEIVED)
    assert bench.store.messages.source(accepted.id) is not None


def test_old_records_are_forgotten_with_all_that_leads_to_them(bench: Bench) -> None:
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    waiting = bench.receive(mail(2))
    bench.clock.pass_(91 * 86_400)
    assert bench.sweeping.forget() == 1
    left = {key.decode() for key in bench.redis.keys("cleo:*") if accepted.id.encode() in key}
    assert left == set()
    assert bench.redis.exists("cleo:people:<q1@example.test>") == 0
    assert bench.record(waiting).state is State.RECEIVED, "what is at work stays"


def test_the_sweeper_wakes_what_lost_its_wake_up(bench: Bench) -> None:
    bench.receive(mail(1))
    assert bench.sweeping.run() == 0
    assert bench.redis.llen("rq:queue:cleo-email") == 1, "one wake-up is still on its way"
    bench.redis.delete("rq:queue:cleo-email", "cleo:woken:<q1@example.test>")
    bench.sweeping.run()
    assert bench.redis.llen("rq:queue:cleo-email") == 1


def test_the_sweeper_sees_past_whatever_is_being_handled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads at work stay due; there may be more of them than one look at the store shows."""
    busy = [f"<busy{number}@example.test>" for number in range(1200)]
    bench.redis.zadd("cleo:active", {thread: number for number, thread in enumerate(busy)})
    bench.redis.mset({f"cleo:lock:conversation:{thread}": "another worker" for thread in busy})
    idle = [bench.receive(mail(number)).thread_id for number in (1, 2, 3)]
    bench.redis.delete("rq:queue:cleo-email", *bench.redis.keys("cleo:woken:*"))
    bench.clock.pass_(60)
    with monkeypatch.context() as patch:
        patch.setattr("cleo_email.store.queue.MOST_WAITING", 2)
        assert bench.sweeping.run() == 2, "no more than there is room for"
        assert bench.sweeping.run() == 0, "those wake-ups wait to be taken"
    assert bench.sweeping.run() == 1
    assert bench.redis.llen("rq:queue:cleo-email") == 3
    assert {bench.redis.exists(f"cleo:woken:{thread}") for thread in idle} == {1}


def test_a_sweep_looks_at_so_much_and_no_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cleo_email.pipeline.sweep.PAGE", 2)
    monkeypatch.setattr("cleo_email.pipeline.sweep.MOST_PAGES", 2)
    for number in range(5):
        bench.receive(mail(number))
    bench.redis.delete("rq:queue:cleo-email", *bench.redis.keys("cleo:woken:*"))
    assert bench.sweeping.run() == 4


def test_a_forward_within_a_thread_stays_whole(bench: Bench) -> None:
    first = bench.receive(mail(1))
    bench.work(first.thread_id)
    forwarded = (
        "please look\r\n\r\nVon: Bob <bob@example.test>\r\nGesendet: Montag, 23. November 2026 10:00\r\n"
        "An: Customer 1 <customer1@example.test>\r\nBetreff: Rechnung\r\n\r\nthe invoice is wrong\r\n"
    )
    second = bench.receive(
        mail(
            2,
            sender="customer1@example.test",
            references="<q1@example.test>",
            subject="WG: Rechnung",
            text=forwarded,
        )
    )
    bench.work(second.thread_id)
    assert len(bench.agent.asked[-1].history) == 2
    assert "the invoice is wrong" in bench.agent.asked[-1].message.text


def test_a_mail_without_a_date_is_dated_by_its_arrival(redis_url: str) -> None:
    bench = Bench(redis_url)
    source = b"".join(line for line in mail(1).splitlines(keepends=True) if not line.startswith(b"Date:"))
    accepted = bench.receive(source)
    bench.work(accepted.thread_id)
    (asked,) = bench.agent.asked
    assert asked.message.date is not None
    assert datetime.fromisoformat(asked.message.date).timestamp() == bench.clock.now / 1000


def test_all_files_of_a_mail_are_read_within_one_budget(bench: Bench) -> None:
    part = b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\nContent-Type: text/html\r\n\r\n%s\r\n"
    words = b"<p style='color:red'>word</p>" * 10_000
    head = b"From: a@example.net\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    begun = time.process_time()
    bench.work(bench.receive(head + part % words * 50 + b"--b--\r\n").thread_id)
    assert time.process_time() - begun < 4, "each of the files takes a quarter of a second"
    text = bench.agent.asked[0].message.full_text
    assert "Subject: x" in text
    assert text.endswith("[the text of further files was not read: they are attached]")
