"""Limit how much mail may leave, so that a loop, a flood or a faulty agent does little harm.

A message beyond a limit is held with the reason, and a person may release it. It counts once, however often
it is tried.
"""

import hashlib
import json
import logging
from dataclasses import KW_ONLY, dataclass

from cleo_email.mail.model import OutboundEmail
from cleo_email.runtime import HOUR, MINUTE, Clock, now_ms
from cleo_email.store import Record, Store

log = logging.getLogger(__name__)

WINDOW_MS = 2 * HOUR
MAILBOX = "mailbox"
# A limit is logged when it is reached, and again only after it was not reached for so long.
QUIET_MS = 10 * MINUTE
# Mail that is no answer (by /email/send or a workflow): only the mailbox's limit and that on repeats apply.
UNASKED = ("send", "workflow")


@dataclass(frozen=True)
class Limits:
    """``per_thread`` and ``per_sender`` answers in two hours, ``per_hour`` mails of the whole mailbox,
    ``repeats`` of one answer to the same words of the same people in one thread in two hours."""

    per_thread: int = 20
    per_sender: int = 60
    per_hour: int = 500
    repeats: int = 10


@dataclass
class Budget:
    """Counts outgoing mail by thread, sender and mailbox, and names the limit that is reached."""

    store: Store
    limits: Limits
    _: KW_ONLY
    clock: Clock = now_ms

    def before_asking(self, record: Record) -> str:
        """Return why the agent need not be asked, '' if it may be. Raise StoreUnavailable."""
        if record.released:
            return ""
        # The mailbox's limit is only checked here, since the agent may not answer; it is checked first, so
        # that nothing is counted for the thread and the sender when it is reached.
        if self.store.threads.units(MAILBOX, self.clock() - HOUR) >= self.limits.per_hour:
            return self._reached(MAILBOX)
        return self._take(record, self._of_answers(record))

    def before_sending(self, record: Record, mail: OutboundEmail) -> str:
        """Return why the mail may not leave, '' if it may. Raise StoreUnavailable."""
        if record.released:
            return ""
        budgets = self._of_answers(record)
        if budgets and mail.recipients[0].lower() != record.from_address.lower():
            # Reply-To may name a third person: many senders together must not flood that address.
            budgets.append((f"sender:{mail.recipients[0].lower()}", WINDOW_MS, self.limits.per_sender))
        if record.answer_text.strip():
            budgets.append((f"same:{_digest(record, mail)}", WINDOW_MS, self.limits.repeats))
        return self._take(record, [*budgets, (MAILBOX, HOUR, self.limits.per_hour)])

    def _of_answers(self, record: Record) -> list[tuple[str, int, int]]:
        if record.ingress in UNASKED:
            return []
        return [
            (f"thread:{record.thread_id}", WINDOW_MS, self.limits.per_thread),
            (f"sender:{record.from_address.lower()}", WINDOW_MS, self.limits.per_sender),
        ]

    def _take(self, record: Record, budgets: list[tuple[str, int, int]]) -> str:
        used = self.store.threads.reserve(record.id, self.clock(), budgets) if budgets else ""
        return self._reached(used) if used else ""

    def _reached(self, name: str) -> str:
        limits = self.limits
        reason = {
            "thread": f"{limits.per_thread} answers in this thread within two hours "
            "(EMAIL_MAX_REPLIES_PER_THREAD)",
            "sender": f"{limits.per_sender} answers to this sender within two hours "
            "(EMAIL_MAX_REPLIES_PER_SENDER)",
            "same": f"the same words got the same answer in this thread {limits.repeats} times in two hours",
            MAILBOX: f"{limits.per_hour} mails left this mailbox within an hour (EMAIL_MAX_SENDS_PER_HOUR)",
        }[name.partition(":")[0]]
        if self.store.ticks.opened(f"budget:{hashlib.sha256(name.encode()).hexdigest()[:32]}", QUIET_MS):
            log.warning("mail is being held: %s; see: cleo-email messages list --state held", reason)
        return reason


def _digest(record: Record, mail: OutboundEmail) -> str:
    """Return a hash of thread, recipients, question and answer.

    Both question and answer must repeat: the same short answer to different questions is no loop.
    """
    words = [" ".join(text.split()).casefold() for text in (record.text, record.answer_text)]
    people = sorted(address.lower() for address in mail.recipients)
    return hashlib.sha256(json.dumps([record.thread_id, people, words]).encode()).hexdigest()
