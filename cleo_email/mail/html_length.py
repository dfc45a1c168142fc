"""Lengths and numbers of CSS in pixels, as an ordinary screen would show them."""

from __future__ import annotations

import re
from typing import Final

_LENGTH: Final = re.compile(
    r"\s*([+-]?\d{0,8}\.?\d{0,8})\s*(px|pt|pc|r?em|ex|ch|vh|vw|vmin|vmax|mm|cm|in|%)?", re.IGNORECASE
)
_MATH: Final = re.compile(r"\s*(?:calc|min|max|clamp)\(([^()]{0,80})\)?\s*\Z", re.IGNORECASE)
_TERM: Final = re.compile(r"[+-]?(?:\d{1,8}(?:\.\d{0,8})?|\.\d{1,8})[a-z%]{0,4}", re.IGNORECASE)
_PIXELS: Final = {
    "pt": 4 / 3,
    "pc": 16.0,
    "em": 16.0,
    "rem": 16.0,
    "mm": 3.8,
    "cm": 38.0,
    "in": 96.0,
    "ex": 8.0,
    "ch": 8.0,
    "vw": 12.0,
    "vh": 8.0,
    "vmin": 8.0,
    "vmax": 12.0,
}
_PERCENT_OF_A_SCREEN: Final = 6.0  # pixels; half a screen to the left is how a box is centred


def pixels(value: str, default: float) -> float:
    """A length in pixels; ``default`` for what is none, and for a percentage other than zero."""
    number, unit = parsed(value)
    if number is None or (unit == "%" and number):
        return default
    return number * _PIXELS.get(unit, 1.0)


def offset(value: str) -> float:
    """A distance in pixels, percentages taken of a screen; 0 for what is no length."""
    number, unit = parsed(value)
    if number is None:
        return 0.0
    return number * (_PERCENT_OF_A_SCREEN if unit == "%" else _PIXELS.get(unit, 1.0))


def parsed(value: str) -> tuple[float | None, str]:
    """The number and the unit (lower case) at the beginning of ``value``; None where there is no number.

    Of calc() and its like only what is one length, or nothing but zeros, or a product with zero.
    """
    if (math := _MATH.match(value)) is not None:
        value = _simple(math[1])
    match = _LENGTH.match(value)
    if match is None or not any(c.isdigit() for c in match[1]):
        return None, ""
    return float(match[1]), (match[2] or "").lower()


def _simple(terms: str) -> str:
    found: list[str] = _TERM.findall(terms)
    if len(found) == 1:
        return found[0]
    zeros = [not any(c in "123456789" for c in term) for term in found]
    if found and (all(zeros) or (any(zeros) and "+" not in terms and " - " not in terms and "*" in terms)):
        return "0px"
    return ""


def share(value: str, default: float) -> float:
    """A number or a percentage as a share of 1, as of opacity."""
    number, unit = parsed(value)
    if number is None:
        return default
    return number / 100 if unit == "%" else number
