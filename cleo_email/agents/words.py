"""Text that comes from outside, made fit for a record, a header or a mail."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping

from cleo_email.mail.wire import no_surrogates

REASON_LENGTH = 200  # characters of foreign text in a reason


def well_formed_json(value: object) -> object:
    """A copy of ``value`` that strict JSON can carry: no lone surrogates, NaN or infinity.

    :raises TypeError: it holds something that JSON has no form for.
    """
    if isinstance(value, str):
        return no_surrogates(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, Mapping):
        return {no_surrogates(str(key)): well_formed_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [well_formed_json(item) for item in value]
    raise TypeError(f"a {type(value).__name__} has no form in JSON")


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
