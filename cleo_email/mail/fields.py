"""The header of a mail or of a part: its fields, where its body begins, and whether every reader agrees.

Everything that looks at a header reads it here: what is shown, what a signature covers and what a server has
said about the mail are then the same fields. Other programs read malformed headers in other ways (one takes a
strange line for a field, the next for the beginning of the body), so that a signature that they found good
says nothing about what we read: ``Header.doubt`` says that a header is such a one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.model import ParseLimits

# Blanks before the colon are obsolete syntax (RFC 5322 section 4.5) and still met.
_START: Final = re.compile(rb"([\x21-\x39\x3b-\x7e]++)([ \t]*+):")
# A field as nearly all are, at once: a usual name, lines that each say something, the next line no fold.
_USUAL: Final = re.compile(
    rb"([\x21-\x2c\x2e-\x39\x3b-\x7e][\x21-\x39\x3b-\x7e]{0,200}+)"
    rb":([^\n]*+\n(?>[ \t]++[^\s][^\n]*+\n)*+)(?![ \t])"
)
_LEADING_BLANK: Final = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*+")
# ESC begins a shift of ISO-2022-JP, which old Japanese programs write as it is.
_CONTROL: Final = re.compile(rb"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]|\x1b(?![$(])")
_MAY_BE_CONTROL: Final = bytes([*range(0x09), *range(0x0B, 0x20), 0x7F])
_LF_ALONE: Final = re.compile(rb"(?<!\r)\n")
_MBOX: Final = (b"From ", b">From ")  # as mbox software writes them
# Allowed once (RFC 5322 section 3.6, RFC 2045); of two, programs read one or the other. Of To, Cc,
# In-Reply-To and References all are read.
_ONCE: Final = frozenset(
    b"from sender reply-to message-id subject date mime-version content-type content-transfer-encoding"
    b" content-disposition".split()
)
# Beyond these, programs cut or refuse a header. Real ones have under 100 fields of under 20,000 octets.
_MAX_NAME: Final = 256
_MAX_FIELD: Final = 65_536
_MAX_FIELDS: Final = 1000
_MAX_HEADER: Final = 262_144


class Field(NamedTuple):
    """``name`` as it is spelled; ``value`` is all that follows the colon, folds and the line end included."""

    name: bytes
    value: bytes


@dataclass(frozen=True)
class Header:
    """``body`` is the offset of the body in the source. ``doubt`` says why readers may differ, or is ''."""

    fields: tuple[Field, ...]
    body: int
    doubt: str = ""


class HeaderReader:
    """Reads the header blocks of one mail, and counts what all of them together take.

    Time is linear in the length of a block. Every method raises UnreadableMessage beyond a cap.
    """

    def __init__(self, source: bytes, limits: ParseLimits) -> None:
        self._source = source
        self._limits = limits
        self._bytes = 0
        self._count = 0
        self._doubt = ""

    def first(self) -> Header:
        """Read the header of the mail itself, which may come after empty lines (then with a doubt)."""
        blank = _LEADING_BLANK.match(self._source)
        start = blank.end() if blank else 0
        self._doubt = "something stands before its first field" if start else ""
        found = self.block(start, is_part=False)
        return Header(found.fields, found.body, self._doubt or _doubt(self._source, found))

    def block(self, start: int, *, is_part: bool = True) -> Header:
        """Read the block at ``start``; in a part, a line that begins with two hyphens is a delimiter."""
        source = self._source
        fields: list[Field] = []
        name, value_start, position = b"", 0, start
        while position < len(source):
            if not name and (usual := _USUAL.match(source, position)):
                fields.append(Field(*usual.groups()))
                position = self._advance(position, usual.end(), fields=1)
                continue
            newline = source.find(b"\n", position)
            after = newline + 1 if newline >= 0 else len(source)
            if name and source[position : position + 1] in b" \t" and self._continues(position, after):
                position = self._advance(position, after)
                continue
            if name:
                fields.append(Field(name, source[value_start:position]))
                name = b""
            hyphens = source.startswith(b"--", position)
            match = None if is_part and hyphens else _START.match(source, position, after)
            if match:
                name, value_start = match[1], match.end()
                if hyphens or match[2] or len(name) > _MAX_NAME:
                    self._note(name, "is no usual name of a field")
                self._advance(position, position, fields=1)
            elif not source[position : min(after, position + 1000)].strip():
                if source[position:after] not in (b"\n", b"\r\n"):
                    self._note(b"", "a line of blanks ends it")
                return Header(tuple(fields), after)
            else:
                self._note(source[position : position + 40], "is no field")
                if not source.startswith(_MBOX, position):
                    # Not a header and not blank: the empty line is missing, the body begins here.
                    return Header(tuple(fields), position)
            position = self._advance(position, after)
        if name:
            fields.append(Field(name, source[value_start:position]))
        return Header(tuple(fields), len(source))

    def _continues(self, position: int, after: int) -> bool:
        """Return whether the line goes on with a folded header.

        One of blanks only (RFC 5322 section 4.2) does if headers follow below it.
        """
        source = self._source
        if source[position:after].strip():
            return True
        self._note(b"", "a line of blanks stands in it")
        return source[after : after + 1] in (b" ", b"\t") or _START.match(source, after) is not None

    def _advance(self, position: int, after: int, *, fields: int = 0) -> int:
        self._bytes += after - position
        self._count += fields
        if self._count > self._limits.headers:
            raise UnreadableMessage(f"more than {self._limits.headers} headers")
        if self._bytes > self._limits.header_bytes:
            raise UnreadableMessage(f"more than {self._limits.header_bytes} bytes of headers")
        return after

    def _note(self, line: bytes, what: str) -> None:
        shown = "".join(filter(str.isprintable, line[:40].decode("ascii", "replace"))).strip()
        self._doubt = self._doubt or (f"`{shown}` {what}" if line else what)


def read_header(source: bytes, limits: ParseLimits) -> Header:
    """Return the header of a mail. Raise UnreadableMessage beyond a cap."""
    return HeaderReader(source, limits).first()


def _doubt(source: bytes, header: Header) -> str:
    return next(_doubts(source, header), "")


def _doubts(source: bytes, header: Header) -> Iterator[str]:
    """Yield what lines that are fields can still hold for one reader and not for another."""
    if header.body > _MAX_HEADER or len(header.fields) > _MAX_FIELDS:
        yield "it is too large"
    if header.body > _MAX_FIELD and any(len(field.value) > _MAX_FIELD for field in header.fields):
        yield "a field is too long"
    if _has_control(source, header.body):
        yield "a control character stands in it"
    if _ends_differ(source, header):
        yield "its lines end in two ways"
    names = [field.name.lower() for field in header.fields]
    for name in dict.fromkeys(names):
        if name in _ONCE and names.count(name) > 1:
            yield f"{names.count(name)} {name.decode().title()} headers"


def _has_control(source: bytes, end: int) -> bool:
    """Return whether a control character stands in ``source[:end]``; translate() says no much faster."""
    head = source[:end]
    found = len(head) - len(head.translate(None, _MAY_BE_CONTROL))
    return found > source.count(b"\r\n", 0, end) and _CONTROL.search(source, 0, end) is not None


def _ends_differ(source: bytes, header: Header) -> bool:
    """Return whether somebody for whom only CRLF ends a line sees another author, or another body.

    Fields that servers put on top of a mail with LF may end in CRLF: for such a reader From is no field then.
    """
    end = header.body
    if source.count(b"\r\n", 0, end) == source.count(b"\n", 0, end):
        return False
    alone = _LF_ALONE.search(source, 0, end)
    if alone is None:
        return False
    writers = [field.value for field in header.fields if field.name.lower() == b"from"]
    return source.find(b"\r\n", alone.end()) >= 0 or any(value.endswith(b"\r\n") for value in writers)
