"""What waits in the store until the mailbox is at hand, and is repeated until it is done.

None of it can change what was sent, and none of it decides whether new mail is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from cleo_email.fetching import Fetching
from cleo_email.filing import Filing
from cleo_email.settling import Settling

Thing = TypeVar("Thing")

# How long one run may keep the mailbox from the poll, its last step aside. A copy takes 0.1 s over the net.
RUN_S = 1.0


class Chores:
    def __init__(
        self,
        filing: Filing,
        settling: Settling,
        fetching: Fetching,
        *,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._filing = filing
        self._settling = settling
        self._fetching = fetching
        self._timer = timer

    def run(self) -> int:
        """Do what is due, as far as ``RUN_S`` goes; the number of answers that are filed.

        Raises MailboxError, StoreUnavailable; what was not done stays due.
        """
        until = self._timer() + RUN_S
        records = self._filing.due()
        self._filing.flag(records)
        done = 0
        for record in self._in_time(records, until):
            done += self._filing.file(record)
        for id_ in self._in_time(self._settling.due(), until):
            self._settling.settle(id_)
        for id_ in self._in_time(self._fetching.due(), until):
            self._fetching.fetch(id_)
        return done

    def _in_time(self, things: Iterable[Thing], until: float) -> Iterator[Thing]:
        """The first of ``things`` in any case, the others until then: copies must not delay new mail."""
        for number, thing in enumerate(things):
            if number and self._timer() >= until:
                return
            yield thing
