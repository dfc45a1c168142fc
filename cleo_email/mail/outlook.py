"""Outlook's own threading: the ``Thread-Index`` header (MS-OXOMSG 2.2.1.3, PidTagConversationIndex)."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta

_HEADER = 22  # a byte 0x01, five bytes of time, a GUID
_CHILD = 5
_LONGEST = 22 + 5 * 110  # keeps the field on one line of less than 998 characters
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_HIGH_BITS_OF_1_7_YEARS = 0x00FE_0000_0000_0000


def child_index(thread_index: str, date: datetime, nibble: int = 0) -> str:
    """``thread_index`` (base64) with one response level more, or an empty string where it is not valid.

    ``date`` is aware; ``nibble`` (0 to 15) keeps two answers of the same moment apart.
    """
    index = _decoded(thread_index)
    if not index:
        return ""
    elapsed = max(_filetime(date) - _started(index), 0)
    if elapsed & _HIGH_BITS_OF_1_7_YEARS:
        delta = 1 << 31 | (elapsed >> 23) & 0x7FFF_FFFF
    else:
        delta = (elapsed >> 18) & 0x7FFF_FFFF
    level = delta.to_bytes(4, "big") + bytes([(nibble & 0xF) << 4])
    return base64.b64encode(index + level).decode("ascii")


def _decoded(thread_index: str) -> bytes:
    try:
        index = base64.b64decode("".join(thread_index.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""
    valid = _HEADER <= len(index) <= _LONGEST and not (len(index) - _HEADER) % _CHILD and index[0] == 1
    return index if valid else b""


def _started(index: bytes) -> int:
    """FILETIME of the header. Outlook writes the upper six bytes of it; Exchange, as specified, a byte 0x01
    and the upper five. In the second form the next byte is 0x01 too, which in the first was the year 1829."""
    if index[1] == 1:
        return int.from_bytes(index[1:6], "big") << 24
    return int.from_bytes(index[0:6], "big") << 16


def _filetime(date: datetime) -> int:
    return (date - _EPOCH) // timedelta(microseconds=1) * 10
