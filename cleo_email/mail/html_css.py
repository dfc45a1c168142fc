"""Style sheets and style attributes, as far as they can hide a text.

Selectors of tags, classes and ids are understood, also several on one element (``p.a#b``) and with ancestors
(``.a p``, ``div > .b``); rules inside of ``@media`` are passed over, they are for other screens.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

Declarations = dict[str, str]
Attributes = dict[str, str | None]

_COMMENT: Final = re.compile(r"/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z)")
_ESCAPE: Final = re.compile(r"\\([0-9a-fA-F]{1,6})\s?")
_RULE_MARK: Final = re.compile(r"[^{}]*+[{}]")
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
    ]
)


def parse_declarations(style: str) -> Declarations:
    """Give the declarations of ``style`` that can hide a text; the last of each name counts."""
    if "\\" in style:
        style = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if int(m[1], 16) < 0x110000 else "", style)
    found: Declarations = {}
    for item in _COMMENT.sub("", style).lower().split(";"):
        name, colon, value = item.partition(":")
        name = name.strip()
        if colon and name in _RELEVANT:
            found[name] = value.partition("!")[0].strip()
    return found


@dataclass(frozen=True)
class _Rule:
    own: frozenset[str]  # what the element itself must have: "p", ".class", "#id"
    around: frozenset[str]  # what its ancestors must have, on whichever of them
    declarations: Declarations = field(compare=False)


class Cascade:
    """What the style sheets of a document and the attributes of an element declare."""

    def __init__(self, sheets: list[str]) -> None:
        self._rules: dict[str, list[_Rule]] = {}
        self._count = 0
        self._checks = 0
        self._cache: dict[str, Declarations] = {}
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
        own = self._inline(inline[:_MAX_STYLE]) if inline else {}
        if not self._rules:
            return own
        names = _names(tag, attributes)
        merged: Declarations = {}
        for name in names:
            rules = self._rules.get(name, ())
            self._checks += len(rules)
            if self._checks > _MAX_CHECKS and rules:
                # No designer's page needs so many; whoever wrote it hides something.
                return {"display": "none"}
            for rule in rules:
                if rule.own.issubset(names) and all(self._open[around] > 0 for around in rule.around):
                    merged.update(rule.declarations)
        merged.update(own)
        return merged

    def _inline(self, style: str) -> Declarations:
        if style not in self._cache:
            self._cache[style] = parse_declarations(style)
        return self._cache[style]

    def _read(self, text: str) -> None:
        depth, selectors = 0, ""
        for match in _RULE_MARK.finditer(text):
            body = match[0]
            if body.endswith("{"):
                depth += 1
                selectors = body[:-1].rpartition(";")[2].strip().lower() if depth == 1 else ""
                continue
            if depth == 1 and selectors and not selectors.startswith("@"):
                self._add(selectors, parse_declarations(body[:-1][:_MAX_STYLE]))
            depth, selectors = max(depth - 1, 0), ""
            if self._count > _MAX_RULES:
                return

    def _add(self, selectors: str, declarations: Declarations) -> None:
        if not declarations:
            return
        for selector in selectors.split(",")[:100]:
            self._count += 1
            compounds = selector.replace(">", " ").split()
            if not compounds or not all(_COMPOUND.match(compound) for compound in compounds):
                self.unknown_backgrounds |= any(name.startswith("background") for name in declarations)
                continue
            own, *around = (frozenset(_SIMPLE.findall(compound)) for compound in reversed(compounds))
            rules = self._rules.setdefault(max(own, key=_weight), [])
            if len(rules) < _MAX_RULES_PER_NAME:
                rules.append(_Rule(own, frozenset().union(*around), declarations))
                self._ancestors_matter |= bool(around)


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
