"""What is answered, as models: they make the answers, and describe them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from cleo_email.store import State

RECORD_ID = r"^[0-9a-f]{24}$"
RecordId = Annotated[str, Field(pattern=RECORD_ID, examples=["01a20cebeb10295077625fe1"])]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Failure(Shape):
    """What is wrong, and a line for each bad field."""

    error: str
    fields: dict[str, str] = Field(description="the name of each bad field, and what to do about it")


class Accepted(Shape):
    """A mail that is stored. ``duplicate``: it was there already, as the record of this id."""

    id: RecordId
    thread_id: str
    status: Literal["accepted", "duplicate"]


class Posted(BaseModel):
    """What became of a provider's request: one mail, several, or none."""

    model_config = ConfigDict(frozen=True, extra="allow")

    status: Literal["accepted", "duplicate", "ignored"] | None = None
    messages: list[Accepted] | None = None


class Sent(Shape):
    """A mail that is stored and will be submitted; ids with their angle brackets."""

    id: RecordId
    message_id: str
    thread_id: str


class StartedOne(Shape):
    id: RecordId
    user_id: str = Field(description="as given in the request")
    thread_id: str


class Started(Shape):
    """One record for each user."""

    ids: list[StartedOne]


class Message(Shape):
    """What is known of a message."""

    id: RecordId
    state: State
    reason: str
    thread_id: str
    message_id: str
    in_reply_to: str
    from_address: str
    subject: str
    received_at: Time
    updated_at: Time
    attempts: int
    reply_message_id: str


class Step(Shape):
    state: State
    at: Time
    reason: str


class MessageWithHistory(Message):
    history: list[Step]


class MessagePage(Shape):
    """Records, newest first; ``next`` is the cursor of the next page, or null."""

    messages: list[Message]
    next: RecordId | None


class Status(Shape):
    status: Literal["ok", "ready"]


def _any_state(value: object) -> object:
    return value or None


WantedState = Annotated[
    State | None,
    BeforeValidator(_any_state),
    WithJsonSchema({"type": "string", "enum": ["", *(str(state) for state in State)], "default": ""}),
]


class MessagesQuery(BaseModel):
    """Which records to list."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    # Pydantic describes the default by the value that Python sees, which is no string.
    state: WantedState = Field(None, json_schema_extra={"default": ""})
    thread_id: str = ""
    message_id: str = ""
    limit: int = Field(100, ge=1, le=1000)
    cursor: Annotated[str, Field(pattern=r"^([0-9a-f]{24})?$")] = Field(
        "", description="next of an earlier answer"
    )
