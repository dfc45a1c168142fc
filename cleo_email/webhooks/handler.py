"""A provider's request is verified, recognised if it came before, and its mails are stored."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cleo_email.errors import NotFound, StoreUnavailable
from cleo_email.pipeline.receive import IncomingMail, Receiver
from cleo_email.store import Events
from cleo_email.webhooks.base import NoMail, NotNow, NotSetUp, WebhookProvider, WebhookRequest, header_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredMail:
    """One mail that is stored."""

    id: str
    thread_id: str
    duplicate: bool


@dataclass(frozen=True)
class HandledRequest:
    """What became of a request: its mails, or a ``note`` that says why there is none."""

    taken: tuple[StoredMail, ...] = ()
    note: str = ""


class WebhookHandler:
    """Takes the requests of every provider. ``max_bytes``: how large a mail may be."""

    def __init__(
        self, providers: Sequence[WebhookProvider], intake: Receiver, events: Events, *, max_bytes: int
    ) -> None:
        self._providers: Mapping[str, WebhookProvider] = {provider.name: provider for provider in providers}
        self._intake = intake
        self._events = events
        self._max_bytes = max_bytes
        self._warned: set[str] = set()

    @property
    def max_request_bytes(self) -> int:
        """Return the limit of a request's body: base64 in JSON is a third larger than the mail it holds."""
        return self._max_bytes * 3 // 2 + 65_536

    @property
    def set_up(self) -> list[str]:
        """Return the names of the providers that can prove a request."""
        return sorted(name for name, provider in self._providers.items() if provider.is_set_up)

    def find(self, name: str) -> WebhookProvider:
        """Return the provider of that name. Raises NotFound."""
        if name not in self._providers:
            raise NotFound(f"there is no such way in; providers: {', '.join(sorted(self._providers))}")
        return self._providers[name]

    def warn_unset(self, provider: WebhookProvider, fault: NotSetUp) -> None:
        """Log it once only, as any caller can bring it about."""
        if provider.name not in self._warned:
            self._warned.add(provider.name)
            log.warning("a request of %s is refused: %s", provider.name, fault)

    def handle(self, provider: WebhookProvider, request: WebhookRequest) -> HandledRequest:
        """Store the mails of a request, once.

        Raises Unproven, Unusable, NotNow or StoreUnavailable; after the last two it may come again.
        """
        provider.verify(request)
        event = provider.event(request)
        if not event:
            return self._store(provider, request)
        claim = self._events.claim(f"{provider.name}:{event}")
        if claim.is_taken:
            note, mails = json.loads(claim.note)
            return HandledRequest(tuple(StoredMail(id_, thread, True) for id_, thread in mails), note)
        if not claim.is_ours:
            raise NotNow("this very request is being stored at this moment")
        try:
            outcome = self._store(provider, request)
        except BaseException:
            with suppress(StoreUnavailable):
                self._events.release(claim)
            raise
        # If this fails the provider sends it again, and the intake knows the mail.
        taken = json.dumps([outcome.note, [[one.id, one.thread_id] for one in outcome.taken]])
        self._events.done(claim, taken, provider.remember_s)
        return outcome

    def _store(self, provider: WebhookProvider, request: WebhookRequest) -> HandledRequest:
        try:
            arrivals = provider.extract(request)
        except NoMail as note:
            log.info("a request of %s brought no mail: %s", provider.name, note)
            return HandledRequest(note=str(note))
        accepted = [self._intake.accept(self._bounded(arrival)) for arrival in arrivals]
        return HandledRequest(tuple(StoredMail(one.id, one.thread_id, one.duplicate) for one in accepted))

    def _bounded(self, arrival: IncomingMail) -> IncomingMail:
        """Keep only the header of a mail that is too large, for a person to see."""
        size = len(arrival.source)
        if size <= self._max_bytes:
            return arrival
        limit = f"EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes})"
        header = header_of(arrival.source)[: self._max_bytes]
        hold = f"{size} bytes, more than {limit}: only its header is kept"
        return replace(arrival, source=header, partial=True, hold=hold)
