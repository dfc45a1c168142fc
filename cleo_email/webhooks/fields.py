"""``POST /email/incoming``: a mail as JSON fields, turned into the one form that everything else knows."""

from __future__ import annotations

import base64
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from cleo_email.errors import InvalidField
from cleo_email.mail.address import quoted_mailbox, validate_address
from cleo_email.mail.decoding import clean
from cleo_email.pipeline.receive import IncomingMail

HOUR_S = 3600
MAX_IDS = 1000
MAX_SUBJECT = 10_000


def _address(value: str) -> str:
    try:
        address = validate_address("address", value)
    except InvalidField as error:
        raise ValueError(str(error)) from None
    return quoted_mailbox(address.name, address.addr)


def _one_line(value: str) -> str:
    return " ".join(clean(value).split())


def _subject(value: str) -> str:
    # Counted here: pydantic refuses to count a text that was cut in the middle of a character.
    if len(value) > MAX_SUBJECT:
        raise ValueError(f"string should have at most {MAX_SUBJECT} characters")
    return _one_line(value)


def _ids(value: str) -> tuple[str, ...]:
    """Message-IDs separated by white space, or by commas as some clients do, each with its angle brackets."""
    found = []
    for word in value.replace("><", "> <").replace(">,", "> ").split():
        inner = word.strip("<>")
        if not inner or any(not 33 <= ord(c) <= 126 or c in "<>" for c in inner) or len(inner) > 990:
            raise ValueError("expected Message-IDs such as <id@example.com>, separated by spaces")
        found.append(f"<{inner}>")
    if len(found) > MAX_IDS:
        raise ValueError(f"expected at most {MAX_IDS} Message-IDs")
    return tuple(found)


def _one_id(value: str) -> str:
    found = _ids(value)
    if len(found) > 1:
        raise ValueError("expected one Message-ID such as <id@example.com>")
    return found[0] if found else ""


def _many_ids(value: str) -> str:
    return " ".join(_ids(value))


def _absent(value: object) -> object:
    return "" if value is None else value


Text = Annotated[str, Field(strict=True)]
Mailbox = Annotated[Text, AfterValidator(_address)]
OneId = Annotated[Text, BeforeValidator(_absent), AfterValidator(_one_id)]
ManyIds = Annotated[Text, BeforeValidator(_absent), AfterValidator(_many_ids)]


class IncomingFields(BaseModel):
    """The body of ``POST /email/incoming``."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    from_address: Mailbox
    to_address: Mailbox
    subject: Annotated[Text, AfterValidator(_subject)]
    body: Annotated[Text, AfterValidator(clean)] = Field(repr=False)
    message_id: OneId = ""
    in_reply_to: OneId = ""
    references: ManyIds = ""

    def arrival(self) -> IncomingMail:
        """As ``message/rfc822``. No Date: a copy that comes by IMAP with one is still the same mail."""
        lines = [
            f"From: {self.from_address}",
            f"To: {self.to_address}",
            f"Subject: {self.subject}",
            *([f"Message-ID: {self.message_id}"] if self.message_id else []),
            *([f"In-Reply-To: {self.in_reply_to}"] if self.in_reply_to else []),
            *([f"References: {self.references}"] if self.references else []),
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: base64",
        ]
        head = "\r\n".join(lines).encode("utf-8", "replace")
        body = base64.encodebytes(self.body.encode("utf-8", "replace")).replace(b"\n", b"\r\n")
        to = self.to_address.rpartition("<")[2].rstrip(">")
        return IncomingMail(head + b"\r\n\r\n" + body, "webhook", envelope_to=to, same_for_s=HOUR_S)
