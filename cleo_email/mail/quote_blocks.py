"""Header blocks above a quote: "Von: … Gesendet: … An: … Betreff: …"."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from cleo_email.mail import quote_words as words

LINE_CAP: Final = 500  # characters of a line that are looked at
_HEADER_LINES: Final = 14


def is_blank(line: str) -> bool:
    return not line or line[:LINE_CAP].isspace()


def header_block_end(lines: Sequence[str], start: int, *, after_rule: bool) -> int | None:
    """Give the line after a block ("Von: … Gesendet: … An: … Betreff: …") that begins at ``start``, or None.

    ``after_rule`` tells that a separator stands before it; without one the block must be complete.
    """
    kind, _ = label(lines[start])
    if kind is None:
        return None
    seen: set[str] = set()
    address = digits = dated = False
    blanks = 0
    position = start
    while position < min(len(lines), start + _HEADER_LINES):
        line = lines[position]
        if is_blank(line):
            # Lines of HTML mail may come with an empty line after each.
            if blanks or position + 1 >= len(lines) or label(lines[position + 1])[0] is None:
                break
            blanks += 1
        else:
            kind, value = label(line)
            blanks = 0
            if kind is None and position > start + 1 and _complete(seen, address, digits, dated, after_rule):
                if not line.startswith((" ", "\t")):
                    break
            elif kind is not None:
                seen.add(kind)
                address = address or (kind in ("from", "to") and "@" in value)
                digits = digits or (kind == "sent" and any(c.isdigit() for c in value))
                dated = dated or (kind == "sent" and _is_moment(value))
            else:
                address = address or "@" in line[:LINE_CAP]
        position += 1
    return position if _complete(seen, address, digits, dated, after_rule) else None


def _complete(seen: set[str], address: bool, digits: bool, dated: bool, after_rule: bool) -> bool:
    """Tell a whole block. One with neither an address nor a moment may be a list: ``Von: Berlin An: …``."""
    if "from" not in seen:
        return False
    if after_rule and seen & {"sent", "to", "subject"}:
        return True
    if "subject" in seen and (seen & {"sent", "to"}):
        return address or dated
    return address and digits


def _is_moment(value: str) -> bool:
    return words.YEAR.search(value) is not None or words.COLON_CLOCK.search(value) is not None


def label(line: str) -> tuple[str | None, str]:
    match = words.LABEL.match(line[:LINE_CAP])
    if match is None:
        return None, ""
    return words.LABELS.get(match[1].strip().lower().replace("’", "'")), line[match.end() : LINE_CAP]


def names_author(line: str, addresses: Collection[str]) -> bool:
    """Tell a line that names one of ``addresses`` (lower case) and not as a recipient."""
    if label(line)[0] not in (None, "from"):
        return False
    return any(
        match[0].strip("[](),;:'\"").lower() in addresses for match in words.ADDRESS.finditer(line[:LINE_CAP])
    )
