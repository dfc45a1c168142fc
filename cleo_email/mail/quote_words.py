"""The words with which mail clients introduce what they quote, forward and sign (quote_words.toml)."""

from __future__ import annotations

import functools
import re
import tomllib
from importlib.resources import files
from typing import NamedTuple


class QuoteWords(NamedTuple):
    """Patterns ignore letter case; phrases are in lower case."""

    verb: re.Pattern[str]
    final_verb: re.Pattern[str]
    own: re.Pattern[str]
    opening: re.Pattern[str]
    citing: re.Pattern[str]
    by: re.Pattern[str]
    mobile: re.Pattern[str]
    device: re.Pattern[str]
    original: frozenset[str]
    forwarded: frozenset[str]
    forward_lines: frozenset[str]
    list_footers: tuple[str, ...]
    labels: dict[str, str]  # "gesendet": "sent"


@functools.cache
def quote_words() -> QuoteWords:
    """Return the words of all languages; every pattern takes linear time on any line."""
    lists = tomllib.loads(files(__package__).joinpath("quote_words.toml").read_text("utf-8"))

    def pattern(name: str, before: str = r"(?<!\w)", after: str = r"(?!\w)") -> re.Pattern[str]:
        return re.compile(rf"{before}(?:{'|'.join(lists[name])}){after}", re.IGNORECASE)

    def phrases(name: str) -> frozenset[str]:
        return frozenset(phrase.lower() for phrase in lists[name])

    return QuoteWords(
        verb=pattern("verbs"),
        final_verb=pattern("verbs", after=r"\Z"),
        own=pattern("own"),
        opening=pattern("openings", before=""),
        # The address must come last.
        citing=pattern("citing", "", r" [^:\n]{0,200}[^\s<>@]{1,64}+@[^\s<>:：]{1,200}+>?\s?[:：]\Z"),
        by=pattern("by", r"\d,? ", r" [^\s<>@]{1,64}+@[^\s<>]{1,200}+\Z"),
        mobile=pattern("mobile", r"\s*", ""),
        device=pattern("device", "", ""),
        original=phrases("original"),
        forwarded=phrases("forwarded"),
        forward_lines=phrases("forward_lines"),
        list_footers=tuple(phrases("list_footers")),
        labels={word.lower(): kind for kind, words in lists["labels"].items() for word in words},
    )
