"""``/email/messages``: what became of every message."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint, Response, request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cleo_email.store import State
from cleo_email.web.auth import require_api_token
from cleo_email.web.base import answer, current
from cleo_email.web.bodies import validated

bp = Blueprint("messages", __name__, url_prefix="/email/messages")


class MessagesQuery(BaseModel):
    """Which records to list; an empty ``state`` is any."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: Annotated[State | None, BeforeValidator(lambda value: value or None)] = None
    thread_id: str = ""
    message_id: str = ""
    limit: int = Field(100, ge=1, le=1000)
    cursor: Annotated[str, Field(pattern=r"^([0-9a-f]{24})?$")] = ""


@bp.get("")
def index() -> Response:
    """List records, newest first."""
    require_api_token()
    query = validated(request.args.to_dict(), MessagesQuery)
    records, following = current().store.messages.page(
        state=query.state or "",
        thread_id=query.thread_id,
        message_id=query.message_id,
        limit=query.limit,
        cursor=query.cursor,
    )
    return answer(200, {"messages": [record.public() for record in records], "next": following})


@bp.get("/<id_>")
def show(id_: str) -> Response:
    """Show one record with its history."""
    require_api_token()
    messages = current().store.messages
    return answer(200, {**messages.get(id_).public(), "history": messages.history(id_)})
