"""A person's mail is stored in Sent at a random instant while an answer of ours is being submitted."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from imapclient import IMAPClient  # type: ignore[import-untyped]

from cleo_email.imap.folders import Folders
from cleo_email.mail.model import OutboundEmail, Receipt
from cleo_email.pipeline.budget import Limits
from cleo_email.store import State
from tests.support.dovecot import Dovecot
from tests.support.mails import AGENT, mail
from tests.support.people import ImapHands, PeopleBench, written

TRANSFER_S = 0.03  # at most, of a mail's text to the server
SPREAD_S = 0.08  # of the person's instants


@dataclass(frozen=True)
class Race:
    """``stood_ms``: how long the person's mail stood in Sent when the last look began, negative for later.

    ``before_dot_ms`` is the same for the final dot, where it was sent.
    """

    ours_left: bool
    stood_ms: float
    before_dot_ms: float
    state: State

    @property
    def is_doubled(self) -> bool:
        """Whether ours left although the person's mail stood there when we looked."""
        return self.ours_left and self.stood_ms > 0


class Stopwatch:
    """A submission that takes a while, and knows when the last look began and the final dot was sent."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.looked = self.dot = 0.0
        self.sent: list[OutboundEmail] = []

    def submit(self, mail: OutboundEmail, *, before_end_of_data: Callable[[], None]) -> Receipt:
        time.sleep(self.rng.random() * TRANSFER_S)
        self.looked = time.monotonic()
        before_end_of_data()
        self.dot = time.monotonic()
        self.sent.append(mail)
        return Receipt("250 ok")


@contextmanager
def sharing(redis_url: str) -> Iterator[PeopleBench]:
    """A bench and a person who share a real mailbox."""
    with Dovecot({AGENT: "secret"}) as server:
        context, account = server.ssl_context(), server.account(AGENT)
        with (
            Folders(account, ssl_context=context) as folders,
            IMAPClient("localhost", port=account.port, ssl_context=context, timeout=20) as client,
        ):
            client.login(AGENT, "secret")
            # However many races there are, no limit holds an answer.
            yield PeopleBench(redis_url, folders, ImapHands(client), limits=Limits(per_hour=10**6))


def run(bench: PeopleBench, number: int, rng: random.Random) -> Race:
    """One answer of ours, and one of a person to the same mail."""
    watch = bench.smtp = bench.delivery.submitter = Stopwatch(rng)  # type: ignore[assignment]
    bench.clock.pass_(1)
    first = bench.receive(mail(number))
    answers, id_ = f"<q{number}@example.test>", f"<person{number}@client.test>"
    source = written(f"customer{number}@example.test", "I see to it.", answers=answers, message_id=id_)
    instant, stored = rng.random() * SPREAD_S, [0.0]

    def answer() -> None:
        time.sleep(instant)
        bench.hands.file(source)
        stored[0] = time.monotonic()

    person = threading.Thread(target=answer)
    person.start()
    bench.work(first.thread_id)
    person.join()
    bench.look()
    left, record = bool(watch.sent), bench.record(first)
    assert len(bench.turns(first.thread_id)) == 1
    assert record.state is (State.REPLIED if left else State.IGNORED), record
    return Race(left, (watch.looked - stored[0]) * 1000, (watch.dot - stored[0]) * 1000, record.state)
