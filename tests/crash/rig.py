"""Mail into a channel by either way, and the count of what became of it."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from typing import Self

from cleo_email.errors import StoreUnavailable
from cleo_email.pipeline.upkeep import UNANSWERED
from cleo_email.store import AT_WORK, Record, State, Store
from tests.support.channel import Rig
from tests.support.inboxes import Inbox, usual
from tests.support.mails import AGENT, mail

IMAP, WEBHOOK = "imap", "webhook"
PATIENCE_S = 150.0
SAME_TIME_MS = 3000


@dataclass(frozen=True)
class Letter:
    """A customer's mail, the same by either way. ``follows`` is the number of its thread's first mail."""

    number: int
    follows: int | None = None

    @property
    def message_id(self) -> str:
        return f"<q{self.number}@example.test>"

    @property
    def sender(self) -> str:
        return f"customer{self.number if self.follows is None else self.follows}@example.test"

    @property
    def references(self) -> str:
        return "" if self.follows is None else f"<q{self.follows}@example.test>"

    def source(self) -> bytes:
        return mail(self.number, sender=self.sender, references=self.references)

    def body(self) -> dict[str, str]:
        return {
            "from_address": f"Customer {self.number} <{self.sender}>",
            "to_address": AGENT,
            "subject": f"Question {self.number}",
            "body": f"This is question {self.number}.",
            "message_id": self.message_id,
            "in_reply_to": self.references,
            "references": self.references,
        }


@dataclass
class Tally:
    """What became of the mails. ``problems`` are sentences; each is a broken promise."""

    accepted: int = 0
    replied: int = 0
    failed: int = 0
    duplicates: int = 0
    lost: int = 0
    uncertain: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class CrashRig(Rig):
    """A rig whose Redis is its own, and which knows every mail that was handed over."""

    inbox: Inbox

    def __init__(
        self,
        directory: Path,
        *,
        inbox: Inbox | None = None,
        files: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        interval = {"EMAIL_POLL_INTERVAL_SECONDS": "60"}  # the default: a short one would hide delays
        found = inbox or usual(directory)
        super().__init__(directory, inbox=found, files=files, env={**interval, **(env or {})})
        self.letters: dict[str, Letter] = {}
        self._answered: list[str] = []
        self._read = 0

    def __enter__(self) -> Self:
        super().__enter__()
        self._client = self.redis.client()
        self._servers.callback(self._client.close)
        self.store = Store(self._client)
        return self

    # --- mail in ----------------------------------------------------------------------------------------

    def bring(self, ingress: str, letters: Iterable[Letter]) -> None:
        """Hand mails over as the outside does: a webhook's sender repeats until it is answered with 2xx."""
        letters = list(letters)
        self.letters.update({letter.message_id: letter for letter in letters})
        if ingress == IMAP:
            self.inbox.deliver(*(letter.source() for letter in letters))
            return
        for letter in letters:
            self.wait(lambda letter=letter: self.offer(letter), 60)  # type: ignore[misc]

    def offer(self, letter: Letter) -> bool:
        """One attempt; whether it was taken."""
        self.letters[letter.message_id] = letter
        status, answer = self.post(letter.body())
        assert status in (0, 200, 202, 502, 503), (status, answer)
        return status in (200, 202)

    # --- processes --------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], object], seconds: float = 90.0) -> None:
        """As ever, with more patience: on a busy machine the start of a worker alone takes half a minute."""
        super().wait(condition, seconds)

    def await_death(self, process: subprocess.Popen[bytes], point: str, seconds: float = 60) -> None:
        """The worker must end by SIGKILL at exactly that point."""
        process.wait(seconds)
        assert process.returncode == -9, f"exit status {process.returncode}, not SIGKILL"
        assert self.was_killed_at(point), f"not killed at {point}"

    def was_killed_at(self, point: str) -> bool:
        return f"CLEO_CRASH_AT: killed at {point}\n" in self.log.read_text("utf-8", "replace")

    # --- the count --------------------------------------------------------------------------------------

    def stored(self) -> list[Record]:
        found: list[Record] = []
        cursor: str | None = ""
        while cursor is not None:
            page, cursor = self.store.messages.page(limit=1000, cursor=cursor)
            found += page
        return found

    def answered(self) -> list[str]:
        """The Message-IDs answered, in the order in which the SMTP server accepted the answers."""
        for sent in self.smtp.mails[self._read :]:
            self._read += 1
            message = message_from_bytes(sent.source)
            if message["Auto-Submitted"] == "auto-replied":  # and not to people of ours
                self._answered.append(str(message["In-Reply-To"]))
        return list(self._answered)

    def is_over(self) -> bool:
        """Every mail has a record in an end state."""
        try:
            records = {record.message_id: record for record in self.stored()}
        except StoreUnavailable:
            return False
        # Where the provider files by itself and took the mail, Sent shows it: then it must settle by itself.
        shown = set(self.answered()) if self._files else set()
        return all(_is_settled(records.get(letter), shown) for letter in list(self.letters))

    def filed(self) -> bool:
        """Nothing waits for the mailbox any more but searches that have already been made in vain."""
        asked = (record for record in self.stored() if record.state is State.UNCERTAIN)
        return not self._client.zcard("cleo:filing") and all(record.looks for record in asked)

    def finish(self, since: float, patience: float = PATIENCE_S) -> Tally:
        """Wait until all is over, then count. ``since``: when the work could go on (time.monotonic)."""
        until = time.monotonic() + patience
        while not self.is_over() and time.monotonic() < until:
            time.sleep(0.1)
        seconds = time.monotonic() - since
        while not (self.filed() and not self._unread()) and time.monotonic() < until:
            time.sleep(0.2)
        tally = self.count()
        tally.seconds = seconds
        return tally

    def count(self) -> Tally:
        records = [record for record in self.stored() if record.message_id in self.letters]
        states = Counter(record.state for record in records)
        replies = Counter(self.answered())
        tally = Tally(
            accepted=len({record.message_id for record in records}),
            replied=states[State.REPLIED],
            failed=states[State.FAILED],
            uncertain=states[State.UNCERTAIN],
            duplicates=sum(count - 1 for count in replies.values()) + len(records) - len(set(_ids(records))),
        )
        for message_id in self.letters:
            mine = [record for record in records if record.message_id == message_id]
            why = _loss(mine, replies[message_id])
            tally.lost += bool(why)
            tally.problems += [f"{message_id}: {why}"] if why else []
        tally.problems += [f"{key} was answered {n} times" for key, n in replies.items() if n > 1]
        tally.problems += self._disorder() + self._mailbox_faults(records, replies)
        return tally

    def _unread(self) -> int:
        """How many mails are unread beside those that nobody is answered, which stay so."""
        left = [r for r in self.stored() if r.state in UNANSWERED and r.mailbox]
        return max(self.inbox.unseen() - len(left), 0)

    def _disorder(self) -> list[str]:
        """Within a thread, answers go out in the order in which the mails were accepted.

        Two processes that store at the same time may do it in another order than they looked at the clock.
        """
        place = {message_id: number for number, message_id in enumerate(self.answered())}
        threads: dict[str, list[Record]] = {}
        for record in sorted(self.stored(), key=lambda record: record.id):
            threads.setdefault(record.thread_id, []).append(record)
        faults = []
        for thread, members in threads.items():
            answered = [member for member in members if member.message_id in place]
            for first, second in itertools.combinations(answered, 2):
                late = place[first.message_id] > place[second.message_id]
                if late and second.received_at - first.received_at > SAME_TIME_MS:
                    faults.append(f"{second.message_id} was answered before {first.message_id} in {thread}")
        return faults

    def _mailbox_faults(self, records: list[Record], replies: Counter[str]) -> list[str]:
        faults = []
        if unseen := self._unread():
            faults.append(f"{unseen} mails are still unread in the inbox")
        sent = self.inbox.sent()
        faults += [f"{key} is {n} times in Sent" for key, n in sent.items() if n > 1]
        replied = [record for record in records if record.state is State.REPLIED]
        faults += [
            f"the answer to {r.message_id} is not in Sent" for r in replied if not sent[r.reply_message_id]
        ]
        answered = self.inbox.answered()
        faults += [
            f"{r.message_id} is not flagged as answered"
            for r in replied
            if r.mailbox and r.message_id not in answered
        ]
        return faults


def _ids(records: list[Record]) -> list[str]:
    return [record.message_id for record in records]


def _is_settled(record: Record | None, shown: set[str]) -> bool:
    if record is None or record.state in AT_WORK:
        return False
    return record.state is not State.UNCERTAIN or record.message_id not in shown


def _loss(records: list[Record], replies: int) -> str:
    """Why a mail counts as lost, or ''."""
    if not records:
        return "there is no record of it"
    record = records[0]
    if record.state in AT_WORK:
        return f"it is still {record.state} ({record.reason})"
    if record.state is State.REPLIED and not replies:
        return "the record says replied and nothing was sent"
    if record.state in (State.HELD, State.IGNORED):
        return f"it is {record.state}: {record.reason}"
    if record.state is State.FAILED and replies:
        return f"the record says failed ({record.reason}) and an answer was sent"
    return ""
