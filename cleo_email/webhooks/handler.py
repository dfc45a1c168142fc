"""The way of a provider's request: it is proved, looked up, made a mail of, stored and remembered."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cleo_email.errors import NotFound, StoreUnavailable
from cleo_email.pipeline.receive import IncomingMail, Receiver
from cleo_email.store import Claim, Events
from cleo_email.webhooks.base import NotNow, NotSetUp, WebhookProvider, WebhookRequest
from cleo_email.webhooks.verdicts import header_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredMail:
    """One mail that is stored."""

    id: str
    thread_id: str
    duplicate: bool


@dataclass(frozen=True)
class HandledRequest:
    """What became of a request: its mails, or why there is none."""

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
        """A provider wraps the mail: base64 in JSON is a third larger than what it holds."""
        return self._max_bytes * 3 // 2 + 65_536

    @property
    def names(self) -> list[str]:
        return sorted(self._providers)

    @property
    def set_up(self) -> list[str]:
        """The names of those that can prove a request."""
        return [name for name in self.names if self._providers[name].is_set_up]

    def find(self, name: str) -> WebhookProvider:
        """Raises NotFound."""
        if name not in self._providers:
            raise NotFound(f"there is no such way in; providers: {', '.join(self.names)}")
        return self._providers[name]

    def warn_unset(self, provider: WebhookProvider, fault: NotSetUp) -> None:
        """In the log, once: anybody can bring it about."""
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
            return _outcome(claim.note)
        if not claim.is_ours:
            raise NotNow("this very request is being stored at this moment")
        return self._store_once(provider, request, claim)

    def _store_once(self, provider: WebhookProvider, request: WebhookRequest, claim: Claim) -> HandledRequest:
        try:
            outcome = self._store(provider, request)
        except BaseException:
            with suppress(StoreUnavailable):
                self._events.release(claim)
            raise
        # If this fails the provider sends it again, and the intake knows the mail.
        self._events.done(claim, _note(outcome), provider.remember_s)
        return outcome

    def _store(self, provider: WebhookProvider, request: WebhookRequest) -> HandledRequest:
        extracted = provider.extract(request)
        taken = []
        for arrival in extracted.arrivals:
            accepted = self._intake.accept(self._bounded(arrival))
            taken.append(StoredMail(accepted.id, accepted.thread_id, accepted.duplicate))
        if not taken:
            log.info("a request of %s brought no mail: %s", provider.name, extracted.note)
        return HandledRequest(tuple(taken), extracted.note)

    def _bounded(self, arrival: IncomingMail) -> IncomingMail:
        """Of a mail that is too large only the header is kept, for a person to see."""
        size = len(arrival.source)
        if size <= self._max_bytes:
            return arrival
        limit = f"EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes})"
        header = header_of(arrival.source)[: self._max_bytes]
        hold = f"{size} bytes, more than {limit}: only its header is kept"
        return replace(arrival, source=header, partial=True, hold=hold)


def _note(outcome: HandledRequest) -> str:
    return json.dumps([outcome.note, [[one.id, one.thread_id] for one in outcome.taken]])


def _outcome(note: str) -> HandledRequest:
    """The outcome of the first request, as a duplicate."""
    words, mails = json.loads(note)
    return HandledRequest(tuple(StoredMail(id_, thread, duplicate=True) for id_, thread in mails), words)
