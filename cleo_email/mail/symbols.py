"""Write symbol fonts, and raised and lowered text, in characters that say the same in every font.

Word and Outlook write a smiley as ``J`` in Wingdings, and arrows and ticked boxes likewise.
"""

import re
from typing import Final

# Pairs of the letter in the font and what it shows; what is not listed becomes a bullet.
_FONTS: Final = {
    "wingdings": (
        "J☺ K😐 L☹ C👍 D👎 A✌ B👌 I✋ E☜ F☞ G☝ H☟ M💣 N☠ Q✈ R☼ T❄ (☎ *✉ +✉ !✏ à→ è→ ß← ç← á↑ é↑ â↓ ê↓ ã↖ ä↗ å↙ æ↘ ð⇨"
        " ï⇦ ñ⇧ ò⇩ Ø➢ ü✓ û✗ þ☑ ý☒ x☒ ¨☐ o☐ q☐ r☐ §▪ n■ l● u◆ v❖ «★"
    ),
    "wingdings 2": "P✓ O✗ R☑ S☒ T☒ Q☒ £☐ *☐",
    "wingdings 3": "f← g→ h↑ i↓ }▶ {◀ p▲ q▼",
    "webdings": "a✓ r✕ Y♥ c☐ g■ n● i🛈",
    "symbol": (
        "aα bβ gγ dδ eε zζ hη qθ iι kκ lλ mμ nν xξ oο pπ rρ sσ Vς tτ uυ fφ jϕ cχ yψ wω AΑ BΒ GΓ DΔ EΕ ZΖ HΗ QΘ IΙ KΚ LΛ"
        " MΜ NΝ XΞ OΟ PΠ RΡ SΣ TΤ UΥ FΦ CΧ YΨ WΩ ·• £≤ ³≥ ±± ´× ¸÷ ¹≠ º≡ »≈ ¥∞ ®→ ¬← ­↑ ¯↓ Þ⇒ Û⇔ «↔ °° Ö√ å∑ ò∫ Î∈ Ç∩ È∪ ¶∂ µ∝ ¼…"
        " ¢′ ²″"
    ),
}
_PRIVATE: Final = 0xF000  # Word writes the letters of such a font from here on
SYMBOL_FONTS: Final = frozenset(_FONTS)
_TABLES: Final = {
    font: {ord(pair[0]) + shift: pair[1:] for pair in pairs.split() for shift in (0, _PRIVATE)}
    for font, pairs in _FONTS.items()
}


def symbols_as_text(text: str, font: str) -> str:
    """Return ``text``, written in one of SYMBOL_FONTS, as other fonts show it."""
    table = _TABLES[font]
    if font == "symbol":  # digits and signs of arithmetic are themselves in it
        text = "".join(chr(ord(c) - _PRIVATE) if _PRIVATE < ord(c) < _PRIVATE + 256 else c for c in text)
        return text.translate(table)
    return "".join(char if char.isspace() else table.get(ord(char), "•") for char in text)


_RAISED: Final = str.maketrans("0123456789+-−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ")
_LOWERED: Final = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
_NUMBER: Final = re.compile(r"[0-9+\-−=()n]{1,20}")
_LETTER: Final = re.compile(r"[A-Za-z]")
_ORDINAL: Final = "aeor"  # 1a, 1e, 1o, 1er: not powers


def raised_or_lowered(text: str, script: str) -> str:
    """Return ``text`` that stands above (``script`` "super") or below ("sub") the line, so that 10³ is not 103."""
    words = text.strip()
    if _NUMBER.fullmatch(words) and words != "n" * len(words):
        return text.translate(_RAISED if script == "super" else _LOWERED)
    if _LETTER.fullmatch(words) and not (script == "super" and words in _ORDINAL):
        return text.replace(words, f"{'^' if script == 'super' else '_'}{words}")
    return text
