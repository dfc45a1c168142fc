"""What a mail repeats of the thread without any mark, found by comparing words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

_WORD: Final = re.compile(r"\w+")
_RUN: Final = 4  # words in a row that must agree
_MIN_WORDS: Final = 8  # fewer may be a greeting or a name
_MAX_KNOWN: Final = 400_000  # characters of the earlier texts; the newest come last


def known_suffix(lines: Sequence[str], start: int, end: int, known: Sequence[str]) -> int:
    """Give the line where the part of ``lines[start:end]`` begins that repeats ``known`` to the end.

    Line breaks and quote marks do not matter, since every client wraps anew. It is ``end`` where too little
    is repeated or where nothing else would be left.
    """
    runs = _runs_of(known)
    if not runs:
        return end
    new_words, repeated = _count_repeated(lines[start:end], runs)
    position, words = end, 0
    while position > start:
        total, agreeing = new_words[position - 1 - start], repeated[position - 1 - start]
        if agreeing < total:
            break
        words += total
        position -= 1
    if words < _MIN_WORDS or position == start:
        return end
    return position


def _runs_of(known: Sequence[str]) -> set[tuple[str, ...]]:
    runs: set[tuple[str, ...]] = set()
    room = _MAX_KNOWN
    for text in reversed(known):
        if room <= 0:
            break
        words = [match[0].casefold() for match in _WORD.finditer(text[:room])]
        room -= len(text)
        runs.update(_windows(words))
    return runs


def _windows(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[n : n + _RUN]) for n in range(len(words) - _RUN + 1))


def _count_repeated(lines: Sequence[str], runs: set[tuple[str, ...]]) -> tuple[list[int], list[int]]:
    """Give, for each line, how many words it has and how many of them stand in a run that is known."""
    words: list[str] = []
    owner: list[int] = []
    totals = [0] * len(lines)
    for number, line in enumerate(lines):
        found = [match[0].casefold() for match in _WORD.finditer(line)]
        words += found
        owner += [number] * len(found)
        totals[number] = len(found)
    covered = [False] * len(words)
    for position, window in enumerate(_windows(words)):
        if window in runs:
            covered[position : position + _RUN] = [True] * _RUN
    agreeing = [0] * len(lines)
    for position, hit in enumerate(covered):
        agreeing[owner[position]] += hit
    return totals, agreeing
