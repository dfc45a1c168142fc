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
from cleo_email.mail.fields import Header, HeaderReader, read_header
from cleo_email.mail.headers import HeaderValue, parse_header_value
from cleo_email.mail.model import ParseLimits

_MAX_BOUNDARY: Final = 256  # RFC 2046 allows 70

RawHeaders = tuple[tuple[str, bytes], ...]  # lower-case name, value as it stands


@dataclass
class Part:
    """One node of the tree. ``source[start:end]`` is its body, ``head`` the offset of its first header."""

    source: bytes = field(repr=False)
    headers: RawHeaders = field(repr=False)
    start: int
    end: int
    default_type: str = "text/plain"
    children: list[Part] = field(default_factory=list)
    doubt: str = ""  # of the whole mail: why its header can be read in two ways

    def raw_header(self, name: str) -> bytes:
        """Return the first header of that (lower-case) name as it stands, folds included, or empty bytes."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""

    @cached_property
    def type(self) -> HeaderValue:
        """Return Content-Type, or the default where it is absent or malformed (RFC 2045 section 5.2)."""
        raw = self.raw_header("content-type")
        if not raw:
            return HeaderValue(self.default_type, {})
        found = parse_header_value(decode(raw).text)
        main, _, sub = found.value.partition("/")
        usable = main and sub and "/" not in sub and " " not in found.value
        return found if usable else HeaderValue(self.default_type, found.parameters)

    @cached_property
    def disposition(self) -> HeaderValue:
        """Return Content-Disposition (RFC 2183); its value is empty where there is none."""
        raw = self.raw_header("content-disposition")
        return parse_header_value(decode(raw).text) if raw else HeaderValue("", {})

    @property
    def content_type(self) -> str:
        return self.type.value

    @property
    def is_multipart(self) -> bool:
        return bool(self.children)

    @property
    def content_id(self) -> str:
        return decode(self.raw_header("content-id")).text.strip().strip("<>").strip()

    def body(self, most: int | None = None) -> bytes:
        """Return the body with its transfer encoding undone (RFC 2045 section 6).

        ``most``: of its first octets only, counted as they are encoded.
        """
        encoding = self.raw_header("content-transfer-encoding")
        end = self.end if most is None else min(self.end, self.start + most)
        return decode_transfer(self.source[self.start : end], encoding)


@dataclass
class _Open:
    """A multipart whose closing boundary has not been met."""

    part: Part
    boundary: bytes
    pattern: re.Pattern[bytes]  # matches the delimiter lines of this and of every enclosing multipart


def split(source: bytes, limits: ParseLimits) -> Part:
    """Return the tree of parts of ``source``. A multipart without any part is a leaf.

    Raise UnreadableMessage beyond a cap of ``limits`` on size, headers, parts or depth.
    """
    if len(source) > limits.message_bytes:
        raise UnreadableMessage(f"larger than {limits.message_bytes} bytes")
    only_cr = b"\n" not in source and b"\r" in source
    if only_cr:
        source = source.replace(b"\r", b"\n")
    reader = HeaderReader(source, limits)
    header = reader.first()
    root = Part(source, _named(header), header.body, len(source))
    root.doubt = "its lines end in CR alone" if only_cr else header.doubt
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
        header = reader.block(min(position, len(source)))
        position = header.body
        default = "message/rfc822" if parent.content_type == "multipart/digest" else "text/plain"
        leaf = Part(source, _named(header), position, len(source), default)
        parent.children.append(leaf)
        stack = _opened(stack, leaf)
        if len(stack) > limits.depth:
            raise UnreadableMessage(f"more than {limits.depth} levels of parts")
    return root


def read_headers(source: bytes, limits: ParseLimits) -> RawHeaders:
    """Return the top-level headers of ``source`` alone. Raise UnreadableMessage beyond a cap."""
    return _named(read_header(source, limits))


def _named(header: Header) -> RawHeaders:
    return tuple((name.decode("ascii").lower(), value) for name, value in header.fields)


def _opened(stack: list[_Open], part: Part) -> list[_Open]:
    """Return ``stack`` with ``part`` on top if it is a multipart that has a usable boundary."""
    if not part.content_type.startswith("multipart/"):
        return stack
    boundary = part.type.parameters.get("boundary", "").encode("utf-8", "replace").rstrip()
    if not 0 < len(boundary) <= _MAX_BOUNDARY:
        return stack
    # The innermost one comes first and the longer before the shorter does not matter: the line must end.
    names = b"|".join(re.escape(name) for name in [boundary, *(entry.boundary for entry in stack)])
    pattern = re.compile(rb"\n--(" + names + rb")(--)?[ \t\r]*+(?=\n|\Z)")
    return [*stack, _Open(part, boundary, pattern)]


def _before_line_break(source: bytes, newline: int) -> int:
    return newline - 1 if newline > 0 and source[newline - 1 : newline] == b"\r" else newline
