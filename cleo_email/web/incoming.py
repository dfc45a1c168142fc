"""Mail by webhook."""

from __future__ import annotations

import logging
from dataclasses import replace

from flask import Blueprint, Response, request

from cleo_email.crashpoints import crashpoint
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.runtime import now_ms
from cleo_email.web.auth import proved_body, unproven_refused
from cleo_email.web.base import RequestRefused, answer, current
from cleo_email.web.bodies import bad_fields, parse_json, read_bytes
from cleo_email.web.models import IncomingFields
from cleo_email.webhooks.base import NotNow, NotSetUp, Unusable, WebhookProvider, WebhookRequest, bare_path
from cleo_email.webhooks.handler import HandledRequest, StoredMail

log = logging.getLogger(__name__)

bp = Blueprint("incoming", __name__, url_prefix="/email/incoming")

RETRY_AFTER_S = "60"


@bp.post("")
def fields() -> Response:
    """Take a mail as JSON fields."""
    with proved_body("application/json") as body:
        return take(parse_json(body, IncomingFields).arrival())


@bp.post("/raw")
def raw() -> Response:
    """Take a mail as it is, from an MTA's pipe or a mail worker at the edge."""
    with proved_body("message/rfc822") as source:
        if not source.strip():
            raise bad_fields({"body": "expected a mail (RFC 5322), found nothing"})
        sender = request.headers.get("X-Envelope-From")
        arrival = IncomingMail(
            source,
            "raw",
            envelope_from=bare_path(sender) if sender is not None else None,
            envelope_to=bare_path(request.headers.get("X-Envelope-To", "")),
        )
        return take(arrival)


@bp.post("/<name>")
def provider(name: str) -> Response:
    """Take what a mail provider posts, and answer with the status codes that it understands."""
    handler = current().webhooks
    found = handler.find(name)
    headers = {key.lower(): value for key, value in request.headers.items()}
    asked = WebhookRequest(headers, request.args.to_dict(), now_ms() / 1000)
    with unproven_refused():
        try:
            if not found.signs_body:  # then no body is read before the password was right
                found.verify(asked)
            body = read_bytes(handler.max_request_bytes, status=found.gives_up_with)
            return report(handler.handle(found, replace(asked, body=body)))
        except NotSetUp as fault:
            raise _unset(found, fault) from None
        except Unusable as fault:
            log.warning("a request of %s is of no use: %s", name, fault)
            raise RequestRefused(found.gives_up_with, str(fault)) from None
        except NotNow as fault:
            log.warning("a request of %s is to come again: %s", name, fault)
            raise RequestRefused(503, str(fault), headers={"Retry-After": RETRY_AFTER_S}) from None


def _unset(found: WebhookProvider, fault: NotSetUp) -> RequestRefused:
    """Return the answer while a setting is missing at our end: the provider is to keep the mail."""
    current().webhooks.warn_unset(found, fault)
    headers = {"Retry-After": RETRY_AFTER_S} if found.unset_status == 503 else {}
    return RequestRefused(found.unset_status, str(fault), headers=headers)


def take(arrival: IncomingMail) -> Response:
    """Store the mail: 202 once it is durable, 200 for one already taken."""
    accepted = current().receiver.accept(arrival)
    crashpoint("web-before-answer")
    mail = StoredMail(accepted.id, accepted.thread_id, accepted.duplicate)
    return answer(200 if mail.duplicate else 202, _described(mail))


def report(outcome: HandledRequest) -> Response:
    """Answer 200, which every provider takes for success; some take nothing else."""
    messages = [_described(mail) for mail in outcome.taken]
    if not messages:
        return answer(200, {"status": "ignored", "reason": outcome.note})
    return answer(200, messages[0] if len(messages) == 1 else {"messages": messages})


def _described(mail: StoredMail) -> dict[str, str]:
    status = "duplicate" if mail.duplicate else "accepted"
    return {"id": mail.id, "thread_id": mail.thread_id, "status": status}
