"""A delivery report taken apart: just enough MIME to read it, from bytes that may be anything.

Reports reach us mangled (a missing blank line, a boundary that never closes), and their reader must neither
raise nor take long. So this is a walker of its own: it looks at the first 4 MiB, 10 levels and 200 parts, in
one pass per level, and a returned message stays one part.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

_MAX_SOURCE = 4 * 1024 * 1024
_MAX_HEADER = 256 * 1024  # bytes of one header section
_MAX_FIELDS = 1000
_MAX_DEPTH = 10
_MAX_PARTS = 200
_BOUNDARY = re.compile(r'\bboundary ?= ?(?:"([^"]{1,200})"|([^\s";]{1,200}))', re.IGNORECASE)
_FIELD = re.compile(r"([!-9;-~]{1,100})[ \t]*:(.*)", re.DOTALL)

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Part:
    """One leaf: ``content_type`` in lower case without parameters, ``body`` without transfer encoding."""

    content_type: str
    fields: Fields
    body: bytes

    @property
    def text(self) -> str:
        return as_text(self.body)


def leaves(source: bytes) -> list[Part]:
    """The parts of ``source`` that hold no parts, in order; a message in a message is one of them."""
    return list(_limited(_walk(source[:_MAX_SOURCE].replace(b"\r\n", b"\n"), "text/plain", 0)))


def _limited(parts: Iterator[Part]) -> Iterator[Part]:
    for _ in range(_MAX_PARTS):
        part = next(parts, None)
        if part is None:
            return
        yield part


def _walk(source: bytes, default_type: str, depth: int) -> Iterator[Part]:
    fields, body = split_message(source)
    value = field(fields, "content-type")
    content_type = value.partition(";")[0].strip().lower() or default_type
    boundary = _boundary(value) if content_type.startswith("multipart/") and depth < _MAX_DEPTH else b""
    if boundary and _next_delimiter(b"\n" + body, b"\n--" + boundary, 0) >= 0:
        for piece in _pieces(body, boundary):
            yield from _walk(piece, "text/plain", depth + 1)
    elif content_type.startswith("multipart/"):  # its delimiters are lost: read it as the text that it is
        yield Part("text/plain", fields, body)
    else:
        encoding = field(fields, "content-transfer-encoding").strip().lower()
        yield Part(content_type, fields, _decoded(body, encoding))


def _boundary(content_type: str) -> bytes:
    found = _BOUNDARY.search(" ".join(content_type[:4000].split()))
    return (found[1] or found[2]).encode("ascii", "ignore") if found else b""


def _pieces(body: bytes, boundary: bytes) -> Iterator[bytes]:
    """What stands between the delimiter lines (RFC 2046 section 5.1.1); a missing last one is forgiven."""
    body, delimiter = b"\n" + body, b"\n--" + boundary
    at = _next_delimiter(body, delimiter, 0)
    while at >= 0:
        start = at + len(delimiter)
        if body[start : start + 2] == b"--":
            return
        end = _next_delimiter(body, delimiter, start)
        yield body[start : len(body) if end < 0 else end].lstrip(b" \t").removeprefix(b"\n")
        at = end


def _next_delimiter(body: bytes, delimiter: bytes, at: int) -> int:
    """Where the next delimiter line begins, or -1. A longer boundary that begins alike is another one."""
    while (at := body.find(delimiter, at)) >= 0:
        after = body[at + len(delimiter) : at + len(delimiter) + 2]
        if after == b"--" or after[:1] in (b"", b"\n", b" ", b"\t"):
            return at
        at += len(delimiter)
    return -1


def split_message(source: bytes) -> tuple[Fields, bytes]:
    """The header fields, names in lower case and values unfolded, and the body. Expects LF line ends.

    A line that is no field ends the header too, as the first line of a part without one does.
    """
    if source.startswith((b"From ", b">From ")):  # the separator of an mbox
        source = source.partition(b"\n")[2]
    fields: list[tuple[str, list[str]]] = []
    at = 0
    while at < len(source) and at < _MAX_HEADER and len(fields) < _MAX_FIELDS:
        end = source.find(b"\n", at, at + _MAX_HEADER)
        end = len(source) if end < 0 else end
        line = as_text(source[at : min(end, at + _MAX_HEADER)])
        if not line:
            return _joined(fields), source[end + 1 :]
        if line[0] in " \t" and fields:
            fields[-1][1].append(line.strip())
        elif found := _FIELD.fullmatch(line):
            fields.append((found[1].lower(), [found[2].strip()]))
        else:
            break
        at = end + 1
    return _joined(fields), source[at:]


def _joined(fields: list[tuple[str, list[str]]]) -> Fields:
    return tuple((name, " ".join(lines).strip()) for name, lines in fields)


def field(fields: Fields, name: str) -> str:
    """The first value of that name (lower case), or an empty string."""
    return next((value for key, value in fields if key == name), "")


def as_text(data: bytes) -> str:
    """UTF-8 where it is that, else windows-1252; reports are ASCII where it matters."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("windows-1252", "replace")


def _decoded(body: bytes, encoding: str) -> bytes:
    if encoding.startswith("quoted-printable"):
        return binascii.a2b_qp(body)
    if encoding.startswith("base64"):
        data = re.sub(rb"[^A-Za-z0-9+/]", b"", body)
        try:
            return base64.b64decode(data[: len(data) // 4 * 4] + _padded(data))
        except binascii.Error:
            return body
    return body


def _padded(data: bytes) -> bytes:
    rest = data[len(data) // 4 * 4 :]
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""
