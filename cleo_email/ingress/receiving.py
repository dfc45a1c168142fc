"""The straight line of a provider's request: proved, not taken before, made a mail of, stored, remembered."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cleo_email.errors import NotFound, StoreUnavailable
from cleo_email.ingress.base import Ingress, NotNow, NotSetUp, Posted
from cleo_email.ingress.verdicts import header_of
from cleo_email.intake import Arrival, Intake
from cleo_email.store import Claim, Events

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Taken:
    """One mail that is stored."""

    id: str
    thread_id: str
    duplicate: bool


@dataclass(frozen=True)
class Outcome:
    """What became of a request: its mails, or why there is none."""

    taken: tuple[Taken, ...] = ()
    note: str = ""


class Receiving:
    def __init__(
        self, ingresses: Sequence[Ingress], intake: Intake, events: Events, *, max_bytes: int
    ) -> None:
        self._ingresses: Mapping[str, Ingress] = {ingress.name: ingress for ingress in ingresses}
        self._intake = intake
        self._events = events
        self._max_bytes = max_bytes
        self._told: set[str] = set()

    @property
    def max_request_bytes(self) -> int:
        """A provider wraps the mail: base64 in JSON is a third larger than what it holds."""
        return self._max_bytes * 3 // 2 + 65_536

    @property
    def names(self) -> list[str]:
        return sorted(self._ingresses)

    @property
    def set_up(self) -> list[str]:
        """The names of those that can prove a request."""
        return [name for name in self.names if self._ingresses[name].is_set_up]

    def find(self, name: str) -> Ingress:
        """Raises NotFound."""
        if name not in self._ingresses:
            raise NotFound(f"there is no such way in; providers: {', '.join(self.names)}")
        return self._ingresses[name]

    def tell_unset(self, ingress: Ingress, fault: NotSetUp) -> None:
        """In the log, once: anybody can bring it about."""
        if ingress.name not in self._told:
            self._told.add(ingress.name)
            log.warning("a request of %s is refused: %s", ingress.name, fault)

    def receive(self, ingress: Ingress, posted: Posted) -> Outcome:
        """Store the mails of a request, once.

        Raises Unproven, Unusable, NotNow or StoreUnavailable; after the last two it may come again.
        """
        ingress.verify(posted)
        event = ingress.event(posted)
        if not event:
            return self._store(ingress, posted)
        claim = self._events.claim(f"{ingress.name}:{event}")
        if claim.is_taken:
            return _outcome(claim.note)
        if not claim.is_ours:
            raise NotNow("this very request is being stored at this moment")
        return self._store_once(ingress, posted, claim)

    def _store_once(self, ingress: Ingress, posted: Posted, claim: Claim) -> Outcome:
        try:
            outcome = self._store(ingress, posted)
        except BaseException:
            with suppress(StoreUnavailable):
                self._events.release(claim)
            raise
        # If this fails the provider sends it again, and the intake knows the mail.
        self._events.done(claim, _note(outcome), ingress.remember_s)
        return outcome

    def _store(self, ingress: Ingress, posted: Posted) -> Outcome:
        extracted = ingress.extract(posted)
        taken = []
        for arrival in extracted.arrivals:
            accepted = self._intake.accept(self._bounded(arrival))
            taken.append(Taken(accepted.id, accepted.thread_id, accepted.duplicate))
        if not taken:
            log.info("a request of %s brought no mail: %s", ingress.name, extracted.note)
        return Outcome(tuple(taken), extracted.note)

    def _bounded(self, arrival: Arrival) -> Arrival:
        """Of a mail that is too large only the header is kept, for a person to see."""
        size = len(arrival.source)
        if size <= self._max_bytes:
            return arrival
        limit = f"EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes})"
        header = header_of(arrival.source)[: self._max_bytes]
        hold = f"{size} bytes, more than {limit}: only its header is kept"
        return replace(arrival, source=header, partial=True, hold=hold)


def _note(outcome: Outcome) -> str:
    return json.dumps([outcome.note, [[one.id, one.thread_id] for one in outcome.taken]])


def _outcome(note: str) -> Outcome:
    """The outcome of the first request, as a duplicate."""
    words, mails = json.loads(note)
    return Outcome(tuple(Taken(id_, thread, duplicate=True) for id_, thread in mails), words)
