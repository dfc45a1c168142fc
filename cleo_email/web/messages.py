"""What became of every message."""

from __future__ import annotations

import re

from flask import Blueprint, Response, request

from cleo_email.store import State
from cleo_email.web.answers import Refused, answer
from cleo_email.web.guards import front, require_api_token

bp = Blueprint("messages", __name__, url_prefix="/email/messages")

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000


@bp.get("")
def index() -> Response:
    """Records, newest first."""
    require_api_token()
    faults: dict[str, str] = {}
    state = request.args.get("state", "")
    if state and state not in set(State):
        faults["state"] = f"expected one of {', '.join(State)}"
    limit_text = request.args.get("limit", str(DEFAULT_LIMIT))
    limit = int(limit_text) if re.fullmatch(r"[0-9]{1,6}", limit_text) else 0
    if not 1 <= limit <= MAX_LIMIT:
        faults["limit"] = f"expected a whole number from 1 to {MAX_LIMIT}"
    cursor = request.args.get("cursor", "")
    if cursor and not re.fullmatch(r"[0-9a-f]{24}", cursor):
        faults["cursor"] = "expected the value of next of an earlier answer"
    if faults:
        raise Refused(422, "bad fields: " + ", ".join(faults), faults)
    records, following = front().store.messages.page(
        state=state,
        thread_id=request.args.get("thread_id", ""),
        message_id=request.args.get("message_id", ""),
        limit=limit,
        cursor=cursor,
    )
    return answer(200, {"messages": [record.public() for record in records], "next": following})


@bp.get("/<id_>")
def show(id_: str) -> Response:
    """One record with its history."""
    require_api_token()
    messages = front().store.messages
    return answer(200, {**messages.get(id_).public(), "history": messages.history(id_)})
