"""Forms as bytes: a raw mail in a field is not always UTF-8 and must not be decoded on the way.

Both kinds (``application/x-www-form-urlencoded`` and ``multipart/form-data``, RFC 7578) are read from a body
that is already bounded, whole or not at all: half a form is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from werkzeug.datastructures import Headers
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder

from cleo_email.errors import CleoError

MULTIPART = "multipart/form-data"
MAX_FIELDS = 1000
MAX_PART_HEADER = 8192
MAX_BOUNDARY = 200
UNQUOTE_AT_ONCE = 1 << 14
_LONE_BACKSLASH = re.compile(r"\\(.?)")


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
    """Parts in order. A sender's own headers become fields with some providers: a name may come twice."""

    parts: tuple[FormPart, ...] = ()

    @property
    def files(self) -> list[FormPart]:
        return [part for part in self.parts if part.filename is not None]

    @property
    def fields(self) -> list[FormPart]:
        return [part for part in self.parts if part.filename is None]

    def all(self, name: str) -> list[bytes]:
        """Every value of that name; a file counts as a value, as some providers send the mail as one."""
        return [part.content for part in (*self.fields, *self.files) if part.name == name]

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

    def file(self, name: str) -> FormPart | None:
        return next((file for file in self.files if file.name == name), None)


def read_form(content_type: str, body: bytes) -> Form:
    """The form in ``body``; an empty one where it is none or has more than ``MAX_FIELDS`` fields."""
    if parse_options_header(content_type)[0] == "application/x-www-form-urlencoded":
        return Form(tuple(_urlencoded(body)))
    try:
        return Form(tuple(part for part in read_multipart(content_type, body, MAX_FIELDS) if part.name))
    except MalformedForm:
        return Form()


def read_multipart(content_type: str, body: bytes, max_parts: int) -> list[FormPart]:
    """The parts of a ``multipart/form-data``. Raises MalformedForm or TooManyParts."""
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if kind != MULTIPART or not 0 < len(boundary) <= MAX_BOUNDARY or not boundary.isascii():
        raise MalformedForm("no multipart/form-data, or without a boundary")
    delimiter = b"--" + boundary.encode("ascii")
    # Counted first, so that the library neither builds more parts than we want nor overlooks a delimiter.
    count = body.startswith(delimiter) + body.count(b"\n" + delimiter) + body.count(b"\r" + delimiter)
    if count > max_parts + 1:
        raise TooManyParts(f"the form has more than {max_parts} parts")
    try:
        parts = list(_parts(body, boundary.encode("ascii")))
    except ValueError:  # what the library raises for everything that it cannot read
        raise MalformedForm("no multipart/form-data, or it ended early") from None
    if len(parts) != count - 1:
        raise MalformedForm("a line begins like the boundary and is none")
    return parts


def _parts(body: bytes, boundary: bytes) -> Iterator[FormPart]:
    """Feed the body at once: the library adds a CR to a file where a piece ends within the last ``--``."""
    decoder = _Decoder(boundary)
    decoder.receive_data(body)
    decoder.receive_data(None)
    begun: Field | File | None = None
    while not isinstance(event := decoder.next_event(), Epilogue):
        if isinstance(event, (Field, File)):
            begun = event
        elif isinstance(event, Data) and not event.more_data and begun is not None:
            filename = begun.filename if isinstance(begun, File) else None
            yield FormPart(begun.name or "", event.data, filename, begun.headers.get("content-type", ""))


class _Decoder(MultipartDecoder):
    """Reads the header of a part as leniently as the senders need it."""

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        if len(data) > MAX_PART_HEADER:
            raise ValueError("the header of a part is too long")
        found = super()._parse_headers(data.decode("utf-8", "replace").encode())
        disposition = found.get("content-disposition", "")  # without one the part just has no name
        found["Content-Disposition"] = _LONE_BACKSLASH.sub(_escaped, disposition)
        return found


def _escaped(found: re.Match[str]) -> str:
    """A path of Windows is sent as it is: only a quote and a backslash are escaped by anybody."""
    return found[0] if found[1] in ("\\", '"') else f"\\{found[0]}"


def _urlencoded(body: bytes) -> Iterator[FormPart]:
    if body.count(b"&") >= MAX_FIELDS:
        return
    for pair in body.split(b"&"):
        name, equals, value = pair.replace(b"+", b" ").partition(b"=")
        if equals:
            yield FormPart(_unquoted(name).decode("utf-8", "replace"), _unquoted(value))


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
