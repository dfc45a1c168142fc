"""Files that leave with a mail: safe names, plausible types, bytes unchanged."""

from __future__ import annotations

import re

from cleo_email.mail import wire
from cleo_email.mail.filenames import safe_filename
from cleo_email.mail.model import Attachment

_TYPE = re.compile(r"([a-z0-9!#$&^_.+-]{1,64})/([a-z0-9!#$&^_.+-]{1,64})\Z")
_CHARSET = re.compile(r"""charset\s*=\s*"?([A-Za-z0-9_.:+-]{1,40})"?\s*\Z""", re.IGNORECASE)


def attachment_part(attachment: Attachment, number: int) -> bytes:
    """A whole MIME part in base64. Its name stands, by RFC 2231, in Content-Type too, for older readers.

    ``number`` names a file that has no usable name.
    """
    filename = safe_filename(wire.no_surrogates(attachment.filename), attachment.content_type, number)
    content_type, parameters = _content_type(attachment.content_type)
    head = (
        wire.field("Content-Type", _with(content_type, [*parameters, ("name", filename)]))
        + wire.field("Content-Transfer-Encoding", ["base64"])
        + wire.field("Content-Disposition", _with("attachment", [("filename", filename)]))
        + wire.CRLF
    )
    return wire.base64_lines(attachment.content, head.encode("ascii"))


def _with(value: str, parameters: list[tuple[str, str]]) -> list[str]:
    return [f"{value};", *wire.parameters(parameters)]


def _content_type(written: str) -> tuple[str, list[tuple[str, str]]]:
    """Type and charset of ``written``; what is malformed, or must not be base64, is just bytes.

    RFC 2046 section 5 allows no base64 for ``multipart`` and ``message``.
    """
    main, *parameters = written.split(";")
    content_type = main.strip().lower()
    match = _TYPE.match(content_type)
    if not match or match[1] in {"multipart", "message"}:
        return "application/octet-stream", []
    charsets = [found[1] for found in map(_CHARSET.match, map(str.strip, parameters)) if found]
    return content_type, [("charset", charsets[0])] if charsets and match[1] == "text" else []
