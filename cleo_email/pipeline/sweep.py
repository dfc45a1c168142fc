"""Re-wakes whatever is due, whoever lost its wake-up, and forgets what is older than the retention."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice

from cleo_email.runtime import DAY, Clock, now_ms
from cleo_email.store import AT_WORK, Store
from cleo_email.store.queue import WakeQueue

log = logging.getLogger(__name__)

# No more wake-ups than this wait in the queue: those of a backlog are made as the queue drains.
MOST_WAITING = 500
# Of what is due so much is looked at in one sweep: more than all workers together can have at work.
PAGE = 500
MOST_PAGES = 40
FORGET_AT_ONCE = 1000
MEMORY_WARNING = 0.7


class Sweeper:
    def __init__(self, store: Store, wake: WakeQueue, *, retention_days: int, clock: Clock = now_ms) -> None:
        self._store = store
        self._wake = wake
        self._retention = retention_days * DAY
        self._clock = clock

    def run(self) -> int:
        """Wake every conversation that is due and that nobody handles; how many. Raises StoreUnavailable."""
        room = MOST_WAITING - self._wake.waiting()
        if room <= 0:
            return 0
        free = list(islice(self._idle(), room))
        for thread in free:
            self._wake.wake(thread)
        return len(free)

    def _idle(self) -> Iterator[str]:
        """Threads with work that is due and that nobody handles, longest waiting first.

        Those that are being handled stay due meanwhile, and stand before all that came later.
        """
        now = self._clock()
        for page in range(MOST_PAGES):
            threads = self._store.conversations.due(now, PAGE, offset=page * PAGE)
            if threads:
                yield from self._store.conversations.unlocked(threads)
            if len(threads) < PAGE:
                return

    def forget(self) -> int:
        """Remove records older than EMAIL_RETENTION_DAYS; what is at work stays. Raises StoreUnavailable."""
        ids = self._store.messages.older_than(self._clock() - self._retention, FORGET_AT_ONCE)
        # What cannot be read goes with the others: it would stand before them for ever.
        return sum(self._store.messages.forget(id_, unless=AT_WORK) for id_ in ids)

    def warn_of_memory(self) -> None:
        """With ``noeviction`` a full Redis refuses new mail: say so before it comes to that."""
        share = self._store.health.memory_share()
        if share is not None and share > MEMORY_WARNING:
            log.warning(
                "Redis uses %d %% of its maxmemory; when it is full no mail can be accepted: raise maxmemory "
                "or lower EMAIL_RETENTION_DAYS",
                share * 100,
            )
