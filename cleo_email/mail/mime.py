"""The parts of a mail (RFC 2046), found in one pass over its bytes.

The standard library's parser recurses once for each level and scans each level again, and it raises on real
mail. Here all boundaries that are open are looked for at once by one regular expression, so that the time is
linear in the size of the mail however it is nested, and a part is a pair of offsets, so that nothing is
copied before it is needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.decoding import decode, decode_transfer
from cleo_email.mail.headers import HeaderValue, parse_header_value
from cleo_email.mail.model import ParseLimits

# Blanks before the colon are obsolete syntax (RFC 5322 section 4.5) and still met.
_HEADER: Final = re.compile(rb"([\x21-\x39\x3b-\x7e]{1,256}+)[ \t]*+:")
_LEADING_BLANK: Final = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*+")
_MAX_BOUNDARY: Final = 256  # RFC 2046 allows 70

RawHeaders = tuple[tuple[str, bytes], ...]


@dataclass
class Part:
    """One node of the tree. ``source[start:end]`` is its body, ``head`` the offset of its first header."""

    source: bytes = field(repr=False)
    headers: RawHeaders = field(repr=False)
    start: int
    end: int
    default_type: str = "text/plain"
    children: list[Part] = field(default_factory=list)

    def raw_header(self, name: str) -> bytes:
        """Return the first header of that (lower-case) name as it stands, folds included, or empty bytes."""
        return next((value for key, value in self.headers if key == name), b"")

    @cached_property
    def type(self) -> HeaderValue:
        """Return Content-Type, or the default where it is absent or malformed (RFC 2045 section 5.2)."""
        found = parse_header_value(decode(self.raw_header("content-type")).text)
        main, _, sub = found.value.partition("/")
        usable = main and sub and "/" not in sub and " " not in found.value
        return found if usable else HeaderValue(self.default_type, found.parameters)

    @cached_property
    def disposition(self) -> HeaderValue:
        """Return Content-Disposition (RFC 2183); its value is empty where there is none."""
        return parse_header_value(decode(self.raw_header("content-disposition")).text)

    @property
    def content_type(self) -> str:
        return self.type.value

    @property
    def is_multipart(self) -> bool:
        return bool(self.children)

    @property
    def content_id(self) -> str:
        return decode(self.raw_header("content-id")).text.strip().strip("<>").strip()

    def body(self) -> bytes:
        """Return the body with its transfer encoding undone (RFC 2045 section 6)."""
        encoding = self.raw_header("content-transfer-encoding").strip().lower()
        return decode_transfer(self.source[self.start : self.end], encoding)


@dataclass
class _Open:
    """A multipart whose closing boundary has not been met."""

    part: Part
    boundary: bytes
    pattern: re.Pattern[bytes]  # matches the delimiter lines of this and of every enclosing multipart


class _HeaderReader:
    """Reads header blocks and counts what all of them together take."""

    def __init__(self, source: bytes, limits: ParseLimits) -> None:
        self._source = source
        self._limits = limits
        self._bytes = 0
        self._count = 0

    def read_first(self) -> tuple[RawHeaders, int]:
        """Return the headers of the mail, which may come after empty lines, and the offset of its body."""
        blank = _LEADING_BLANK.match(self._source)
        return self.read(blank.end() if blank else 0)

    def read(self, start: int) -> tuple[RawHeaders, int]:
        """Return the headers of the block at ``start`` and the offset of what follows its empty line."""
        source = self._source
        headers: list[tuple[str, bytes]] = []
        name, value_start, position = "", 0, start
        while position < len(source):
            newline = source.find(b"\n", position)
            after = newline + 1 if newline >= 0 else len(source)
            first = source[position : position + 1]
            if first in b" \t" and name and self._continues(position, after):
                position = self._advance(position, after)
                continue
            if name:
                headers.append((name, source[value_start:position]))
                name = ""
            match = None if source.startswith(b"--", position) else _HEADER.match(source, position, after)
            if match:
                name, value_start = match[1].decode("ascii").lower(), match.end()
                self._count += 1
                if self._count > self._limits.headers:
                    raise UnreadableMessage(f"more than {self._limits.headers} headers")
            elif not source[position : min(after, position + 1000)].strip():
                return tuple(headers), after
            elif not source.startswith((b"From ", b">From "), position):  # as mbox software writes them
                # Not a header and not blank: the empty line is missing, the body begins here.
                return tuple(headers), position
            position = self._advance(position, after)
        if name:
            headers.append((name, source[value_start:position]))
        return tuple(headers), len(source)

    def _continues(self, position: int, after: int) -> bool:
        """Return whether the line goes on with a folded header.

        One of blanks only (RFC 5322 section 4.2) does if headers follow below it.
        """
        source = self._source
        if source[position:after].strip():
            return True
        return source[after : after + 1] in (b" ", b"\t") or _HEADER.match(source, after) is not None

    def _advance(self, position: int, after: int) -> int:
        self._bytes += after - position
        if self._bytes > self._limits.header_bytes:
            raise UnreadableMessage(f"more than {self._limits.header_bytes} bytes of headers")
        return after


def split(source: bytes, limits: ParseLimits) -> Part:
    """Return the tree of parts of ``source``. A multipart without any part is a leaf.

    Raise UnreadableMessage beyond a cap of ``limits`` on size, headers, parts or depth.
    """
    if len(source) > limits.message_bytes:
        raise UnreadableMessage(f"larger than {limits.message_bytes} bytes")
    if b"\n" not in source and b"\r" in source:
        source = source.replace(b"\r", b"\n")
    reader = _HeaderReader(source, limits)
    headers, start = reader.read_first()
    root = Part(source, headers, start, len(source))
    stack = _opened([], root)  # every delimiter line (RFC 2046 section 5.1.1) opens or closes parts
    leaf: Part | None = None  # the part whose end is the next delimiter line
    position, parts = root.start, 1
    while stack:
        # The line break before a delimiter line belongs to it, and may be the end of the line before.
        match = stack[-1].pattern.search(source, max(position - 1, 0))
        if match is None:
            break
        if leaf is not None:
            leaf.end = max(leaf.start, _before_line_break(source, match.start()))
            leaf = None
        level = max(i for i, entry in enumerate(stack) if entry.boundary == match[1])
        for closed in stack[level + 1 :]:
            closed.part.end = max(closed.part.start, _before_line_break(source, match.start()))
        del stack[level + 1 :]
        position = match.end() + 1
        if match[2]:
            stack.pop()
            continue
        parts += 1
        if parts > limits.parts:
            raise UnreadableMessage(f"more than {limits.parts} parts")
        parent = stack[-1].part
        headers, position = reader.read(min(position, len(source)))
        default = "message/rfc822" if parent.content_type == "multipart/digest" else "text/plain"
        leaf = Part(source, headers, position, len(source), default)
        parent.children.append(leaf)
        stack = _opened(stack, leaf)
        if len(stack) > limits.depth:
            raise UnreadableMessage(f"more than {limits.depth} levels of parts")
    return root


def read_headers(source: bytes, limits: ParseLimits) -> RawHeaders:
    """Return the top-level headers of ``source`` alone. Raise UnreadableMessage beyond a cap."""
    return _HeaderReader(source, limits).read_first()[0]


def _opened(stack: list[_Open], part: Part) -> list[_Open]:
    """Return ``stack`` with ``part`` on top if it is a multipart that has a usable boundary."""
    boundary = part.type.parameters.get("boundary", "").encode("utf-8", "replace").rstrip()
    if not part.content_type.startswith("multipart/") or not 0 < len(boundary) <= _MAX_BOUNDARY:
        return stack
    # The innermost one comes first and the longer before the shorter does not matter: the line must end.
    names = b"|".join(re.escape(name) for name in [boundary, *(entry.boundary for entry in stack)])
    pattern = re.compile(rb"\n--(" + names + rb")(--)?[ \t\r]*+(?=\n|\Z)")
    return [*stack, _Open(part, boundary, pattern)]


def _before_line_break(source: bytes, newline: int) -> int:
    return newline - 1 if newline > 0 and source[newline - 1 : newline] == b"\r" else newline
