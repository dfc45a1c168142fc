"""Limit how much mail may leave, so that a loop, a flood or a faulty agent does little harm.

A message beyond a limit is held with the reason, and a person may release it. What a limit of the whole
mailbox holds goes on by itself once the hour has passed. A message counts once, however often it is tried.
"""

import hashlib
import json
import logging
from dataclasses import KW_ONLY, dataclass

from cleo_email.mail.address import person, without_details
from cleo_email.mail.model import OutboundEmail
from cleo_email.runtime import HOUR, MINUTE, Clock, now_ms
from cleo_email.store import Record, Store
from cleo_email.store.messages import UNASKED

log = logging.getLogger(__name__)

WINDOW_MS = 2 * HOUR
MAILBOX = "mailbox"
# A limit is logged when it is reached, and again only after it was not reached for so long.
QUIET_MS = 10 * MINUTE


ASKED = "asked"
# Made-up senders can use up a limit of the mailbox: people who had mail from it before get a fifth on top.
RESERVE = 5
CALLS = 2  # of the agent for each mail that may leave: it may decide to answer nothing
RESUME_MS = 5 * MINUTE


@dataclass(frozen=True)
class Limits:
    """``per_thread`` and ``per_sender`` answers in two hours, ``per_hour`` recipients of the whole mailbox,
    ``repeats`` of one answer to the same words of the same people in one thread in two hours."""

    per_thread: int = 20
    per_sender: int = 60
    per_hour: int = 500
    repeats: int = 10


@dataclass(frozen=True)
class LimitReached:
    """``resumes``: when (ms) the message may go on by itself, None where a person decides."""

    reason: str
    resumes: int | None = None


@dataclass
class Budget:
    """Counts outgoing mail by thread, sender and mailbox, and names the limit that is reached."""

    store: Store
    limits: Limits
    _: KW_ONLY
    clock: Clock = now_ms

    def before_asking(self, record: Record) -> LimitReached | None:
        """Return why the agent may not be asked now, None if it may be. Raise StoreUnavailable."""
        if record.released:
            return None
        # The mailbox's limit is only checked here, since the agent may not answer.
        most = self.limits.per_hour
        mailbox = (MAILBOX, HOUR, most, most // RESERVE, 0)
        asked = (ASKED, HOUR, CALLS * most, CALLS * (most // RESERVE), 1)
        return self._take(record, [mailbox, *self._of_answers(record), asked])

    def before_sending(self, record: Record, mail: OutboundEmail) -> LimitReached | None:
        """Return why the mail may not leave now, None if it may. Raise StoreUnavailable."""
        if record.released:
            return None
        budgets = self._of_answers(record)
        if budgets:
            # Reply-To and Cc may name others: many senders together must not flood that address.
            names = dict.fromkeys(f"sender:{without_details(one)}" for one in mail.recipients)
            taken = {name for name, *_ in budgets}
            most = self.limits.per_sender
            budgets += [(name, WINDOW_MS, most, 0, 1) for name in names if name not in taken]
        if record.answer_text.strip():
            budgets.append((f"same:{_digest(record, mail)}", WINDOW_MS, self.limits.repeats, 0, 1))
        most = self.limits.per_hour
        return self._take(record, [*budgets, (MAILBOX, HOUR, most, most // RESERVE, len(mail.recipients))])

    def room(self) -> int:
        """Return how many more mails may leave within this hour. Raise StoreUnavailable."""
        return self.limits.per_hour - self.store.threads.units(MAILBOX, self.clock() - HOUR)

    def _of_answers(self, record: Record) -> list[tuple[str, int, int, int, int]]:
        if record.ingress in UNASKED:
            return []
        return [
            (f"thread:{record.thread_id}", WINDOW_MS, self.limits.per_thread, 0, 1),
            (f"sender:{without_details(record.from_address)}", WINDOW_MS, self.limits.per_sender, 0, 1),
        ]

    def _take(self, record: Record, budgets: list[tuple[str, int, int, int, int]]) -> LimitReached | None:
        known = "" if record.ingress in UNASKED else person(record.from_address)
        now = self.clock()
        used = self.store.threads.reserve(record.id, now, budgets, known=known, since=now - HOUR)
        return self._reached(used) if used else None

    def _reached(self, name: str) -> LimitReached:
        limits = self.limits
        soon = "; it goes on by itself when there is room again"
        reason = {
            "thread": f"{limits.per_thread} answers in this thread within two hours "
            "(EMAIL_MAX_REPLIES_PER_THREAD)",
            "sender": f"{limits.per_sender} answers to this sender within two hours "
            "(EMAIL_MAX_REPLIES_PER_SENDER)",
            "same": f"the same words got the same answer in this thread {limits.repeats} times in two hours",
            MAILBOX: f"{limits.per_hour} mails left this mailbox within an hour "
            f"(EMAIL_MAX_SENDS_PER_HOUR){soon}",
            ASKED: f"the agent was asked {CALLS * limits.per_hour} times within an hour "
            f"(twice EMAIL_MAX_SENDS_PER_HOUR){soon}",
        }[name.partition(":")[0]]
        if self.store.ticks.opened(f"budget:{hashlib.sha256(name.encode()).hexdigest()[:32]}", QUIET_MS):
            log.warning("mail is being held: %s; see: cleo-email messages list --state held", reason)
        return LimitReached(reason, self.clock() + RESUME_MS if name in (MAILBOX, ASKED) else None)


def _digest(record: Record, mail: OutboundEmail) -> str:
    """Return a hash of thread, recipients, question and answer.

    Both question and answer must repeat: the same short answer to different questions is no loop.
    """
    words = [" ".join(text.split()).casefold() for text in (record.text, record.answer_text)]
    people = sorted(address.lower() for address in mail.recipients)
    return hashlib.sha256(json.dumps([record.thread_id, people, words]).encode()).hexdigest()
