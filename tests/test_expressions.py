"""The regular expressions keep clear of two faults of ``re`` in Pythons that this project takes.

Up to 3.11.4 the last turn of a possessive repeat, the one that fails, may leave the place moved on:
``(?:ab?c)*+`` takes the ``a`` of ``ab``. One character does not, and an atomic group goes back by itself.
And up to 3.12.7 a possessive repeat may lose groups that capture, or raise SystemError for them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for place in ("cleo_email", "tests", "benchmarks", "examples")
    for path in (ROOT / place).rglob("*.py")
    if path != Path(__file__)
)
POSSESSIVE = re.compile(r"\)\s*(?:[*+?]|\{[\d,]+\})\+")  # after a group
SINGLE = {codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN}


def nodes(tree: object) -> Iterator[tuple[object, object]]:
    """Go through a parsed expression."""
    for part in tree if isinstance(tree, (list, tuple, parser.SubPattern)) else ():
        if isinstance(part, tuple) and len(part) == 2:
            yield part
        yield from nodes(part)


def misread(expression: str) -> bool:
    """Whether a possessive repeat is of more than one character or one atomic group that captures nothing."""
    for flags in (0, re.VERBOSE):
        try:
            tree = parser.parse(expression, flags)
        except re.error:
            continue  # no expression
        for code, value in nodes(tree):
            if code is codes.POSSESSIVE_REPEAT:
                [(repeated, inside), *more] = value[2]
                captures = any(code is codes.SUBPATTERN and group[0] for code, group in nodes(inside))
                if more or captures or repeated not in {*SINGLE, codes.ATOMIC_GROUP}:
                    return True
    return False


def strings(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Go through the strings of a source with their lines; "ab" stands for what an f-string puts in."""
    if isinstance(node, ast.JoinedStr):
        pieces = (part.value if isinstance(part, ast.Constant) else "ab" for part in node.values)
        yield node.lineno, "".join(pieces)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
        yield node.lineno, node.value if isinstance(node.value, str) else node.value.decode("latin-1")
    else:
        for child in ast.iter_child_nodes(node):
            yield from strings(child)


def test_possessive_repeats_are_read_alike_by_every_python() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line, text in strings(ast.parse(path.read_text("utf-8")))
        if POSSESSIVE.search(text) and misread(text)
    ]
    assert not found, (
        f"Python 3.11.4 misreads the expressions that begin in {', '.join(found)}: instead of (?:…)*+ write"
        " (?>…)*+, and (?>(?:…)*) where a group inside captures"
    )


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        (r"[^;]*+\d++.?+a{2,3}+", False),
        (r"(?>a|b(?!c))*+(c)", False),
        (r"(?>(?:(a)|b)*)", False),
        (r"(?:ab|c)*+", True),
        (r"x(?=(?:ab){1,4}+)|y", True),
        (r"(?>(a)|b)++", True),
        ("(?: ab # one\n | c )  ?+", True),
    ],
)
def test_what_is_misread(expression: str, wrong: bool) -> None:
    assert misread(expression) is wrong
