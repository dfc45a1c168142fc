"""Text from outside made fit for a record or an error: printable, on one line, without a secret."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_SURROGATE = re.compile("[\ud800-\udfff]")


# --- making text safe -----------------------------------------------------------------------------------


def no_surrogates(text: str) -> str:
    """``text`` with surrogate pairs joined and each lone surrogate replaced by U+FFFD."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


REASON_LENGTH = 200  # characters of foreign text in a reason


def one_line(text: str, limit: int = REASON_LENGTH, *, without: Iterable[str] = ()) -> str:
    """At most ``limit`` printable characters on one line; every string in ``without`` is blotted out."""
    for secret in without:
        if secret:
            text = text.replace(secret, "***")
    # Long before the walk below, but after the secrets, of which a half would otherwise survive the cut.
    head = no_surrogates(text[: limit * 8])
    line = " ".join("".join(_printable(char) for char in head).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _printable(char: str) -> str:
    # Cf holds the bidirectional overrides that make a line read as something else.
    return " " if char.isspace() or unicodedata.category(char)[0] == "C" else char
