"""Read forms as bytes, because a raw mail in a field is not always UTF-8.

Both kinds (``application/x-www-form-urlencoded`` and ``multipart/form-data``, RFC 7578) are read from a body
of limited size. A form that is cut off is refused.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from werkzeug.http import parse_options_header

from cleo_email.errors import CleoError
from cleo_email.scrub import JsonObject, read_json

MULTIPART = "multipart/form-data"
MAX_FIELDS = 1000
MAX_PART_HEADER = 8192
MAX_BOUNDARY = 200
UNQUOTE_AT_ONCE = 1 << 14
SHORT = 1024  # octets, of a field that holds a proof
_LINE_REST = re.compile(rb"(--)?[ \t]*(?=[\r\n]|\Z)")  # of a delimiter; "--" says that it is the last one
_FOLD = re.compile(r"\r\n[ \t]+")
_LONE_BACKSLASH = re.compile(r'\\(?![\\"])|(\\.)')


class MalformedForm(CleoError):
    """The body is no form, or was cut off."""


class TooManyParts(MalformedForm):
    """The form has more parts than are looked at."""


@dataclass(frozen=True)
class FormPart:
    """A field, or a file if it has a ``filename``. ``name`` is '' where the part has none."""

    name: str
    content: bytes = field(repr=False)
    filename: str | None = None
    content_type: str = ""


@dataclass(frozen=True)
class Form:
    """Parts in order. A name may come twice, as some providers make fields of the sender's own headers."""

    parts: tuple[FormPart, ...] = ()

    @property
    def files(self) -> list[FormPart]:
        return [part for part in self.parts if part.filename is not None]

    @property
    def fields(self) -> list[FormPart]:
        return [part for part in self.parts if part.filename is None]

    def all(self, name: str) -> list[bytes]:
        """Return every value of that name; a file counts too, as some providers send the mail as one."""
        return [part.content for part in (*self.fields, *self.files) if part.name == name]

    def bytes(self, name: str) -> bytes:
        """Return the last value (the provider's own comes after what it merges in), or b''."""
        return (self.all(name) or [b""])[-1]

    def text(self, name: str) -> str:
        return self.bytes(name).decode("utf-8", "replace")

    def has(self, name: str) -> bool:
        return bool(self.all(name))

    def json(self, name: str) -> JsonObject:
        """Return the JSON object in an optional field; an empty one where the field holds none."""
        try:
            return JsonObject.of(read_json(self.text(name)))
        except ValueError:
            return JsonObject()

    def is_ambiguous(self, *names: str) -> bool:
        """Return whether one of these has two different values: a sender may have written one of them."""
        return any(len(set(self.all(name))) > 1 for name in names)

    def file(self, name: str) -> FormPart | None:
        return next((file for file in self.files if file.name == name), None)


def read_form(content_type: str, body: bytes, *, only: Collection[str] = ()) -> Form:
    """Return the form in ``body``; an empty one where it is none or has more than ``MAX_FIELDS`` fields.

    ``only`` these fields, where any are named, and of them those of at most ``SHORT`` octets.
    """
    if parse_options_header(content_type)[0] == "application/x-www-form-urlencoded":
        return Form(tuple(_urlencoded(body, only)))
    try:
        parts = read_multipart(content_type, body, MAX_FIELDS)
    except MalformedForm:
        return Form()
    wanted = (part for part in parts if not only or (part.name in only and len(part.content) <= SHORT))
    return Form(tuple(part for part in wanted if part.name))


def read_multipart(content_type: str, body: bytes, max_parts: int) -> list[FormPart]:
    """Return the parts of a ``multipart/form-data`` body. Raise MalformedForm or TooManyParts."""
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if kind.lower() != MULTIPART or not 0 < len(boundary) <= MAX_BOUNDARY or not boundary.isascii():
        raise MalformedForm("no multipart/form-data, or without a boundary")
    delimiter = b"\r\n--" + boundary.encode("ascii")  # RFC 2046 section 5.1.1
    parts: list[FormPart] = []
    at = -2 if body.startswith(delimiter[2:]) else body.find(delimiter)  # the first may lack its line break
    while at != -1:
        rest = _LINE_REST.match(body, at + len(delimiter))
        if rest is None:
            raise MalformedForm("a line begins like the boundary and is none")
        if rest[1]:
            return parts
        if len(parts) == max_parts:
            raise TooManyParts(f"the form has more than {max_parts} parts")
        at = body.find(delimiter, rest.end())
        if at != -1:
            parts.append(_part(body, rest.end(), at))
    raise MalformedForm("no multipart/form-data, or it ended early")


def _part(body: bytes, start: int, end: int) -> FormPart:
    """Return the part in ``body[start:end]``, which begins with a line break."""
    # Where there is no content, some clients let the delimiter's line break end the header too.
    gap = body.find(b"\r\n\r\n", start, min(end + 2, start + MAX_PART_HEADER))
    if gap == -1:  # one odd part is no reason to lose the mail in the others
        return FormPart("", body[start:end])
    head = _FOLD.sub(" ", body[start:gap].decode("utf-8", "replace"))
    lines = [line.partition(":") for line in head.split("\r\n")]
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    # A path of Windows is sent as it is: only a quote and a backslash are escaped by all programs.
    disposition = _LONE_BACKSLASH.sub(lambda found: found[1] or r"\\", headers.get("content-disposition", ""))
    kind, options = parse_options_header(disposition)
    name = options.get("name", "") if kind.lower() == "form-data" else ""
    content_type = headers.get("content-type", "")
    return FormPart(name, body[gap + 4 : end], options.get("filename"), content_type)


def _urlencoded(body: bytes, only: Collection[str]) -> Iterator[FormPart]:
    if body.count(b"&") >= MAX_FIELDS:
        return
    for pair in body.split(b"&"):
        if only and len(pair) > SHORT:
            continue
        name, equals, value = pair.replace(b"+", b" ").partition(b"=")
        field = _unquoted(name).decode("utf-8", "replace")
        if equals and (not only or field in only):
            yield FormPart(field, _unquoted(value))


def _unquoted(text: bytes) -> bytes:
    """Return ``text`` percent-decoded, piece by piece.

    The library holds some 80 octets for each escape that it decodes, and where a provider signs a field of
    the form this is done before anything is proved.
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
