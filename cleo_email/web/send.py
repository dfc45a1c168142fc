"""Mail that answers no other: a message to send, a workflow to start."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Blueprint, Response, request

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import InvalidField, KeyReused, NotFound
from cleo_email.web.auth import require_api_token
from cleo_email.web.base import RequestRefused, answer, current
from cleo_email.web.bodies import bad_fields, parse_json, read_body, read_form, validated
from cleo_email.web.models import SendFields, WorkflowFields
from cleo_email.webhooks.forms import MULTIPART

bp = Blueprint("send", __name__)

KEY_PATTERN = r"[!-~]{1,255}"


@bp.post("/email/send")
def send() -> Response:
    """Send a mail from the agent's address; 202 once it is durable."""
    require_api_token()
    if request.mimetype == MULTIPART:
        fields = validated(read_form(), SendFields)
    else:
        fields = parse_json(read_body("application/json", MULTIPART), SendFields)
    draft = fields.draft()
    del fields
    with _faults_answered():
        sent = current().sender.send(draft, idempotency_key=_key())
    crashpoint("web-before-answer")
    return answer(202, {"id": sent.id, "message_id": sent.message_id, "thread_id": sent.thread_id})


@bp.post("/workflows")
def workflows() -> Response:
    """Start a workflow; 202 once it is durable for every user."""
    require_api_token()
    start = parse_json(read_body("application/json"), WorkflowFields).request()
    with _faults_answered():
        started = current().workflow_starter.start(start, idempotency_key=_key())
    crashpoint("web-before-answer")
    ids = [{"id": one.id, "user_id": one.user_id, "thread_id": one.thread_id} for one in started]
    return answer(202, {"ids": ids})


def _key() -> str:
    """Return the Idempotency-Key, or '' where there is none."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return ""
    if not re.fullmatch(KEY_PATTERN, key):
        expected = "expected at most 255 printable ASCII characters without blanks, such as a UUID"
        raise bad_fields({"Idempotency-Key": expected})
    return key


@contextmanager
def _faults_answered() -> Iterator[None]:
    try:
        yield
    except NotFound as fault:
        raise RequestRefused(404, str(fault), {"thread_id": str(fault)}) from None
    except InvalidField as fault:
        raise bad_fields({fault.field: str(fault)}) from None
    except KeyReused as fault:
        raise RequestRefused(409, str(fault), {"Idempotency-Key": str(fault)}) from None
