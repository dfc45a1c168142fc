"""Tell the language of a text by its script and its most frequent words, which are in languages.toml."""

import functools
import re
import tomllib
from collections import Counter
from importlib.resources import files
from typing import Final

from cleo_email.mail.model import InboundEmail

_LOOKED_AT: Final = 5000  # characters
_WORD: Final = re.compile(r"[^\W\d_]+")
_ADDRESS: Final = re.compile(r"@|://|www\.|`")
# The share of a script's letters that tells its language; Japanese is full of Chinese characters too.
_SCRIPTS: Final = (
    ("ja", re.compile(r"[\u3040-\u30ff]"), 0.15),
    ("ko", re.compile(r"[\uac00-\ud7af]"), 0.4),
    ("zh", re.compile(r"[\u4e00-\u9fff]"), 0.5),
    ("el", re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]"), 0.6),
    ("he", re.compile(r"[\u05d0-\u05ea]"), 0.6),
    ("th", re.compile(r"[\u0e00-\u0e7f]"), 0.5),
    ("hi", re.compile(r"[\u0900-\u097f]"), 0.5),
    ("fa", re.compile(r"[\u067e\u0686\u0698\u06a9\u06af\u06cc]"), 0.04),  # not in Arabic
    ("ar", re.compile(r"[\u0621-\u064a]"), 0.6),
)
_FEWEST_LETTERS: Final = {"fa": 2}  # else 4
_FOREIGN: Final = re.compile(  # what others wrote: code, errors of programs, quotes
    r"""^```.*?(?:^```|\Z)|^(?:>|[ \t]{2,}\S.*[=(){}\[\];]|\S*(?:Error|Exception|Traceback)\b)[^\n]*"""
    r"""|["“„«][^"“”«»\n]{20,400}["”“»]""",
    re.MULTILINE | re.DOTALL,
)
_LEAST: Final = 1.4  # a word that one language alone has counts 1, one that two have a half
_LEAD: Final = 1.5  # times as much as the second


@functools.cache
def _words() -> dict[str, dict[str, float]]:
    """Return for each word, and each letter that few languages have, how much it speaks for a language."""
    data = tomllib.loads(_data())
    pairs = {(word, language) for language, words in data["words"].items() for word in words.split()}
    pairs |= {(f"+{letter}", language) for language, letters in data["letters"].items() for letter in letters}
    having = Counter(word for word, _ in pairs)
    weights: dict[str, dict[str, float]] = {word: {} for word in having}
    for word, language in pairs:
        weights[word][language] = 1 / having[word]
    return weights


@functools.cache
def notices() -> dict[str, str]:
    """Return the line that tells that a machine wrote a mail, by language."""
    return dict(tomllib.loads(_data())["notices"])


def _data() -> str:
    return files(__package__).joinpath("languages.toml").read_text("utf-8")


def detect(text: str) -> str:
    """Return the language (ISO 639-1) of ``text``, or '' where it is too short or mixed to tell."""
    text = text[:_LOOKED_AT]
    own = _FOREIGN.sub(" ", text)
    prose = " ".join(part for part in (own if own.strip() else text).split() if not _ADDRESS.search(part))
    words = [word.casefold() for word in _WORD.findall(prose)]
    letters = "".join(words)
    for language, script, share in _SCRIPTS:
        count = len(script.findall(letters))
        if count >= _FEWEST_LETTERS.get(language, 4) and count >= share * len(letters):
            return language
    weights, scores = _words(), Counter[str]()
    for word in [*words, *(f"+{letter}" for letter in set(prose.casefold()))]:
        for language, weight in weights.get(word, {}).items():
            scores[language] += weight  # type: ignore[assignment]
    (first, most), (_, second) = [*scores.most_common(2), ("", 0), ("", 0)][:2]
    # In a real text every tenth word at least is one of these; a list of names or products has none.
    return first if most >= max(_LEAST, len(words) / 10) and most >= second * _LEAD else ""


def language_of(mail: InboundEmail, text: str) -> str:
    """Return the language of a mail whose new part is ``text``: by its words, else as its header says.

    The header comes second, because many programs put the language of their menus there (RFC 3282).
    """
    header = re.fullmatch(r"\s*([A-Za-z]{2})(?:-[\w-]{1,30})?\s*", mail.header("content-language"))
    return detect(text) or (header[1].lower() if header else "")
