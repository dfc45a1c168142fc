"""The caps that keep the reading of any mail within 2 seconds and 300 MB."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a mail may have at most; beyond the first five it is unreadable, beyond the last its text is cut.

    Real mail stays far below: the largest of some 1,450 public messages has 100 headers and 30 parts.
    """

    message_bytes: int = 64 * 1024 * 1024
    header_bytes: int = 1024 * 1024  # of all header blocks of one mail together
    headers: int = 10_000  # of all parts of one mail together
    parts: int = 500
    depth: int = 50  # multiparts within multiparts
    text_bytes: int = 1024 * 1024  # of text that is shown; what is longer also becomes an attachment
