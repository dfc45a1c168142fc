"""The services on a real Redis with a clock, an agent and a submission that the test holds in its hands."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from cleo_email.agents.base import AgentRequest
from cleo_email.imap.mailbox import Mailbox
from cleo_email.mail.message_id import Signer
from cleo_email.mail.model import Address, Answer, OutboundEmail, Receipt
from cleo_email.pipeline.answer import Answerer
from cleo_email.pipeline.budget import Budget, Limits
from cleo_email.pipeline.callback import Callbacks
from cleo_email.pipeline.decide import Decisions
from cleo_email.pipeline.deliver import Delivery
from cleo_email.pipeline.drafts import DraftFolder
from cleo_email.pipeline.question import Questions
from cleo_email.pipeline.receive import IncomingMail, Receiver
from cleo_email.pipeline.sweep import Sweeper
from cleo_email.pipeline.upkeep import Upkeep
from cleo_email.runtime import Clock, now_ms
from cleo_email.screening.dkim import SenderCheck
from cleo_email.screening.screen import Policy
from cleo_email.store import Accepted, Record, Store
from cleo_email.store.queue import WakeQueue
from cleo_email.store.threads import SigningKeys

FROM = Address("agent@cleo.test", "Cleo")


def signer_on(redis: Redis) -> Signer:
    return Signer("cleo.test", SigningKeys(redis, []))


def upkeep_of(
    store: Store,
    mailbox: Mailbox,
    receiver: Receiver,
    *,
    save_sent: bool = True,
    clock: Clock = now_ms,
    timer: Callable[[], float] = time.monotonic,
    drafts: DraftFolder | None = None,
) -> Upkeep:
    """What waits for a real mailbox, on a clock of the test's."""
    more: dict[str, Any] = {"save_sent": save_sent, "max_bytes": 10**6, "drafts": drafts}
    return Upkeep(store, mailbox, receiver, **more, clock=clock, timer=timer)


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_795_000_000_000

    def __call__(self) -> int:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += int(seconds * 1000)


def head_of(store: Store, thread_id: str, now: int) -> str | None:
    """Return the message of the conversation that a worker would handle now, None for none."""
    with store.locks.hold_conversation(thread_id, lambda: now) as head:
        return head.id if head else None


@dataclass
class FakeAgent:
    """Gives each answer in turn (an exception is raised), the last one for ever."""

    script: list[Answer | Exception] = field(default_factory=lambda: [Answer("fine")])
    asked: list[AgentRequest] = field(default_factory=list)
    may_answer_later = True

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        self.asked.append(request)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        return step


@dataclass
class FakeSubmitter:
    """``script`` works like the agent's; ``during`` runs between the end of DATA's mark and the outcome."""

    script: list[Receipt | Exception] = field(default_factory=lambda: [Receipt("250 ok")])
    sent: list[OutboundEmail] = field(default_factory=list)
    tries: int = 0
    during: Callable[[], Any] | None = None

    def submit(self, mail: OutboundEmail, *, before_end_of_data: Callable[[], None]) -> Receipt:
        self.tries += 1
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        before_end_of_data()
        if self.during:
            self.during()
        if isinstance(step, Exception):
            raise step
        self.sent.append(mail)
        return step


class Bench:
    def __init__(
        self,
        url: str | Redis,
        *,
        policy: Policy | None = None,
        limits: Limits | None = None,
        sender_check: SenderCheck | None = None,
        signer: Signer | None = None,
        clock: FakeClock | None = None,
        events: bool = False,
        ask_allowed: tuple[str, ...] = (),
        **rules: Any,
    ) -> None:
        self.redis = Redis.from_url(url) if isinstance(url, str) else url
        self.clock = clock or FakeClock()
        self.agent = FakeAgent()
        self.smtp = FakeSubmitter()
        self.store = Store(self.redis, account="test", events=events)
        self.policy = policy or Policy(frozenset({FROM.addr}))
        self.wake = WakeQueue(self.redis)
        self.signer = signer or signer_on(self.redis)
        self.intake = Receiver(
            self.store,
            self.wake,
            self.policy,
            self.signer,
            max_age_days=7,
            retention_days=90,
            verifies=sender_check is not None,
            clock=self.clock,
        )
        budget = Budget(self.store, limits or Limits(), clock=self.clock)
        self.delivery = Delivery(
            self.store, self.smtp, has_mailbox=True, budget=budget, clock=self.clock, sleep=lambda _s: None
        )
        self.callbacks = Callbacks(
            self.store,
            self.wake,
            SigningKeys(self.redis, []),
            url="https://cleo.example.test",
            clock=self.clock,
        )
        self.questions = Questions(
            self.store,
            self.wake,
            self.signer,
            FROM,
            ask_allowed,
            own=self.policy.own_addresses,
            clock=self.clock,
        )
        self.answering = Answerer(
            self.store,
            self.agent,
            self.delivery,
            self.wake,
            self.signer,
            FROM,
            self.policy,
            **rules,
            budget=budget,
            callbacks=self.callbacks,
            questions=self.questions,
            sender_check=sender_check,
            clock=self.clock,
        )
        self.deciding = Decisions(self.store, self.wake, self.policy, clock=self.clock)
        self.sweeping = Sweeper(self.store, self.wake, retention_days=90, budget=budget, clock=self.clock)

    def sign_with(self, signer: Signer) -> None:
        """Go on as a process with another key would."""
        self.signer = self.intake.signer = self.answering.signer = signer

    def receive(self, source: bytes, **way: Any) -> Accepted:
        return self.intake.accept(IncomingMail(source, "raw", **way))

    def work(self, thread_id: str) -> None:
        """What one wake-up makes a worker do."""
        self.answering.handle(thread_id)

    def record(self, accepted: Accepted) -> Record:
        return self.store.messages.get(accepted.id)

    def history(self, accepted: Accepted) -> list[str]:
        return [step["state"] for step in self.store.messages.history(accepted.id)]
