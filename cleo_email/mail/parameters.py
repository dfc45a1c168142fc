"""Header values with parameters (RFC 2045 section 5.1, RFC 2231): Content-Type and Content-Disposition."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from cleo_email.mail.charsets import decode
from cleo_email.mail.words import decode_words

_VALUE: Final = re.compile(r"[^;\s/]*+(?:\s*+/\s*+[^;\s]*+)?+")
# Possessive throughout: a hundred thousand semicolons or an open quote are passed over once.
_PARAMETER: Final = re.compile(
    r"""[;\s]*+
        ([^=;\s"]++)\s*+
        (?:=\s*+ (?: "((?:[^"\\]|\\.)*+)(?:"|\\?\Z) | ([^;]*+) ))?+
        [^;]*+""",
    re.VERBOSE | re.DOTALL,
)
_SECTION: Final = re.compile(r"([^*]+)(?:\*(\d{1,4}))?(\*)?\Z")
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_FOLD: Final = re.compile(r"\r?\n[ \t]*")
_MAX_PARAMETERS: Final = 1000


class HeaderValue(NamedTuple):
    """``value`` is in lower case; ``parameters`` have lower-case names, decoded values, the first of each."""

    value: str
    parameters: dict[str, str]


class _Piece(NamedTuple):
    number: int  # of the section; -1 where there are none
    encoded: bool
    text: str


def parse_header_value(text: str) -> HeaderValue:
    """Read ``text`` leniently. Never raises; takes linear time."""
    text = _FOLD.sub(" ", text).strip()
    head = _VALUE.match(text)
    position = head.end() if head else 0
    pieces: dict[str, list[_Piece]] = {}
    for _ in range(_MAX_PARAMETERS):
        match = _PARAMETER.match(text, position)
        if match is None:
            break
        position = match.end()
        _add(pieces, match[1].lower(), _unquoted(match))
    value = "".join(head[0].split()).lower() if head else ""
    return HeaderValue(value, {k: _join(v) for k, v in pieces.items()})


def _unquoted(match: re.Match[str]) -> str:
    if match[2] is not None:
        # Windows clients write paths without escaping the backslashes; only quotes are surely escaped.
        return match[2].replace('\\"', '"') if "\\\\" not in match[2] else _ESCAPE.sub(r"\1", match[2])
    return (match[3] or "").strip().strip("\"'")


def _add(pieces: dict[str, list[_Piece]], name: str, text: str) -> None:
    section = _SECTION.match(name)
    if section is None:
        return
    number = int(section[2]) if section[2] else -1
    pieces.setdefault(section[1], []).append(_Piece(number, section[3] is not None, text))


def _join(pieces: list[_Piece]) -> str:
    """Put the sections of one parameter together (RFC 2231 section 3); the extended form beats the plain."""
    whole = [piece for piece in pieces if piece.number < 0]
    sections = sorted((piece for piece in pieces if piece.number >= 0), key=lambda piece: piece.number)
    chosen = [p for p in whole if p.encoded][:1] or sections or whole[:1]
    if not any(piece.encoded for piece in chosen):
        return decode_words("".join(piece.text for piece in chosen))
    charset, raw = "", b""
    collected: list[bytes] = []
    for place, piece in enumerate(chosen):
        value = piece.text
        if piece.encoded:
            if place == 0 and value.count("'") >= 2:
                charset, _, value = value.split("'", 2)
            raw = unquote_to_bytes(value)
        else:
            raw = value.encode("utf-8", "replace")
        collected.append(raw)
    return decode(b"".join(collected), charset).text
