"""What the agent is asked about a record, and the mail that its answer becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cleo_email.agents import AgentAttachment, AgentMessage, AgentRequest, HistoryTurn
from cleo_email.clock import Clock, now_ms
from cleo_email.intake import Intake
from cleo_email.mail.compose import compose_reply, new_message_id
from cleo_email.mail.message import attachment_text, parse
from cleo_email.mail.model import Address, Answer, Attachment, InboundEmail, OutboundEmail, Turn
from cleo_email.mail.new_part import cut_new_part
from cleo_email.recipients import recipients_of
from cleo_email.screening.screen import Policy
from cleo_email.store import Record, Store
from cleo_email.workflows.opening import Opening
from cleo_email.workflows.starting import INGRESS


@dataclass(frozen=True)
class Rules:
    """What the operator set for answers. ``agent_timeout`` in seconds."""

    from_: Address
    policy: Policy
    agent_timeout: float = 300.0
    max_attachment_bytes: int = 10_485_760
    reply_all: bool = False


@dataclass(frozen=True)
class Question:
    """What the agent is asked, and what to do with its answer.

    ``text`` is what the thread's history keeps of the question; ``compose`` gives the mail and a note for the
    record; ``done`` is called once the agent will not be asked again.
    """

    request: AgentRequest
    text: str
    compose: Callable[[Answer], tuple[OutboundEmail, str]]
    done: Callable[[], None] = lambda: None


class Asking:
    """``opening`` serves the starts of workflows, to which no mail has come in."""

    def __init__(
        self,
        store: Store,
        intake: Intake,
        rules: Rules,
        *,
        opening: Opening | None = None,
        clock: Clock = now_ms,
    ) -> None:
        self._store = store
        self._intake = intake
        self._rules = rules
        self._opening = opening
        self._clock = clock

    def question(self, record: Record, source: bytes) -> Question:
        """Raises StoreUnavailable, NotFound."""
        if record.ingress == INGRESS and self._opening is not None:
            opening = self._opening
            return Question(
                opening.question(record),
                "",
                lambda answer: (opening.compose(record, answer), ""),
                lambda: opening.done(record),
            )
        mail = parse(source)
        history = self._store.threads.history(record.thread_id, but=record.id)
        text = new_part(mail, history)
        request = self._request(record, mail, text, history)
        members = self._members(record) if history and record.authenticated != "1" else None
        return Question(request, text, lambda answer: self._compose(record, mail, answer, members))

    def _members(self, record: Record) -> frozenset[str]:
        return self._store.threads.people([record.thread_id]).get(record.thread_id, frozenset())

    def _compose(
        self, record: Record, mail: InboundEmail, answer: Answer, members: frozenset[str] | None
    ) -> tuple[OutboundEmail, str]:
        rules = self._rules
        who = recipients_of(mail, rules.policy, reply_all=rules.reply_all, members=members)
        domain = self._rules.from_.addr.rpartition("@")[2]
        outbound = compose_reply(
            mail,
            answer,
            from_=self._rules.from_,
            to=who.to,
            cc=who.cc,
            message_id=new_message_id(domain, token=self._intake.new_token(record.thread_id, who.to)),
            date=datetime.fromtimestamp(self._clock() / 1000, UTC),
        )
        return outbound, who.note

    def _request(
        self, record: Record, mail: InboundEmail, text: str, history: tuple[Turn, ...]
    ) -> AgentRequest:
        limit = self._rules.max_attachment_bytes
        came_in = datetime.fromtimestamp(record.received_at / 1000, UTC)
        message = AgentMessage(
            message_id=mail.message_id,
            from_address=mail.from_address,
            from_name=mail.from_name,
            to_address=record.to_address,
            cc=tuple(address.addr for address in mail.cc),
            subject=mail.subject,
            text=text,
            full_text=_with_texts(mail),
            date=(mail.date or came_in).isoformat(),
            authenticated={"1": True, "0": False}.get(record.authenticated),
            attachments=tuple(_shown(attachment, limit) for attachment in mail.attachments),
        )
        workflow = self._store.threads.workflow(record.thread_id)
        return AgentRequest(
            id=record.id,
            thread_id=record.thread_id,
            message=message,
            history=tuple(HistoryTurn(role=turn.role, content=turn.content) for turn in history),
            workflow=workflow,
            language=(workflow or {}).get("language"),
            model=(workflow or {}).get("model"),
        )


def new_part(mail: InboundEmail, history: tuple[Turn, ...]) -> str:
    """What the sender wrote now: text that the thread already holds counts as quoted, marked or not."""
    if not history:
        return mail.text
    known = [turn.content for turn in history]
    return cut_new_part(mail.full_text, subject=mail.subject, replies=True, known=known).text


def _shown(attachment: Attachment, limit: int) -> AgentAttachment:
    """A file within the limit with its content, a larger one by name, type and size only."""
    if attachment.size <= limit:
        return AgentAttachment.of(attachment)
    return AgentAttachment(
        filename=attachment.filename, content_type=attachment.content_type, size=attachment.size, content=""
    )


def _with_texts(mail: InboundEmail) -> str:
    """The full text, and after it the text of those attachments that are text."""
    parts = [mail.full_text]
    for attachment in mail.attachments:
        text = attachment_text(attachment)
        if text and text.strip():
            parts.append(f"[{attachment.filename}]\n{text}")
    return "\n\n".join(parts)
