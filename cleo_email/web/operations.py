"""Every endpoint, for ``/openapi.json``; a test holds this list against the application's routes."""

from __future__ import annotations

from typing import Any

from cleo_email.ingress.fields import IncomingFields
from cleo_email.outbound import MAX_RECIPIENTS
from cleo_email.web.bodies import SendFields, WorkflowFields
from cleo_email.web.forms import FORM
from cleo_email.web.openapi import JSON, Operation
from cleo_email.web.sending import KEY_PATTERN
from cleo_email.web.shapes import (
    RECORD_ID,
    Accepted,
    MessagePage,
    MessagesQuery,
    MessageWithHistory,
    Posted,
    Sent,
    Started,
    Status,
)

WEBHOOK = (400, 403, 404, 413, 415, 422, 429, 503)
API = (401, 404, 429, 503)
POSTED = (400, 401, 404, 409, 413, 415, 422, 429, 503)
_EMAIL = {"type": "string", "format": "email"}


def _header(name: str, text: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": text,
        "schema": {"type": "string", **schema},
    }


KEY = _header(
    "Idempotency-Key",
    "the same request with the same key within 24 hours is one, and gets the same answer",
    pattern=f"^{KEY_PATTERN}$",
)
MAIL = {"type": "string", "pattern": r"\S", "description": "a mail, RFC 5322"}
SUM = f"with the others at most {MAX_RECIPIENTS}"  # a sum that no schema can say
FORM_BODY = {
    "type": "object",
    "required": ["to", "subject", "body"],
    "additionalProperties": False,
    "properties": {
        "to": {"type": "array", "items": _EMAIL, "minItems": 1, "description": SUM},
        "cc": {"type": "array", "items": _EMAIL, "description": SUM},
        "subject": {"type": "string", "maxLength": 2000},
        "body": {"type": "string"},
        "thread_id": {"type": "string"},
        "attachments": {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": 100},
    },
}

OPERATIONS = (
    Operation(
        "POST",
        "/email/incoming",
        "Hand a mail in, as fields",
        answers={200: Accepted, 202: Accepted},
        failures=WEBHOOK,
        bodies={JSON: IncomingFields},
        secured="webhook",
    ),
    Operation(
        "POST",
        "/email/incoming/raw",
        "Hand a mail in, as it is",
        answers={200: Accepted, 202: Accepted},
        failures=WEBHOOK,
        bodies={"message/rfc822": MAIL},
        parameters=(
            _header("X-Envelope-From", "the envelope's sender; empty for the null sender"),
            _header("X-Envelope-To", "the envelope's recipient"),
        ),
        secured="webhook",
    ),
    Operation(
        "POST",
        "/email/send",
        "Send a mail from the agent's address",
        answers={202: Sent},
        failures=POSTED,
        bodies={JSON: SendFields, FORM: FORM_BODY},
        parameters=(KEY,),
        secured="api",
    ),
    Operation(
        "POST",
        "/workflows",
        "Start a workflow: the agent writes to each user",
        answers={202: Started},
        failures=POSTED,
        bodies={JSON: WorkflowFields},
        parameters=(KEY,),
        secured="api",
    ),
    Operation(
        "GET",
        "/email/messages",
        "List what became of messages",
        answers={200: MessagePage},
        failures=(*API, 422),
        query=MessagesQuery,
        secured="api",
    ),
    Operation(
        "GET",
        "/email/messages/{id}",
        "Show one message with its history",
        answers={200: MessageWithHistory},
        failures=API,
        parameters=(
            {
                "name": "id",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": RECORD_ID},
            },
        ),
        secured="api",
    ),
    Operation("GET", "/healthz", "Whether the process serves", answers={200: Status}),
    Operation("GET", "/readyz", "Whether mail flows", answers={200: Status}, failures=(503,)),
)


def provider_operation(names: list[str]) -> Operation:
    """The one way in that every mail provider has, in a format of its own."""
    return Operation(
        "POST",
        "/email/incoming/{provider}",
        "A mail provider's own format, with its own signature",
        answers={200: Posted},
        failures=(400, 401, 403, 404, 406, 413, 415, 422, 429, 503),
        bodies={JSON: {"type": "object"}},
        parameters=(
            {"name": "provider", "in": "path", "required": True, "schema": {"type": "string", "enum": names}},
        ),
    )
