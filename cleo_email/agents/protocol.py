"""What an agent is asked, and what an agent is.

The models are the "Request" JSON of the contract, field for field: an HTTP agent gets them as a JSON body, a
Python callable as a plain ``dict`` of the same shape. Text is cleaned of lone surrogates on the way in, so
that no mail, however broken, makes a request that JSON cannot carry.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cleo_email.agents.words import well_formed_json
from cleo_email.mail.model import Answer, Attachment
from cleo_email.mail.wire import no_surrogates


def _clean(value: object) -> object:
    return no_surrogates(value) if isinstance(value, str) else value


def _clean_json(value: object) -> object:
    try:
        return well_formed_json(value)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


Text = Annotated[str, BeforeValidator(_clean)]
JsonDict = Annotated[dict[str, Any], BeforeValidator(_clean_json)]


class _Frozen(BaseModel):
    # hide_input: a fault must not carry the text of a mail into a log.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class AgentAttachment(_Frozen):
    """A file of the mail: its ``size`` in bytes and its ``content`` as base64 (RFC 4648 section 4)."""

    filename: Text
    content_type: Text
    size: int
    content: str = Field(repr=False)

    @classmethod
    def of(cls, attachment: Attachment) -> AgentAttachment:
        return cls(
            filename=attachment.filename,
            content_type=attachment.content_type,
            size=attachment.size,
            content=base64.b64encode(attachment.content).decode("ascii"),
        )


class AgentMessage(_Frozen):
    """The mail. ``text`` is its new part, ``full_text`` all of it, ``date`` ISO 8601.

    ``authenticated`` is None where nobody has checked who wrote it. For the start of a workflow, to which no
    mail has come in, the texts are empty.
    """

    message_id: Text = ""
    from_address: Text = ""
    from_name: Text = ""
    to_address: Text = ""
    cc: tuple[Text, ...] = ()
    subject: Text = ""
    text: Text = Field(default="", repr=False)
    full_text: Text = Field(default="", repr=False)
    date: Text | None = None
    authenticated: bool | None = None
    attachments: tuple[AgentAttachment, ...] = ()


class HistoryTurn(_Frozen):
    """An earlier step of the thread; ``role`` is ``user`` or ``assistant``."""

    role: Text
    content: Text = Field(repr=False)


class AgentRequest(_Frozen):
    """One question to the agent. ``id`` is the record's; it is also the ``Idempotency-Key``."""

    id: str = Field(pattern=r"^[!-~]+$")  # it travels in a header
    channel: str = "email"
    thread_id: Text
    message: AgentMessage = AgentMessage()
    history: tuple[HistoryTurn, ...] = ()
    workflow: JsonDict | None = None
    language: Text | None = None
    model: Text | None = None


class Agent(Protocol):
    """Whoever answers. Safe to call from many threads at once."""

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        """The final answer.

        :param deadline: seconds that the whole call may take, whatever the other side does.
        :raises AgentUnavailable: asking again can help.
        :raises AgentError: asking again will not help.
        """
        ...
