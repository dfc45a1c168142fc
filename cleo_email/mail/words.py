"""Encoded words (RFC 2047) and raw header bytes as text."""

from __future__ import annotations

import binascii
import re
from typing import Final

from cleo_email.mail.charsets import clean, codec_of, decode
from cleo_email.mail.transfer import decode_base64

# Every part is bounded or stops at a question mark, so that a run of false starts costs linear time. The
# language that RFC 2231 section 5 allows after the charset is passed over.
_WORD: Final = re.compile(r"=\?([^?*\s=]{1,40})(?:\*[^?\s]{0,20})?\?([bBqQ])\?([^?]*+)\?=")
_COMMENT_MARK: Final = re.compile(r"\\.|[()]", re.DOTALL)
_FOLD: Final = re.compile(r"\r?\n(?=[ \t])|[\r\n]+")


def header_text(raw: bytes) -> str:
    """Give a raw header value unfolded (RFC 5322 section 2.2.3), its encoded words still as they are."""
    text = raw.decode("ascii") if raw.isascii() else decode(raw).text
    return clean(_FOLD.sub("", text)).replace("\n", " ").replace("\t", " ").strip()


def without_comments(text: str) -> str:
    """Give ``text`` without its comments in parentheses, which may be nested (RFC 5322 section 3.2.2)."""
    if "(" not in text:
        return text
    kept: list[str] = []
    depth = position = 0
    for match in _COMMENT_MARK.finditer(text):
        if match[0] == "(":
            if not depth:
                kept.append(text[position : match.start()])
            depth += 1
        elif match[0] == ")" and depth:
            depth -= 1
            position = match.end()
    return "".join(kept) + ("" if depth else text[position:])


def decode_header(raw: bytes) -> str:
    """Give a raw header value unfolded and decoded. Never raises."""
    return decode_words(header_text(raw))


def decode_words(text: str) -> str:
    """Decode the encoded words in ``text``; white space between two of them goes (RFC 2047 section 6.2).

    Neighbours of one charset are decoded as one, because clients cut them in the middle of a character.
    """
    if "=?" not in text:
        return text
    out: list[str] = []
    pending: list[bytes] = []
    charset, position = "", 0
    for match in _WORD.finditer(text):
        between = text[position : match.start()]
        separate = bool(between.strip()) or not pending
        if separate or match[1].lower() != charset:
            out.append(decode(b"".join(pending), charset).text)
            pending = []
        if separate:
            out.append(between)
        charset, position = match[1].lower(), match.end()
        pending.append(_bytes_of(match[2], match[3], match[1]))
    out.append(decode(b"".join(pending), charset).text)
    out.append(text[position:])
    return clean("".join(out)).replace("\n", " ").replace("\t", " ")


def _bytes_of(encoding: str, payload: str, charset: str) -> bytes:
    try:
        # Characters that somebody forgot to encode are by now text: back to what they were.
        raw = payload.encode(codec_of(charset) or "utf-8")
    except (UnicodeError, LookupError):
        raw = payload.encode("utf-8", "replace")
    if encoding in "bB":
        return decode_base64(raw)
    return binascii.a2b_qp(raw.replace(b" ", b"_"), header=True)
