"""Random histories of a mailbox: none answers mail that people had read before, none loses new mail.

People read, mark unread, answer, move and delete; fetches fail for a while; the server says what it likes of
UIDNEXT, changes its UIDVALIDITY and comes back to an earlier one; Cleo is installed at some moment and dies
between storing and flagging.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis

from cleo_email.errors import MailboxError
from cleo_email.imap.mailbox import Mailbox
from cleo_email.pipeline.poll import Poller
from cleo_email.pipeline.receive import IncomingMail, Receiver
from cleo_email.runtime import DAY, HOUR, MINUTE, SECOND
from cleo_email.screening.screen import Policy
from cleo_email.store import Accepted, Effects, State, Store
from cleo_email.store.queue import WakeQueue
from tests.support.bench import FakeClock, signer_on, upkeep_of
from tests.support.imap_server import FakeImapServer, HangUp, Message, Session
from tests.support.mails import mail

EACH = 15  # histories in one test; 51 of each were tried once
POLICY = Policy(frozenset({"agent@cleo.test"}))
OURS = {State.HELD, State.FAILED, State.IGNORED}


class Crash(BaseException):
    """The process dies here."""


@dataclass
class Letter:
    number: int
    message: Message
    born: int
    new: bool = False  # it came after the installation
    read_before: bool = False
    place: str = "inbox"
    moved: bool = False
    troubled: bool = False  # by a fault, or a change of UIDVALIDITY
    taken: bool = False  # a poll has had its chance

    @property
    def id(self) -> str:
        return f"<q{self.number}@example.test>"


class CountingReceiver(Receiver):
    """Notes which mails are to be answered."""

    to_answer: Counter[str]

    def accept_each(self, mails: Sequence[IncomingMail], *, backlog: bool = False) -> list[Accepted]:
        found = super().accept_each(mails, backlog=backlog)
        for accepted in found:
            if not accepted.duplicate and accepted.state is State.RECEIVED:
                self.to_answer[self.store.messages.get(accepted.id).message_id] += 1
        return found


@dataclass
class History:
    random: random.Random
    server: FakeImapServer
    redis: Redis
    clock: FakeClock = field(default_factory=FakeClock)
    letters: list[Letter] = field(default_factory=list)
    installed: bool = False
    validities: list[int] = field(default_factory=lambda: [7])
    next_uid: int = 1

    def __enter__(self) -> History:
        self.redis.flushdb()
        server = self.server
        server.inbox.clear()
        server.answers.clear()
        server.uidvalidity, server.uidnext = 7, self.random.choice((None, 0, 1, 10**6))
        server.permanent_flags = self.random.choice(("\\Seen \\Answered \\*", "\\Seen \\Answered"))
        self.store = Store(self.redis, account="test")
        limits: dict[str, Any] = {"max_age_days": 7, "retention_days": 90, "clock": self.clock}
        self.receiver = CountingReceiver(
            self.store, WakeQueue(self.redis), POLICY, signer_on(self.redis), **limits
        )
        self.receiver.to_answer = Counter()
        self.mailbox = Mailbox(server.account(), ssl_context=server.ssl_context())
        upkeep = upkeep_of(self.store, self.mailbox, self.receiver, save_sent=False, clock=self.clock)
        self.polling = Poller(
            *(self.store, self.mailbox, self.receiver, upkeep),
            max_bytes=10**6,
            max_age_days=7,
            clock=self.clock,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.mailbox.close()

    # --- what happens to the mailbox ------------------------------------------------------------------------

    def run(self) -> None:
        for _ in range(self.random.randrange(2, 9)):
            self.come(self.clock() - self.random.choice((20 * MINUTE, 2 * HOUR, DAY, 5 * DAY, 30 * DAY)))
        for letter in self.letters:
            if self.random.random() < 0.6:
                letter.message.flags.add("\\Seen")
            if self.random.random() < 0.3:
                self.move(letter)
        steps: list[tuple[Callable[[], None], int]] = [
            (self.poll, 8),
            (lambda: self.come(self.clock()), 5),
            (self.read, 4),
            (self.mark_unread, 3),
            (self.move_one, 3),
            (self.answer_by_a_person, 1),
            (self.delete, 1),
            (self.time_passes, 5),
            (self.fetches_fail, 2),
            (self.fetches_work, 2),
            (self.change_uidvalidity, 1),
            (self.say_another_uidnext, 1),
            (self.decide, 3),
        ]
        calls, weights = zip(*steps, strict=True)
        for step in self.random.choices(calls, weights, k=25):
            self.clock.now += SECOND
            step()
        self.settle()

    def come(self, when: int) -> None:
        number, date = len(self.letters), datetime.fromtimestamp(when / 1000, UTC)
        header = date.strftime("%a, %d %b %Y %H:%M:%S +0000").encode()
        source = b"\r\n".join(
            b"Date: " + header if line.startswith(b"Date:") else line for line in mail(number).split(b"\r\n")
        )
        message = Message(source, date=date.strftime('"%d-%b-%Y %H:%M:%S +0000"'), uid=self.uid())
        self.server.inbox.append(message)
        self.letters.append(Letter(number, message, when, new=self.installed))

    def uid(self) -> int:
        self.next_uid += self.random.randrange(1, 4)
        return self.next_uid

    def some(self) -> Letter | None:
        here = [letter for letter in self.letters if letter.place == "inbox"]
        return self.random.choice(here) if here else None

    def read(self) -> None:
        if letter := self.some():
            letter.message.flags.add("\\Seen")

    def mark_unread(self) -> None:
        if letter := self.some():
            letter.message.flags.discard("\\Seen")

    def answer_by_a_person(self) -> None:
        if letter := self.some():
            letter.message.flags |= {"\\Seen", "\\Answered"}

    def move_one(self) -> None:
        self.move(self.random.choice(self.letters))

    def move(self, letter: Letter) -> None:
        letter.moved = True
        if letter.place == "inbox":
            letter.place = "elsewhere"
            self.server.inbox.remove(letter.message)
        elif letter.place == "elsewhere":
            letter.place = "inbox"
            letter.message.uid = self.uid()
            self.server.inbox.append(letter.message)

    def delete(self) -> None:
        if letter := self.some():
            letter.place = "gone"
            self.server.inbox.remove(letter.message)

    def time_passes(self) -> None:
        self.clock.now += self.random.choice((SECOND, MINUTE, 20 * MINUTE, 2 * HOUR, DAY))

    def fetches_fail(self) -> None:
        bad = {id(letter.message) for letter in self.letters if self.random.random() < 0.4}
        item = self.random.choice(("RFC822.SIZE", "BODY.PEEK[]", "BODY.PEEK["))
        words = self.random.choice(("", "NO bad", "NO [OVERQUOTA] Account exceeded bandwidth limits"))

        def fetch(session: Session, tag: str, rest: str) -> None:
            if item not in rest or not bad & {id(message) for _, message in session._chosen(rest)}:
                session.usual(tag, rest)
            elif words:
                session.send(f"{tag} {words}")
            else:
                raise HangUp

        self.server.answers["UID FETCH"] = fetch
        for letter in self.letters:
            letter.troubled = True

    def fetches_work(self) -> None:
        self.server.answers.pop("UID FETCH", None)

    def change_uidvalidity(self) -> None:
        """To a new one, or back to an earlier one with other UIDs, which a poll in between has to notice."""
        known = self.store.mailbox.noted().state
        if known and known.validity != self.server.uidvalidity:
            return
        self.validities.append(max(self.validities) + 1)
        others = [validity for validity in self.validities if validity != self.server.uidvalidity]
        self.server.uidvalidity = self.random.choice(others)
        self.random.shuffle(self.server.inbox)
        self.next_uid = self.random.choice((0, 100))
        for message in self.server.inbox:
            message.uid = self.uid()
        for letter in self.letters:
            letter.troubled = True
            if not letter.new and not letter.taken and "\\Seen" in letter.message.flags:
                letter.taken = (
                    True  # unread at the installation, opened before it could be fetched: a read mail
                )
        self.mailbox.close()

    def say_another_uidnext(self) -> None:
        self.server.uidnext = self.random.choice((None, 0, 1, 2**32 - 1))

    def decide(self) -> None:
        """The agent's answer, or a person's decision."""
        records = self.store.messages.page(state=State.RECEIVED)[0]
        if records:
            record, to = self.random.choice(records), self.random.choice(sorted(OURS))
            effects = Effects(pop=True, filing=self.clock())
            self.store.messages.move(record.id, to, now=self.clock(), reason="decided", effects=effects)

    # --- polls ----------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """One poll, at times of a process that dies in the middle or loses its connection at a STORE."""
        thorough, ending = self.random.random() < 0.5, self.random.random()
        try:
            with pytest.MonkeyPatch.context() as patch:
                if ending < 0.1:
                    patch.setattr(self.mailbox, "add_flags", self.die)
                elif ending < 0.2:
                    patch.setattr(self.store.mailbox, "advance", self.die)
                elif ending < 0.3:
                    self.server.answers["UID STORE"] = self.hang_up_once
                self.run_poll(force=thorough)
        except (Crash, MailboxError):
            self.mailbox.close()
        finally:
            self.server.answers.pop("UID STORE", None)

    def forget_ticks(self) -> None:
        """Ticks are of the real time, which hardly passes."""
        self.redis.delete("cleo:rest:poll", *self.redis.keys("cleo:tick:*"))

    def run_poll(self, *, force: bool = False) -> None:
        self.forget_ticks()
        before = [(letter, set(letter.message.flags)) for letter in self.letters]
        try:
            self.polling.run(force=force)
        finally:
            if not self.installed and self.store.mailbox.noted().state is not None:
                self.installed = True
                for letter, flags in before:
                    letter.read_before = "\\Seen" in flags

    def die(self, *_: object, **__: object) -> None:
        raise Crash

    def hang_up_once(self, session: Session, tag: str, rest: str) -> None:
        del self.server.answers["UID STORE"]
        session.do_uid_store(tag, rest)
        raise HangUp

    # --- the end --------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let all faults pass, and compare with what must have become of each mail."""
        self.fetches_work()
        for pause in (MINUTE, 20 * MINUTE, HOUR + MINUTE, DAY + MINUTE):
            self.clock.now += pause
            self.forget_ticks()
            self.run_poll()
        self.run_poll(force=True)
        records = {r.message_id: r for r in self.store.messages.page(limit=1000)[0] if r.message_id}
        answered = self.receiver.to_answer
        assert max(answered.values(), default=0) <= 1, "answered twice"
        for letter in self.letters:
            record, flags = records.get(letter.id), letter.message.flags
            if letter.read_before:
                assert not answered[letter.id], "read before the installation, and answered"
                continue
            if letter.place == "inbox" and "\\Answered" not in flags and not letter.taken:
                old = letter.moved and self.clock() - letter.born > 7 * DAY
                assert record is not None or old, f"lost: {letter}"
            if record is not None and not answered[letter.id]:
                assert record.reason or record.state is State.IGNORED
                strange = letter.moved or letter.troubled or self.clock() - letter.born > 6 * DAY
                assert strange or not letter.new, f"new and held: {letter} {record.reason}"
        self.check_marks(records)

    def check_marks(self, records: dict[str, Any]) -> None:
        keeps = "*" in (self.server.permanent_flags or "")
        for letter in self.letters:
            record, flags = records.get(letter.id), letter.message.flags
            if record is None or letter.place != "inbox" or not keeps:
                continue
            where = f"{self.server.uidvalidity}/{letter.message.uid}"
            if record.mailbox == where:
                assert ("$CleoHeld" in flags) == (record.state is State.HELD)
                assert ("$CleoFailed" in flags) == (record.state is State.FAILED)


@pytest.mark.parametrize("start", range(0, 510, 51))
def test_no_history_answers_old_mail_or_loses_new_mail(start: int, redis_url: str) -> None:
    with FakeImapServer() as server, Redis.from_url(redis_url) as redis:
        for seed in range(start, start + EACH):
            with History(random.Random(seed), server, redis) as history:
                try:
                    history.run()
                except (AssertionError, MailboxError) as error:
                    raise AssertionError(f"history {seed}: {error}") from error
