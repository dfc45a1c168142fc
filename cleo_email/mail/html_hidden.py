"""Declarations that take an element out of sight together with all that is in it."""

from __future__ import annotations

import re
from typing import Final

from cleo_email.mail.html_css import Declarations
from cleo_email.mail.html_length import offset, pixels, share

_SMALLEST_OPACITY: Final = 0.05
_SMALLEST_SCALE: Final = 0.05
_OFF_SCREEN: Final = -400.0  # pixels to the left or above
_FAR: Final = 5000.0  # pixels to the right or below; no page is so long
_MAX_FUNCTIONS: Final = 20
_FUNCTION: Final = re.compile(r"([a-z0-9]{1,20})\(([^()]{0,200})")
_EDGE_ON: Final = re.compile(r"\s*-?(?:90deg|270deg|100grad|0?\.25turn)\s*\Z")


def is_gone(style: Declarations) -> bool:
    """Tell whether nobody would see a text in an element that declares ``style``."""
    return (
        style.get("display") == "none"
        or style.get("content-visibility") == "hidden"
        or share(style.get("opacity", ""), 1.0) <= _SMALLEST_OPACITY
        or _is_filtered(style.get("filter", ""))
        or _is_scaled_away(style)
        or _is_clipped(style)
        or _is_moved_away(style)
        or any(_is_transformed_away(name, args) for name, args in _functions(style.get("transform", "")))
    )


def _functions(value: str) -> list[tuple[str, str]]:
    return [(match[1], match[2]) for match in _FUNCTION.finditer(value[:1000])][:_MAX_FUNCTIONS]


def _is_filtered(value: str) -> bool:
    return any(
        name == "opacity" and share(argument, 1.0) <= _SMALLEST_OPACITY
        for name, argument in _functions(value)
    )


def _is_scaled_away(style: Declarations) -> bool:
    factors = [*style.get("scale", "").split()[:2], style.get("zoom", "")]
    return any(_is_nothing(factor) for factor in factors)


def _is_nothing(factor: str) -> bool:
    return abs(share(factor, 1.0)) <= _SMALLEST_SCALE


def _is_clipped(style: Declarations) -> bool:
    clipped = any(style.get(name) in ("hidden", "clip") for name in ("overflow", "overflow-x", "overflow-y"))
    sizes = ("height", "max-height", "width", "max-width", "block-size", "inline-size")
    if clipped and any(pixels(style[name], 99.0) <= 1.0 for name in sizes if name in style):
        return True
    indent = style.get("text-indent", "")
    if clipped and indent.endswith("%") and share(indent, 0.0) >= 1.0:
        return True
    clip = style.get("clip", "").replace(" ", "").replace("px", "").replace(",", "")
    path = style.get("clip-path", "").replace(" ", "")
    return clip in ("rect(0000)", "rect(1111)") or path.startswith(("inset(50%", "inset(100%", "circle(0"))


def _is_moved_away(style: Declarations) -> bool:
    if style.get("position") in ("absolute", "fixed", "relative"):
        moved = [offset(style[name]) for name in ("left", "top", "right") if name in style]
        if any(distance <= _OFF_SCREEN or distance >= _FAR for distance in moved):
            return True
    if any(offset(distance) <= _OFF_SCREEN for distance in style.get("translate", "").split()[:2]):
        return True
    names = ("text-indent", "margin-left", "margin-top")
    return any(_far_away(style[name]) for name in names if name in style)


def _far_away(value: str) -> bool:
    """Percentages do not count: a margin of -100 % is how columns are made."""
    return pixels(value, 0.0) <= _OFF_SCREEN


def _is_transformed_away(name: str, arguments: str) -> bool:
    values = arguments.split(",")
    if name.startswith("translate"):
        if name == "translatez":
            return False
        return any(offset(one) <= _OFF_SCREEN or offset(one) >= _FAR for one in values[:2])
    if name.startswith("scale"):
        return name != "scalez" and any(_is_nothing(one) for one in values[:2])
    if name in ("matrix", "matrix3d"):
        return _is_nothing(values[0]) and len(values) > 1 and _is_nothing(values[1])
    return name in ("rotatex", "rotatey") and _EDGE_ON.match(arguments) is not None
