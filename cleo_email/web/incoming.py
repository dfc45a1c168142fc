"""Mail by webhook."""

from __future__ import annotations

import logging

from flask import Blueprint, Response, request

from cleo_email.clock import now_ms
from cleo_email.crashpoints import reach
from cleo_email.ingress.base import Ingress, NotNow, NotSetUp, Posted, Unusable
from cleo_email.ingress.fields import IncomingFields
from cleo_email.ingress.receiving import Outcome
from cleo_email.intake import Arrival
from cleo_email.web.answers import Refused, answer
from cleo_email.web.guards import front, parse_json, read_bytes, receiving
from cleo_email.web.proving import proved_body, proving

log = logging.getLogger(__name__)

bp = Blueprint("incoming", __name__, url_prefix="/email/incoming")

RETRY_AFTER_S = "60"


@bp.post("")
def fields() -> Response:
    """A mail as JSON fields."""
    with proved_body("application/json") as body:
        return take(parse_json(body, IncomingFields).arrival())


@bp.post("/raw")
def raw() -> Response:
    """A mail as it is, from an MTA's pipe or a mail worker at the edge."""
    with proved_body("message/rfc822") as source:
        if not source.strip():
            raise Refused(422, "bad fields: body", {"body": "expected a mail (RFC 5322), found nothing"})
        sender = request.headers.get("X-Envelope-From")
        return take(
            Arrival(
                source,
                "raw",
                envelope_from=sender.strip().strip("<>") if sender is not None else None,
                envelope_to=request.headers.get("X-Envelope-To", "").strip().strip("<>")[:320],
            )
        )


@bp.post("/<name>")
def provider(name: str) -> Response:
    """A mail in the format of a provider that receives it; answered with the codes that it understands."""
    ingress = receiving().find(name)
    headers = {key.lower(): value for key, value in request.headers.items()}
    posted = Posted(headers, request.args.to_dict(), now_ms() / 1000)
    with proving():
        if not ingress.signs_body:  # then nobody's body is read before the password was right
            _verify(ingress, posted)
        body = read_bytes(receiving().max_request_bytes, status=ingress.gives_up_with)
        try:
            return report(receiving().receive(ingress, posted.with_body(body)))
        except NotSetUp as fault:
            raise _unset(ingress, fault) from None
        except Unusable as fault:
            log.warning("a request of %s is of no use: %s", name, fault)
            raise Refused(ingress.gives_up_with, str(fault)) from None
        except NotNow as fault:
            log.warning("a request of %s is to come again: %s", name, fault)
            raise Refused(503, str(fault), headers={"Retry-After": RETRY_AFTER_S}) from None


def _verify(ingress: Ingress, posted: Posted) -> None:
    try:
        ingress.verify(posted)
    except NotSetUp as fault:
        raise _unset(ingress, fault) from None


def _unset(ingress: Ingress, fault: NotSetUp) -> Refused:
    """The setting is missing at our end: the provider is to keep the mail meanwhile."""
    receiving().tell_unset(ingress, fault)
    headers = {"Retry-After": RETRY_AFTER_S} if ingress.unset_status == 503 else {}
    return Refused(ingress.unset_status, str(fault), headers=headers)


def take(arrival: Arrival) -> Response:
    """202 once the mail is durable, 200 for one already taken."""
    accepted = front().intake.accept(arrival)
    reach("web-before-answer")
    status = "duplicate" if accepted.duplicate else "accepted"
    body = {"id": accepted.id, "thread_id": accepted.thread_id, "status": status}
    return answer(200 if accepted.duplicate else 202, body)


def report(outcome: Outcome) -> Response:
    """Always 200, which every provider takes for success; some take nothing else."""
    messages = [
        {
            "id": one.id,
            "thread_id": one.thread_id,
            "status": "duplicate" if one.duplicate else "accepted",
        }
        for one in outcome.taken
    ]
    if not messages:
        return answer(200, {"status": "ignored", "reason": outcome.note})
    return answer(200, messages[0] if len(messages) == 1 else {"messages": messages})
