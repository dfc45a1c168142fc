"""A whole mail as an attachment of another (message/rfc822, RFC 2046 section 5.2.1)."""

import re

from cleo_email.errors import UnreadableMessage
from cleo_email.mail import wire
from cleo_email.mail.attachment import UNKNOWN_TYPE, attachment_part
from cleo_email.mail.mime import Part, split
from cleo_email.mail.model import AttachedFile, ParseLimits

_LINE_END = re.compile(rb"\r\n|\r|\n")
_TOO_LONG = re.compile(rb"[^\r\n]{%d}" % (wire.LONGEST_LINE + 1))
_NOT_7BIT = re.compile(rb"[\x00\x80-\xff]")
_MOST_LEVELS = 20  # of mails within mails


def enclosed_mail(source: bytes, filename: str) -> bytes:
    """Return the MIME part that carries ``source``.

    Base64 is not allowed for message/rfc822, and not every server on the way takes 8-bit lines (RFC 6152). So
    the bodies in the mail that need it are encoded, as RFC 6152 section 3 has a relay do. A mail that cannot
    be had in 7 bits so (malformed, or with non-ASCII header fields) is a file, whose bytes are kept.
    """
    try:
        inner = _seven_bit(_LINE_END.sub(b"\r\n", source), 0)
    except UnreadableMessage:
        inner = None
    if inner is None:
        return attachment_part(AttachedFile(filename, UNKNOWN_TYPE, source), 1)
    disposition = ["attachment;", *wire.parameters([("filename", filename)])]
    head = wire.field("Content-Type", ["message/rfc822"]) + wire.field("Content-Disposition", disposition)
    return (head + wire.CRLF).encode("ascii") + inner


def _is_7bit(data: bytes) -> bool:
    return not (_NOT_7BIT.search(data) or _TOO_LONG.search(data))


def _seven_bit(source: bytes, level: int) -> bytes | None:
    """Return the mail in lines of 7 bits, None where there is no such form. Raise UnreadableMessage."""
    if _is_7bit(source):
        return source
    return _part(split(source, ParseLimits()), level) if level < _MOST_LEVELS else None


def _part(part: Part, level: int) -> bytes | None:
    head = [(name, value) for name, value in part.headers if name != "content-transfer-encoding"]
    encoding = part.raw_header("content-transfer-encoding").strip()
    body: bytes | None
    if part.is_multipart:
        encoding, body = b"", _multipart(part, level)
    elif part.content_type == "message/rfc822":
        encoding, body = b"", _seven_bit(part.body(), level + 1)
    else:
        body = part.source[part.start : part.end]
        if not _is_7bit(body):
            encoding, body = b"base64", wire.base64_lines(part.body())
            if part.content_type.startswith(("message/", "multipart/")):
                return None
    lines = [*head, *([("content-transfer-encoding", b" " + encoding)] if encoding else [])]
    block = b"".join(name.encode("ascii") + b":" + value.rstrip(b"\r\n") + b"\r\n" for name, value in lines)
    return block + b"\r\n" + body if body is not None and _is_7bit(block) else None


def _multipart(part: Part, level: int) -> bytes | None:
    boundary = part.type.parameters.get("boundary", "").encode("utf-8", "replace")
    pieces: list[bytes] = []
    for child in part.children:
        inner = _part(child, level)
        if inner is None:
            return None
        pieces += [b"--", boundary, b"\r\n", inner, b"\r\n"]
    return b"".join([*pieces, b"--", boundary, b"--\r\n"])
