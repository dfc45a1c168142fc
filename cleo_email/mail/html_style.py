"""Which text of an HTML mail nobody can see.

Hidden text is how newsletters fill the preview of an inbox, and how instructions are smuggled to a model past
the person who reads the same mail. Style sheets, style attributes and the presentational attributes of old
HTML are followed as far as they can hide a text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from cleo_email.mail.html_colour import Colour, Paint, paint_of
from cleo_email.mail.html_css import Attributes, Cascade, Declarations
from cleo_email.mail.html_hidden import is_gone
from cleo_email.mail.html_length import parsed, pixels

_SMALLEST_FONT: Final = 2.0  # pixels; nobody reads less
_SAME_COLOUR: Final = 10  # of 255, the largest difference in a channel that still cannot be seen
WHITE: Final[Colour] = (255, 255, 255)


@dataclass(frozen=True)
class Look:
    """What an element inherits. ``background`` is None where it cannot be known (an image, a style sheet)."""

    gone: bool = False  # not displayed at all; nothing inside can undo it
    visible: bool = True
    font: float = 16.0  # pixels
    colour: Colour | None = None
    transparent: bool = False
    filled: bool = False  # the colour is a -webkit-text-fill-color, which goes before every other
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
        if _is_closed(tag, attributes) and style.get("display", "none") == "none":
            return replace(outer, gone=True)
        presentational = tag == "font" or "bgcolor" in attributes or "background" in attributes
        if not style and not presentational:
            return outer
        paint, filled = _text_paint(style, outer, _font_colour(tag, attributes))
        return Look(
            gone=outer.gone or is_gone(style),
            visible=_visibility(style, outer.visible),
            font=_font_size(style.get("font-size", ""), outer.font),
            colour=paint.colour or outer.colour,
            transparent=paint.transparent or (outer.transparent and paint.colour is None),
            filled=filled,
            background=_background(style, attributes, outer.background),
        )


def _is_closed(tag: str, attributes: Attributes) -> bool:
    """Whether the browser shows it only after a click or a script, by the markup alone."""
    return "hidden" in attributes or "popover" in attributes or (tag == "dialog" and "open" not in attributes)


def _text_paint(style: Declarations, outer: Look, presentational: str) -> tuple[Paint, bool]:
    """What an element paints its text with, and whether that is a fill, beside which ``color`` is nothing."""
    if "text" in (style.get("background-clip"), style.get("-webkit-background-clip")):
        return Paint(), True  # letters cut out of a picture or a gradient
    fill = style.get("-webkit-text-fill-color", "")
    if fill in ("currentcolor", "initial", "unset", "revert"):
        return paint_of(style.get("color") or presentational), False
    if fill and fill != "inherit":
        return paint_of(fill), True
    return (Paint(), True) if outer.filled else (paint_of(style.get("color") or presentational), False)


def _visibility(style: Declarations, outer: bool) -> bool:
    value = style.get("visibility", "")
    if value in ("hidden", "collapse"):
        return False
    return True if value in ("visible", "initial") else outer


def _font_size(value: str, outer: float) -> float:
    number, unit = parsed(value)
    if number is None:
        return outer if value in ("", "inherit") else 16.0
    if unit == "em":
        return number * outer
    if unit == "%":
        return number * outer / 100
    return pixels(value, 16.0)


def _background(style: Declarations, attributes: Attributes, outer: Colour | None) -> Colour | None:
    shorthand = style.get("background", "")
    image = style.get("background-image", "none") + shorthand
    if "url(" in image or "gradient" in image or attributes.get("background"):
        return None
    value = style.get("background-color") or shorthand or attributes.get("bgcolor") or ""
    if not value or value in ("transparent", "inherit", "none", "initial"):
        return outer
    return paint_of(value).colour


def _font_colour(tag: str, attributes: Attributes) -> str:
    return (attributes.get("color") or "") if tag == "font" else ""
