"""Which text of an HTML mail nobody can see.

Hidden text is how newsletters fill the preview of an inbox, and how instructions are smuggled to a model past
the person who reads the same mail. Style sheets, style attributes and the presentational attributes of old
HTML are followed as far as they can hide a text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from cleo_email.mail.html_css import Attributes, Cascade, Declarations

Colour = tuple[int, int, int]

_LENGTH: Final = re.compile(r"\s*(-?\d{0,8}\.?\d{0,8})\s*(px|pt|r?em|ex|ch|vh|vw|mm|cm|in|%)?", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[\d.]{1,8}")

_SMALLEST_FONT: Final = 2.0  # pixels; nobody reads less
_SMALLEST_OPACITY: Final = 0.05
_OFF_SCREEN: Final = -400.0  # pixels
_SAME_COLOUR: Final = 10  # of 255, the largest difference in a channel that still cannot be seen
_PIXELS: Final = {
    "pt": 4 / 3,
    "em": 16.0,
    "rem": 16.0,
    "mm": 3.8,
    "cm": 38.0,
    "in": 96.0,
    "ex": 8.0,
    "ch": 8.0,
}
_NAMED: Final[dict[str, Colour]] = {
    "white": (255, 255, 255),
    "snow": (255, 250, 250),
    "ivory": (255, 255, 240),
    "whitesmoke": (245, 245, 245),
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "grey": (128, 128, 128),
    "silver": (192, 192, 192),
    "red": (255, 0, 0),
    "green": (0, 128, 0),
    "blue": (0, 0, 255),
    "navy": (0, 0, 128),
    "yellow": (255, 255, 0),
    "orange": (255, 165, 0),
}
WHITE: Final[Colour] = (255, 255, 255)


@dataclass(frozen=True)
class Look:
    """What an element inherits. ``background`` is None where it cannot be known (an image, a style sheet)."""

    gone: bool = False  # not displayed at all; nothing inside can undo it
    visible: bool = True
    font: float = 16.0  # pixels
    colour: Colour | None = None
    transparent: bool = False
    background: Colour | None = WHITE

    @property
    def readable(self) -> bool:
        """Whether a person would see a text here."""
        if self.gone or not self.visible or self.transparent or self.font < _SMALLEST_FONT:
            return False
        if self.colour is None or self.background is None:
            return True
        return max(abs(a - b) for a, b in zip(self.colour, self.background, strict=True)) > _SAME_COLOUR


class Styles:
    """What the elements of one document look like."""

    def __init__(self, sheets: list[str]) -> None:
        self.cascade = Cascade(sheets)
        # Backgrounds that come from rules which are not understood may lie under any text.
        self.initial = Look(background=None if self.cascade.unknown_backgrounds else WHITE)

    def look(self, tag: str, attributes: Attributes, outer: Look) -> Look:
        """Give the look of an element inside of another that looks like ``outer``."""
        style = self.cascade.declared(tag, attributes)
        if "hidden" in attributes and style.get("display", "none") == "none":
            return replace(outer, gone=True)
        presentational = tag == "font" or "bgcolor" in attributes or "background" in attributes
        if not style and not presentational:
            return outer
        colour, transparent = _colour_of(style.get("color") or _font_colour(tag, attributes))
        return Look(
            gone=outer.gone or _is_gone(style),
            visible=_visibility(style, outer.visible),
            font=_font_size(style.get("font-size", ""), outer.font),
            colour=colour or outer.colour,
            transparent=transparent or (outer.transparent and colour is None),
            background=_background(style, attributes, outer.background),
        )


def _is_gone(style: Declarations) -> bool:
    if style.get("display") == "none":
        return True
    opacity = _NUMBER.match(style.get("opacity", "1"))
    if opacity and _float(opacity[0], 1.0) <= _SMALLEST_OPACITY and "%" not in style["opacity"]:
        return True
    clipped = any(style.get(name) in ("hidden", "clip") for name in ("overflow", "overflow-x", "overflow-y"))
    sizes = ("height", "max-height", "width", "max-width")
    if clipped and any(_pixels(style[name], 99.0) <= 1.0 for name in sizes if name in style):
        return True
    placed = style.get("position") in ("absolute", "fixed")
    if placed and any(_pixels(style.get(name, ""), 0.0) <= _OFF_SCREEN for name in ("left", "top", "right")):
        return True
    if any(
        _pixels(style.get(name, ""), 0.0) <= _OFF_SCREEN
        for name in ("text-indent", "margin-left", "margin-top")
    ):
        return True
    clip = style.get("clip", "").replace(" ", "").replace("px", "").replace(",", "")
    path = style.get("clip-path", "").replace(" ", "")
    if clip in ("rect(0000)", "rect(1111)") or path.startswith(("inset(50%", "inset(100%", "circle(0")):
        return True
    return style.get("transform", "").replace(" ", "").startswith(("scale(0)", "scale(0,", "scale(0.0"))


def _visibility(style: Declarations, outer: bool) -> bool:
    value = style.get("visibility", "")
    if value in ("hidden", "collapse"):
        return False
    return True if value in ("visible", "initial") else outer


def _font_size(value: str, outer: float) -> float:
    match = _LENGTH.match(value)
    if not match or not any(c.isdigit() for c in match[1]):
        return outer if value in ("", "inherit") else 16.0
    number, unit = _float(match[1], 16.0), (match[2] or "px").lower()
    if unit == "em":
        return number * outer
    if unit == "%":
        return number * outer / 100
    return number * _PIXELS.get(unit, 1.0)


def _background(style: Declarations, attributes: Attributes, outer: Colour | None) -> Colour | None:
    shorthand = style.get("background", "")
    image = style.get("background-image", "none") + shorthand
    if "url(" in image or "gradient" in image or attributes.get("background"):
        return None
    value = style.get("background-color") or shorthand or attributes.get("bgcolor") or ""
    if not value or value in ("transparent", "inherit", "none", "initial"):
        return outer
    return _colour_of(value)[0]


def _font_colour(tag: str, attributes: Attributes) -> str:
    return (attributes.get("color") or "") if tag == "font" else ""


def _colour_of(value: str) -> tuple[Colour | None, bool]:
    """Give a colour, and whether it lets everything through; None for what is not understood."""
    value = value.strip().lower()[:60]
    if value == "transparent":
        return None, True
    words = value.split()
    word = words[0] if words else ""
    if word in _NAMED:
        return _NAMED[word], False
    digits = word.removeprefix("#")
    if len(digits) in (3, 4):
        digits = "".join(c + c for c in digits)
    if len(digits) in (6, 8) and all(c in "0123456789abcdef" for c in digits):
        transparent = len(digits) == 8 and int(digits[6:], 16) < 13
        return (int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)), transparent
    if value.startswith("rgb"):
        numbers = [_float(n, 0.0) for n in _NUMBER.findall(value)]
        if len(numbers) >= 3 and "%" not in value:
            red, green, blue = (min(int(n), 255) for n in numbers[:3])
            return (red, green, blue), len(numbers) > 3 and numbers[3] <= _SMALLEST_OPACITY
    return None, False


def _pixels(value: str, default: float) -> float:
    match = _LENGTH.match(value)
    if not match or not any(c.isdigit() for c in match[1]) or (match[2] == "%" and _float(match[1], 1.0)):
        return default
    return _float(match[1], default) * _PIXELS.get((match[2] or "px").lower(), 1.0)


def _float(text: str, default: float) -> float:
    try:
        return float(text)
    except ValueError:
        return default
