"""How much may leave: what a loop, a flood or a gone-wild agent meets where the mail goes out.

Beyond a limit nothing is dropped: the message is held with the reason, and a person may release it. A message
takes its units once, however often it is tried. That each mail gets one final answer is no limit of
these: no way leads from ``replied`` back to ``submitting``.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass

from cleo_email.mail.model import OutboundEmail
from cleo_email.runtime import HOUR, MINUTE, Clock, now_ms
from cleo_email.store import Record, Store

log = logging.getLogger(__name__)

WINDOW_MS = 2 * HOUR
MAILBOX = "mailbox"
# A limit that nobody has run into for so long is in order again: the next time is told anew.
QUIET_MS = 10 * MINUTE
# What is sent unasked (by /email/send or a workflow) answers nobody: only the mailbox's limit is for it, and
# that on repeated texts.
UNASKED = ("send", "workflow")


@dataclass(frozen=True)
class Limits:
    """``per_thread`` and ``per_sender`` answers in two hours, ``per_hour`` mails of the whole mailbox,
    ``repeats`` of one answer to the same words of the same people in one thread in two hours."""

    per_thread: int = 20
    per_sender: int = 60
    per_hour: int = 500
    repeats: int = 10


class Budget:
    def __init__(self, store: Store, limits: Limits, *, clock: Clock = now_ms) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock

    def before_asking(self, record: Record) -> str:
        """Why the agent need not be asked, '' if it may be. Raises StoreUnavailable."""
        if record.released:
            return ""
        # The mailbox's is not taken yet, since the agent may decide to say nothing; looked at first, so that
        # a full one costs the thread and the sender nothing.
        if self._store.threads.units(MAILBOX, self._clock() - HOUR) >= self._limits.per_hour:
            return self._told(MAILBOX)
        return self._take(record, self._of_answers(record))

    def before_sending(self, record: Record, mail: OutboundEmail) -> str:
        """Why the mail may not leave, '' if it may. Raises StoreUnavailable."""
        if record.released:
            return ""
        budgets = self._of_answers(record)
        if budgets and mail.recipients[0].lower() != record.from_address.lower():
            # Reply-To: whoever gets the answers is spared a flood, too, from however many senders it comes.
            budgets.append((f"sender:{mail.recipients[0].lower()}", WINDOW_MS, self._limits.per_sender))
        if record.answer_text.strip():
            budgets.append((f"same:{_digest(record, mail)}", WINDOW_MS, self._limits.repeats))
        return self._take(record, [*budgets, (MAILBOX, HOUR, self._limits.per_hour)])

    def _of_answers(self, record: Record) -> list[tuple[str, int, int]]:
        if record.ingress in UNASKED or record.outbound:
            return []
        return [
            (f"thread:{record.thread_id}", WINDOW_MS, self._limits.per_thread),
            (f"sender:{record.from_address.lower()}", WINDOW_MS, self._limits.per_sender),
        ]

    def _take(self, record: Record, budgets: list[tuple[str, int, int]]) -> str:
        used = self._store.threads.reserve(record.id, self._clock(), budgets) if budgets else ""
        return self._told(used) if used else ""

    def _told(self, name: str) -> str:
        reason = self._reason(name)
        if self._store.ticks.opened(f"budget:{hashlib.sha256(name.encode()).hexdigest()[:32]}", QUIET_MS):
            log.warning("mail is being held: %s; see: cleo-email messages list --state held", reason)
        return reason

    def _reason(self, name: str) -> str:
        limits = self._limits
        kind = name.partition(":")[0]
        if kind == "thread":
            return (
                f"{limits.per_thread} answers in this thread within two hours (EMAIL_MAX_REPLIES_PER_THREAD)"
            )
        if kind == "sender":
            return (
                f"{limits.per_sender} answers to this sender within two hours (EMAIL_MAX_REPLIES_PER_SENDER)"
            )
        if kind == "same":
            return f"the same words got the same answer in this thread {limits.repeats} times in two hours"
        return f"{limits.per_hour} mails left this mailbox within an hour (EMAIL_MAX_SENDS_PER_HOUR)"


def _digest(record: Record, mail: OutboundEmail) -> str:
    """The same for the same answer to the same words, however they are set, of the same people in one thread.

    Both sides have to repeat themselves: short answers to different questions are no loop.
    """
    words = [" ".join(text.split()).casefold() for text in (record.text, record.answer_text)]
    people = sorted(address.lower() for address in mail.recipients)
    return hashlib.sha256(json.dumps([record.thread_id, people, words]).encode()).hexdigest()
