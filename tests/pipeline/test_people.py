"""People beside the agent: review, threads that a person has, colleagues' mail, and the hand-over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest

from cleo_email.errors import AgentError, AgentUnavailable, WrongState
from cleo_email.mail.model import Address, Answer, OutboundEmail
from cleo_email.mail.parse import parse
from cleo_email.pipeline.budget import Limits
from cleo_email.pipeline.colleagues import Colleagues
from cleo_email.pipeline.handoff import HandOver
from cleo_email.pipeline.withdrawal import is_unsent
from cleo_email.screening.dkim import SenderCheck
from cleo_email.store import Accepted, Effects, State
from cleo_email.store.threads import taken_by
from tests.screening.signing import FakeDns, sign
from tests.support.bench import FROM, Bench, head_of
from tests.support.mails import AGENT, mail

ANNA = "anna@example.test"
PETRA = "petra@firma.test"
BOSS = "boss@firma.test"


class Desk(Bench):
    """The bench with the parts that know of people. ``named`` are colleagues."""

    def __init__(
        self, url: str, *, named: tuple[str, ...] = (PETRA,), mode: str = "thread", **rules: Any
    ) -> None:
        super().__init__(url, drafts=True, **rules)
        own = frozenset({AGENT, "info@firma.test"})
        everybody = (*named, BOSS)
        self.colleagues = Colleagues(self.store, own, everybody, mode=mode, clock=self.clock)
        self.over = HandOver(
            self.store,
            self.wake,
            self.signer,
            FROM,
            (Address(BOSS),),
            own=own,
            max_bytes=10**6,
            clock=self.clock,
        )
        self.intake.colleagues = self.answering.colleagues = self.colleagues
        self.answering.hand_over = self.sweeping.handing_over = self.over

    def ask(self, number: int, *, follows: int | None = None, text: str = "") -> Accepted:
        before = f"<q{follows}@example.test>" if follows is not None else ""
        self.clock.pass_(1)
        return self.receive(mail(number, sender=ANNA, text=text, references=before))

    def answer(self, number: int, **more: Any) -> Accepted:
        accepted = self.ask(number, **more)
        self.work(accepted.thread_id)
        return accepted

    def by_colleague(
        self,
        *,
        to: str = ANNA,
        cc: str = AGENT,
        sender: str = PETRA,
        quotes: str = "<q1@example.test>",
        more: str = "",
        subject: str = "Re: Question 1",
        **way: Any,
    ) -> Accepted:
        lines = [
            f"From: {sender}",
            f"To: {to}",
            *([f"Cc: {cc}"] if cc else []),
            f"Subject: {subject}",
            "Message-ID: <petra@firma.test>",
            *([f"In-Reply-To: {quotes}"] if quotes else []),
            *([more] if more else []),
            "Date: Tue, 24 Nov 2026 09:00:00 +0100",
            "",
            "I have called you.",
            "",
        ]
        self.clock.pass_(1)
        return self.receive("\r\n".join(lines).encode(), **way)

    def roles(self) -> list[tuple[str, str]]:
        """The history that the agent was shown last."""
        return [(turn.role, turn.content) for turn in self.agent.asked[-1].history]

    def give_to_person(self, thread_id: str) -> None:
        self.store.threads.take(thread_id, taken_by("cli", "a person took it over", self.clock()))

    def drafting(self) -> list[str]:
        return self.store.drafting.due(self.clock())


@pytest.fixture
def desk(redis_url: str) -> Desk:
    return Desk(redis_url)


# --- review -----------------------------------------------------------------------------------------------


def test_an_answer_waits_where_the_agent_asks_for_it(desk: Desk) -> None:
    desk.agent.script = [Answer("10 % off", review="a discount")]
    accepted = desk.answer(1)
    record = desk.record(accepted)
    assert (record.state, record.reason) == (State.REVIEW, "the agent asks for a review: a discount")
    assert desk.smtp.tries == 0
    kept = desk.store.messages.answer(accepted.id)
    assert kept is not None
    assert kept.message_id == record.reply_message_id
    assert (record.text, record.answer_text) == ("This is question 1.", "10 % off")
    assert desk.drafting() == [accepted.id]
    assert head_of(desk.store, accepted.thread_id, desk.clock()) is None


@pytest.mark.parametrize(
    ("rule", "known", "waits"),
    [
        ("never", False, False),
        ("never", True, False),
        ("first", False, True),
        ("first", True, False),
        ("always", False, True),
        ("always", True, True),
    ],
)
def test_which_answers_wait(redis_url: str, rule: str, known: bool, waits: bool) -> None:
    desk = Desk(redis_url, review=rule)
    if known:
        desk.store.threads.met([ANNA], desk.clock())
    accepted = desk.answer(1)
    record = desk.record(accepted)
    assert record.state is (State.REVIEW if waits else State.REPLIED)
    if waits:
        assert record.reason.startswith(f"EMAIL_REVIEW={rule}")
    if waits and rule == "first":
        assert record.reason == f"EMAIL_REVIEW=first: nothing has gone out to {ANNA} before"


def test_one_new_reader_is_enough_for_a_first(redis_url: str) -> None:
    desk = Desk(redis_url, review="first", reply_all=True)
    desk.store.threads.met([ANNA], desk.clock())
    accepted = desk.receive(mail(1, sender=ANNA, extra="Cc: ben@example.test"))
    desk.work(accepted.thread_id)
    assert (
        desk.record(accepted).reason == "EMAIL_REVIEW=first: nothing has gone out to ben@example.test before"
    )


def test_without_drafts_none_is_made(redis_url: str) -> None:
    desk = Desk(redis_url, review="always")
    desk.answering.drafts = False
    desk.answer(1)
    assert desk.drafting() == []


def test_an_answer_that_waits_does_not_block_other_people_of_the_thread(redis_url: str) -> None:
    desk = Desk(redis_url, review="always")
    first = desk.answer(1)
    second = desk.answer(2, follows=1)
    assert second.thread_id == first.thread_id
    assert desk.record(second).state is State.REVIEW


@pytest.mark.parametrize(
    "step", [Answer("both"), Answer(ignore="enough"), AgentError("malformed"), AgentUnavailable("503")]
)
def test_a_newer_mail_withdraws_the_draft_and_the_agent_is_asked_about_both(
    desk: Desk, step: Answer | Exception
) -> None:
    desk.agent.script = [Answer("first", review="look"), step]
    first = desk.answer(1)
    desk.store.drafting.done(first.id)
    second = desk.answer(2, follows=1)
    record = desk.record(first)
    assert (record.state, record.reason) == (State.IGNORED, f"superseded by message {second.id}")
    assert desk.roles() == [("user", "This is question 1.")], "and not an answer that nobody got"
    assert first.id in desk.drafting()


def test_where_the_agent_fails_on_the_newer_mail_a_retry_of_that_one_is_about_both(desk: Desk) -> None:
    desk.agent.script = [Answer("first", review="look"), AgentError("no"), Answer("both")]
    first, second = desk.answer(1), desk.answer(2, follows=1)
    assert [desk.record(one).state for one in (first, second)] == [State.IGNORED, State.FAILED]
    desk.deciding.retry(second.id, by="anna")
    desk.work(second.thread_id)
    assert desk.roles() == [("user", "This is question 1.")]
    assert [desk.record(one).state for one in (first, second)] == [State.IGNORED, State.REPLIED]


def test_mail_that_nobody_is_asked_about_withdraws_nothing(redis_url: str) -> None:
    desk = Desk(redis_url)
    desk.agent.script = [Answer("first", review="look")]
    first = desk.answer(1)
    robot = desk.receive(
        mail(2, sender=ANNA, references="<q1@example.test>", extra="Auto-Submitted: auto-replied")
    )
    held = desk.receive(mail(3, sender=ANNA, references="<q1@example.test>"), hold="look at it")
    other = desk.answer(4)
    assert (robot.state, held.state) == (State.IGNORED, State.HELD)
    assert other.thread_id != first.thread_id
    assert desk.record(first).state is State.REVIEW


# --- a thread that a person has ---------------------------------------------------------------------------


def test_in_a_persons_thread_nothing_is_asked(desk: Desk) -> None:
    first = desk.answer(1)
    desk.give_to_person(first.thread_id)
    second = desk.answer(2, follows=1)
    record = desk.record(second)
    assert (record.state, record.reason) == (State.HELD, "a person has this thread")
    assert (record.with_person, record.text) == (1, "This is question 2.")
    assert len(desk.agent.asked) == 1
    assert len(desk.smtp.sent) == 1


@pytest.mark.parametrize(
    "step",
    [
        Answer("too late"),
        Answer("too late", review="look"),
        Answer(handoff="angry"),
        Answer("too late", handoff="angry"),
    ],
)
def test_a_thread_that_is_taken_while_the_agent_thinks(desk: Desk, step: Answer) -> None:
    answer = desk.agent.answer
    accepted = desk.ask(1)

    def slow(*args: Any, **more: Any) -> Answer:
        desk.give_to_person(accepted.thread_id)
        return answer(*args, **more)

    desk.agent.script, desk.agent.answer = [step], slow  # type: ignore[method-assign]
    desk.work(accepted.thread_id)
    record = desk.record(accepted)
    assert (record.state, record.reason) == (State.HELD, "a person has this thread")
    assert (record.with_person, record.text) == (1, "This is question 1.")
    assert desk.store.messages.answer(accepted.id) is None
    assert desk.smtp.tries == 0
    desk.clock.pass_(120)
    desk.sweeping.hand_over()
    assert desk.store.handing_over.due(desk.clock()) == []
    assert len(desk.store.messages.page()[0]) == 1, "no mail about it: a person has it already"


def test_a_thread_that_is_handed_back_before_its_mail_is_held_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hand-back finds nothing to let go on, and nobody else would."""
    accepted = desk.ask(1)
    desk.give_to_person(accepted.thread_id)
    once_before(desk.answering, "_leave_to_person", lambda: hand_back(desk, accepted), monkeypatch)
    desk.work(accepted.thread_id)
    assert desk.record(accepted).state is State.REPLIED
    assert desk.record(accepted).with_person == 0


def test_a_thread_that_is_taken_and_handed_back_while_the_agent_thinks(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = desk.ask(1)
    answer = desk.agent.answer

    def slow(*args: Any, **more: Any) -> Answer:
        monkeypatch.undo()
        desk.give_to_person(accepted.thread_id)
        once_before(desk.answering, "_leave_to_person", lambda: hand_back(desk, accepted), monkeypatch)
        return answer(*args, **more)

    monkeypatch.setattr(desk.agent, "answer", slow)
    desk.agent.script = [Answer("too late"), Answer("fine")]
    before = desk.wake.waiting()
    desk.work(accepted.thread_id)
    assert (desk.record(accepted).state, desk.wake.waiting()) == (State.ANSWERING, before + 1)
    desk.work(accepted.thread_id)
    assert desk.record(accepted).state is State.REPLIED
    assert desk.record(accepted).answer_text == "fine"


def test_a_takeover_that_meets_a_hand_back_holds_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.answer(1)
    second = desk.ask(2, follows=1)
    take = desk.store.threads.take

    def take_for_a_moment(thread: str, taken: str) -> bool:
        took = take(thread, taken)
        hand_back(desk, second)
        return took

    with monkeypatch.context() as patch:
        patch.setattr(desk.store.threads, "take", take_for_a_moment)
        desk.deciding.take_over(second.id, by="anna")
    assert desk.record(second).state is State.RECEIVED
    once_before(desk.store.messages, "move", lambda: hand_back(desk, second), monkeypatch)
    desk.by_colleague()
    assert desk.record(second).state is State.RECEIVED
    desk.work(second.thread_id)
    assert desk.record(second).state is State.REPLIED


def hand_back(desk: Desk, accepted: Accepted) -> None:
    desk.deciding.hand_back(accepted.id, by="bert")


def once_before(place: object, name: str, do: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen before the next call of a method."""
    method = getattr(place, name)

    def call(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(place, name, method)
        do()
        return method(*args, **more)

    monkeypatch.setattr(place, name, call)


@pytest.mark.parametrize("to", [State.IGNORED, State.HELD])
@pytest.mark.parametrize(
    "step",
    [
        Answer("too late"),
        Answer(ignore="spam"),
        Answer("x", handoff="y"),
        AgentUnavailable("503"),
        AgentError("malformed"),
    ],
)
def test_what_another_process_withdraws_stays_withdrawn(
    desk: Desk, step: Answer | Exception, to: State, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the conversation's lock, while the worker has it: no fault, no answer, no other state."""
    answer = desk.agent.answer
    accepted = desk.ask(1)

    def slow(*args: Any, **more: Any) -> Answer:
        desk.store.messages.move(
            accepted.id, to, now=desk.clock(), reason="answered by a person", effects=Effects(pop=True)
        )
        return answer(*args, **more)

    desk.agent.script, desk.agent.answer = [step], slow  # type: ignore[method-assign]
    desk.work(accepted.thread_id)
    record = desk.record(accepted)
    assert (record.state, record.reason, record.faults) == (to, "answered by a person", 0)
    assert desk.smtp.tries == 0
    assert not [entry for entry in caplog.records if entry.levelname in ("WARNING", "ERROR")]


def test_what_cannot_be_moved_for_another_reason_is_a_fault(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the conversation would be woken for ever, and do the same."""
    accepted = desk.ask(1)

    def fails(*_: object, **__: object) -> None:
        raise WrongState("a bug")

    monkeypatch.setattr(desk.answering, "_take_answer", fails)
    desk.work(accepted.thread_id)
    record = desk.record(accepted)
    assert (record.state, record.faults) == (State.ANSWERING, 1)
    assert "WrongState" in record.reason


# --- colleagues -------------------------------------------------------------------------------------------


def test_a_colleagues_mail_is_a_persons_turn_and_takes_the_thread(desk: Desk) -> None:
    first = desk.answer(1)
    by_petra = desk.by_colleague(quotes=desk.smtp.sent[0].message_id)
    record = desk.record(by_petra)
    assert (record.state, record.reason) == (State.IGNORED, f"a colleague's mail: {PETRA} answered")
    assert record.thread_id == first.thread_id
    second = desk.answer(2, follows=1)
    assert desk.record(second).reason == "a person has this thread"
    assert len(desk.smtp.sent) == 1
    desk.store.threads.hand_back(first.thread_id)
    desk.store.messages.move(second.id, State.RECEIVED, now=desk.clock(), effects=Effects(push=True))
    desk.work(first.thread_id)
    assert desk.roles() == [
        ("user", "This is question 1."),
        ("assistant", "fine"),
        ("person", "I have called you."),
    ]


@pytest.mark.parametrize("state", [State.RECEIVED, State.REVIEW, State.HELD, State.FAILED])
def test_a_colleague_answers_a_mail_before_the_agent_does(desk: Desk, state: State) -> None:
    script: dict[State, Answer | Exception] = {
        State.REVIEW: Answer("x", review="look"),
        State.FAILED: AgentError("malformed"),
    }
    desk.agent.script = [script.get(state, Answer("x")), Answer("next")]
    first = desk.receive(mail(1, sender=ANNA), hold="look" if state is State.HELD else "")
    if state in script:
        desk.work(first.thread_id)
    assert desk.record(first).state is state
    desk.by_colleague()
    record = desk.record(first)
    assert (record.state, record.reason) == (State.IGNORED, "answered by a person")
    assert (record.answered_by, record.text) == ("mailbox", "This is question 1.")
    desk.work(first.thread_id)
    assert desk.smtp.tries == 0


def test_newer_mail_of_the_thread_is_held_with_it(desk: Desk) -> None:
    first, second = desk.ask(1), desk.ask(2, follows=1)
    desk.by_colleague()
    assert desk.record(first).state is State.IGNORED
    record = desk.record(second)
    assert (record.state, record.with_person, record.text) == (State.HELD, 1, "This is question 2.")


@pytest.mark.parametrize(
    ("mode", "first", "second"), [("mail", "ignored", "replied"), ("off", "replied", "replied")]
)
def test_how_far_a_takeover_goes(redis_url: str, mode: str, first: str, second: str) -> None:
    desk = Desk(redis_url, mode=mode)
    one = desk.ask(1)
    desk.by_colleague()
    two = desk.ask(2, follows=1)
    desk.work(one.thread_id)
    desk.work(one.thread_id)
    assert (desk.record(one).state, desk.record(two).state) == (first, second)
    assert desk.store.threads.person(one.thread_id) is None


def test_the_customer_answers_with_nothing_but_the_colleagues_id(desk: Desk) -> None:
    first = desk.answer(1)
    desk.by_colleague()
    third = desk.receive(mail(3, sender=ANNA, references="<petra@firma.test>"))
    assert third.thread_id == first.thread_id


def test_the_same_mail_again_takes_nothing_over_again(desk: Desk) -> None:
    first = desk.answer(1)
    by_petra = desk.by_colleague()
    desk.store.threads.hand_back(first.thread_id)
    again = desk.by_colleague(mailbox="1/7")
    assert again.id == by_petra.id
    assert desk.store.threads.person(first.thread_id) is None


def test_what_a_crash_left_undone_is_done_when_the_mail_comes_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = desk.answer(1)
    with monkeypatch.context() as patch:
        patch.setattr(desk.intake, "colleagues", None)
        patch.setattr(Colleagues, "complete", lambda *_: None)
        patch.setattr(desk.intake, "colleagues", desk.colleagues)
        desk.by_colleague()
    assert desk.store.threads.person(first.thread_id) is None
    desk.by_colleague()
    assert desk.store.threads.person(first.thread_id) is not None


def test_a_colleague_may_be_a_customer(desk: Desk) -> None:
    """In no known thread, and in the thread that such a mail began."""
    first = desk.receive(mail(1, sender=PETRA))
    desk.work(first.thread_id)
    assert desk.record(first).state is State.REPLIED
    second = desk.receive(mail(2, sender=PETRA, references=desk.smtp.sent[0].message_id))
    desk.work(second.thread_id)
    assert second.thread_id == first.thread_id
    assert desk.record(second).state is State.REPLIED
    unknown = desk.by_colleague(quotes="<nobody@knows.test>")
    desk.work(unknown.thread_id)
    assert desk.record(unknown).state is State.REPLIED


def test_whoever_gets_hand_overs_is_a_colleague(redis_url: str) -> None:
    desk = Desk(redis_url, named=())
    desk.answer(1)
    assert desk.by_colleague(sender=BOSS).state is State.IGNORED
    assert desk.by_colleague(sender="mallory@example.test").state is State.RECEIVED


@pytest.mark.parametrize(
    ("sender", "to", "cc", "counts"),
    [
        ("ben@firma.test", ANNA, "info@firma.test", True),
        ("Ben@FIRMA.test", f"Anna <{ANNA}>", "Info <info@firma.test>", True),
        ("ben@firma.test", f"{ANNA}, info@firma.test", "", False),
        ("ben@firma.test", "info@firma.test", ANNA, False),
        ("ben@firma.test", "carl@example.test", "info@firma.test", False),
        ("ben@sub.firma.test", ANNA, "info@firma.test", False),
        ("ben@other.test", ANNA, "info@firma.test", False),
    ],
)
def test_our_own_domain_counts_where_the_mailbox_is_only_copied(
    redis_url: str, sender: str, to: str, cc: str, counts: bool
) -> None:
    desk = Desk(redis_url, named=())
    desk.answer(1)
    found = desk.by_colleague(sender=sender, to=to, cc=cc)
    assert (found.state is State.IGNORED) is counts


def test_a_public_mail_domain_is_nobodys_own(redis_url: str) -> None:
    desk = Desk(redis_url, named=())
    desk.colleagues.own = frozenset({"shop@gmx.de"})
    desk.answer(1)
    assert desk.by_colleague(sender="stranger@gmx.de", cc="shop@gmx.de").state is State.RECEIVED


def test_a_machine_of_a_colleague_answers_nothing(desk: Desk) -> None:
    first = desk.answer(1)
    desk.by_colleague(more="Auto-Submitted: auto-replied")
    assert desk.store.threads.person(first.thread_id) is None


def test_who_may_write_to_the_agent_is_another_question(desk: Desk) -> None:
    desk.answer(1)
    desk.intake.policy = replace(desk.policy, allowed_senders=("@example.test",))
    assert desk.by_colleague().state is State.IGNORED


def test_an_unproven_colleague_is_held(desk: Desk) -> None:
    first = desk.answer(1)
    desk.intake.policy = replace(desk.policy, authserv_id="mx.firma.test")
    assert desk.by_colleague().state is State.HELD
    assert desk.store.threads.person(first.thread_id) is None


@pytest.mark.parametrize("signed", [True, False])
def test_where_the_worker_proves_senders_a_colleague_counts_from_then_on(
    redis_url: str, signed: bool
) -> None:
    dns = FakeDns()
    dns.publish("firma.test")
    dns.publish("example.test")
    desk = Desk(redis_url, sender_check=SenderCheck(dns))
    first = desk.receive(sign(mail(1, sender=ANNA), domain="example.test"))
    source = mail(2, sender=PETRA, references="<q1@example.test>", extra=f"Cc: {ANNA}")
    desk.clock.pass_(1)
    by_petra = desk.receive(sign(source, domain="firma.test") if signed else source)
    assert desk.store.threads.person(first.thread_id) is None
    desk.agent.script = [Answer(ignore="not yet")]
    desk.work(by_petra.thread_id)
    desk.work(by_petra.thread_id)
    record = desk.record(by_petra)
    assert record.state is (State.IGNORED if signed else State.HELD)
    assert record.reason.startswith("a colleague's mail") is signed
    assert (desk.store.threads.person(first.thread_id) is not None) is signed


def test_a_note_among_us_is_not_shown_where_the_customer_asks(desk: Desk) -> None:
    first = desk.answer(1)
    note = desk.by_colleague(to=AGENT, cc="")
    assert note.state is State.IGNORED
    desk.store.threads.hand_back(first.thread_id)
    desk.answer(2, follows=1)
    assert [role for role, _ in desk.roles()] == ["user", "assistant"]


# --- hand-over --------------------------------------------------------------------------------------------


def told(desk: Desk) -> list[OutboundEmail]:
    return [sent for sent in desk.smtp.sent if sent.recipients == (BOSS,)]


def as_message(mail_: OutboundEmail) -> EmailMessage:
    return message_from_bytes(mail_.source, policy=policy.default)


def test_a_hand_over_without_a_last_word(desk: Desk) -> None:
    desk.answer(1)
    desk.agent.script = [Answer(handoff="wants to cancel")]
    second = desk.answer(2, follows=1)
    desk.work(second.thread_id)
    record = desk.record(second)
    assert (record.state, record.reason) == (State.HELD, "handed over to a person: wants to cancel")
    assert (record.with_person, record.handoff, record.text) == (1, "wants to cancel", "This is question 2.")
    taken = desk.store.threads.person(second.thread_id)
    assert taken is not None
    assert (taken["by"], taken["reason"]) == ("agent", "the agent handed it over: wants to cancel")
    (sent,) = told(desk)
    message = as_message(sent)
    assert message["Subject"] == "[Hand-over] Question 2"
    assert (message["Reply-To"], message["Auto-Submitted"]) == (f"Customer 2 <{ANNA}>", "auto-generated")
    assert message["In-Reply-To"] == "<q2@example.test>"
    text, enclosed = message.iter_parts()
    said = text.get_content()
    assert "wants to cancel" in said
    assert f"cleo-email messages handback {second.id}" in said
    order = [said.index(one) for one in ("This is question 1.", "fine", "This is question 2.")]
    assert order == sorted(order)
    assert enclosed.get_content_type() == "message/rfc822"
    assert enclosed["Content-Transfer-Encoding"] is None
    assert parse(enclosed.get_content().as_bytes()).message_id == "<q2@example.test>"


def test_a_hand_over_with_a_last_word(desk: Desk) -> None:
    desk.agent.script = [Answer("A colleague will write to you.", handoff="angry"), Answer("no")]
    first = desk.answer(1)
    desk.work(first.thread_id)
    assert desk.record(first).state is State.REPLIED
    assert [sent.recipients for sent in desk.smtp.sent] == [(ANNA,), (BOSS,)]
    assert "A colleague will write to you." in as_message(told(desk)[0]).get_body().get_content()  # type: ignore[union-attr]
    second = desk.answer(2, follows=1)
    assert desk.record(second).reason == "a person has this thread"
    assert len(desk.agent.asked) == 1


def test_the_last_word_may_wait_for_a_review(desk: Desk) -> None:
    desk.agent.script = [Answer("Bye", handoff="angry", review="tone")]
    first = desk.answer(1)
    desk.work(first.thread_id)
    assert desk.record(first).state is State.REVIEW
    assert len(told(desk)) == 1
    assert "waits for approval" in as_message(told(desk)[0]).get_body().get_content()  # type: ignore[union-attr]


def test_without_addresses_nobody_is_mailed(desk: Desk) -> None:
    desk.over.to = ()
    desk.agent.script = [Answer(handoff="angry")]
    first = desk.answer(1)
    assert desk.record(first).state is State.HELD
    assert desk.smtp.tries == 0
    desk.clock.pass_(120)
    desk.sweeping.hand_over()
    assert desk.store.handing_over.due(desk.clock()) == []


@pytest.mark.parametrize("answer", [Answer(handoff="angry"), Answer("Bye", handoff="angry")])
@pytest.mark.parametrize("place", ["before", "after"])
def test_the_mail_about_it_leaves_exactly_once_whenever_the_worker_dies(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, answer: Answer, place: str
) -> None:
    """After the move and before the mail is stored, or before that is noted: the sweeper sends it."""
    desk.agent.script = [answer]
    complete = desk.over.complete

    def dies(id_: str) -> None:
        if place == "after":
            monkeypatch.setattr(desk.store.handing_over, "done", lambda _: None)
            complete(id_)
            monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(desk.over, "complete", dies)
    first = desk.ask(1)
    with pytest.raises(KeyboardInterrupt):
        desk.work(first.thread_id)
    monkeypatch.undo()
    desk.clock.pass_(61)
    for _ in range(3):
        desk.sweeping.hand_over()
        desk.work(first.thread_id)
        desk.clock.pass_(600)
    assert len(told(desk)) == 1
    assert desk.store.handing_over.due(desk.clock()) == []


def test_a_limit_of_the_mailbox_holds_the_last_word_and_the_mail_about_it_only_for_a_while(
    redis_url: str,
) -> None:
    desk = Desk(redis_url, limits=Limits(per_hour=1))
    desk.agent.script = [Answer("fine"), Answer("Bye", handoff="angry")]
    desk.answer(9)
    desk.clock.pass_(3500)
    first = desk.answer(1)
    assert desk.record(first).state is State.HELD, "nothing more may leave in this hour"
    for _ in range(8):
        desk.clock.pass_(3601)
        desk.sweeping.run()
        desk.work(first.thread_id)
        desk.work(first.thread_id)
    desk.sweeping.hand_over()
    assert desk.record(first).state is State.REPLIED
    assert len(told(desk)) == 1


def test_whoever_asked_for_it_and_is_slow_is_waited_for(desk: Desk) -> None:
    """The id is noted before the move, and the sweeper must not drop it in between."""
    desk.agent.script = [AgentUnavailable("503")]
    first = desk.answer(1)
    desk.store.handing_over.add(first.id, desk.clock())
    desk.sweeping.hand_over()
    desk.clock.pass_(3600)
    assert desk.store.handing_over.due(desk.clock()) == [first.id]


def test_the_mail_about_it_is_no_turn_and_its_readers_have_no_part_in_the_thread(desk: Desk) -> None:
    desk.agent.script = [Answer("Bye", handoff="angry"), Answer("again")]
    first = desk.answer(1)
    desk.work(first.thread_id)
    desk.store.threads.hand_back(first.thread_id)
    desk.answer(2, follows=1)
    assert desk.roles() == [("user", "This is question 1."), ("assistant", "Bye")]


def test_the_answer_of_whoever_was_told_is_a_persons_turn(desk: Desk) -> None:
    desk.agent.script = [Answer(handoff="angry")]
    first = desk.answer(1)
    desk.work(first.thread_id)
    found = desk.by_colleague(sender=BOSS, quotes=told(desk)[0].message_id)
    assert (found.state, found.thread_id) == (State.IGNORED, first.thread_id)
    assert (desk.record(first).state, desk.record(first).reason) == (State.IGNORED, "answered by a person")


@pytest.mark.parametrize("answer", [Answer(handoff="angry"), Answer("Bye", handoff="angry", review="tone")])
def test_each_hand_over_of_a_mail_is_told_once(desk: Desk, answer: Answer) -> None:
    desk.agent.script = [answer]
    first = desk.answer(1)
    for times in (1, 2, 3):
        for _ in range(3):
            desk.work(first.thread_id)
            desk.over.complete(first.id)
            desk.clock.pass_(120)
            desk.sweeping.hand_over()
        assert len(told(desk)) == times
        desk.deciding.take_over(first.id, by="anna")
        hand_back(desk, first)
        assert desk.record(first).handoff == "", "what comes now is no last word"
        desk.work(first.thread_id)
    desk.deciding.take_over(first.id, by="anna")
    hand_back(desk, first)
    desk.agent.script = [Answer("fine")]
    for _ in range(3):
        desk.work(first.thread_id)
        desk.clock.pass_(120)
        desk.sweeping.hand_over()
    assert desk.record(first).state is State.REPLIED
    assert len(told(desk)) == 4


def test_a_colleagues_mail_is_no_answer_of_ours_that_a_person_could_stop(desk: Desk) -> None:
    desk.answer(1)
    own = desk.by_colleague()
    desk.give_to_person(own.thread_id)
    turn = desk.record(own)
    assert not is_unsent(turn)
    assert is_unsent(replace(turn, released=1)), "it is a mail to the agent then"


def test_in_german(desk: Desk) -> None:
    desk.agent.script = [Answer(handoff="Kündigung")]
    text = "Guten Tag, ich möchte meinen Vertrag kündigen. Bitte sagen Sie mir, wann das möglich ist."
    first = desk.ask(1, text=text)
    desk.work(first.thread_id)
    desk.work(first.thread_id)
    message = as_message(told(desk)[0])
    assert message["Subject"].startswith("[Übergabe] ")
    assert "Grund: Kündigung" in message.get_body().get_content()  # type: ignore[union-attr]
    source = told(desk)[0].source
    assert source.isascii(), "not every server takes 8-bit lines"
    enclosed = list(message.iter_parts())[1]
    assert enclosed.get_content_type() == "message/rfc822"
    assert parse(enclosed.get_content().as_bytes()).text.strip() == text


def test_a_mail_too_large_to_be_attached(desk: Desk) -> None:
    desk.over.max_bytes = 5000
    desk.agent.script = [Answer(handoff="angry")]
    first = desk.ask(1, text="word " * 2000)
    desk.work(first.thread_id)
    desk.work(first.thread_id)
    assert [part.get_content_type() for part in as_message(told(desk)[0]).walk()] == ["text/plain"]
