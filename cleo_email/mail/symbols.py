"""Write symbol fonts, and raised and lowered text, in characters that say the same in every font.

Word and Outlook write a smiley as ``J`` in Wingdings, and arrows and ticked boxes likewise.
"""

import functools
import re
from importlib.resources import files
from typing import Final

SYMBOL_FONTS: Final = frozenset({"wingdings", "wingdings 2", "wingdings 3", "webdings", "symbol"})
_PRIVATE: Final = 0xF000  # Word writes the letters of such a font from here on


@functools.cache
def _tables() -> dict[str, dict[int, str]]:
    tables: dict[str, dict[int, str]] = {font: {} for font in SYMBOL_FONTS}
    for line in files(__package__).joinpath("symbols.txt").read_text("utf-8").splitlines()[1:]:
        name, *pairs = line.split()
        for pair in pairs:
            for code in (ord(pair[0]), _PRIVATE + ord(pair[0])):
                tables[name.rstrip(":").replace("_", " ")][code] = pair[1:]
    return tables


def symbols_as_text(text: str, font: str) -> str:
    """Return ``text``, written in one of SYMBOL_FONTS, in characters of any font, or as bullets."""
    table = _tables()[font]
    if font == "symbol":  # digits and signs of arithmetic are themselves in it
        text = "".join(chr(ord(c) - _PRIVATE) if _PRIVATE < ord(c) < _PRIVATE + 256 else c for c in text)
        return text.translate(table)
    return "".join(char if char.isspace() else table.get(ord(char), "•") for char in text)


_RAISED: Final = str.maketrans("0123456789+-−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ")
_LOWERED: Final = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
_NUMBER: Final = re.compile(r"[0-9+\-−=()n]{1,20}")
_TERM: Final = re.compile(r"(?=.{0,19}[0-9]|[+\-−])[0-9+\-−][\w.,/·*+\-−]{1,19}")  # 2,5 and 1/2 and -kt
_INDEX: Final = re.compile(r"(?=\D{0,19}\d)[\w.,]{1,20}")  # 0,5 and 2eq
_LETTER: Final = re.compile(r"[A-Za-z]")
_ORDINAL: Final = "aeor"  # 1a, 1e, 1o, 1er: not powers


def raised_or_lowered(text: str, script: str) -> str:
    """Return ``text`` that stands above the line (``script`` "super") or below ("sub"): 10³ is not 103."""
    words = text.strip()
    if _NUMBER.fullmatch(words) and words != "n" * len(words):
        return text.translate(_RAISED if script == "super" else _LOWERED)
    if _TERM.fullmatch(words) and script == "super":
        return text.replace(words, f"^({words})")
    if _INDEX.fullmatch(words) and script == "sub":
        return text.translate(_LOWERED)
    if _LETTER.fullmatch(words) and not (script == "super" and words in _ORDINAL):
        return text.replace(words, f"{'^' if script == 'super' else '_'}{words}")
    return text
