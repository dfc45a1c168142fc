"""The state of one poll: what was taken, and what still has to be flagged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from cleo_email.crashpoints import reach
from cleo_email.mailbox import ACCEPTED, HELD, SEEN, Mailbox, MailboxStatus

log = logging.getLogger(__name__)

FLUSH = 25  # mails between two STORE commands


@dataclass
class PollResult:
    """What one poll did; ``busy``: another process was at it."""

    accepted: int = 0
    duplicates: int = 0
    held: int = 0
    quarantined: int = 0
    busy: bool = False
    resting: bool = False

    def __str__(self) -> str:
        if self.busy:
            return "poll: another process is at it"
        if self.resting:
            return "poll: the mailbox rests after a fault"
        counts = {
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "held": self.held,
            "quarantined": self.quarantined,
        }
        return "poll: " + (", ".join(f"{n} {name}" for name, n in counts.items() if n) or "nothing new")


class Pass:
    def __init__(
        self, status: MailboxStatus, result: PollResult, progress: Callable[[int, int], None]
    ) -> None:
        self.status = status
        self.result = result
        self.total = 0
        self.done: set[int] = set()
        self.stuck: set[int] = set()
        self._progress = progress
        self._pending: dict[int, bool] = {}

    @property
    def pending(self) -> int:
        return len(self._pending)

    def take(self, uid: int, *, held: bool) -> None:
        self._pending[uid] = held

    def flush(self, mailbox: Mailbox) -> None:
        """Only now, with the records durable, the mails become \\Seen."""
        if not self._pending:
            return
        confirmed: set[int] = set()
        for held, flags in ((False, (SEEN, ACCEPTED)), (True, (SEEN, ACCEPTED, HELD))):
            uids = [uid for uid, is_held in self._pending.items() if is_held is held]
            if uids:
                confirmed |= mailbox.add_flags(uids, flags)
        if missing := self._pending.keys() - confirmed:
            log.warning(
                "the server did not confirm \\Seen for %d mails; they are looked at again", len(missing)
            )
        self.done |= self._pending.keys()
        self._pending.clear()
        reach("poll-after-seen")
        self._progress(len(self.done), self.total)
