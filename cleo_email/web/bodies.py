"""What may be posted to ``/email/send`` and ``/workflows``: models that validate, and that are documented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator
from pydantic import WithJsonSchema as Schema

from cleo_email.agents.words import well_formed_json
from cleo_email.attaching import MAX_FILENAME, checked_filename, make_file
from cleo_email.errors import InvalidField
from cleo_email.mail.base64_text import decode_base64
from cleo_email.mail.compose import MAX_SUBJECT
from cleo_email.mail.envelope import validate_address
from cleo_email.mail.model import Address, Attachment
from cleo_email.mail.wire import no_surrogates
from cleo_email.outbound import MAX_RECIPIENTS, Draft, read_addresses
from cleo_email.settings.workflows import MAX_ID
from cleo_email.workflows.starting import MAX_USERS, StartRequest

MAX_FILES = 100
_EMAIL = {"type": "string", "format": "email", "examples": ["anna@example.com"]}
_BASE64 = {"type": "string", "format": "byte", "contentEncoding": "base64", "examples": ["SGVsbG8="]}
T = TypeVar("T")


def _said(call: Callable[[], T]) -> T:
    """InvalidField as the ValueError that pydantic collects; the place is known to it already."""
    try:
        return call()
    except InvalidField as error:
        raise ValueError(str(error).removeprefix(f"{error.field}: ")) from None


def _recipients(value: object) -> tuple[Address, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("expected an address, or a list of addresses")
    return _said(lambda: read_addresses("address", texts))


def _one_at_least(value: tuple[Address, ...]) -> tuple[Address, ...]:
    if not value:
        raise ValueError("no recipient: give at least one address")
    return value


def _none(value: object) -> tuple[Address, ...]:
    return () if value is None else _recipients(value)


def _users(value: object) -> tuple[tuple[str, Address], ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("expected a list of addresses")
    if not value:
        raise ValueError("nobody to write to: give at least one address")
    if len(value) > MAX_USERS:
        raise ValueError(f"{len(value)} users, at most {MAX_USERS} in one request")
    return tuple((no_surrogates(text), _user(text)) for text in value)


def _user(text: str) -> Address:
    return _said(lambda: validate_address("user", text))


def _short_enough(value: str) -> str:
    if len(value) > MAX_SUBJECT:
        raise ValueError(f"longer than {MAX_SUBJECT} characters")
    return value


def _content(value: object) -> bytes:
    if isinstance(value, bytes):  # a file of a form
        return value
    if not isinstance(value, str):
        raise ValueError("expected the file's bytes in base64")  # noqa: TRY004
    return decode_base64(value)


def _json(value: object) -> object:
    try:
        return well_formed_json(value)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _empty(value: object) -> object:
    return "" if value is None else value


def _several(schema: dict[str, Any], **bounds: int) -> dict[str, Any]:
    return {"type": "array", "items": schema, **bounds}


Text = Annotated[str, Field(strict=True), AfterValidator(no_surrogates)]
Optional = Annotated[
    Text, BeforeValidator(_empty), Schema({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None})
]
Short = Annotated[
    str,
    BeforeValidator(_empty),
    Field(strict=True),
    AfterValidator(no_surrogates),
    AfterValidator(_short_enough),
    Schema({"anyOf": [{"type": "string", "maxLength": MAX_SUBJECT}, {"type": "null"}], "default": None}),
]
Json = Annotated[Any, BeforeValidator(_json)]
WorkflowId = Annotated[
    str, Field(strict=True, min_length=1, max_length=MAX_ID, pattern=r"\S"), AfterValidator(no_surrogates)
]
Subject = Annotated[Text, AfterValidator(_short_enough), Field(json_schema_extra={"maxLength": MAX_SUBJECT})]
Filename = Annotated[
    Text,
    AfterValidator(lambda name: _said(lambda: checked_filename("filename", name))),
    Field(
        min_length=1,
        max_length=MAX_FILENAME,
        json_schema_extra={
            "pattern": r"^[^/\\\u0000-\u001f\u007f]*[^./\\\s\u0000-\u001f\u007f][^/\\\u0000-\u001f\u007f]*$"
        },
        examples=["report.pdf"],
    ),
]
Content = Annotated[bytes, PlainValidator(_content), Schema(_BASE64)]
Recipients = Annotated[
    tuple[Address, ...],
    PlainValidator(_recipients),
    AfterValidator(_one_at_least),
    Schema({"anyOf": [_EMAIL, _several(_EMAIL, minItems=1)]}),
]
Copies = Annotated[
    tuple[Address, ...],
    PlainValidator(_none),
    Schema({"anyOf": [_EMAIL, _several(_EMAIL), {"type": "null"}], "default": None}),
]
Users = Annotated[
    tuple[tuple[str, Address], ...],
    PlainValidator(_users),
    Schema(_several(_EMAIL, minItems=1, maxItems=MAX_USERS)),
]


class FileFields(BaseModel):
    """A file: its plain name, its bytes in base64, and its type (guessed from the name where absent)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    filename: Filename
    content: Content
    content_type: Optional = Field("", examples=["application/pdf"])

    def file(self) -> Attachment:
        return make_file(self.filename, self.content, self.content_type)


Files = Annotated[list[FileFields], Field(max_length=MAX_FILES)] | None


class SendFields(BaseModel):
    """A mail to send. Addresses may be ``a@b`` or ``Name <a@b>``; to and cc together at most 50."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    to: Recipients = Field(description=f"with cc at most {MAX_RECIPIENTS}")
    subject: Subject
    body: Text = Field(repr=False, description="Markdown; it goes out as text and HTML")
    cc: Copies = Field((), description=f"with to at most {MAX_RECIPIENTS}")
    thread_id: Optional = Field("", description="continues a thread; absent: a new one")
    attachments: Files = Field(None, repr=False)

    def draft(self) -> Draft:
        return Draft(
            to=self.to,
            subject=self.subject,
            body=self.body,
            cc=self.cc,
            attachments=[one.file() for one in self.attachments or ()],
            thread_id=self.thread_id,
        )


class WorkflowFields(BaseModel):
    """A workflow to start: the agent is asked once for each user, and its answer mailed to that user."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    workflow_id: WorkflowId
    user_ids: Users = Field(description="addresses, a@b or Name <a@b>")
    channel: Literal["email"]
    config_id: Json = Field(None, description="to the agent, as given")
    instance: Json = Field(None, description="to the agent, as given")
    language: Short = Field("", description="to the agent, with each mail of the thread", examples=["de"])
    model: Short = Field("", description="to the agent, with each mail of the thread")
    new_room: Annotated[bool, Field(strict=True)] = Field(
        True, description="false: goes on in the latest thread of that user and workflow"
    )
    workflow_data: Json = Field(None, description="to the agent, as given")
    subject: Short = Field("", description="absent: the configured one, else made of the id")
    attachments: Files = Field(None, repr=False)

    def request(self) -> StartRequest:
        return StartRequest(
            workflow_id=self.workflow_id,
            users=self.user_ids,
            subject=self.subject,
            language=self.language,
            model=self.model,
            new_room=self.new_room,
            config_id=self.config_id,
            instance=self.instance,
            workflow_data=self.workflow_data,
            attachments=[one.file() for one in self.attachments or ()],
        )
