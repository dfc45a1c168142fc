"""Handle a provider's request: verify it, recognise a repeated one, store its mails."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cleo_email.errors import NotFound
from cleo_email.pipeline.receive import IncomingMail, Receiver
from cleo_email.scrub import JsonObject
from cleo_email.settings import Settings
from cleo_email.store import Accepted, Claims
from cleo_email.webhooks.base import (
    Fetch,
    NoMail,
    NotNow,
    NotSetUp,
    WebhookProvider,
    WebhookRequest,
    header_of,
)
from cleo_email.webhooks.brevo import Brevo
from cleo_email.webhooks.cloudmailin import CloudMailin
from cleo_email.webhooks.mailgun import Mailgun
from cleo_email.webhooks.postmark import Postmark
from cleo_email.webhooks.resend import Resend
from cleo_email.webhooks.sendgrid import SendGrid
from cleo_email.webhooks.ses import Ses

log = logging.getLogger(__name__)


def build_providers(settings: Settings, fetch: Fetch) -> tuple[WebhookProvider, ...]:
    """Return all providers; each refuses requests as long as its secret is not set."""
    size = settings.max_message_bytes
    return (
        Mailgun(settings.mailgun_keys, fetch),
        Postmark(settings.postmark_auth, fetch),
        SendGrid(settings.sendgrid_keys, settings.webhook_secrets, fetch),
        Ses(settings.ses_topics, fetch),
        CloudMailin(settings.cloudmailin_auth, fetch),
        Resend(settings.resend_secrets, fetch, settings.resend_api_key, size),
        Brevo(settings.brevo_auth, fetch, settings.brevo_api_key, size),
    )


def described(mail: Accepted) -> dict[str, Any]:
    """Return the part of the answer that is about one mail."""
    status = "duplicate" if mail.duplicate else "accepted"
    return {"id": mail.id, "thread_id": mail.thread_id, "status": status}


def _answer(mails: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return dict(mails[0]) if len(mails) == 1 else {"messages": mails}


class WebhookHandler:
    def __init__(self, settings: Settings, fetch: Fetch, receiver: Receiver, claims: Claims) -> None:
        self._providers = {provider.name: provider for provider in build_providers(settings, fetch)}
        self._receiver = receiver
        self._claims = claims
        self._max_bytes = settings.max_message_bytes
        self._warned: set[str] = set()

    @property
    def max_request_bytes(self) -> int:
        """Return the limit of a request's body: base64 in JSON is a third larger than the mail it holds."""
        return self._max_bytes * 3 // 2 + 65_536

    @property
    def set_up(self) -> list[str]:
        return sorted(name for name, provider in self._providers.items() if provider.is_set_up)

    def find(self, name: str) -> WebhookProvider:
        if name not in self._providers:
            raise NotFound(f"there is no such way in; providers: {', '.join(sorted(self._providers))}")
        return self._providers[name]

    def warn_unset(self, provider: WebhookProvider, fault: NotSetUp) -> None:
        """Log the missing secret only once, as any caller can cause it."""
        if provider.name not in self._warned:
            self._warned.add(provider.name)
            log.warning("a request of %s is refused: %s", provider.name, fault)

    def handle(self, provider: WebhookProvider, request: WebhookRequest) -> dict[str, Any]:
        """Store the mails of a request, once, and return the answer.

        Raise Unproven, Unusable, NotNow or StoreUnavailable; after the last two it may come again.
        """
        provider.verify(request)
        event = provider.event(request)
        if not event:
            return self._store(provider, request)
        with self._claims.once(f"{provider.name}:{event}") as claim:
            if claim.is_taken:
                former = JsonObject.of(json.loads(claim.note))
                mails = former.objects("messages") or ([former] if "id" in former else [])
                return _answer([{**mail, "status": "duplicate"} for mail in mails]) if mails else former
            if not claim.is_ours:
                raise NotNow("this very request is being stored at this moment")
            answer = self._store(provider, request)
        # If this fails the provider repeats the request, and the receiver recognises the mail.
        self._claims.done(claim, json.dumps(answer), provider.remember_s)
        return answer

    def _store(self, provider: WebhookProvider, request: WebhookRequest) -> dict[str, Any]:
        try:
            arrivals = provider.extract(request)
        except NoMail as note:
            log.info("a request of %s brought no mail: %s", provider.name, note)
            return {"status": "ignored", "reason": str(note)}
        return _answer([described(self._receiver.accept(self._bounded(arrival))) for arrival in arrivals])

    def _bounded(self, arrival: IncomingMail) -> IncomingMail:
        """Keep only the header of a mail that is too large, so that a person sees it."""
        size = len(arrival.source)
        if size <= self._max_bytes:
            return arrival
        limit = f"EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes})"
        header = header_of(arrival.source)[: self._max_bytes]
        hold = f"{size} bytes, more than {limit}: only its header is kept"
        return replace(arrival, source=header, partial=True, hold=hold)
