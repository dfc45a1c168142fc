"""HTML that would take a tree builder long: noticed beforehand, and read without a tree.

Building a tree takes time quadratic in its depth and in the attributes of one tag, and formatting elements
that stay open are copied into every following block, so that 40 kB can become two gigabytes. One pass over
the tags tells the cost; what costs too much is no mail that a person wrote, and plain text is all it gets.
"""

from __future__ import annotations

import html
import re
from typing import Final

from cleo_email.mail.html_style import Styles
from cleo_email.mail.html_writer import TextWriter

_SMALL: Final = 4000  # characters in which no expensive document fits
_MAX_STEPS: Final = 50_000_000
_MAX_COPIES: Final = 200_000
_MAX_ATTRIBUTES: Final = 2000

# Attributes as the HTML standard reads them (section 13.2.5.32 on), possessive: each character is met once.
_ATTRIBUTE: Final = r"""[\s/]*+[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s>]*+))?+"""
_TAG: Final = re.compile(rf"<(/?)([a-zA-Z][^\s/>]*+)((?:{_ATTRIBUTE})*+)[\s/]*+>?")
_COMMENT: Final = re.compile(r"<!--(?:[^-]|-(?!->))*+(?:-->|\Z)")
_ONE_ATTRIBUTE: Final = re.compile(
    r"""[\s/]*+([^\s/>][^\s/>=]*+)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>]*+)))?+"""
)
_FORMATTING: Final = frozenset(
    ["a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"]
)
VOID: Final = frozenset(
    [
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
    ]
)
# Their end tags may be left out: a second one closes the first and no depth comes of it.
_CLOSED_BY_SIBLING: Final = frozenset(
    ["p", "li", "dt", "dd", "tr", "td", "th", "tbody", "thead", "tfoot", "option", "optgroup", "colgroup"]
)
_INLINE: Final = _FORMATTING | frozenset(
    [
        "span",
        "sub",
        "sup",
        "abbr",
        "acronym",
        "cite",
        "q",
        "del",
        "ins",
        "mark",
        "label",
        "var",
        "kbd",
        "samp",
    ]
)
_RAW: Final = frozenset(["script", "style", "title", "textarea", "noscript", "template", "head"])


def is_expensive(document: str) -> bool:
    """Tell whether building a tree of ``document`` would take long or much memory. Takes linear time."""
    if len(document) < _SMALL:
        return False
    opened: dict[str, int] = {}
    depth = formatting = steps = copies = 0
    for match in _TAG.finditer(document):
        name = match[2].lower()
        if len(match[3]) > _MAX_ATTRIBUTES and len(_ONE_ATTRIBUTE.findall(match[3])) > _MAX_ATTRIBUTES:
            return True
        steps += depth
        copies += max(formatting - 10, 0)
        if steps > _MAX_STEPS or copies > _MAX_COPIES:
            return True
        if name in VOID or name in _CLOSED_BY_SIBLING:
            continue
        if not match[1]:
            opened[name] = opened.get(name, 0) + 1
            depth += 1
            formatting += name in _FORMATTING
        elif opened.get(name):
            opened[name] -= 1
            depth -= 1
            formatting -= name in _FORMATTING
    return False


def strip_markup(document: str) -> tuple[str, bool]:
    """Give the text of ``document`` tag by tag, and whether any of it was hidden. Takes linear time."""
    writer, styles = TextWriter(), Styles([])
    hidden, skipping, nested, position = False, "", 0, 0
    document = _COMMENT.sub(" ", document)
    for match in _TAG.finditer(document):
        text = _unescaped(document[position : match.start()])
        position = match.end()
        if not skipping:
            writer.text(text)
        elif skipping not in _RAW:
            hidden = hidden or bool(text.strip())
        name = match[2].lower()
        if skipping:
            if name == skipping and name not in VOID:
                nested += -1 if match[1] else 1
                skipping = skipping if nested else ""
            continue
        if match[1]:
            _separate(writer, name)
        elif name not in VOID and (name in _RAW or _hides(styles, name, match[3])):
            skipping, nested = name, 1
        else:
            _separate(writer, name)
    if not skipping:
        writer.text(_unescaped(document[position:]))
    return writer.result(), hidden


def _separate(writer: TextWriter, name: str) -> None:
    if name == "br":
        writer.line_break()
    elif name not in _INLINE and name not in VOID:
        writer.block(1)


def _hides(styles: Styles, name: str, raw: str) -> bool:
    if len(raw) > _MAX_ATTRIBUTES or (not raw and name != "dialog"):
        return False
    attributes: dict[str, str | None] = {}
    for match in _ONE_ATTRIBUTE.finditer(raw):
        attributes.setdefault(match[1].lower(), _unescaped(match[2] or match[3] or match[4] or ""))
    return not styles.look(name, attributes, styles.initial).readable


def _unescaped(text: str) -> str:
    try:
        return html.unescape(text) if "&" in text else text
    except ValueError:  # a character number of thousands of digits
        return text
