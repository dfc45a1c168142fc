"""Message-IDs (RFC 5322 section 3.6.4) out of headers, with their angle brackets."""

from __future__ import annotations

import re
from typing import Final

MAX_IDENTIFIERS: Final = 1000

_BRACKETED: Final = re.compile(r"<([^<>]{1,998}+)>")
_SEPARATORS: Final = re.compile(r"[\s,;]+")


def parse_message_ids(text: str) -> tuple[str, ...]:
    """Give the identifiers in an unfolded header value in order, each once.

    White space inside of the brackets, as careless folding leaves it, is taken out. Without any brackets,
    words that look like identifiers count and get brackets. Of more than MAX_IDENTIFIERS the first and the
    last are kept. Never raises.
    """
    found = ["<" + "".join(match[1].split()) + ">" for match in _BRACKETED.finditer(text)]
    if not found and "<" not in text:
        words = _SEPARATORS.split(text)
        found = [f"<{word}>" for word in words if len(word) <= 998 and "@" in word.strip("@")]
    unique = tuple(dict.fromkeys(item for item in found if item != "<>"))
    if len(unique) > MAX_IDENTIFIERS:
        return unique[:1] + unique[1 - MAX_IDENTIFIERS :]
    return unique
