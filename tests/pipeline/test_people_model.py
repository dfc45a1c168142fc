"""Random games of people, agent and customer in one thread, against a model of what must be true.

Anybody may act at any time: between two steps, in the middle of one, and where a process dies. By default few
games are played, always the same; ``PEOPLE_GAMES=2000`` plays so many others.
"""

from __future__ import annotations

import os
import re
import types
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import Any

import pytest
from fakeredis import FakeRedis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from cleo_email import crashpoints
from cleo_email.agents.base import AgentRequest
from cleo_email.errors import AgentUnavailable, AlreadyAnswered, WrongState
from cleo_email.mail.model import Address, Answer, Ask, OutboundEmail, Receipt
from cleo_email.mail.parse import parse
from cleo_email.pipeline.drafts import DELETED
from cleo_email.pipeline.handoff import HandOver
from cleo_email.pipeline.withdrawal import ANSWERED
from cleo_email.store import AT_WORK, Accepted, Record, State
from tests.support.bench import FROM, FakeClock
from tests.support.folders import FakeFolders
from tests.support.mails import mail
from tests.support.people import DRAFT_TEXT, FakeHands, PeopleBench, written

GAMES = int(os.environ.get("PEOPLE_GAMES", "0"))
CUSTOMER, BOSS, EXPERT = "customer1@example.test", "boss@people.test", "expert@people.test"
MOST_MAILS = 6
_REFERENCES = re.compile(rb"^References:.*\r\n(?:[ \t].*\r\n)*", re.I | re.M)
_TOKEN = re.compile(r"token\d+")


class Killed(BaseException):
    """The process has died."""


class Death(dict[str, int]):
    """Arms every instant of ``crashpoints`` at once: the one reached as the ``left``-th is the last."""

    left = 0

    def __bool__(self) -> bool:
        return self.left > 0

    def __contains__(self, name: object) -> bool:
        return self.left > 0

    def __getitem__(self, name: str) -> int:
        return self.left

    def __setitem__(self, name: str, left: int) -> None:
        self.left = left


@dataclass
class Mail:
    """A customer's mail: what was answered, each by a token in its text."""

    accepted: Accepted
    token: str
    message_id: str
    place: str
    ours: list[str] = field(default_factory=list)
    drafts: list[str] = field(default_factory=list)  # that people have sent
    own: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)  # what else people did: deleted, discarded, flagged


class MovingClock(FakeClock):
    """No two records are made within a millisecond: ids of one have no order."""

    def __call__(self) -> int:
        self.now += 1
        return self.now


class PeopleGame(RuleBasedStateMachine):
    """One thread of one customer. Every rule leaves the world as people, mail servers or the agent can."""

    may_answer_later = True

    @initialize(
        review=st.sampled_from(["never", "never", "first", "always"]),
        mode=st.sampled_from(["thread", "mail"]),
    )
    def begin(self, review: str, mode: str) -> None:
        self.redis = FakeRedis()
        self.clock, self.folders = MovingClock(), FakeFolders(before=lambda _name: self.tick())
        self.ways: dict[str, Any] = {"review": review, "mode": mode, "clock": self.clock}
        self.mails: list[Mail] = []
        self.edited: list[bytes] = []
        self.faults: list[str] = []
        self.tokens = self.replies = 0
        self.mood = "reply"
        self.told: list[str] = []  # of which mails people were told
        self.owed: list[Callable[[], None]] = []  # decisions that nobody has confirmed
        self.died_at_the_dot = False
        self.meanwhile: Callable[[], None] | None = None
        self.ticks = 0
        self.start()
        self.mail()

    def start(self) -> None:
        """A process begins, with nothing in its memory."""
        hands = FakeHands(self.folders)
        bench = PeopleBench(self.redis, self.folders, hands, ask_allowed=(EXPERT,), **self.ways)
        bench.delivery.submitter = bench.answering.agent = self  # type: ignore[assignment]
        bench.answering.drafts = True
        bench.answering.hand_over = bench.sweeping.handing_over = HandOver(
            *(bench.store, bench.wake, bench.signer, FROM, (Address(BOSS),)),
            own=frozenset({FROM.addr}),
            max_bytes=10**6,
            clock=self.clock,
        )
        self.bench = bench

    def end(self) -> None:
        self.bench.store.locks.release_all()

    def token(self) -> str:
        self.tokens += 1
        return f"token{self.tokens}"

    def tick(self) -> None:
        """One more instant of a step at which somebody else may act."""
        self.ticks -= 1
        if self.ticks == 0 and self.meanwhile:
            act, self.meanwhile = self.meanwhile, None
            act()

    # --- the agent, and the mail server of the submission ---------------------------------------------------

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        self.tick()
        text = f"{DRAFT_TEXT} {self.token()}"
        if self.mood == "fail":
            raise AgentUnavailable("away")
        if self.mood == "later":
            return Answer(later=True)
        if self.mood == "ask" and request.resumed is None:
            return Answer(ask=Ask("May we?", Address(EXPERT)))
        if self.mood == "silent hand-over":
            return Answer("", handoff="beyond me")
        handoff = "beyond me" if self.mood == "hand-over" else ""
        return Answer(text, handoff=handoff, review="look" if self.mood == "review" else "")

    def submit(self, mail: OutboundEmail, *, before_end_of_data: Callable[[], None]) -> Receipt:
        message = message_from_bytes(mail.source)
        if mail.recipients == (BOSS,):
            before_end_of_data()
            self.told.append(str(message["In-Reply-To"]))
            return Receipt("250 ok")
        if mail.recipients == (EXPERT,):
            self.tick()
            before_end_of_data()
            return Receipt("250 ok")
        self.tick()
        one = self.by_message_id(str(message["In-Reply-To"]))
        thread, record = one.accepted.thread_id, self.record(one)
        # What is there by now can be seen by the last look.
        answered = one.drafts or [own for other in self.mails[self.mails.index(one) :] for own in other.own]
        person = self.bench.store.threads.person(thread) and not self.owed
        waits = [source for source in self.drafts() if one.message_id in _answers(source)]
        try:
            before_end_of_data()
        except Killed:
            self.died_at_the_dot = True
            raise
        by_person = record.decided == "approve" or record.handoff
        faults = {
            "two of ours": one.ours,
            "ours left after a person's": answered,
            "ours left, and the draft is still there": waits,
            "ours left in a thread that a person has": person and not by_person,
        }
        self.faults += [fault for fault, is_so in faults.items() if is_so]  # the worker catches exceptions
        one.ours.append(_token(parse(mail.source).text))
        self.died_at_the_dot = self.died_at_the_dot or bool(crashpoints._armed)
        self.tick()
        return Receipt("250 ok")

    # --- what can be seen -----------------------------------------------------------------------------------

    def by_message_id(self, message_id: str) -> Mail:
        return next(one for one in self.mails if one.message_id == message_id)

    def record(self, one: Mail) -> Record:
        return self.bench.record(one.accepted)

    def drafts(self) -> list[bytes]:
        return list((self.folders.drafts or {}).values())

    def take_out(self, source: bytes) -> None:
        drafts = self.folders.drafts or {}
        for uid in [uid for uid, one in drafts.items() if one == source]:
            del drafts[uid]

    # --- what people do -------------------------------------------------------------------------------------

    def mail(self) -> None:
        """The customer writes, again."""
        if len(self.mails) >= MOST_MAILS:
            return
        number, token = len(self.mails) + 1, self.token()
        references = " ".join(one.message_id for one in self.mails)
        place = self.bench.hands.deliver(b"")
        source = mail(number, sender=CUSTOMER, text=f"Are you open? {token}", references=references)
        self.clock.pass_(1)
        accepted = self.bench.receive(source, mailbox=place)
        self.mails.append(Mail(accepted, token, f"<q{number}@example.test>", place))

    def send(
        self, *, changed: bool = False, renamed: bool = False, bare: bool = False, look: int = 0
    ) -> None:
        """Send a draft. The client files it first, or takes the draft out first; we may look between."""
        for source in self.drafts()[:1]:
            one = self.by_message_id(_answers(source))
            if one.drafts or one.own:
                return
            sent, token = source, _token(parse(source).text)
            if changed:
                new = self.token()
                sent, token = sent.replace(token.encode(), new.encode()).replace(b"nine", b"ten"), new
            if renamed:
                sent = sent.replace(_message_id(sent), f"<{self.token()}@client.test>".encode())
            if bare:
                sent = _REFERENCES.sub(b"", sent)
            one.drafts.append(token)
            if look == 2:
                self.bench.hands.file(sent)
                self.bench.look()
                self.take_out(source)
            else:
                self.take_out(source)
                if look == 1:
                    self.bench.look()
                self.bench.hands.file(sent)

    def edit(self, *, renamed: bool = False, look: bool = False) -> None:
        """Save a draft with another text; the client stores the new one before it removes the old one."""
        for source in self.drafts()[:1]:
            saved = source.replace(_token(parse(source).text).encode(), self.token().encode())
            if renamed:
                saved = saved.replace(_message_id(saved), f"<{self.token()}@client.test>".encode())
            self.bench.hands.save(saved)
            self.edited.append(saved)
            if look:
                self.bench.look()
            self.take_out(source)

    def delete(self) -> None:
        for source in self.drafts()[:1]:
            self.by_message_id(_answers(source)).done.add("deleted")
            self.take_out(source)

    def own(self, back: int = 0) -> None:
        """Answer a mail otherwise."""
        one = self.mails[-1 - back % len(self.mails)]
        if not (one.drafts or one.own):
            token = self.token()
            one.own.append(token)
            name = f"<own-{token}@client.test>"
            self.bench.hands.file(
                written(CUSTOMER, f"Moin! {token}", answers=one.message_id, message_id=name)
            )

    def flag(self) -> None:
        self.mails[-1].done.add("flagged")
        self.bench.hands.flag(self.mails[-1].place)

    def approve(self, *, edited: bool = False) -> None:
        body = f"Surely. {self.token()}" if edited else None
        self.decide("approve", State.REVIEW, body=body)

    def discard(self) -> None:
        self.decide("discard", State.REVIEW)

    def take_over(self) -> None:
        self.decide("take_over")

    def hand_back(self) -> None:
        self.decide("hand_back")

    def decide(self, decision: str, state: State | None = None, **more: Any) -> None:
        """Decide about the newest mail in that state; where the web process dies, it is tried again later."""
        for one in reversed(self.mails):
            if state in (None, self.record(one).state):

                def act(one: Mail = one) -> None:
                    one.done.add(decision)
                    with suppress(WrongState):
                        getattr(self.bench.deciding, decision)(one.accepted.id, by="anna", **more)

                try:
                    act()
                except Killed:
                    self.owed.append(act)
                    raise
                return

    # --- what ends the waiting of an agent that takes long --------------------------------------------------

    def give(self) -> None:
        """The agent calls back, or whom it has asked answers, about the oldest mail that waits for it."""
        for one in self.mails:
            record = self.record(one)
            if record.state is State.ANSWERING and record.waits_until:
                if record.asking:
                    self.answer_question(record)
                else:
                    with suppress(WrongState, AlreadyAnswered):
                        self.bench.callbacks.give(record.id, Answer(f"{DRAFT_TEXT} {self.token()}"))
                return

    def answer_question(self, record: Record) -> None:
        question, self.replies = self.bench.store.messages.get(record.asking), self.replies + 1
        source = mail(100 + self.replies, sender=EXPERT, text="Yes.", references=question.reply_message_id)
        self.clock.pass_(1)
        self.bench.receive(source)

    # --- what processes do ----------------------------------------------------------------------------------

    def work(self) -> None:
        due = self.bench.store.conversations.due(self.clock(), 10)
        for thread in dict.fromkeys((*(one.accepted.thread_id for one in self.mails), *due)):
            self.bench.work(thread)

    def look(self) -> None:
        self.bench.look()

    def sweep(self) -> None:
        self.bench.upkeep()
        self.bench.sweeping.hand_over()

    # --- the rules ------------------------------------------------------------------------------------------

    acts = st.sampled_from(
        "mail own own send send edit delete flag approve discard take_over hand_back look work give".split()
    )
    instants = st.tuples(st.integers(1, 5), acts)
    deaths = st.sampled_from((0, 0, 0, 0, 0, 1, 2, 3, 4, 6))

    def step(self, act: Callable[[], None], died: int = 0, at: tuple[int, str] | None = None) -> None:
        self.meanwhile, self.ticks = (getattr(self, at[1]), at[0]) if at else (None, 0)
        death = crashpoints._armed
        assert isinstance(death, Death)
        death.left = died
        try:
            act()
        except Killed:
            death.left = 0
            self.end()
            self.start()
        finally:
            death.left, self.meanwhile = 0, None
            self.clock.pass_(0.01)
        assert not self.faults

    @rule(died=deaths, at=st.none() | instants, which=st.sampled_from(["work", "work", "look", "sweep"]))
    def processes(self, which: str, died: int, at: tuple[int, str] | None) -> None:
        self.step(getattr(self, which), died, at)

    @rule(died=deaths, at=instants)
    def worker(self, died: int, at: tuple[int, str]) -> None:
        """Somebody acts while an answer is made and leaves: where most can go wrong."""
        self.step(self.mail)
        self.step(self.work, died, at)

    @rule(seconds=st.sampled_from([1, 4, 70]))
    def time_goes_on(self, seconds: int) -> None:
        self.clock.pass_(seconds)

    @rule(
        mood=st.sampled_from(
            ["reply", "review", "review", "hand-over", "silent hand-over", "fail", "later", "ask"]
        )
    )
    def the_agent_changes(self, mood: str) -> None:
        self.mood = mood

    @rule()
    def customer_writes(self) -> None:
        self.step(self.mail)

    @rule(changed=st.booleans(), renamed=st.booleans(), bare=st.booleans(), look=st.integers(0, 2))
    def person_sends(self, changed: bool, renamed: bool, bare: bool, look: int) -> None:
        self.step(lambda: self.send(changed=changed, renamed=renamed, bare=bare, look=look))

    @rule(renamed=st.booleans(), look=st.booleans())
    def person_edits(self, renamed: bool, look: bool) -> None:
        self.step(lambda: self.edit(renamed=renamed, look=look))

    @rule(died=deaths, at=st.none() | instants)
    def agent_gives(self, died: int, at: tuple[int, str] | None) -> None:
        self.step(self.give, died, at)

    @rule(which=st.sampled_from(["delete", "flag", "own"]))
    def person_acts(self, which: str) -> None:
        self.step(getattr(self, which))

    @rule(back=st.integers(0, 3))
    def person_answers(self, back: int) -> None:
        self.step(lambda: self.own(back))

    @rule(died=deaths, edited=st.booleans())
    def person_approves(self, died: int, edited: bool) -> None:
        self.step(lambda: self.approve(edited=edited), died)

    @rule(died=deaths, which=st.sampled_from(["discard", "take_over", "hand_back"]))
    def person_decides(self, which: str, died: int) -> None:
        self.step(getattr(self, which), died)

    # --- the end --------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        try:
            self.play_to_the_end()
        finally:
            self.end()

    def play_to_the_end(self) -> None:
        self.settle()
        self.check()
        self.mood = "reply"
        for _ in range(2 * MOST_MAILS):
            self.hand_back()
            self.approve(edited=True)
            self.settle()
            if not self.waits(State.REVIEW, State.HELD):
                break
        self.check()
        assert not self.waits(State.REVIEW, State.HELD)
        self.check_history()

    def settle(self) -> None:
        while self.owed:
            self.owed.pop(0)()
        for _ in range(2 * MOST_MAILS):
            self.look()
            self.clock.pass_(70)
            self.sweep()
            for thread in self.bench.store.conversations.due(self.clock(), 10):
                self.bench.work(thread)
            self.give()
            if not (self.waits(*AT_WORK) or self.bench.store.drafting.due(10**15)):
                break
        self.look()

    def waits(self, *states: State) -> list[str]:
        records = [self.record(one) for one in self.mails]
        return [f"{one.id} {one.state}: {one.reason}" for one in records if one.state in states]

    def check(self) -> None:
        noted = self.bench.store.drafts.all()
        for place, one in enumerate(self.mails):
            record, later = self.record(one), self.mails[place:]
            state, told = record.state, f"{record.state}: {record.reason}"
            by_person = record.answered_by == "mailbox"
            assert state not in AT_WORK or self.mood == "fail", told
            assert record.reason or state in (State.REPLIED, *AT_WORK), told
            assert state is not State.UNCERTAIN or self.died_at_the_dot
            if state is not State.UNCERTAIN:
                assert bool(one.ours) == (state is State.REPLIED and not by_person), told
            if one.drafts or one.own:
                assert state in (State.REPLIED, State.IGNORED, State.UNCERTAIN), told
            lies = any(one.message_id in _answers(source) for source in self.drafts())
            if state is State.REVIEW:
                assert lies or "taken out" in record.reason, told
                self.check_draft(one)
            else:
                # In a person's thread it may be the person's own.
                assert not lies or (state is State.HELD and record.with_person), told
                assert one.accepted.id not in noted, f"a draft is noted, and it is {told}"
            if state is State.HELD:
                assert self.bench.store.threads.person(record.thread_id), told
            if record.reason == DELETED:
                assert "deleted" in one.done, told
                assert not one.drafts, told
            if record.reason == ANSWERED:
                assert any(other.own or other.drafts or "flagged" in other.done for other in later), told
        assert not self.faults
        assert max(Counter(self.told).values(), default=0) <= 1 or self.died_at_the_dot

    def check_draft(self, one: Mail) -> None:
        """A draft that nobody has edited says what an approval would send."""
        kept = self.bench.store.messages.answer(one.accepted.id)
        assert kept
        for source in self.drafts():
            if one.message_id in _answers(source) and source not in self.edited:
                assert _token(parse(source).text) == _token(parse(kept.source).text), "an earlier draft"

    def check_history(self) -> None:
        """Every turn once, a mail before its answer, each with the role of who said it."""
        thread = self.mails[0].accepted.thread_id
        turns = self.bench.store.threads.history(thread, but="", among=[CUSTOMER])
        said = [(turn.role, _token(turn.content)) for turn in turns]
        said = [(role, token) for role, token in said if token]  # without questions of the agent's
        assert [token for role, token in said if role == "user"] == [one.token for one in self.mails], said
        tokens = [token for _, token in said]
        for one in self.mails:
            for role, answers in ({"assistant"}, one.ours), ({"assistant", "person"}, one.drafts + one.own):
                for token in answers:
                    assert tokens.count(token) == 1, (token, said)
                    assert said[tokens.index(token)][0] in role, (token, said)
                    assert tokens.index(token) > tokens.index(one.token), (token, said)
        # What may have left, and did not, stands there too.
        doubts = [one for one in self.mails if self.record(one).state is State.UNCERTAIN and not one.ours]
        wanted = sum(1 + len(one.ours + one.drafts + one.own) for one in self.mails)
        assert len(tokens) == wanted + len(doubts), said


def _answers(source: bytes) -> str:
    return str(message_from_bytes(source)["In-Reply-To"])


def _message_id(source: bytes) -> bytes:
    return str(message_from_bytes(source)["Message-ID"]).encode()


def _token(text: str) -> str:
    found = _TOKEN.findall(text)
    return found[-1] if found else ""


def test_each_mail_gets_one_answer_whatever_people_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: object) -> None:
        raise Killed

    stub = types.SimpleNamespace(write=lambda *_: None, kill=kill, getpid=os.getpid)
    monkeypatch.setattr(crashpoints, "os", stub)
    monkeypatch.setattr(crashpoints, "_armed", Death())
    run_state_machine_as_test(
        PeopleGame,
        settings=settings(
            max_examples=GAMES or 60,
            derandomize=not GAMES,
            database=None,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )
