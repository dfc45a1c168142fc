"""Records of messages and their threads: list, show, and take what people decide about them."""

from functools import partial
from typing import Any

from flask import Blueprint, Response, request

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import InvalidField, NotFound
from cleo_email.pipeline.decide import DECISIONS
from cleo_email.pipeline.withdrawal import new_text
from cleo_email.store import Record, State, Store, iso
from cleo_email.web.auth import require_api_token
from cleo_email.web.bodies import answer, answers_in_json, bad_fields, current, read_optional_json, validated
from cleo_email.web.models import ApproveFields, MessagesQuery, ReasonFields, ThreadQuery

bp = answers_in_json(Blueprint("messages", __name__))


@bp.get("/email/messages")
def messages() -> Response:
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


@bp.get("/email/messages/<id_>")
def message(id_: str) -> Response:
    """Show one record with its history."""
    require_api_token()
    return _shown(current().store.messages.get(id_))


def _shown(record: Record) -> Response:
    shown = {**record.public(), "history": current().store.messages.history(record.id)}
    if record.state is State.REVIEW:
        shown["answer"] = record.answer_text
    return answer(200, shown)


# --- decisions --------------------------------------------------------------------------------------------


def _decided(decision: str, id_: str) -> Response:
    """Take a decision about one message. The body may be absent; its errors come before those of the id."""
    by = require_api_token()
    fields = read_optional_json(ApproveFields if decision == "approve" else ReasonFields)
    try:
        record = DECISIONS[decision](current().decisions, id_, by=by, **fields.model_dump())
    except InvalidField as fault:
        raise bad_fields({fault.field: str(fault)}) from None
    crashpoint("web-before-answer")
    return _shown(record)


for _name in DECISIONS:
    bp.add_url_rule(f"/email/messages/<id_>/{_name}", _name, partial(_decided, _name), methods=["POST"])


# --- threads ----------------------------------------------------------------------------------------------


@bp.get("/email/threads")
def thread() -> Response:
    """Show the thread of a message: who has it, and who said what."""
    require_api_token()
    store, asked = current().store, validated(request.args.to_dict(), ThreadQuery).message_id
    thread_id = _thread_of(store, asked)
    turns: list[dict[str, Any]] = []
    for turn in store.threads.turns(thread_id):
        text = turn.text or new_text(store, store.messages.get(turn.id))
        turns.append({"id": turn.id, "role": turn.role, "by": turn.by, "text": text, "at": iso(turn.at)})
    whose = "person" if store.threads.person(thread_id) else "agent"
    return answer(200, {"thread_id": thread_id, "with": whose, "turns": turns})


def _thread_of(store: Store, asked: str) -> str:
    """Return the thread of a record's id, or of a Message-ID, theirs or ours. Raise NotFound."""
    if not asked.startswith("<") and "@" not in asked:
        return store.messages.get(asked).thread_id
    message_id = f"<{asked.strip('<>')}>"
    found, _ = store.messages.page(message_id=message_id, limit=1)
    if found:
        return found[0].thread_id
    if ours := store.threads.by_our_ids([message_id]):
        return ours[message_id][0]
    raise NotFound(f"there is no message {message_id[:200]!r}; see: cleo-email messages list")
