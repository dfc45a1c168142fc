"""A thread as a person reads it: every mail and every answer, by whom, oldest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cleo_email.errors import NotFound, UnreadableMessage
from cleo_email.mail.mime import split
from cleo_email.mail.model import AttachedFile, InboundEmail, ParseLimits
from cleo_email.mail.parse import parse
from cleo_email.store import LOGIN, QUESTION, Record, State, Store
from cleo_email.store.messages import UNASKED

PAGE = 20  # records
# Of the other mails of a thread the newest are read for their text and files up to this size together: it
# takes a second for a few megabytes.
READ_AT_MOST = 512 * 1024  # octets
_LEFT = frozenset({State.REPLIED, State.UNCERTAIN, State.SUBMITTING})


@dataclass(frozen=True)
class Said:
    """One mail of the thread. ``role`` is ``user``, ``agent`` or ``person``, ``at`` in ms since 1970.

    ``whole`` is the text with what it quotes, '' where that is no more. ``kept``: it has not left.
    """

    record: Record
    role: str
    by: str
    text: str
    at: int
    whole: str = ""
    files: tuple[AttachedFile, ...] = ()
    kept: bool = False
    answers: bool = False  # it is the answer in the record, not the mail
    unread: str = ""  # why the text cannot be shown


def conversation(store: Store, shown: Record, cursor: str = "") -> tuple[list[Said], str | None]:
    """Return what was said in the thread, and the cursor of what was said before that or None."""
    records, before = store.messages.page(thread_id=shown.thread_id, limit=PAGE, cursor=cursor)
    found: list[Said] = []
    readable, room = {shown.id}, READ_AT_MOST
    for light in records:
        room -= store.messages.source_size(light.id) if light.id != shown.id else 0
        if room >= 0:
            readable.add(light.id)
    for light in reversed(records):
        try:
            record = store.messages.get(light.id)
        except NotFound:  # its time was over a moment ago
            continue
        found += _of_record(store, record, readable=record.id in readable)
    return found, before


def incoming(store: Store, id_: str) -> InboundEmail | None:
    """Return the mail, None where it is gone or cannot be read."""
    source = store.messages.source(id_)
    try:
        return parse(source) if source else None
    except UnreadableMessage:
        return None


def kept_answer(store: Store, id_: str) -> InboundEmail | None:
    """Return the kept answer as its readers see it, None where there is none."""
    answer = store.messages.answer(id_)
    try:
        return parse(answer.source) if answer else None
    except UnreadableMessage:
        return None


def html_of(source: bytes) -> str:
    """Return the HTML of an answer of ours, '' where it has none."""
    parts = [split(source, ParseLimits())]
    for part in parts:
        parts += part.children
        if part.content_type == "text/html":
            return part.body().decode("utf-8", "replace")
    return ""


def _of_record(store: Store, record: Record, *, readable: bool) -> Iterator[Said]:
    if record.ingress not in UNASKED:
        yield _question(store, record, readable=readable)
    if record.ingress == LOGIN:
        yield Said(record, "agent", "agent", "", record.received_at, unread="login")
        return
    waits = record.state is State.REVIEW or (record.state is State.HELD and record.ingress == QUESTION)
    if not (record.answer_text or waits) or (record.state not in _LEFT and not waits and not record.bounced):
        return
    answer = kept_answer(store, record.id)
    text = record.answer_text or (answer.text if answer else "")
    role = "person" if record.ingress == "person" or record.answered_by == "mailbox" else "agent"
    who = record.from_address if record.ingress == "person" else record.answered_by or "agent"
    files = answer.attachments if answer else ()
    at = record.updated_at or record.received_at
    kept = waits or record.state is State.SUBMITTING
    yield Said(record, role, who, text, at, files=files, kept=kept, answers=True)


def _question(store: Store, record: Record, *, readable: bool) -> Said:
    mail = incoming(store, record.id) if readable else None
    text = record.text or (mail.text if mail else "")
    whole = mail.full_text if mail and len(mail.full_text.split()) > len(text.split()) else ""
    unread = "" if text else ((mail.unread if mail else "gone") or "empty")
    files = mail.attachments if mail else ()
    # A colleague's mail that a person has released is a mail to the agent.
    role = "person" if record.colleague and record.state is State.IGNORED else "user"
    return Said(record, role, record.from_address, text, record.received_at, whole, files, unread=unread)
