"""Random games of several people, the agent and the customer around one answer: exactly one leaves."""

from __future__ import annotations

import random
from collections.abc import Callable
from email import message_from_bytes

import pytest

from cleo_email.mail.model import OutboundEmail, Receipt
from cleo_email.store import State
from tests.support.folders import FakeFolders
from tests.support.mails import mail
from tests.support.people import FakeHands, PeopleBench, written

CUSTOMER = "customer1@example.test"
QUESTION = "<q1@example.test>"
GAMES = 60


class Game:
    """Every move may be made at any time. ``left``: what ours was when it left, or '' while it has not."""

    def __init__(self, redis_url: str, seed: int) -> None:
        self.rng = random.Random(seed)
        self.folders = FakeFolders()
        self.bench = PeopleBench(redis_url, self.folders, FakeHands(self.folders))
        self.bench.delivery.submitter = self  # type: ignore[assignment]
        self.first = self.bench.draft(mail(1))
        self.copy = self.folders.drafts or {}
        self.in_hand: list[bytes] = []  # drafts that a person has open in a client
        self.faults: list[str] = []
        self.played: list[str] = []
        self.ours = 0

    # --- what the agent's side does ---

    def submit(self, mail: OutboundEmail, *, before_end_of_data: Callable[[], None]) -> Receipt:
        if self.rng.random() < 0.3:
            self.play(self.rng.choice([self.send, self.own, self.look]))  # while the bytes go out
        before_end_of_data()
        if str(message_from_bytes(mail.source)["In-Reply-To"]) == QUESTION:
            self.ours += 1
            if self.theirs():
                self.faults.append("ours left after a person's")
            if any(QUESTION in str(message_from_bytes(one)["In-Reply-To"]) for one in self.copy.values()):
                self.faults.append("ours left, and the draft is still there")
        return Receipt("250 ok")

    def work(self) -> None:
        self.bench.work(self.first.thread_id)

    def look(self) -> None:
        self.bench.look()

    def upkeep(self) -> None:
        self.bench.upkeep()

    def wait(self) -> None:
        self.bench.clock.pass_(self.rng.choice([1, 4]))

    # --- what people do ---

    def theirs(self) -> list[bytes]:
        sent = (self.folders.sent or {}).values()
        return [one for one in sent if QUESTION in str(message_from_bytes(one)["In-Reply-To"])]

    def approve(self) -> None:
        draft = self.bench.store.drafts.get(self.first.id)
        if self.bench.record(self.first).state is State.REVIEW and not (draft and draft.edited):
            self.bench.approve(self.first)

    def send(self) -> None:
        """Send the draft that lies there; the client takes it out at once, or some time later."""
        for source in list(self.copy.values())[:1]:
            if self.theirs():
                return
            if self.rng.random() < 0.5:
                self.copy.clear()
                if self.rng.random() < 0.5:
                    self.look()
            if self.rng.random() < 0.3:
                ours = str(message_from_bytes(source)["Message-ID"]).encode()
                source = source.replace(ours, b"<of-the-client@client.test>")
            self.bench.hands.file(source)

    def edit(self) -> None:
        for source in list(self.copy.values())[:1]:
            self.copy.clear()
            self.bench.hands.save(source.replace(b"nine to five", b"ten to six"))

    def delete(self) -> None:
        self.copy.clear()

    def own(self) -> None:
        if not self.theirs():
            number = self.rng.randrange(10**9)
            text = "I see to it."
            self.bench.hands.file(
                written(CUSTOMER, text, answers=QUESTION, message_id=f"<{number}@client.test>")
            )

    # --- the game ---

    def play(self, move: Callable[[], None]) -> None:
        self.played.append(move.__name__)
        move()

    def run(self) -> list[str]:
        moves = [self.work, self.look, self.upkeep, self.wait, self.approve]
        moves += [self.send, self.edit, self.delete, self.own]
        for _ in range(self.rng.randint(3, 14)):
            self.play(self.rng.choice(moves))
        for _ in range(4):
            self.bench.clock.pass_(4)
            self.look()
            self.work()
        self.check_the_end()
        return self.faults

    def check_the_end(self) -> None:
        record, theirs = self.bench.record(self.first), len(self.theirs())
        by_person = record.answered_by == "mailbox"
        if self.ours > 1:
            self.faults.append(f"{self.ours} of ours left")
        if bool(self.ours) != (record.state is State.REPLIED and not by_person):
            self.faults.append(f"{self.ours} of ours left, and it is {record.state}: {record.reason}")
        if theirs and not self.ours and not (by_person and record.state in (State.REPLIED, State.IGNORED)):
            self.faults.append(f"a person answered, and it is {record.state}: {record.reason}")
        if record.state is State.REVIEW and not (self.copy or "taken out" in record.reason):
            self.faults.append(f"nothing is left to send: {record.reason}")
        if record.state is not State.REVIEW and self.copy:
            self.faults.append(f"a draft is left, and it is {record.state}")
        if self.bench.store.drafts.all() and record.state is not State.REVIEW:
            self.faults.append("a draft is noted")


@pytest.mark.parametrize("seed", range(GAMES))
def test_exactly_one_answer_leaves(redis_url: str, seed: int) -> None:
    game = Game(redis_url, seed)
    assert game.run() == [], game.played
