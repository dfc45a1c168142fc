"""What may be posted: a body is read whole, in the contract's order (413, 415, 400, 422), and validated."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from flask import request
from gunicorn.http.errors import ParseException
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
)
from werkzeug.exceptions import ClientDisconnected
from werkzeug.http import parse_options_header

from cleo_email.agents.base import well_formed_json
from cleo_email.errors import InvalidField
from cleo_email.mail.address import validate_address
from cleo_email.mail.attachment import MAX_FILENAME, checked_filename, make_file
from cleo_email.mail.compose import MAX_SUBJECT
from cleo_email.mail.decoding import decode_base64_strict
from cleo_email.mail.model import Address, AttachedFile
from cleo_email.pipeline.send import NewMail, read_addresses
from cleo_email.pipeline.workflows import MAX_USERS, StartRequest
from cleo_email.scrub import no_surrogates
from cleo_email.settings.workflows import MAX_ID
from cleo_email.web.base import RequestRefused, current
from cleo_email.webhooks.forms import FormPart, MalformedForm, TooManyParts, read_multipart

# A body that is refused is still read up to this, else the caller's connection breaks before our answer.
DRAIN_BYTES = 64 * 1024 * 1024
# But not from somebody who lets us wait: a refused caller must not keep others from being served.
DRAIN_S = 2.0
MAX_FILES = 100
MAX_PARTS = 300
FILES = "attachments"
SEVERAL = ("to", "cc")
# What reading a body raises when the caller hangs up or sends no valid chunks.
_BROKEN = (OSError, ValueError, ParseException)
Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


# --- bytes -----------------------------------------------------------------------------------------------


def read_bytes(limit: int, *, status: int = 413) -> bytes:
    """The body; above ``limit`` octets it is refused with ``status``.

    400 for one that ends early or whose chunks are broken: half a mail must not be taken for the whole.
    """
    length = request.content_length
    too_large = RequestRefused(
        status, f"the body is larger than EMAIL_MAX_MESSAGE_BYTES allows ({limit} bytes)"
    )
    if (length or 0) > limit:
        raise too_large
    data = _read_at_most(limit + 1)
    if len(data) > limit:
        raise too_large
    if length is not None and len(data) < length:
        raise RequestRefused(400, "the body ended before its announced length")
    return data


def require_type(*media_types: str) -> None:
    """415 for another type than those named."""
    kind = request.mimetype
    if kind not in media_types and not (kind.endswith("+json") and "application/json" in media_types):
        raise RequestRefused(415, f"expected Content-Type: {' or '.join(media_types)}")


def read_body(*media_types: str) -> bytes:
    """The body: 413 above EMAIL_MAX_MESSAGE_BYTES, then 415 for another type than those named."""
    data = read_bytes(current().settings.max_message_bytes)
    require_type(*media_types)
    return data


def _read_at_most(limit: int) -> bytes:
    """Read here: under gunicorn Werkzeug cuts a body at its limit, and does not miss what is missing."""
    found = []
    size = 0
    try:
        while size < limit and (chunk := request.stream.read(min(limit - size, 1 << 18))):
            found.append(chunk)
            size += len(chunk)
    except (*_BROKEN, ClientDisconnected):
        raise RequestRefused(400, "the body ended early, or its chunks are broken") from None
    return b"".join(found)


def drain() -> None:
    """Read what is left of a refused body, as long as it comes quickly."""
    left = DRAIN_BYTES
    stream = request.environ.get("wsgi.input")
    ended = request.environ.get("wsgi.input_terminated")
    length = request.content_length
    if stream is None or (length is None and not ended):
        return
    left = min(left, length if length is not None else left)
    connection = request.environ.get("gunicorn.socket")
    patience = connection.gettimeout() if connection is not None else None
    until = time.monotonic() + DRAIN_S
    try:
        while left > 0 and (rest := until - time.monotonic()) > 0:
            if connection is not None:
                connection.settimeout(rest)
            chunk = stream.read(min(left, 1 << 16))
            if not chunk:
                return
            left -= len(chunk)
    except _BROKEN:
        return
    finally:
        if connection is not None:
            connection.settimeout(patience)


# --- JSON ------------------------------------------------------------------------------------------------


def parse_json(data: bytes, model: type[Model]) -> Model:
    """400 for what is no JSON, 422 for what is no object or has a bad field."""
    try:
        # In steps that let go of what they have used: a body may be a quarter of the process's memory.
        text = data.decode(json.detect_encoding(data), "surrogatepass")
        del data
        value: Any = json.loads(text, parse_constant=_no_constant)
        del text
    except (ValueError, RecursionError):
        raise RequestRefused(400, "the body is no JSON, or nested too deeply") from None
    if not isinstance(value, dict):
        raise RequestRefused(422, "expected a JSON object", {"body": "expected an object"})
    return validated(value, model)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")  # RFC 8259 section 6


def validated(value: Any, model: type[Model]) -> Model:
    try:
        return model.model_validate(value)
    except (ValidationError, RecursionError) as fault:
        fields = _fields_of(fault) if isinstance(fault, ValidationError) else {"body": "nested too deeply"}
        raise RequestRefused(422, "bad fields: " + ", ".join(fields), fields) from None


def _fields_of(fault: ValidationError) -> dict[str, str]:
    """A line per bad field, without what was sent."""
    lines: dict[str, str] = {}
    for item in fault.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(str(part) for part in item["loc"]) or "body"
        text = str(item["msg"]).removeprefix("Value error, ")
        lines.setdefault(name, text[:1].lower() + text[1:])
    return lines


# --- forms -----------------------------------------------------------------------------------------------


def read_form() -> dict[str, Any]:
    """The fields as JSON would have them: a file is ``{"filename", "content_type", "content"}``, in bytes.

    Refuses with 413 above EMAIL_MAX_MESSAGE_BYTES or ``MAX_PARTS``, 400 for what is no such form, 422 for a
    field that is given twice and a file by another name.
    """
    data = read_bytes(current().settings.max_message_bytes)
    try:
        parts = read_multipart(request.headers.get("Content-Type", ""), data, MAX_PARTS)
    except TooManyParts as fault:
        raise RequestRefused(413, str(fault)) from None
    except MalformedForm:
        raise RequestRefused(400, "the body is no multipart/form-data, or ended early") from None
    if not all(part.name for part in parts):
        raise RequestRefused(400, "a part of the form has no name")
    return _form_fields(parts)


def _form_fields(parts: list[FormPart]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in dict.fromkeys(part.name for part in parts if part.filename is None):
        values = [_form_text(part) for part in parts if part.name == name and part.filename is None]
        if len(values) > 1 and name not in SEVERAL:
            raise RequestRefused(422, f"bad fields: {name}", {name: "this field may be given once"})
        fields[name] = values if len(values) > 1 else values[0]
    for name in dict.fromkeys(part.name for part in parts if part.filename is not None):
        if name != FILES:
            text = f"files are taken as the field {FILES}"
            raise RequestRefused(422, f"bad fields: {name}", {name: text})
        # A browser sends an empty part without a name where no file was chosen.
        found = [_form_file(part) for part in parts if part.name == name and part.filename]
        if found or name not in fields:
            fields[name] = found
    return fields


def _form_text(part: FormPart) -> str:
    charset = parse_options_header(part.content_type)[1].get("charset", "").lower()
    return part.content.decode("latin-1" if charset == "iso-8859-1" else "utf-8", "replace")


def _form_file(part: FormPart) -> dict[str, Any]:
    return {
        "filename": part.filename,
        "content_type": part.content_type or None,
        "content": part.content,
    }


# --- fields ----------------------------------------------------------------------------------------------


def _checked(call: Callable[[], T]) -> T:
    """Turn InvalidField into the ValueError that pydantic collects; pydantic knows the place already."""
    try:
        return call()
    except InvalidField as error:
        raise ValueError(str(error).removeprefix(f"{error.field}: ")) from None


def _recipients(value: object) -> tuple[Address, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("expected an address, or a list of addresses")
    return _checked(lambda: read_addresses("address", texts))


def _one_at_least(value: tuple[Address, ...]) -> tuple[Address, ...]:
    if not value:
        raise ValueError("no recipient: give at least one address")
    return value


def _copies(value: object) -> tuple[Address, ...]:
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
    return _checked(lambda: validate_address("user", text))


def _short_enough(value: str) -> str:
    if len(value) > MAX_SUBJECT:
        raise ValueError(f"longer than {MAX_SUBJECT} characters")
    return value


def _content(value: object) -> bytes:
    if isinstance(value, bytes):  # a file of a form
        return value
    if not isinstance(value, str):
        raise ValueError("expected the file's bytes in base64")  # noqa: TRY004
    return decode_base64_strict(value)


def _json(value: object) -> object:
    try:
        return well_formed_json(value)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _empty(value: object) -> object:
    return "" if value is None else value


Text = Annotated[str, Field(strict=True), AfterValidator(no_surrogates)]
Optional = Annotated[Text, BeforeValidator(_empty)]
Subject = Annotated[Text, AfterValidator(_short_enough)]
Short = Annotated[Subject, BeforeValidator(_empty)]
Json = Annotated[Any, BeforeValidator(_json)]
WorkflowId = Annotated[
    str, Field(strict=True, min_length=1, max_length=MAX_ID, pattern=r"\S"), AfterValidator(no_surrogates)
]
Filename = Annotated[
    Text,
    AfterValidator(lambda name: _checked(lambda: checked_filename("filename", name))),
    Field(min_length=1, max_length=MAX_FILENAME),
]
Content = Annotated[bytes, PlainValidator(_content)]
Recipients = Annotated[tuple[Address, ...], PlainValidator(_recipients), AfterValidator(_one_at_least)]
Copies = Annotated[tuple[Address, ...], PlainValidator(_copies)]
Users = Annotated[tuple[tuple[str, Address], ...], PlainValidator(_users)]


class FileFields(BaseModel):
    """A file: its plain name, its bytes in base64, and its type (guessed from the name where absent)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    filename: Filename
    content: Content
    content_type: Optional = ""

    def file(self) -> AttachedFile:
        return make_file(self.filename, self.content, self.content_type)


Files = Annotated[list[FileFields], Field(max_length=MAX_FILES)] | None


class SendFields(BaseModel):
    """A mail to send. Addresses may be ``a@b`` or ``Name <a@b>``; to and cc together at most 50."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    to: Recipients
    subject: Subject
    body: Text = Field(repr=False)
    cc: Copies = ()
    thread_id: Optional = ""
    attachments: Files = Field(None, repr=False)

    def draft(self) -> NewMail:
        return NewMail(
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
    user_ids: Users
    channel: Literal["email"]
    config_id: Json = None
    instance: Json = None
    language: Short = ""
    model: Short = ""
    new_room: Annotated[bool, Field(strict=True)] = True
    workflow_data: Json = None
    subject: Short = ""
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
