"""Colours of CSS as 8-bit red, green and blue, for telling whether a text can be told from its background."""

from __future__ import annotations

import colorsys
import re
from typing import Final, NamedTuple

Colour = tuple[int, int, int]

_MAX_VALUE: Final = 80  # characters of a value that are looked at
_TRANSPARENT: Final = 0.05  # of 1, the opacity that nobody sees
_FUNCTION: Final = re.compile(r"(rgba?|hsla?|hwb|lab|lch|oklab|oklch|color)\(([^()]{0,70})")
_NUMBER: Final = re.compile(r"(-?\d{0,6}\.?\d{0,8})(%|deg|rad|grad|turn)?\Z")
_SEPARATORS: Final = re.compile(r"[\s,/]+")
_CHROMA: Final = {"lab": 6.0, "lch": 6.0, "oklab": 0.02, "oklch": 0.02}  # less is grey to the eye
_DEGREES: Final = {"rad": 57.29578, "grad": 0.9, "turn": 360.0}
_NAMED: Final[dict[str, Colour]] = {
    "white": (255, 255, 255),
    "snow": (255, 250, 250),
    "ivory": (255, 255, 240),
    "ghostwhite": (248, 248, 255),
    "floralwhite": (255, 250, 240),
    "mintcream": (245, 255, 250),
    "azure": (240, 255, 255),
    "whitesmoke": (245, 245, 245),
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "grey": (128, 128, 128),
    "silver": (192, 192, 192),
    "lightgray": (211, 211, 211),
    "lightgrey": (211, 211, 211),
    "red": (255, 0, 0),
    "green": (0, 128, 0),
    "blue": (0, 0, 255),
    "navy": (0, 0, 128),
    "yellow": (255, 255, 0),
    "orange": (255, 165, 0),
}


class Paint(NamedTuple):
    """``colour`` is None where the value is not understood; ``transparent`` lets everything through."""

    colour: Colour | None = None
    transparent: bool = False


def paint_of(value: str) -> Paint:
    """Read a colour, also at the beginning of a longer value as of ``background``. Never raises."""
    value = value.strip().lower()[:_MAX_VALUE]
    word = value.split()[0] if value else ""
    if word == "transparent":
        return Paint(transparent=True)
    if word in _NAMED:
        return Paint(_NAMED[word])
    if (found := _FUNCTION.match(value)) is not None:
        return _of_function(found[1], found[2])
    return _of_digits(word.removeprefix("#"))


def _of_digits(digits: str) -> Paint:
    if len(digits) in (3, 4):
        digits = "".join(c + c for c in digits)
    if len(digits) not in (6, 8) or any(c not in "0123456789abcdef" for c in digits):
        return Paint()
    transparent = len(digits) == 8 and int(digits[6:], 16) <= 255 * _TRANSPARENT
    return Paint((int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)), transparent)


def _of_function(name: str, arguments: str) -> Paint:
    words = [word for word in _SEPARATORS.split(arguments) if word]
    if name == "color" and words and words.pop(0) not in ("srgb", "display-p3", "srgb-linear"):
        return Paint()
    read = [_number(word) for word in words]
    values = [one for one in read if one is not None]
    if len(values) < 3 or len(values) != len(read):
        return Paint()
    transparent = len(values) > 3 and _share(values[3]) <= _TRANSPARENT
    return Paint(_converted(name, values), transparent)


def _converted(name: str, values: list[tuple[float, str]]) -> Colour | None:
    first, second, third = values[:3]
    if name.startswith("rgb"):
        red, green, blue = (one * 2.55 if unit == "%" else one for one, unit in values[:3])
        return _clipped(red / 255, green / 255, blue / 255)
    if name == "color":
        return _clipped(_share(first), _share(second), _share(third))
    if name.startswith("hsl"):
        return _clipped(*colorsys.hls_to_rgb(_turn(first), _unit(third[0] / 100), _unit(second[0] / 100)))
    if name == "hwb":
        return _of_hwb(_turn(first), _unit(second[0] / 100), _unit(third[0] / 100))
    return _of_lightness(name, first, second[0], third[0])


def _of_hwb(turn: float, white: float, black: float) -> Colour:
    if white + black >= 1:
        return _clipped(*[white / (white + black)] * 3)
    pure = colorsys.hls_to_rgb(turn, 0.5, 1.0)
    return _clipped(*(one * (1 - white - black) + white for one in pure))


def _of_lightness(name: str, lightness: tuple[float, str], second: float, third: float) -> Colour | None:
    """Greys of the perceptual spaces; a colour there is not worth its formulas."""
    chroma = abs(second) if name.endswith("lch") else max(abs(second), abs(third))
    value, unit = lightness
    if name.startswith("ok"):
        luminance = _unit(value / 100 if unit == "%" else value) ** 3
    else:
        luminance = ((_unit(value / 100) * 100 + 16) / 116) ** 3
    # White and black have no hue, whatever the other numbers say.
    if chroma > _CHROMA[name] and 0.01 < luminance < 0.99:
        return None
    shade = 1.055 * luminance ** (1 / 2.4) - 0.055 if luminance > 0.0031 else 12.92 * luminance
    return _clipped(shade, shade, shade)


def _number(word: str) -> tuple[float, str] | None:
    if word == "none":
        return 0.0, ""
    match = _NUMBER.match(word)
    if match is None or not any(c.isdigit() for c in match[1]):
        return None
    return float(match[1]), match[2] or ""


def _share(value: tuple[float, str]) -> float:
    return value[0] / 100 if value[1] == "%" else value[0]


def _turn(angle: tuple[float, str]) -> float:
    return angle[0] * _DEGREES.get(angle[1], 1.0) / 360 % 1.0


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _clipped(red: float, green: float, blue: float) -> Colour:
    return round(_unit(red) * 255), round(_unit(green) * 255), round(_unit(blue) * 255)
