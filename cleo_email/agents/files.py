"""Files that an agent hands over: base64 in, attachments that a mail can carry out."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping

from cleo_email.agents.words import one_line
from cleo_email.errors import AgentError
from cleo_email.mail.base64_text import decode_base64
from cleo_email.mail.filenames import safe_filename
from cleo_email.mail.model import Attachment

ANY_TYPE = "application/octet-stream"
_SHAPE = "objects with filename, content_type and content"

_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,64}"  # noqa: S105  (RFC 6838 section 4.2)
_TYPE = re.compile(f"{_TOKEN}/{_TOKEN}")


def attachments_of(value: object) -> tuple[Attachment, ...]:
    """The files of ``[{"filename", "content_type", "content"}]``; null is none.

    :raises AgentError: no list of such objects, or content that is no base64; the text names the file.
    """
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise AgentError(f"the agent's attachments are no list of {_SHAPE}")
    return tuple(_attachment(item, number) for number, item in enumerate(value, 1))


def _attachment(item: object, number: int) -> Attachment:
    if not isinstance(item, Mapping):
        raise AgentError(f"attachment {number} of the agent is not one of {_SHAPE}")
    name = _string(item, "filename", number)
    given = _string(item, "content_type", number)
    filename = safe_filename(name, given.split(";", 1)[0].strip().lower(), number)
    content = _string(item, "content", number, required=True)
    return Attachment(
        filename=filename,
        content_type=content_type(given, filename),
        content=_decoded(content, filename),
    )


def _string(item: Mapping[str, object], key: str, number: int, *, required: bool = False) -> str:
    value = item.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        raise AgentError(f"attachment {number} of the agent has no {key} that is a string")
    return value


def _decoded(content: str, filename: str) -> bytes:
    try:
        return decode_base64(content)
    except ValueError:
        raise AgentError(f"the content of the agent's attachment {filename!r} is no base64") from None


def content_type(given: str, filename: str) -> str:
    """The type as given, parameters such as a charset included; without a usable one, that of the filename.

    What may not be sent as base64 is settled where the mail is composed.
    """
    if _TYPE.fullmatch(given.split(";", 1)[0].strip()):
        return one_line(given)
    guessed, encoding = mimetypes.guess_type(filename)
    return guessed if guessed and not encoding else ANY_TYPE
