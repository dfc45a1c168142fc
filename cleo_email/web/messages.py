"""What became of every message."""

from __future__ import annotations

from flask import Blueprint, Response, request

from cleo_email.web.answers import answer
from cleo_email.web.guards import front, require_api_token, validated
from cleo_email.web.shapes import MessagesQuery

bp = Blueprint("messages", __name__, url_prefix="/email/messages")


@bp.get("")
def index() -> Response:
    """Records, newest first."""
    require_api_token()
    query = validated(request.args.to_dict(), MessagesQuery)
    records, following = front().store.messages.page(
        state=query.state or "",
        thread_id=query.thread_id,
        message_id=query.message_id,
        limit=query.limit,
        cursor=query.cursor,
    )
    return answer(200, {"messages": [record.public() for record in records], "next": following})


@bp.get("/<id_>")
def show(id_: str) -> Response:
    """One record with its history."""
    require_api_token()
    messages = front().store.messages
    return answer(200, {**messages.get(id_).public(), "history": messages.history(id_)})
