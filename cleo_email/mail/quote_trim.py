"""What closes a text and is not part of it: a signature, a list's footer, "Sent from my phone", rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cleo_email.mail import quote_blocks as blocks
from cleo_email.mail import quote_marks as marks

_MAX_SIGNATURE: Final = 60  # lines after "-- "
_MAX_LOOSE_SIGNATURE: Final = 12  # lines after "--", which may also be a rule between two paragraphs
_MAX_FOOTER: Final = 8  # lines that a mailing list adds below a long rule
_FOOTER_RULE: Final = 20  # characters


def is_closing(lines: Sequence[str], position: int) -> bool:
    """Tell whether what begins at ``position`` is a signature, a list's footer, or rules only."""
    first = lines[position].strip()
    count = sum(not blocks.is_blank(line) for line in lines[position + 1 :])
    if first == "--" and count <= _MAX_SIGNATURE:
        return True
    if marks.is_rule(first) and len(first) >= _FOOTER_RULE and count <= _MAX_FOOTER:
        return True
    rest = (line for line in lines[position:] if not blocks.is_blank(line))
    return all(marks.is_rule(line) or marks.is_mobile_signature(line) for line in rest)


def trimmed(lines: Sequence[str], start: int, end: int) -> tuple[int, int]:
    """Take empty lines, the signature, rules and "Sent from my phone" off the new part."""
    start, end = _bare(lines, start, end)
    signature = _signature(lines, start, end)
    if signature is None:
        signature = _footer(lines, start, end)
    return _bare(lines, start, signature) if signature is not None else (start, end)


def _bare(lines: Sequence[str], start: int, end: int) -> tuple[int, int]:
    while start < end and blocks.is_blank(lines[start]):
        start += 1
    while end > start:
        line = lines[end - 1]
        if not (blocks.is_blank(line) or marks.is_rule(line) or marks.is_mobile_signature(line)):
            break
        end -= 1
    return start, end


def _signature(lines: Sequence[str], start: int, end: int) -> int | None:
    """Give the line of the signature separator (RFC 3676 section 4.3), or None."""
    first = max(start + 1, end - _MAX_SIGNATURE)
    loose = None
    for number in range(first, end):
        if lines[number] == "-- ":
            return number
        if lines[number].strip() in ("--", "—"):
            loose = number
    if (
        loose is None
        or sum(not blocks.is_blank(line) for line in lines[loose:end]) > _MAX_LOOSE_SIGNATURE + 1
    ):
        return None
    return loose


def _footer(lines: Sequence[str], start: int, end: int) -> int | None:
    """Give the line of the rule above what a mailing list adds to every mail, or None."""
    for number in range(max(start + 1, end - _MAX_FOOTER), end):
        line = lines[number].strip()
        if (
            len(line) >= _FOOTER_RULE
            and line.strip("_") == ""
            and marks.is_list_footer(lines[number + 1 : end])
        ):
            return number
    return None
