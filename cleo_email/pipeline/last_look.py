"""The last look into the mailbox before the final dot: has a person answered meanwhile?"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field

from cleo_email.errors import MailboxError
from cleo_email.pipeline.drafts import DraftFolder
from cleo_email.pipeline.takeover import Takeover
from cleo_email.pipeline.withdrawal import is_unsent
from cleo_email.runtime import SeldomLog
from cleo_email.store import Record

log = logging.getLogger(__name__)

REST_S = 30.0  # after a fault, without another look


@dataclass
class LastLook:
    """Looks for all submissions of this process that wait for it at once.

    A look that began after a submission asked for one counts for it, so many of them cost one.
    """

    takeover: Takeover
    drafts: DraftFolder
    _: KW_ONLY
    timer: Callable[[], float] = time.monotonic
    _changed: threading.Condition = field(init=False, default_factory=threading.Condition)
    _asking: dict[str, Record] = field(init=False, default_factory=dict)
    _busy: bool = field(init=False, default=False)
    _begun: int = field(init=False, default=0)  # looks so far
    _faults: dict[int, str] = field(init=False, default_factory=dict)  # by the number of the look
    _rests_until: float = field(init=False, default=0.0)
    _told: SeldomLog = field(init=False, default_factory=SeldomLog)

    def concerns(self, record: Record) -> bool:
        """Return whether a person may answer in place of what is about to be submitted."""
        return is_unsent(record)

    def clear(self, record: Record) -> str | None:
        """Take the drafts of the thread out. Return why the answer has to wait, '', None for no drafts."""
        return self.drafts.clear(record)

    def look(self, record: Record) -> str:
        """Look once, and withdraw what a person has answered. Return why the answer has to wait, or ''.

        A mailbox that cannot be read stops no answer, but one whose draft a person may have sent.
        Raise StoreUnavailable.
        """
        if self.takeover.mode == "off" and record.decided != "approve":
            return ""
        fault = self._shared(record)
        if fault and record.decided == "approve" and self.drafts.enabled:
            return f"Sent cannot be read, and the draft may have been sent from there: {fault}"
        return ""

    def _shared(self, record: Record) -> str:
        """Return the fault of a look that began after this call, '' for none."""
        with self._changed:
            mine = self._begun + 1
            self._asking[record.id] = record
            while self._busy and self._begun < mine:
                self._changed.wait()
            if self._begun < mine:  # nobody has begun it: it is for me to do
                self._begun, self._busy = mine, True
                records, self._asking = list(self._asking.values()), {}
            else:
                while self._busy and self._begun == mine:
                    self._changed.wait()
                return self._faults.get(mine, "")
        fault = "the look did not end"
        try:
            fault = self._look(records)
        finally:
            with self._changed:
                self._busy = False
                self._faults = {number: told for number, told in self._faults.items() if number > mine - 9}
                self._faults[mine] = fault
                self._changed.notify_all()
        return fault

    def _look(self, records: list[Record]) -> str:
        if self.timer() < self._rests_until:
            return "it failed a moment ago"
        try:
            self.takeover.look(records)
        except MailboxError as error:
            self._rests_until = self.timer() + REST_S
            if self._told.is_due("look"):
                log.warning("answers leave without a last look into Sent: %s", error)
            return str(error)
        return ""
