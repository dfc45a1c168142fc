"""A turn is shown, and told of in an answer, only to people who were on it: by attack, and by random games.

The agent of these tests keeps no secret: each answer repeats whatever the agent was shown.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from cleo_email.mail.address import validate_address
from cleo_email.mail.model import Answer
from cleo_email.pipeline.budget import Limits
from cleo_email.pipeline.send import NewMail, Sender
from cleo_email.screening.screen import Policy
from cleo_email.store import State
from tests.support.bench import FROM, Bench
from tests.support.mails import AGENT, CRLF

GAMES = 40  # of each kind
PEOPLE = ("anna", "ben", "carla")
ATTACKERS = ("xaver", "yvonne")


@dataclass(frozen=True)
class Letter:
    """A mail as it says of itself. ``token`` is a word that no other mail has."""

    from_: str
    token: str
    message_id: str = ""
    references: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    reply_to: str = ""

    def source(self) -> bytes:
        lines = [
            f"From: {self.from_}",
            f"To: {AGENT}",
            "Subject: A matter",
            *([f"Message-ID: {self.message_id}"] if self.message_id else []),
            *([f"Cc: {', '.join(self.cc)}"] if self.cc else []),
            *([f"Reply-To: {self.reply_to}"] if self.reply_to else []),
        ]
        if self.references:
            lines += [f"In-Reply-To: {self.references[-1]}", f"References: {' '.join(self.references)}"]
        return CRLF.join([*lines, "", self.token, ""]).encode()


class Game:
    """Mails of three people and two attackers, and beside them what each may see.

    The attackers know every Message-ID, forge every header, and replay signed mails with other headers.
    """

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.seed = bench, seed
        self.random = random.Random(seed)
        self.proofs = bench.policy.authserv_id is not None
        self.on: dict[str, set[str]] = {}  # token: the people on that turn
        self.threads: dict[str, str] = {}  # token: its thread
        self.seen: dict[str, list[tuple[str, ...]]] = {}  # address: References with which they may answer
        self.ids: list[str] = []
        self.count = 0

    def new(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.seed}x{self.count}"

    def address(self, who: str) -> str:
        return f"{who}{self.seed}@{'evil' if who in ATTACKERS else who}.test"

    def some(self, names: tuple[str, ...], chance: float) -> tuple[str, ...]:
        return tuple(self.address(name) for name in names if self.random.random() < chance)

    def play(self, moves: int) -> None:
        steps: list[Callable[[], None]] = [self.write, self.reply, self.reply, self.send]
        steps += [self.claim, self.forge, self.intrude, self.replay]
        for _ in range(moves):
            self.bench.clock.pass_(1)  # records sort by their time
            self.random.choice(steps)()

    # --- people -------------------------------------------------------------------------------------------

    def write(self) -> None:
        who = self.random.choice(PEOPLE)
        self.receive(Letter(self.address(who), self.new("word"), self.mid(), cc=self.some(PEOPLE, 0.2)))

    def reply(self) -> None:
        who = self.address(self.random.choice(PEOPLE))
        if not self.seen.get(who):
            return self.write()
        cc = self.some((*PEOPLE, *ATTACKERS), 0.15)
        references = self.random.choice(self.seen[who])
        self.receive(Letter(who, self.new("word"), self.mid(), references, cc=cc))
        return None

    def send(self) -> None:
        to = self.some((*PEOPLE, *ATTACKERS), 0.4) or (self.address("anna"),)
        token = self.new("word")
        bench = self.bench
        sender = Sender(bench.store, bench.wake, bench.signer, FROM, max_bytes=10**6, clock=bench.clock)
        sent = sender.send(NewMail([validate_address("to", one) for one in to], "A matter", token))
        bench.work(sent.thread_id)
        self.told(token, set(to), sent.thread_id, (sent.message_id,))

    # --- attackers ----------------------------------------------------------------------------------------

    def claim(self) -> None:
        """Begin a thread with an id that the victim will quote, and name the victim."""
        victims = self.some(PEOPLE, 0.5)
        mine, id_ = self.address(self.random.choice(ATTACKERS)), self.mid()
        self.receive(Letter(mine, self.new("word"), id_, cc=victims))
        for victim in victims:
            self.seen.setdefault(victim, []).append((id_,))

    def forge(self) -> None:
        self.attack(self.address(self.random.choice(PEOPLE)), proven=False)

    def intrude(self) -> None:
        self.attack(self.address(self.random.choice(ATTACKERS)), proven=True)

    def replay(self) -> None:
        self.attack(self.address(self.random.choice(PEOPLE)), proven=True)

    def attack(self, from_: str, *, proven: bool) -> None:
        quoted = tuple(self.random.sample(self.ids, min(len(self.ids), self.random.randrange(3))))
        mine = self.address(self.random.choice(ATTACKERS))
        letter = Letter(
            from_,
            self.new("word"),
            self.random.choice([self.mid(), ""]),
            quoted,
            cc=self.random.choice([(), (mine,)]),
            reply_to=self.random.choice(["", mine]),
        )
        self.receive(letter, proven=proven, genuine=False)

    # --- the game -----------------------------------------------------------------------------------------

    def mid(self) -> str:
        return f"<{self.new('id')}@mail.test>"

    def receive(self, letter: Letter, *, proven: bool = True, genuine: bool = True) -> None:
        known = proven if self.proofs else None
        accepted = self.bench.receive(letter.source(), authenticated=known)
        assert not accepted.duplicate
        if not (proven or not self.proofs):
            assert accepted.state is State.HELD
            return
        asked, sent = len(self.bench.agent.asked), len(self.bench.smtp.sent)
        token = self.new("word")
        self.bench.agent.script = [Answer(token)]
        self.bench.work(accepted.thread_id)
        (question,), (mail,) = self.bench.agent.asked[asked:], self.bench.smtp.sent[sent:]
        record = self.bench.record(accepted)
        assert record.state is State.REPLIED
        readers = {letter.from_, *mail.recipients}
        shown = [word for turn in question.history for word in turn.content.split() if word in self.on]
        assert shown == [
            said
            for said, people in self.on.items()
            if self.threads[said] == record.thread_id and readers <= people
        ]
        ids = tuple(id_ for id_ in (*letter.references, letter.message_id) if id_)
        self.told(letter.token, {letter.from_, *letter.cc}, record.thread_id, ids, genuine=genuine)
        self.told(token, set(mail.recipients), record.thread_id, (*ids, mail.message_id), genuine=genuine)

    def told(
        self, token: str, people: set[str], thread: str, ids: tuple[str, ...], *, genuine: bool = True
    ) -> None:
        self.on[token], self.threads[token] = people, thread
        self.ids += [id_ for id_ in ids if id_ not in self.ids]
        for person in people if genuine else ():
            self.seen.setdefault(person, []).append(ids)


@pytest.mark.parametrize("reply_all", [False, True])
@pytest.mark.parametrize("proofs", [False, True])
def test_no_turn_is_shown_to_somebody_who_was_not_on_it(
    redis_url: str, *, reply_all: bool, proofs: bool
) -> None:
    policy = Policy(frozenset({FROM.addr}), authserv_id="mx.test" if proofs else None)
    limits = Limits(per_thread=10**6, per_sender=10**6, per_hour=10**6, repeats=10**6)
    bench = Bench(redis_url, policy=policy, limits=limits, reply_all=reply_all)
    for seed in range(GAMES):
        Game(bench, seed).play(7)
        bench.agent.asked.clear()
        bench.smtp.sent.clear()
