"""Mail by webhook."""

from __future__ import annotations

from flask import Blueprint, Response, request

from cleo_email.crashpoints import reach
from cleo_email.ingress.fields import IncomingFields
from cleo_email.intake import Arrival
from cleo_email.web.answers import Refused, answer
from cleo_email.web.guards import front, parse_json, read_body, require_webhook_secret

bp = Blueprint("incoming", __name__, url_prefix="/email/incoming")


@bp.post("")
def fields() -> Response:
    """A mail as JSON fields."""
    require_webhook_secret()
    return take(parse_json(read_body("application/json"), IncomingFields).arrival())


@bp.post("/raw")
def raw() -> Response:
    """A mail as it is, from an MTA's pipe or a mail worker at the edge."""
    require_webhook_secret()
    source = read_body("message/rfc822")
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


def take(arrival: Arrival) -> Response:
    """202 once the mail is durable, 200 for one already taken."""
    accepted = front().intake.accept(arrival)
    reach("web-before-answer")
    status = "duplicate" if accepted.duplicate else "accepted"
    body = {"id": accepted.id, "thread_id": accepted.thread_id, "status": status}
    return answer(200 if accepted.duplicate else 202, body)
