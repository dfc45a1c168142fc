"""Wake conversations whose wake-up was lost or is due; remove records older than the retention."""

import logging
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from itertools import islice

from cleo_email.errors import NotFound, WrongState
from cleo_email.pipeline.budget import Budget
from cleo_email.pipeline.handoff import HandOver
from cleo_email.runtime import DAY, Clock, now_ms
from cleo_email.store import AT_WORK, Effects, State, Store, ThreadTaken, conversation_of
from cleo_email.store.queue import MOST_WAITING, WakeQueue

log = logging.getLogger(__name__)

# One sweep looks at so many conversations that are due: more than all workers together can have at work.
PAGE = 500
MOST_PAGES = 40
FORGET_AT_ONCE = 1000
MEMORY_WARNING = 0.7


@dataclass
class Sweeper:
    """Repeats lost wake-ups and removes old records; run at regular times by a worker."""

    store: Store
    wake: WakeQueue
    _: KW_ONLY
    retention_days: int
    budget: Budget
    handing_over: HandOver | None = None
    clock: Clock = now_ms

    def run(self) -> int:
        """Wake the conversations that are due and return how many. Raise StoreUnavailable."""
        self._resume()
        return self.wake.wake_each(list(islice(self._idle(), MOST_WAITING)), backlog=True)

    def hand_over(self) -> None:
        """Send the mails about hand-overs that have not been sent. Raise StoreUnavailable."""
        if self.handing_over:
            self.handing_over.run_due()

    def _resume(self) -> None:
        """Let go on what a limit of the mailbox held, oldest first, as far as there is room again."""
        ids = sorted(self.store.resuming.due(self.clock(), PAGE))  # ids sort by time of arrival
        for id_ in ids[: max(self.budget.room(), 0)] if ids else ():
            try:
                record = self.store.messages.get(id_)
                to = State.SUBMITTING if self.store.messages.answer_size(id_) else State.RECEIVED
                # What people or applications send, and the agent's last word, leave in a person's thread too.
                of_people = record.ingress in ("send", "handoff") or record.decided == "approve"
                stops = to is State.SUBMITTING and not (of_people or record.handoff)
                self.store.messages.move(
                    id_,
                    to,
                    now=self.clock(),
                    reason="there is room again within the limits of the mailbox",
                    effects=Effects(push=True, unless_taken=stops, conversation=conversation_of(record)),
                    only_from=[State.HELD],
                )
            except (NotFound, WrongState):
                self.store.resuming.done(id_)
            except ThreadTaken:
                continue  # until the thread is handed back
            else:
                self.wake.wake(conversation_of(record))

    def _idle(self) -> Iterator[str]:
        """Yield the threads with due work that no worker is handling, longest waiting first.

        Threads that are being handled stay due, as do those that are woken, so they are skipped here.
        """
        now = self.clock()
        for page in range(MOST_PAGES):
            threads = self.store.conversations.due(now, PAGE, offset=page * PAGE)
            if threads:
                yield from self.store.locks.free(threads)
            if len(threads) < PAGE:
                return

    def forget(self) -> int:
        """Remove records older than EMAIL_RETENTION_DAYS but those at work. Raise StoreUnavailable."""
        ids = self.store.messages.older_than(self.clock() - self.retention_days * DAY, FORGET_AT_ONCE)
        # Damaged records are removed too; otherwise they would stay first in the list for ever.
        return sum(self.store.messages.forget(id_, unless=AT_WORK) for id_ in ids)

    def warn_of_memory(self) -> None:
        """Log that Redis is filling up: with ``noeviction`` a full one refuses new mail."""
        share = self.store.health.memory_share()
        if share is not None and share > MEMORY_WARNING:
            log.warning(
                "Redis uses %d %% of its maxmemory; when it is full no mail can be accepted: raise maxmemory "
                "or lower EMAIL_RETENTION_DAYS",
                share * 100,
            )
