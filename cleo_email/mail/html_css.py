"""Style sheets and style attributes, as far as they can hide a text.

Selectors of tags, classes and ids are understood, also several on one element (``p.a#b``), with ancestors
(``.a p``, ``div > .b``) and as attributes (``[class~=a]``). Rules inside of ``@media`` count where it means
every screen; the others are for telephones, printers and the like. Between rules of equal rank the later one
goes first; ``!important`` goes before a style attribute.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

Declarations = dict[str, str]
Attributes = dict[str, str | None]

_COMMENT: Final = re.compile(r"/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z)")
_ESCAPE: Final = re.compile(r"\\(?:([0-9a-fA-F]{1,6})\s?|([^\n0-9a-fA-F]))")
_NUMERIC: Final = frozenset("0123456789.")
_ATTRIBUTE: Final = re.compile(
    r"""\[\s?(class|id)\s?~?=\s?["']?([a-z_-][a-z0-9_-]{0,100})["']?\s?(?:i\s?)?\]"""
)
_MIN_WIDTH: Final = re.compile(r"\(\s?min(?:-device)?-width\s?:\s?(\d{1,5})(?:px)?\s?\)")
_NARROW: Final = 480  # pixels; every window on a desk is wider
_MAX_DEPTH: Final = 50  # of blocks in blocks
_BRACE: Final = re.compile(r"[{}]")
_COMPOUND: Final = re.compile(r"(?:[.#]?[a-z_-][a-z0-9_-]*+)+\Z")
_SIMPLE: Final = re.compile(r"[.#]?[a-z_-][a-z0-9_-]*")
_MAX_SHEET: Final = 200_000
_MAX_RULES: Final = 2000
_MAX_RULES_PER_NAME: Final = 40
_MAX_CHECKS: Final = 1_000_000
_MAX_STYLE: Final = 4000
_RELEVANT: Final = frozenset(
    [
        "display",
        "visibility",
        "opacity",
        "font-size",
        "color",
        "background",
        "background-color",
        "background-image",
        "background-clip",
        "-webkit-background-clip",
        "overflow",
        "overflow-x",
        "overflow-y",
        "height",
        "max-height",
        "width",
        "max-width",
        "position",
        "left",
        "top",
        "right",
        "text-indent",
        "margin-left",
        "margin-top",
        "clip",
        "clip-path",
        "transform",
        "translate",
        "scale",
        "zoom",
        "filter",
        "content-visibility",
        "-webkit-text-fill-color",
        "block-size",
        "inline-size",
    ]
)


def parse_declarations(style: str) -> Declarations:
    """Give the declarations of ``style`` that can hide a text; the last of each name counts."""
    normal, important = _parse(style)
    return {**normal, **important}


def _parse(style: str) -> tuple[Declarations, Declarations]:
    """Give the ordinary declarations and those marked ``!important``."""
    if "\\" in style:
        style = _ESCAPE.sub(_unescaped, style)
    normal: Declarations = {}
    important: Declarations = {}
    for item in _COMMENT.sub("", style).lower().split(";"):
        name, colon, value = item.partition(":")
        name = name.strip()
        if not colon or (name not in _RELEVANT and name != "font"):
            continue
        value, _, mark = value.partition("!")
        if name == "font":
            name, value = "font-size", _size_of_font(value)
        if value:
            (important if mark.strip() == "important" else normal)[name] = value.strip()
    return normal, important


def _unescaped(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[2]
    number = int(match[1], 16)
    return chr(number) if number < 0x110000 else ""


def _size_of_font(value: str) -> str:
    """Give the size in ``font: bold 0/0 a``. A weight is a number too, but has no unit and is not zero."""
    for word in value.split()[:8]:
        size = word.partition("/")[0]
        if size[:1] in _NUMERIC and (not size.strip("0.") or size[-1:] not in _NUMERIC):
            return size
    return ""


@dataclass(frozen=True)
class _Rule:
    own: frozenset[str]  # what the element itself must have: "p", ".class", "#id"
    around: frozenset[str]  # what its ancestors must have, on whichever of them
    declarations: Declarations = field(compare=False)
    important: Declarations = field(compare=False)


class Cascade:
    """What the style sheets of a document and the attributes of an element declare."""

    def __init__(self, sheets: list[str]) -> None:
        self._rules: dict[str, list[_Rule]] = {}
        self._count = 0
        self._checks = 0
        self._cache: dict[str, tuple[Declarations, Declarations]] = {}
        self._open: Counter[str] = Counter()  # names of the open elements, where a rule asks for ancestors
        self._ancestors_matter = False
        self.unknown_backgrounds = False  # by selectors that are not understood
        self._read(_COMMENT.sub("", "\n".join(sheets)[:_MAX_SHEET]))

    def open(self, tag: str, attributes: Attributes) -> None:
        """The elements up to the matching ``close`` are inside of this one."""
        if self._ancestors_matter:
            self._open.update(_names(tag, attributes))

    def close(self, tag: str, attributes: Attributes) -> None:
        if self._ancestors_matter:
            self._open.subtract(_names(tag, attributes))

    def declared(self, tag: str, attributes: Attributes) -> Declarations:
        """Give what counts for an element inside of the open ones; its own attribute comes last."""
        inline = attributes.get("style")
        own, own_important = self._inline(inline[:_MAX_STYLE]) if inline else ({}, {})
        if not self._rules:
            return {**own, **own_important}
        names = _names(tag, attributes)
        merged: Declarations = {}
        important: Declarations = {}
        for name in names:
            rules = self._rules.get(name, ())
            self._checks += len(rules)
            if self._checks > _MAX_CHECKS and rules:
                # No designer's page needs so many; whoever wrote it hides something.
                return {"display": "none"}
            for rule in rules:
                if rule.own.issubset(names) and all(self._open[around] > 0 for around in rule.around):
                    merged.update(rule.declarations)
                    important.update(rule.important)
        return {**merged, **own, **important, **own_important}

    def _inline(self, style: str) -> tuple[Declarations, Declarations]:
        if style not in self._cache:
            self._cache[style] = _parse(style)
        return self._cache[style]

    def _read(self, text: str) -> None:
        blocks: list[
            str | None
        ] = []  # selectors of the open blocks, "" for what is passed over, None for @media
        position = 0
        for match in _BRACE.finditer(text):
            body, position = text[position : match.start()], match.end()
            if match[0] == "{":
                if len(blocks) < _MAX_DEPTH:
                    blocks.append(_block(body.rpartition(";")[2].strip().lower()))
                continue
            selectors = blocks.pop() if blocks else ""
            if selectors and all(around is None for around in blocks):
                self._add(selectors, *_parse(body[:_MAX_STYLE]))
            if self._count > _MAX_RULES:
                return

    def _add(self, selectors: str, normal: Declarations, important: Declarations) -> None:
        if not normal and not important:
            return
        for selector in selectors.split(",")[:100]:
            self._count += 1
            compounds = _ATTRIBUTE.sub(_as_name, selector.replace(">", " ")).split()
            compounds = [compound.removeprefix("*") or "*" for compound in compounds]
            if not compounds or not all(_COMPOUND.match(compound) for compound in compounds):
                declared = (*normal, *important)
                self.unknown_backgrounds |= any(name.startswith("background") for name in declared)
                continue
            own, *around = (frozenset(_SIMPLE.findall(compound)) for compound in reversed(compounds))
            rules = self._rules.setdefault(max(own, key=_weight), [])
            if len(rules) < _MAX_RULES_PER_NAME:
                rules.append(_Rule(own, frozenset().union(*around), normal, important))
                self._ancestors_matter |= bool(around)


def _block(head: str) -> str | None:
    """Give the selectors of a rule, None for an @media of every screen, "" for what is not looked at."""
    if not head.startswith("@"):
        return head
    name, _, query = head.partition(" ") if " " in head else (head, "", "")
    if name.startswith("@media"):
        query = head.removeprefix("@media").strip()
        if any(_is_every_screen(part.strip()) for part in query.split(",")[:20]):
            return None
    return ""


def _is_every_screen(query: str) -> bool:
    """Tell ``screen``, ``only all``, ``not print``, ``screen and (min-width: 1px)``."""
    medium, *conditions = [part.strip() for part in query.split(" and ")[:10]]
    if medium.startswith("("):
        conditions.append(medium)
    elif medium.removeprefix("only").strip() not in ("", "all", "screen", "not print", "not speech"):
        return False
    return all(
        (found := _MIN_WIDTH.match(condition)) is not None and int(found[1]) <= _NARROW
        for condition in conditions
    )


def _as_name(match: re.Match[str]) -> str:
    """Give ``.a`` for ``[class~="a"]`` and ``#a`` for ``[id=a]``."""
    return f"{'.' if match[1] == 'class' else '#'}{match[2]}"


def _names(tag: str, attributes: Attributes) -> list[str]:
    """Give what a selector can call an element, the weakest first."""
    names = [tag]
    if classes := attributes.get("class"):
        names += [f".{name}" for name in classes[:500].lower().split()[:30]]
    if identifier := attributes.get("id"):
        names.append(f"#{identifier[:100].lower()}")
    return names


def _weight(name: str) -> tuple[int, str]:
    return ("#" in name) * 2 + ("." in name), name
