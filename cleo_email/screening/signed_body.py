"""The body of a signed mail: its hash (RFC 6376 section 3.4), and in how many ways it may be read.

All of it takes time linear in the length of the body and little memory, in pieces short enough that other
threads run in between: the body is written by whoever likes to.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from cleo_email.mail.decoding import codec_of, decode_base64, decode_transfer

_PIECE: Final = 65_536  # octets that are worked on at once


def body_hash(source: bytes, start: int, *, relaxed: bool) -> bytes:
    """Return the SHA-256 of the canonical body that begins at ``start``; LF alone ends a line too."""
    digest = hashlib.sha256()
    blank, ends, empty = b"", 0, True  # a blank and line ends that are left out if nothing follows them
    for piece in _with_line_feeds(source, start):
        if relaxed:
            piece = _one_blank(blank + piece).replace(b" \n", b"\n")
            blank = b" " if piece.endswith(b" ") else b""
            piece = piece.removesuffix(b" ")
        kept = piece.rstrip(b"\n")
        if kept:
            _end_lines(digest.update, ends)
            digest.update(kept.replace(b"\n", b"\r\n"))
            empty, ends = False, 0
        ends += len(piece) - len(kept)
    if not (empty and relaxed):
        digest.update(b"\r\n")
    return digest.digest()


def _with_line_feeds(source: bytes, start: int) -> Iterator[bytes]:
    """Yield the body in pieces, with LF for each CRLF."""
    rest = b""  # a CR whose LF may follow
    for at in range(start, len(source), _PIECE):
        piece = rest + source[at : at + _PIECE]
        rest = b"\r" if piece.endswith(b"\r") and at + _PIECE < len(source) else b""
        yield piece[: len(piece) - len(rest)].replace(b"\r\n", b"\n")


def _one_blank(piece: bytes) -> bytes:
    """Return ``piece`` with one blank for each run of blanks and tabs."""
    piece = piece.replace(b"\t", b" ")
    while b"  " in piece:  # each round halves the runs
        piece = piece.replace(b"  ", b" ")
    return piece


def _end_lines(update: Callable[[bytes], None], count: int) -> None:
    while count > 0:
        update(b"\r\n" * min(count, _PIECE))
        count -= _PIECE


# --- how the body may be read -------------------------------------------------------------------------------

# The forms that a body may have so that it can be read in one way only.
_PREAMBLES: Final = frozenset(
    {b"this is a multi-part message in mime format.", b"this is a multipart message."}
)
_MULTIPARTS: Final = tuple(f"multipart/{kind}" for kind in ("mixed", "alternative", "related", "signed"))
# In these the letters of ASCII are themselves, and other octets are no letters of ASCII.
_CHARSET: Final = re.compile(r"(?:us-ascii|ascii|utf-?8|iso-8859-\d{1,2}|windows-125\d)?")
# Only what cannot stand as it is: octets beyond ASCII, "=", blanks at the end of a line, "From " and a dot at
# the beginning of one. "=50" for a letter is no encoder's work: it was written to be read as it stands.
_QUOTED_PRINTABLE: Final = re.compile(
    rb"(?>[^=\x80-\xff]++|=[89A-Fa-f][0-9A-Fa-f]|=3[Dd]|=(?:20|09)(?==?[ \t]*\r?(?:\n|\Z))"
    rb"|=[ \t]*\r?(?:\n|\Z)|(?<![^\n])=(?:46(?=rom )|2[Ee]))*+"
)
_BASE64: Final = re.compile(rb"(?>[A-Za-z0-9+/]{1,76}\r?\n)*+[A-Za-z0-9+/]{0,76}={0,2}\s*+")
_QUOTED_LINE: Final = 79  # octets, a CR included
_LINE: Final = 1000
_BLANKS: Final = re.compile(rb"[\r\n \t]*+")
_HTML_BEGINS: Final = 400  # octets that are looked at
_HTML: Final = re.compile(rb"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)
_NO_TEXT: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]")


def is_evident(kind: str, parameters: Mapping[str, str], encoding: bytes, source: bytes, start: int) -> bool:
    """Return whether the body is of that type and could be of no other with a text of its own."""
    if kind in _MULTIPARTS:
        boundary = parameters.get("boundary", "")
        return boundary.isascii() and boundary.encode() == _boundary(source, start)
    if kind == "text/html":
        return bool(_HTML.match(decode_transfer(source[start : start + _HTML_BEGINS], encoding)))
    plain = kind == "text/plain" and _boundary(source, start) is None
    return plain and bool(_CHARSET.fullmatch(parameters.get("charset", "").strip().lower()))


def is_encoded(encoding: bytes, kind: str, parameters: Mapping[str, str], source: bytes, start: int) -> bool:
    """Return whether ``encoding`` leaves the body as it is, or shows by its form."""
    if encoding in (b"", b"7bit", b"8bit", b"binary"):
        return True
    if kind.startswith(("multipart/", "message/")):
        return False
    if encoding == b"quoted-printable":
        return all(map(_is_quoted, _whole_lines(source, start)))
    if encoding != b"base64":
        return False
    characters = 0
    for piece in _whole_lines(source, start):
        if not _BASE64.fullmatch(piece):
            return False
        characters += len(piece.translate(None, b"\r\n \t"))
    if characters % 4 or not kind.startswith("text/"):
        return characters % 4 == 0
    text = decode_base64(source[start : start + _PIECE])
    return _is_text(text, parameters, whole=len(source) <= start + _PIECE)


def _is_quoted(lines: bytes) -> bool:
    if max(map(len, lines.split(b"\n"))) > _QUOTED_LINE:
        return False
    if b"=" not in lines:
        return lines.isascii()
    return _QUOTED_PRINTABLE.fullmatch(lines) is not None


def _is_text(data: bytes, parameters: Mapping[str, str], *, whole: bool) -> bool:
    """Return whether this is text in its charset: words that happen to be base64 decode to none."""
    codec = codec_of(parameters.get("charset", "")) or "utf-8"
    try:
        text = data.decode(codec, "replace")
    except (LookupError, ValueError):
        return False
    return not _NO_TEXT.search(text if whole else text[:-4])  # a character may be cut at the end


def _whole_lines(source: bytes, start: int) -> Iterator[bytes]:
    """Yield the body in pieces that end where a line ends; a longer line is a piece that ends anywhere."""
    while start < len(source):
        end = source.rfind(b"\n", start, start + _PIECE) + 1
        end = end if end and start + _PIECE < len(source) else start + _PIECE
        yield source[start:end]
        start = end


def _boundary(source: bytes, start: int) -> bytes | None:
    """Return the boundary with which the body begins and ends (RFC 2046 section 5.1.1), if it does."""
    first, after = _next_line(source, start)
    if first.lower() in _PREAMBLES:
        first, _ = _next_line(source, after)
    name = first[2:] if first.startswith(b"--") else b""
    return name if name and _last_line(source, start) == b"--" + name + b"--" else None


def _next_line(source: bytes, start: int) -> tuple[bytes, int]:
    """Return the first line from ``start`` on that is not blank, and the offset behind it."""
    blanks = _BLANKS.match(source, start)
    begin = blanks.end() if blanks else start
    end = source.find(b"\n", begin, begin + _LINE)
    end = min(begin + _LINE, len(source)) if end < 0 else end
    return source[begin:end].strip(), end


def _last_line(source: bytes, start: int) -> bytes:
    end = len(source)
    while end > start:
        piece = source[max(start, end - _PIECE) : end]
        if kept := piece.rstrip(b"\r\n \t"):
            end -= len(piece) - len(kept)
            return source[max(start, end - _LINE) : end].rpartition(b"\n")[2].strip()
        end -= len(piece)
    return b""
