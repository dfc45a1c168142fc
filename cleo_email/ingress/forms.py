"""Forms as bytes: a raw mail in a field is not always UTF-8 and must not be decoded on the way.

Both kinds (``application/x-www-form-urlencoded`` and ``multipart/form-data``, RFC 7578) are read in one pass
over a body that is already bounded. What is malformed gives fewer fields, what was cut off gives none, and
nothing raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from werkzeug.http import parse_options_header

MAX_FIELDS = 1000
MAX_PART_HEADER = 8192
UNQUOTE_AT_ONCE = 1 << 14
_LONE_BACKSLASH = re.compile(r"\\(.?)")


@dataclass(frozen=True)
class File:
    filename: str
    content_type: str
    content: bytes


@dataclass(frozen=True)
class Form:
    """Fields in order. A sender's own headers become fields with some providers: a name may come twice."""

    fields: tuple[tuple[str, bytes], ...] = ()
    files: tuple[tuple[str, File], ...] = ()

    def all(self, name: str) -> list[bytes]:
        """Every value of that name; a file counts as a value, as some providers send the mail as one."""
        values = [value for key, value in self.fields if key == name]
        return values + [file.content for key, file in self.files if key == name]

    def bytes(self, name: str) -> bytes:
        """The last value (what the provider itself adds comes after what it merges in), or b''."""
        return (self.all(name) or [b""])[-1]

    def text(self, name: str) -> str:
        return self.bytes(name).decode("utf-8", "replace")

    def has(self, name: str) -> bool:
        return bool(self.all(name))

    def is_ambiguous(self, *names: str) -> bool:
        """Whether one of these has two different values: a sender may have written one of them."""
        return any(len(set(self.all(name))) > 1 for name in names)

    def file(self, name: str) -> File | None:
        return next((file for key, file in self.files if key == name), None)


def read_form(content_type: str, body: bytes) -> Form:
    """The form in ``body``; an empty one where it is none or has more than ``MAX_FIELDS`` fields."""
    kind, options = parse_options_header(content_type)
    if kind == "application/x-www-form-urlencoded":
        return _urlencoded(body)
    boundary = options.get("boundary", "")
    if kind == "multipart/form-data" and 0 < len(boundary) <= 200 and boundary.isascii():
        return _multipart(body, boundary.encode("ascii"))
    return Form()


def _urlencoded(body: bytes) -> Form:
    if body.count(b"&") >= MAX_FIELDS:
        return Form()
    fields = []
    for pair in body.split(b"&"):
        name, equals, value = pair.replace(b"+", b" ").partition(b"=")
        if equals:
            fields.append((_unquoted(name).decode("utf-8", "replace"), _unquoted(value)))
    return Form(tuple(fields))


def _unquoted(text: bytes) -> bytes:
    """Percent-decoded, piece by piece: the library holds some 80 octets for each escape that it decodes,
    and where a provider signs a field of the form this is done before anything is proved.
    """
    pieces = []
    start = 0
    while start < len(text):
        end = start + UNQUOTE_AT_ONCE
        escape = text.rfind(b"%", end - 2, end)  # one that is not whole goes into the next piece
        end = escape if escape >= 0 else end
        pieces.append(unquote_to_bytes(text[start:end]))
        start = end
    return b"".join(pieces)


def _multipart(body: bytes, boundary: bytes) -> Form:
    fields: list[tuple[str, bytes]] = []
    files: list[tuple[str, File]] = []
    for part in _parts(body, boundary):
        head, gap, content = part.partition(b"\r\n\r\n")
        headers = _headers(head) if gap and len(head) <= MAX_PART_HEADER else {}
        disposition = _LONE_BACKSLASH.sub(_escaped, headers.get("content-disposition", ""))
        kind, options = parse_options_header(disposition)
        name, filename = options.get("name", ""), options.get("filename")
        if kind != "form-data" or not name:
            continue
        if filename is None:
            fields.append((name, content))
        else:
            files.append((name, File(filename, headers.get("content-type", ""), content)))
    return Form(tuple(fields), tuple(files))


def _escaped(found: re.Match[str]) -> str:
    """A path of Windows is sent as it is: only a quote and a backslash are escaped by anybody."""
    return found[0] if found[1] in ("\\", '"') else f"\\{found[0]}"


def _parts(body: bytes, boundary: bytes) -> list[bytes]:
    """What stands between the delimiters (RFC 2046 section 5.1.1); nothing where the last one is missing."""
    delimiter = b"\r\n--" + boundary
    pieces = (b"\r\n" + body).split(delimiter, MAX_FIELDS + 2)[1:]
    parts: list[bytes] = []
    for piece in pieces:
        if piece.startswith(b"--"):
            return parts
        padding, line_end, content = piece.partition(b"\r\n")
        if not line_end or padding.strip(b" \t"):  # a longer boundary that begins like ours, or none
            return []
        parts.append(content)
    return []


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("utf-8", "replace").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
