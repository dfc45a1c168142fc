"""Base64 as files come in, in JSON and in configuration."""

from __future__ import annotations

import binascii
import re

_BLANKS = re.compile(r"[ \t\r\n]+")


def decode_base64(text: str) -> bytes:
    """The bytes of base64 (RFC 4648 section 4). Line breaks are allowed: many encoders wrap at 76 columns
    (RFC 2045 section 6.8). Raises ValueError for anything else."""
    if _BLANKS.search(text):
        text = _BLANKS.sub("", text)
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise ValueError(
            "no base64: expected the file's bytes in the alphabet of RFC 4648 section 4"
        ) from None
