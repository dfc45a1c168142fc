"""Mail that answers nobody: messages to send, workflows to start."""

from __future__ import annotations

import re

from flask import Blueprint, Response, request

from cleo_email.crashpoints import reach
from cleo_email.errors import InvalidField, KeyReused, NotFound
from cleo_email.front import build_outbound, build_starting
from cleo_email.web.answers import Refused, answer
from cleo_email.web.bodies import SendFields, WorkflowFields
from cleo_email.web.forms import FORM, read_form
from cleo_email.web.guards import front, parse_json, read_body, require_api_token, validated
from cleo_email.web.shapes import Sent, Started, StartedOne

bp = Blueprint("sending", __name__)

KEY_PATTERN = r"[!-~]{1,255}"


@bp.post("/email/send")
def send() -> Response:
    """A mail from the agent's address; 202 once it is durable."""
    require_api_token()
    if request.mimetype == FORM:
        fields = validated(read_form(), SendFields)
    else:
        fields = parse_json(read_body("application/json", FORM), SendFields)
    draft = fields.draft()
    del fields
    try:
        sent = build_outbound(front()).send(draft, idempotency_key=_key())
    except NotFound as fault:
        raise Refused(404, str(fault), {"thread_id": str(fault)}) from None
    except InvalidField as fault:
        raise _bad(fault) from None
    except KeyReused as fault:
        raise Refused(409, str(fault), {"Idempotency-Key": str(fault)}) from None
    reach("web-before-answer")
    body = Sent(id=sent.id, message_id=sent.message_id, thread_id=sent.thread_id)
    return answer(202, body.model_dump())


@bp.post("/workflows")
def workflows() -> Response:
    """The start of a workflow; 202 once it is durable for every user."""
    require_api_token()
    start = parse_json(read_body("application/json"), WorkflowFields).request()
    try:
        started = build_starting(front()).start(start, idempotency_key=_key())
    except InvalidField as fault:
        raise _bad(fault) from None
    except KeyReused as fault:
        raise Refused(409, str(fault), {"Idempotency-Key": str(fault)}) from None
    reach("web-before-answer")
    ids = [StartedOne(id=one.id, user_id=one.user_id, thread_id=one.thread_id) for one in started]
    return answer(202, Started(ids=ids).model_dump())


def _key() -> str:
    """The Idempotency-Key, or '' where there is none."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return ""
    if not re.fullmatch(KEY_PATTERN, key):
        expected = "expected at most 255 printable ASCII characters without blanks, such as a UUID"
        raise Refused(422, "bad fields: Idempotency-Key", {"Idempotency-Key": expected})
    return key


def _bad(fault: InvalidField) -> Refused:
    return Refused(422, f"bad fields: {fault.field}", {fault.field: str(fault)})
