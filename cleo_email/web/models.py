"""The JSON bodies that may be posted, and the queries, as pydantic models."""

import re
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from cleo_email.agents.base import JsonValue, Text, WellFormed
from cleo_email.errors import InvalidField
from cleo_email.mail import wire
from cleo_email.mail.address import quoted_mailbox, validate_address
from cleo_email.mail.attachment import checked_filename, make_file
from cleo_email.mail.compose import MAX_SUBJECT
from cleo_email.mail.decoding import clean, decode_base64_strict
from cleo_email.mail.model import Address, AttachedFile
from cleo_email.pipeline.decide import MAX_REASON
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.pipeline.send import NewMail, read_addresses
from cleo_email.pipeline.workflows import MAX_USERS, StartRequest
from cleo_email.scrub import no_surrogates
from cleo_email.settings.workflows import MAX_ID
from cleo_email.store import State
from cleo_email.webhooks.base import HOUR_S
from cleo_email.webhooks.rebuild import rebuild

MAX_FILES = 100
MAX_IDS = 1000
MAX_INCOMING_SUBJECT = 10_000
T = TypeVar("T")


def _checked(call: Callable[[], T]) -> T:
    """Turn InvalidField into the ValueError that pydantic collects, without the field's name."""
    try:
        return call()
    except InvalidField as error:
        raise ValueError(str(error).removeprefix(f"{error.field}: ")) from None


Optional = BeforeValidator(lambda value: "" if value is None else value)  # null counts as absent


# --- a mail that came in ---------------------------------------------------------------------------------


def _mailbox(value: str) -> str:
    address = _checked(lambda: validate_address("address", value))
    return quoted_mailbox(address.name, address.addr)


_ID = re.compile(r"[!-;=?-~]{1,990}")  # printable ASCII without blanks and angle brackets


def _ids(value: str) -> str:
    """Return Message-IDs, with a blank between; commas may separate them too, as some clients do."""
    found = []
    for word in value.replace("><", "> <").replace(">,", "> ").split():
        inner = word.strip("<>")
        if not _ID.fullmatch(inner):
            raise ValueError("expected Message-IDs such as <id@example.com>, separated by spaces")
        found.append(f"<{inner}>")
    if len(found) > MAX_IDS:
        raise ValueError(f"expected at most {MAX_IDS} Message-IDs")
    return " ".join(found)


def _one_id(value: str) -> str:
    if " " in (found := _ids(value)):
        raise ValueError("expected one Message-ID such as <id@example.com>")
    return found


# Lone surrogates are replaced first, because pydantic cannot count the length of a text that has them.
Clean = BeforeValidator(lambda value: clean(value) if isinstance(value, str) else value)
# All else that a long text must not hold is dropped by ``rebuild``.
WithoutSurrogates = BeforeValidator(lambda value: no_surrogates(value) if isinstance(value, str) else value)


class IncomingFields(BaseModel):
    """The body of ``POST /email/incoming``."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    from_address: Annotated[str, AfterValidator(_mailbox)]
    to_address: Annotated[str, AfterValidator(_mailbox)]
    # Several providers say null for a mail without a subject or without a text.
    subject: Annotated[str, Field(max_length=MAX_INCOMING_SUBJECT), Clean, Optional]
    body: Annotated[str, WithoutSurrogates, Optional] = Field(repr=False)
    message_id: Annotated[str, Optional, AfterValidator(_one_id)] = ""
    in_reply_to: Annotated[str, Optional, AfterValidator(_one_id)] = ""
    references: Annotated[str, Optional, AfterValidator(_ids)] = ""

    def arrival(self, *, encoded: bool = True) -> IncomingMail:
        """Return the mail. It has no Date: a copy that comes by IMAP with one is still the same mail.

        To encode its text takes longer than all the rest. Without a Message-ID it is encoded in any case: its
        bytes tell that a request is repeated, and every version makes the same.
        """
        subject = " ".join(self.subject.split())
        headers = [("From", self.from_address), ("To", self.to_address), ("Subject", subject)]
        ids = {"Message-ID": self.message_id, "In-Reply-To": self.in_reply_to, "References": self.references}
        encoded = encoded or not self.message_id
        text_part, form = (wire.text_part, "") if encoded else (wire.unencoded_text, "text")
        source = rebuild(headers, ids, text=self.body, text_part=text_part)
        to = self.to_address.rpartition("<")[2].rstrip(">")
        return IncomingMail(source, "webhook", envelope_to=to, form=form, same_for_s=HOUR_S)


# --- a mail to send, a workflow to start -----------------------------------------------------------------


def _copies(value: object) -> tuple[Address, ...]:
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("expected an address, or a list of addresses")
    return _checked(lambda: read_addresses("address", texts))


def _recipients(value: object) -> tuple[Address, ...]:
    if value in ([], None):
        raise ValueError("no recipient: give at least one address")
    return _copies(value)


def _users(value: object) -> tuple[tuple[str, Address], ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("expected a list of addresses")
    if not value:
        raise ValueError("nobody to write to: give at least one address")
    if len(value) > MAX_USERS:
        raise ValueError(f"{len(value)} users, at most {MAX_USERS} in one request")
    return _checked(lambda: tuple((no_surrogates(text), validate_address("user", text)) for text in value))


def _content(value: object) -> bytes:
    if isinstance(value, bytes):  # a file of a form
        return value
    if not isinstance(value, str):
        raise ValueError("expected the file's bytes in base64")  # noqa: TRY004
    return decode_base64_strict(value)


Subject = Annotated[str, Field(max_length=MAX_SUBJECT), WellFormed]
Short = Annotated[Subject, Optional]
WorkflowId = Annotated[str, Field(min_length=1, max_length=MAX_ID, pattern=r"\S"), WellFormed]
Filename = Annotated[Text, AfterValidator(lambda name: _checked(lambda: checked_filename("filename", name)))]
Recipients = Annotated[tuple[Address, ...], PlainValidator(_recipients)]
Copies = Annotated[tuple[Address, ...], PlainValidator(_copies)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class FileFields(_Body):
    """A file: its plain name, its bytes in base64, and its type (guessed from the name where absent)."""

    filename: Filename
    content: Annotated[bytes, PlainValidator(_content)]
    content_type: Annotated[Text, Optional] = ""

    def file(self) -> AttachedFile:
        return make_file(self.filename, self.content, self.content_type)


Files = Annotated[list[FileFields], Field(max_length=MAX_FILES)] | None


class SendFields(_Body):
    """A mail to send. Addresses may be ``a@b`` or ``Name <a@b>``; to and cc together at most 50."""

    to: Recipients
    subject: Subject
    body: Text = Field(repr=False)
    cc: Copies = ()
    thread_id: Annotated[Text, Optional] = ""
    attachments: Files = Field(None, repr=False)

    def draft(self) -> NewMail:
        files = [one.file() for one in self.attachments or ()]
        texts = self.model_dump(include={"subject", "body", "thread_id"})
        return NewMail(to=self.to, cc=self.cc, attachments=files, **texts)


class WorkflowFields(_Body):
    """A workflow to start: the agent is asked once for each user, and its answer mailed to that user."""

    workflow_id: WorkflowId
    user_ids: Annotated[tuple[tuple[str, Address], ...], PlainValidator(_users)]
    channel: Literal["email"]
    config_id: JsonValue = None
    instance: JsonValue = None
    language: Short = ""
    model: Short = ""
    new_room: Annotated[bool, Field(strict=True)] = True
    workflow_data: JsonValue = None
    subject: Short = ""
    attachments: Files = Field(None, repr=False)

    def request(self) -> StartRequest:
        files = [one.file() for one in self.attachments or ()]
        fields = self.model_dump(exclude={"user_ids", "channel", "attachments"})
        return StartRequest(users=self.user_ids, attachments=files, **fields)


# --- an agent's answer by callback ------------------------------------------------------------------------


class AnswerFields(BaseModel):
    """An answer, as an agent gives it at once; which forms it has is another rule (agents/base.py)."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)


# --- decisions of people ---------------------------------------------------------------------------------


class ApproveFields(_Body):
    """What is sent in place of the answer that waits: its text (Markdown), its subject, or both."""

    body: Text | None = Field(None, repr=False)
    subject: Subject | None = None


class ReasonFields(_Body):
    """Why it is decided so, for the record."""

    reason: Annotated[Text, Field(max_length=MAX_REASON), Optional] = ""


# --- queries for records ----------------------------------------------------------------------------------


class MessagesQuery(BaseModel):
    """Which records to list; an empty ``state`` is any."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: Annotated[State | None, BeforeValidator(lambda value: value or None)] = None
    thread_id: str = ""
    message_id: str = ""
    limit: int = Field(100, ge=1, le=1000)
    cursor: Annotated[str, Field(pattern=r"^([0-9a-f]{24})?$")] = ""


class ThreadQuery(BaseModel):
    """The thread of which message: a Message-ID, or the id of a record."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    message_id: Annotated[str, Field(min_length=1)]
