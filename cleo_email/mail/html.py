"""Convert HTML to text: keep the structure, leave out invisible text.

Newsletters fill the preview of an inbox with hidden text, and an attacker can hide instructions to a model in
it. Only styles that hide text in real mail are followed. A style that is not understood is ignored, as an
invalid one is by a browser, and the result says that there was one.
"""

from __future__ import annotations

import colorsys
import functools
import html as html_standard
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Final, NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode

from cleo_email.mail.decoding import clean
from cleo_email.mail.quotes import introduces_quote
from cleo_email.mail.symbols import SYMBOL_FONTS, raised_or_lowered, symbols_as_text

_Attributes = dict[str, str | None]


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NO_TEXT: Final = _words(
    "head script style noscript template title meta link object embed applet iframe svg math audio video"
    " canvas select datalist noembed noframes rp progress meter"
)
_PARAGRAPHS: Final = _words("p h1 h2 h3 h4 h5 h6 table pre dl fieldset figure")
_BLOCKS: Final = _words(
    "address article aside body caption center dd details div dt figcaption footer form header hgroup html"
    " legend main nav section summary tbody tfoot thead tr"
)
_LISTS: Final = _words("ul ol menu dir")
_VOID: Final = _words("area base br col embed hr img input link meta param source track wbr")
_FORMATTING: Final = _words("a b big code em font i nobr s small strike strong tt u")
_INLINE: Final = _FORMATTING | _words("span sub sup abbr acronym cite q del ins mark label var kbd samp")
_SCHEMES: Final = ("http://", "https://", "mailto:", "tel:", "ftp://")
_MAX_URL: Final = 2000
_MAX_ALT: Final = 300
_EMPTY: Final = " \t\r\n\f\u00a0\u200b\u200c\u200d\u00ad\u034f\u2007\ufeff"


class HtmlText(NamedTuple):
    """The result. ``hidden_dropped``: there was text that a person would not have seen.

    ``not_understood``: there were styles that can hide a text, or show it, and are not followed.
    """

    text: str
    hidden_dropped: bool
    not_understood: bool


def html_to_text(html: str) -> HtmlText:
    """Return the text of an HTML document as a person sees it. Never raises; takes linear time.

    Lists become ``- item`` lines, links ``text (url)`` where the two differ, table rows lines with ``|``
    between the cells, and ``-`` for an empty one, quotes ``> `` lines, images their alternative text in
    brackets, boxes ``[x]`` or ``[ ]``, what is struck through ``~~5~~``.
    """
    source = clean(html)
    if _is_expensive(source):
        return _strip_markup(source)
    return _Walker(LexborHTMLParser(source)).read()


# --- the tree ---------------------------------------------------------------------------------------------


class _Walker:
    """Walks the tree without recursion and writes its text."""

    def __init__(self, parser: LexborHTMLParser) -> None:
        self._root = parser.root
        self._writer = _TextWriter()
        self._styles = _Styles()
        for node in parser.css("style"):
            self._styles.read(node.text(deep=False), node.attributes)
        self._hidden = self._unsure = False
        self._counters: list[int] = []  # of the open lists; -1 for those without numbers
        self._rows: list[int] = []  # where the open table rows began
        self._cells: dict[int, _Cell] = {}  # of the tables in which empty ones matter
        self._quotes: list[bool] = []  # of the open <blockquote>s: a quote, or an indent
        self._quoted_plainly = False  # a <blockquote> without any mark was a quote
        self._links: list[int] = []

    def read(self) -> HtmlText:
        if self._root is not None:
            self._walk(self._root)
        unsure = self._unsure or self._styles.not_understood
        return HtmlText(clean(self._writer.result()), self._hidden, unsure)

    def _walk(self, node: LexborNode) -> None:
        looks = [_Look()]  # what the children of each open element inherit
        while True:
            look = self._enter(node, looks[-1])
            if look is not None:
                if (child := node.first_child) is not None:
                    looks.append(look)
                    node = child
                    continue
                self._leave(node, look)
            while (sibling := node.next) is None:
                parent = node.parent
                if len(looks) == 1 or parent is None:
                    return
                node = parent
                self._leave(node, looks.pop())
            node = sibling

    def _enter(self, node: LexborNode, outer: _Look) -> _Look | None:
        """Begin ``node``; None says that nothing below it matters."""
        tag = node.tag or ""
        if tag == "-text":
            self._text(node.text_content or "", outer)
            return None
        if tag == "select" and outer.readable:
            chosen = node.css_first("option[selected]") or node.css_first("option")
            self._writer.text(chosen.text(deep=True)[:_MAX_ALT] if chosen else "")
        if tag in _NO_TEXT or tag.startswith(("-", "!")):
            return None
        if tag in ("td", "th") and self._cells and self._cells.get(node.mem_id, _SOME_CELL).is_empty:
            return None
        attributes = node.attributes
        look = self._styles.look(tag, attributes, outer)
        if not look.gone:
            self._begin(node, tag, attributes, look)
        return look

    def _text(self, text: str, look: _Look) -> None:
        if look.readable:
            shown = symbols_as_text(text, look.symbols) if look.symbols else text
            shown = raised_or_lowered(shown, look.script) if look.script else shown
            self._writer.text(shown, spaces=look.spaces, mark="~~" if look.struck else "")
        if (not look.readable or look.unsure) and text.strip(_EMPTY):
            self._hidden |= not look.readable
            self._unsure |= look.unsure

    def _begin(self, node: LexborNode, tag: str, attributes: _Attributes, look: _Look) -> None:
        writer = self._writer
        if tag == "br":
            writer.line_break()
        elif tag in _PARAGRAPHS:
            writer.block(_gap(tag, attributes))
            if tag == "table" and not writer.on_one_line:
                self._cells |= _cells_of(node)
        elif tag in ("td", "th"):
            self._begin_cell(node)
        elif tag == "tr":
            writer.block(1)
            self._rows.append(writer.mark())
        elif tag in _BLOCKS:
            writer.block(1)
        elif tag == "blockquote":
            self._begin_blockquote(attributes)
        elif tag in _LISTS:
            self._begin_list(tag, attributes)
        elif tag == "li":
            writer.item(self._marker(attributes, look.numbers))
        elif tag == "a":
            self._links.append(writer.mark())
        elif tag == "hr":
            writer.block(1)
            writer.text("---")
            writer.block(1)
        elif tag == "img" and look.readable:
            self._image(attributes)
        elif tag == "input" and look.readable:
            self._field(attributes)
        if "role" in attributes and tag != "input" and look.readable:
            self._box(attributes)

    def _leave(self, node: LexborNode, look: _Look) -> None:
        tag, writer = node.tag or "", self._writer
        if look.gone:
            return
        if tag in _PARAGRAPHS:
            writer.block(_gap(tag, node.attributes))
        elif tag in ("td", "th") and (cell := self._cells.get(node.mem_id)):
            if writer.owes_cell:  # what it holds cannot be seen
                writer.text("-")
            writer.on_one_line = False
            self._empty_cells(cell.after)
        elif tag == "tr":
            self._rows.pop()
            writer.end_row()
        elif tag in _BLOCKS or tag == "li":
            writer.block(1)
        elif tag == "blockquote":
            writer.quote(-1) if self._quotes.pop() else writer.indent(-1)
        elif tag in _LISTS:
            self._counters.pop()
            writer.list(-1)
            writer.block(1 if self._counters else 2)
        elif tag == "a":
            self._end_link(node.attributes.get("href") or "", self._links.pop())

    def _begin_cell(self, node: LexborNode) -> None:
        if not self._rows:
            return
        if self._writer.on_one_line:  # a table in a cell
            self._writer.block(1)
            return
        cell = self._cells.get(node.mem_id)
        if cell is None:
            self._writer.cell(self._rows[-1])
        else:
            self._writer.cell(self._rows[-1])
            self._empty_cells(cell.before)
            self._writer.cell(self._rows[-1])
            self._writer.on_one_line = not cell.is_alone

    def _empty_cells(self, count: int) -> None:
        for _ in range(count if self._rows else 0):
            self._writer.cell(self._rows[-1])
            self._writer.text("-")

    def _begin_blockquote(self, attributes: _Attributes) -> None:
        """Tell a quote from an indent, for which clients write the same element.

        Without a mark of the client it is a quote only below a line that names its author.
        """
        is_quote = _is_marked_as_quote(attributes) or any(self._quotes)
        if not is_quote and (self._quoted_plainly or introduces_quote(self._writer.tail())):
            is_quote = self._quoted_plainly = True
        self._quotes.append(is_quote)
        if is_quote:
            self._writer.quote(1)
        else:
            self._writer.indent(1)

    def _field(self, attributes: _Attributes) -> None:
        kind = (attributes.get("type") or "text").strip().lower()
        if kind in ("checkbox", "radio"):
            self._writer.text(" [x] " if "checked" in attributes else " [ ] ")
        elif kind in ("text", "email", "tel", "number", "date", "time", "url"):
            self._writer.text((attributes.get("value") or "")[:_MAX_ALT])

    def _box(self, attributes: _Attributes) -> None:
        """Write a box that is none of HTML's (WAI-ARIA 1.2)."""
        if (attributes.get("role") or "").strip().lower() in ("checkbox", "radio", "switch"):
            checked = (attributes.get("aria-checked") or "").strip().lower() == "true"
            self._writer.text(" [x] " if checked else " [ ] ")

    def _begin_list(self, tag: str, attributes: _Attributes) -> None:
        start = attributes.get("start") or "1"
        first = int(start) if start.isascii() and start.isdigit() and len(start) < 6 else 1
        self._writer.block(1 if self._counters else 2)
        self._writer.list(1)
        self._counters.append(first if tag == "ol" else -1)

    def _marker(self, attributes: _Attributes, numbers: str) -> str:
        if not self._counters or self._counters[-1] < 0:
            return "- "
        value = (attributes.get("value") or "").strip()
        if value.isascii() and value.isdigit() and len(value) < 6:
            self._counters[-1] = int(value)
        self._counters[-1] += 1
        return f"{_number(self._counters[-1] - 1, numbers)}. "

    def _image(self, attributes: _Attributes) -> None:
        alt = " ".join((attributes.get("alt") or "")[:_MAX_ALT].split())
        sides = ((attributes.get(side) or "").strip().removesuffix("px") for side in ("width", "height"))
        tiny = any(side in ("0", "1") for side in sides)
        if alt and not tiny:
            self._writer.text(f"[{alt}]")

    def _end_link(self, href: str, mark: int) -> None:
        url = href.strip()
        shown = self._writer.since(mark).strip()
        if not shown or len(url) > _MAX_URL or not url.lower().startswith(_SCHEMES):
            return
        if _bare(shown) != _bare(url):
            self._writer.text(f" ({''.join(url.split())})")


_ROMAN: Final = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"),
    (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip


def _number(number: int, kind: str) -> str:
    """Return the number of a list's item as the list shows it: people write "see b"."""
    if not kind or not 0 < number < 4000:
        return str(number)
    letters = ""
    if kind.lower() == "i":
        for value, sign in _ROMAN:
            letters += sign * (number // value)
            number %= value
    while kind.lower() == "a" and number:
        number, place = divmod(number - 1, 26)
        letters = chr(ord("a") + place) + letters
    return letters.upper() if kind.isupper() else letters


_QUOTE_NAMES: Final = re.compile(r"quote|\bcite|moz-cite|gmail|yahoo", re.IGNORECASE)
_LINE_AT_THE_LEFT: Final = re.compile(
    r"border(?:-left)?(?:-width)?\s*:\s*(?!none|0|medium none|initial)", re.IGNORECASE
)


def _is_marked_as_quote(attributes: _Attributes) -> bool:
    """Return whether a mail client says of a blockquote that it is one: by its type, a class, or a line."""
    if (attributes.get("type") or "").strip().lower() == "cite" or attributes.get("cite"):
        return True
    names = " ".join((attributes.get(name) or "")[:200] for name in ("class", "id", "name"))
    return bool(
        _QUOTE_NAMES.search(names) or _LINE_AT_THE_LEFT.search((attributes.get("style") or "")[:1000])
    )


# --- tables -----------------------------------------------------------------------------------------------


class _Cell(NamedTuple):
    """``before`` and ``after`` count the empty columns beside a cell with a text.

    ``is_alone``: it is the only one of its row, and may go over several lines.
    """

    is_empty: bool
    before: int = 0
    after: int = 0
    is_alone: bool = False


_SOME_CELL: Final = _Cell(is_empty=False)


_MAX_CELLS: Final = 5000
_MAX_SPAN: Final = 100
_MAX_ONE_LINE: Final = 500  # characters
_SEVERAL_LINES: Final = "br, p + p, div + div, li + li, pre, [style*='pre']"


def _cells_of(table: LexborNode) -> dict[int, _Cell]:
    """Return the cells of a table in which values have a column, by ``mem_id``; nothing for a layout's.

    A column without any text is one of spaces, and left out. A cell that spans several columns or rows has
    its text in the first of them. Where every row has all its cells, or one alone, nothing is to be done.
    """
    rows = _rows_of(table)
    if not rows or (table.attributes.get("role") or "") in ("presentation", "none"):
        return {}
    has_heads = any(cell.tag == "th" for row in rows for cell in row)
    is_ruled = (table.attributes.get("border") or "0").strip() != "0"
    if not has_heads and any(cell.css_first("table") is not None for row in rows for cell in row):
        return {}
    grid, has_gaps = _grid(rows)
    filled = [row for row in grid if sum(text for _, text in row.values()) > 1]
    if not filled or (len(filled) < 2 and not has_heads and not is_ruled):
        return {}
    if not has_gaps and not ((has_heads or is_ruled) and _has_short_lines(rows)):
        return {}
    used = sorted({column for row in grid for column, (_, text) in row.items() if text})
    found: dict[int, _Cell] = {}
    for row in grid:
        found |= _row_of(row, used)
    return found


def _rows_of(table: LexborNode) -> list[list[LexborNode]]:
    rows: list[list[LexborNode]] = []
    count = 0
    for part in table.iter():
        group = part.iter() if part.tag in ("thead", "tbody", "tfoot") else ()
        for row in [part] if part.tag == "tr" else group:
            cells = [cell for cell in row.iter() if cell.tag in ("td", "th")] if row.tag == "tr" else []
            count += len(cells)
            if count > _MAX_CELLS:
                return []
            rows.append(cells)
    return rows


# By column: the cell's mem_id, 0 below a spanning one, and whether it has a text.
_Row = dict[int, tuple[int, bool]]


def _grid(rows: list[list[LexborNode]]) -> tuple[list[_Row], bool]:
    """Return the cells of each row by column, and whether any is empty or spans others."""
    grid: list[_Row] = []
    below: dict[int, int] = {}  # column: rows that a cell above still covers
    has_gaps = False
    for cells in rows:
        row: _Row = dict.fromkeys(below, (0, False))
        below = {column: left - 1 for column, left in below.items() if left > 1}
        column = 0
        for cell in cells:
            while column in row:
                column += 1
            width, height = _span(cell, "colspan"), _span(cell, "rowspan")
            text = bool((cell.text(deep=True) or "").strip(_EMPTY)) or _shows_more(cell)
            has_gaps = has_gaps or width > 1 or height > 1 or not text
            for place in range(column, column + width):
                row[place] = (cell.mem_id if place == column else 0, text and place == column)
                if height > 1:
                    below[place] = height - 1
            column += width
        grid.append(row)
    return grid, has_gaps


def _has_short_lines(rows: list[list[LexborNode]]) -> bool:
    """Return whether cells have several lines, and none so much text that it would be hard to read in one."""
    cells = [cell for row in rows for cell in row]
    if not any(cell.css_first(_SEVERAL_LINES) is not None for cell in cells):
        return False
    return all(len(cell.text(deep=True) or "") <= _MAX_ONE_LINE for cell in cells)


def _shows_more(cell: LexborNode) -> bool:
    return cell.css_first('img[alt]:not([alt=""]), input:not([type="hidden" i]), [role]') is not None


def _span(cell: LexborNode, name: str) -> int:
    value = (cell.attributes.get(name) or "").strip()
    if value == "0" and name == "rowspan":
        return _MAX_SPAN  # to the last row
    return min(max(int(value), 1), _MAX_SPAN) if value.isascii() and value.isdigit() and len(value) < 6 else 1


def _row_of(row: _Row, used: list[int]) -> dict[int, _Cell]:
    texts = [column for column in used if row.get(column, (0, False))[1]]
    found = {cell: _Cell(is_empty=True) for cell, _ in row.values() if cell}
    if (
        len(texts) == 1
        and (len(row) <= 1 or texts[0] == used[0])
        and not any(c and not t for c, t in row.values())
    ):
        return found | {row[texts[0]][0]: _Cell(is_empty=False, is_alone=True)}  # a line across the table
    before = 0
    for column in used:
        if column in texts:
            found[row[column][0]] = _Cell(False, before)
            before = 0
        elif column in row:
            before += 1
    if texts:
        last = row[texts[-1]][0]
        found[last] = found[last]._replace(after=before)
    return found


def _gap(tag: str, attributes: _Attributes) -> int:
    """Return the line breaks around a paragraph; Outlook writes each line as one without a margin."""
    if tag == "table" or (tag == "p" and (attributes.get("class") or "").startswith("Mso")):
        return 1
    return 2


def _bare(url: str) -> str:
    url = "".join(url.lower().split())
    for prefix in ("mailto:", "tel:", "http://", "https://", "www."):
        url = url.removeprefix(prefix)
    return url.rstrip("/")


# --- the text ---------------------------------------------------------------------------------------------

_BLANKS: Final = re.compile(r"[ \t\n\r\f]+")
# Characters that take no room: fillers behind the preview text, soft hyphens, joiners beside a blank.
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2060-\u2064\ufeff]"
)
_LOOSE_JOINER: Final = re.compile("[\u200c\u200d](?=[\\s\u200c\u200d]|\\Z)|(?<=[ \u00a0])[\u200c\u200d]")
_MAX_NESTING: Final = 30  # of quotes or lists; deeper ones look the same, and each line stays short
_MAX_GAP: Final = 3


class _TextWriter:
    """Collects a text piece by piece. Every method takes time that does not depend on what was written."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._quotes = self._written_quotes = self._lists = 0
        self._marker = ""
        self._gap = 0  # line breaks owed before the next text
        self._blank = False  # a blank is owed
        self._cell = False  # a cell separator is owed
        self._marked = 0  # how much was written when a marked text ended
        self.on_one_line = False  # line ends are blanks here

    def text(self, raw: str, *, spaces: str = "", mark: str = "") -> None:
        """Write a text node, with ``mark`` before and after it.

        White space collapses unless ``spaces`` says that lines ("lines"), or blanks as well ("all"), are kept
        (CSS Text 3, section 4).
        """
        text = raw
        if not text.isascii():
            text = _LOOSE_JOINER.sub("", _INVISIBLE.sub("", text)).replace("\u00a0", "\u2007")
        if spaces and not (self._gap and not text.strip()):  # the line ends between two blocks
            self._write_lines(text.expandtabs(8), spaces, mark)
            return
        self._words(text, mark)

    def _words(self, text: str, mark: str) -> None:
        collapsed = _BLANKS.sub(" ", text)
        words = collapsed.strip(" ")
        if not words:
            self._blank = self._blank or bool(collapsed)
            return
        self._blank = self._blank or collapsed.startswith(" ")
        self._emit(f"{mark}{words}{mark}", mark)
        self._blank = collapsed.endswith(" ")

    def _write_lines(self, text: str, spaces: str, mark: str) -> None:
        for number, line in enumerate(text.split("\n")):
            if number and self.on_one_line:
                self._blank = True
            elif number:
                self._gap = min(self._gap + 1, _MAX_GAP)
                self._blank = False
            if spaces == "lines":
                self._words(line, mark)
            elif line:
                self._emit(*((f"{mark}{line}{mark}", mark) if line.strip() else (line, "")))

    def _emit(self, words: str, mark: str) -> None:
        if self._cell:
            self._out.append(" | ")
            self._cell, self._gap = False, 0
        elif self._gap or not self._out:
            self._break_line()
        else:
            if mark and self._marked == len(self._out):  # one text in several elements
                self._out[-1], words = self._out[-1].removesuffix(mark), words.removeprefix(mark)
            if self._blank:
                self._out.append(" ")
        self._blank = False
        self._out.append(words)
        self._marked = len(self._out) if mark else 0

    def _break_line(self) -> None:
        if self._out:
            between = ">" * min(self._quotes, self._written_quotes)
            self._out.append(("\n" + between) * (self._gap - 1) + "\n")
        prefix = ">" * self._quotes + " " if self._quotes else ""
        self._out.append(prefix + "  " * max(self._lists - 1, 0))
        if self._marker:
            self._out.append(self._marker)
            self._marker = ""
        elif self._lists:
            self._out.append("  ")
        self._written_quotes, self._gap = self._quotes, 0

    def line_break(self) -> None:
        if self.on_one_line:
            self._blank = True
            return
        self._cell = False
        self._gap = min(self._gap + 1, _MAX_GAP)
        self._blank = False

    def block(self, gap: int) -> None:
        """Begin or end a block: at least ``gap`` line breaks stand between what is before and after."""
        if self._cell:
            return  # a paragraph at the beginning of a cell
        if self.on_one_line:
            self._blank = True
            return
        self._gap = max(self._gap, gap)
        self._blank = False

    def cell(self, row: int) -> None:
        """Begin a table cell; what the row has written since the mark ``row`` goes on in the same line."""
        if len(self._out) > row:
            self._cell = True
            self._blank = False

    @property
    def owes_cell(self) -> bool:
        return self._cell

    def end_row(self) -> None:
        self._cell = False
        self._blank = False
        if self.on_one_line:  # a table in a cell
            self._blank = True
            return
        self._gap = 1  # in place of the margin of the last cell's last paragraph

    def quote(self, step: int) -> None:
        self._cell = self._cell and self.on_one_line
        self.block(2)
        self._quotes = min(max(self._quotes + step, 0), _MAX_NESTING)

    def indent(self, step: int) -> None:
        self._cell = self._cell and self.on_one_line
        self.block(2)
        self._lists = min(max(self._lists + step, 0), _MAX_NESTING)

    def list(self, step: int) -> None:
        self._cell = self._cell and self.on_one_line
        self._lists = min(max(self._lists + step, 0), _MAX_NESTING)

    def item(self, marker: str) -> None:
        """Begin a list item; ``marker`` is written before its first text."""
        self._cell = self._cell and self.on_one_line
        self.block(1)
        self._marker = "" if self.on_one_line else marker

    def mark(self) -> int:
        """Return a place in the text, for ``since``."""
        return len(self._out)

    def since(self, mark: int) -> str:
        """Return what was written after ``mark``, if it was little."""
        return "".join(self._out[mark : mark + 40])

    def tail(self) -> str:
        """Return the last lines, if they are short."""
        return "".join(self._out[-40:])[-1000:]

    def result(self) -> str:
        """Return the text without blanks at the ends of lines and without empty lines around it."""
        text = "".join(self._out).replace("\u2007", " ")
        return "\n".join(line.rstrip(" \t") for line in text.split("\n")).strip("\n")


# --- without a tree ---------------------------------------------------------------------------------------
#
# Building a tree takes time quadratic in its depth and in the attributes of one tag, and formatting elements
# that stay open are copied into every following block, so that 40 kB can become two gigabytes. One pass over
# the tags tells the cost; what costs too much is no mail that a person wrote, and plain text is all it gets.

_SMALL: Final = 4000  # characters in which no expensive document fits
_MAX_STEPS: Final = 50_000_000
_MAX_COPIES: Final = 200_000
_MAX_ATTRIBUTES: Final = 2000

# Attributes as the HTML standard reads them (section 13.2.5.32 on), possessive: each character is met once.
_ATTRIBUTE: Final = r"""[\s/]*+[^\s/>][^\s/>=]*+(?>\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s>]*+))?+"""
_TAG: Final = re.compile(rf"<(/?)([a-zA-Z][^\s/>]*+)((?>{_ATTRIBUTE})*+)[\s/]*+>?")
_COMMENT: Final = re.compile(r"<!--(?>[^-]++|-(?!->))*+(?:-->|\Z)")
_ONE_ATTRIBUTE: Final = re.compile(
    r"""[\s/]*+([^\s/>][^\s/>=]*+)(?>(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>]*+)))?)"""
)
# Their end tags may be left out: a second one closes the first and no depth comes of it.
_CLOSED_BY_SIBLING: Final = _words("p li dt dd tr td th tbody thead tfoot option optgroup colgroup")
_RAW: Final = _words("script style title textarea noscript template head")


def _is_expensive(document: str) -> bool:
    """Return whether building a tree of ``document`` would take long or much memory. Takes linear time."""
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
        if name in _VOID or name in _CLOSED_BY_SIBLING:
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


def _strip_markup(document: str) -> HtmlText:
    """Return the text of ``document`` tag by tag. Takes linear time.

    Only what an element says of itself is followed; of a style sheet the result says that there was one.
    """
    writer, styles, plain = _TextWriter(), _Styles(), _Look()
    hidden, unsure, skipping, nested, position = False, False, "", 0, 0
    document = _COMMENT.sub(" ", document)
    for match in _TAG.finditer(document):
        text = _unescaped(document[position : match.start()])
        position = match.end()
        if not skipping:
            writer.text(text)
        elif skipping not in _RAW:
            hidden = hidden or bool(text.strip())
        name = match[2].lower()
        unsure = unsure or name == "style"
        if skipping:
            if name == skipping and name not in _VOID:
                nested += -1 if match[1] else 1
                skipping = skipping if nested else ""
            continue
        if not match[1] and name not in _VOID:
            attributes: _Attributes = {}
            for found in _ONE_ATTRIBUTE.finditer(match[3]):
                attributes.setdefault(found[1].lower(), _unescaped(found[2] or found[3] or found[4] or ""))
            look = styles.look(name, attributes, plain) if attributes or name == "dialog" else plain
            unsure = unsure or look.unsure
            if name in _RAW or not look.readable:
                skipping, nested = name, 1
                continue
        if name == "br":
            writer.line_break()
        elif name not in _INLINE and name not in _VOID:
            writer.block(1)
    if not skipping:
        writer.text(_unescaped(document[position:]))
    return HtmlText(clean(writer.result()), hidden, unsure)


def _unescaped(text: str) -> str:
    try:
        return html_standard.unescape(text) if "&" in text else text
    except ValueError:  # a character number of thousands of digits
        return text


# --- what an element looks like ---------------------------------------------------------------------------

_Declarations = dict[str, str]
_Colour = tuple[int, ...]  # red, green, blue; nothing for one that lets everything through

_TRANSPARENT: Final[_Colour] = ()
_WHITE: Final[_Colour] = (255, 255, 255)
_SMALLEST_FONT: Final = 2.0  # pixels; smaller text is unreadable
_SMALLEST_OPACITY: Final = 0.07
_SAME_COLOUR: Final = 10  # of 255, the largest difference in a channel that still cannot be seen
_OFF_SCREEN: Final = -400.0  # pixels to the left or above
_FAR: Final = 5000.0  # pixels to the right or below; no page is so long
_SIDES: Final = ("left", "top", "right", "bottom")
_SIZES: Final = ("height", "max-height", "width", "max-width")
_INDENTS: Final = ("text-indent", "margin-left", "margin-top")
_LENGTHS: Final = ("font-size", "letter-spacing", *_SIDES, *_SIZES, *_INDENTS)
_SHRINK: Final = ("transform", "translate", "scale", "zoom", "filter", "clip", "clip-path")


@dataclass(frozen=True)
class _Look:
    """What an element inherits. A colour is None where it is the usual one or cannot be known (a picture)."""

    gone: bool = False  # not displayed at all; nothing inside can undo it
    visible: bool = True
    font: float = 16.0  # pixels
    scale: float = 1.0  # what is left of it by all transforms and clips around it, 0 for nothing
    opacity: float = 1.0  # of all elements around it together
    colour: _Colour | None = None
    background: _Colour | None = _WHITE
    unsure: bool = False  # a style that is not understood may hide it
    spaces: str = ""  # "lines": line ends are kept, "all": blanks too
    struck: bool = False
    script: str = ""  # "super" or "sub"
    symbols: str = ""  # the font of symbols that it is written in
    numbers: str = ""  # how lists count: "a", "A", "i", "I", or in numbers

    @property
    def readable(self) -> bool:
        """Return whether a person would see a text here."""
        if self.gone or not self.visible or self.colour == _TRANSPARENT:
            return False
        if self.font * self.scale < _SMALLEST_FONT or self.opacity <= _SMALLEST_OPACITY:
            return False
        if self.colour is None or self.background is None:
            return True
        return max(abs(a - b) for a, b in zip(self.colour, self.background, strict=True)) > _SAME_COLOUR


def _styled(style: _Declarations, outer: _Look) -> _Look:
    """Return the look of an element that declares ``style`` inside of another that looks like ``outer``."""
    visibility, colour = style.get("visibility", "inherit"), style.get("color", "inherit")
    if "text-fill-color" in style and "background-clip" not in style:
        colour = style["text-fill-color"]
    number, unit = _length(style.get("font-size", "")) or (16.0, "px")
    font = number * {"em": outer.font, "%": outer.font / 100}.get(unit, _PIXELS[unit])
    font = outer.font if style.get("font-size", "inherit") in _AS_OUTSIDE else font
    scale = outer.scale
    for name in _SHRINK:
        if name in style and (name != "clip" or style.get("position") in ("absolute", "fixed")):
            scale *= float(style[name])
    opacity, unit = _length(style.get("opacity", "")) or (1.0, "")
    return _Look(
        gone=outer.gone or _is_gone(style) or _pixels(style, "letter-spacing", 0.0) < -0.6 * font,
        visible=outer.visible if visibility in _AS_OUTSIDE else visibility in ("visible", "initial"),
        font=font,
        scale=scale,
        opacity=outer.opacity * min(opacity / (100 if unit == "%" else 1), 1.0),
        colour=outer.colour if colour in _AS_OUTSIDE else _colour(colour),
        background=None
        if style.get("background-image") == _A_PICTURE
        else _colour(style.get("background-color", "")) or outer.background,
        unsure=outer.unsure,
        spaces=style.get("white-space", outer.spaces),
        struck=outer.struck or bool(style.get("text-decoration")),
        script=style.get("vertical-align", outer.script),
        symbols=style.get("font-family", outer.symbols),
        numbers=style.get("list-style-type", outer.numbers),
    )


def _special(look: _Look) -> Iterator[tuple[str, str]]:
    yield "font-family", look.symbols
    yield "white-space", look.spaces
    yield "vertical-align", look.script
    yield "list-style-type", look.numbers


def _is_gone(style: _Declarations) -> bool:
    """Return whether text in an element that declares ``style`` is invisible."""
    if style.get("display") == "none":
        return True
    if style.get("overflow-x") in _CLIPPED or style.get("overflow-y") in _CLIPPED:
        indent, unit = _length(style.get("text-indent", "")) or (0.0, "")
        if any(_pixels(style, name, 99.0) <= 1.0 for name in _SIZES) or (unit == "%" and indent >= 100):
            return True
    if style.get("position") in ("absolute", "fixed", "relative", "sticky"):
        moved = [_pixels(style, name, 0.0, percent=6.0) for name in _SIDES]
        if min(moved) <= _OFF_SCREEN or max(moved) >= _FAR:
            return True
    indents = [_pixels(style, name, 0.0, percent=3.9) for name in _INDENTS]
    return min(indents) <= _OFF_SCREEN or max(indents) >= _FAR


def _pixels(style: _Declarations, name: str, default: float, percent: float = 0.0) -> float:
    """Return a length; ``default`` where there is none, and for a percentage that is not to count."""
    number, unit = _length(style.get(name, "")) or (default, "px")
    if unit == "%":
        return number * percent if percent or not number else default
    return number * _PIXELS[unit]


# --- values -----------------------------------------------------------------------------------------------

_NUMBERS: Final = {
    "lower-alpha": "a", "lower-latin": "a", "upper-alpha": "A", "upper-latin": "A", "lower-roman": "i",
    "upper-roman": "I",
}  # fmt: skip
# What these mean for the look, "" where that is nothing special; another value changes nothing.
_SHOWN_BY: Final[dict[str, Callable[[str], str | None]]] = {
    "white-space": {
        "pre": "all", "pre-wrap": "all", "break-spaces": "all", "pre-line": "lines", "normal": "",
        "nowrap": "", "preserve": "all", "preserve-spaces": "all", "preserve-breaks": "lines",
        "collapse": "", "preserve nowrap": "all", "preserve wrap": "all", "collapse wrap": "",
    }.get,
    "text-decoration": lambda value: "line-through" if "line-through" in value else "",
    "list-style-type": lambda value: _NUMBERS.get(value.split(" ")[0], ""),
    "vertical-align": {"super": "super", "sub": "sub", "baseline": ""}.get,
    "font-family": lambda value: first if (first := value.split(",")[0].strip()) in SYMBOL_FONTS else "",
}  # fmt: skip
_ALSO_CALLED: Final = {
    "text-decoration-line": "text-decoration", "white-space-collapse": "white-space",
    "list-style": "list-style-type",
}  # fmt: skip
_LOOK_OF: Final = {
    **{tag: {"white-space": "all"} for tag in ("pre", "listing", "xmp", "plaintext", "textarea")},
    "s": {"text-decoration": "line-through"},
    "strike": {"text-decoration": "line-through"}, "del": {"text-decoration": "line-through"},
    "sup": {"vertical-align": "super"}, "sub": {"vertical-align": "sub"},
}  # fmt: skip
_AS_OUTSIDE: Final = _words("inherit unset revert revert-layer currentcolor")
_GLOBAL: Final = _words("inherit initial unset revert revert-layer")
_CLIPPED: Final = _words("hidden clip scroll auto")
_A_PICTURE: Final = "url()"
_PICTURE: Final = re.compile(r"(?:url|gradient|image-set)\(")
# The valid words of each property that is followed, beside lengths and colours.
_UNDERSTOOD: Final = {
    "display": _words(
        "none block inline inline-block flex inline-flex grid inline-grid contents flow-root list-item table"
        " inline-table table-cell table-row table-caption table-column table-column-group table-row-group"
        " table-footer-group table-header-group -webkit-box -webkit-flex"
    ),
    "visibility": _words("visible hidden collapse"),
    "position": _words("static relative absolute fixed sticky"),
    **dict.fromkeys(("overflow-x", "overflow-y"), _CLIPPED | {"visible"}),
    "background-image": frozenset({"none", _A_PICTURE}),
    "background-color": frozenset(),
    "color": frozenset({"currentcolor"}),
    "opacity": frozenset(),
    "letter-spacing": frozenset({"normal"}),
    "font-size": _words("xx-small x-small small medium large x-large xx-large xxx-large smaller larger"),
    **dict.fromkeys((*_SIDES, *_SIZES, *_INDENTS), frozenset({"auto", "none"})),
}
_SHORTHANDS: Final = _words("font margin overflow background inset contain background-clip")
_PHYSICAL: Final = {  # in a text from left to right; of two values the first counts
    "block-size": "height", "inline-size": "width", "max-block-size": "max-height",
    "max-inline-size": "max-width", "margin-inline-start": "margin-left", "margin-block-start": "margin-top",
    "margin-inline": "margin-left", "margin-block": "margin-top", "inset-inline-start": "left",
    "inset-block-start": "top", "inset-inline": "left", "inset-block": "top", "inset-inline-end": "right",
    "inset-block-end": "bottom",
}  # fmt: skip
# Properties that can hide a text and are not followed, or only some values, and the values that do not hide.
_NOT_FOLLOWED: Final = _words(
    "rotate mask mask-image animation animation-name content-visibility text-fill-color offset-path"
) | set(_SHRINK)
_HARMLESS: Final = _GLOBAL | _words("none auto normal visible 1 100% currentcolor")
_FONT: Final = re.compile(
    r"(?>(?:normal|italic|oblique|small-caps|bold|bolder|lighter|\d{3}) )*+"
    r"([^ /]+)(?: ?/ ?[^ ]+)? [^ ].*+|in\w+|unset"
)
_BACKGROUND_WORDS: Final = _words(
    "none repeat no-repeat repeat-x repeat-y round space scroll fixed local center top left right bottom auto"
    " cover contain border-box padding-box content-box"
)
_VALUE_WORD: Final = re.compile(r"[a-z-]++\([^()]*+\)|[^\s,/]++")
_LENGTH: Final = re.compile(r"([+-]?(?:\d++(?:\.\d++)?|\.\d++)(?:e[+-]?\d{1,3}+)?)([a-z]{1,5}|%)?")
_PIXELS: Final = {
    "": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "em": 16.0, "rem": 16.0, "lh": 18.0, "ex": 8.0, "ch": 8.0,
    "mm": 3.8, "cm": 38.0, "in": 96.0, "vw": 12.0, "vh": 8.0, "vmin": 8.0, "vmax": 12.0, "dvw": 12.0,
    "dvh": 8.0, "q": 1.0, "%": 1.0,
}  # fmt: skip
_RGB: Final = re.compile(r"(rgb|hsl)a?\(([^()]*)\)")
_CALCULATED: Final = re.compile(r"(?<![a-z-])(calc|min|max|clamp)\(([^()]*)\)")
_FUNCTION: Final = re.compile(r"(?<![a-z0-9-])([a-z0-9]{1,20})\(([^()]*)\)")
_HEXADECIMAL: Final = re.compile(r"(?:[0-9a-f]{3,4}){1,2}")


@functools.cache
def _named_colours() -> dict[str, str]:
    """Return the hexadecimal digits of CSS Color 4's names and of the system colours that hide on white."""
    return dict(re.findall(r"(\w+) (\w+)", files(__package__).joinpath("colours.txt").read_text("ascii")))


def _length(value: str) -> tuple[float, str] | None:
    """Return number and unit, "" for a number alone; None for what is neither, calc() among it."""
    match = _LENGTH.fullmatch(value)
    if match is None or (match[2] or "") not in _PIXELS:
        return None
    return float(match[1]), match[2] or ""


def _calculated(match: re.Match[str]) -> str:
    """Return what calc(), min(), max() or clamp() comes to in pixels, or as a plain number.

    The function itself where it holds more than lengths, or a percentage, which is one of something unknown.
    """
    function, terms = match[1], re.split(r" ?[,*] ?| \+ ", match[2].strip())
    read = [_length(term) for term in terms]
    if None in read or any(one is not None and one[1] == "%" and one[0] for one in read):
        return match[0]
    units = {unit for _, unit in filter(None, read)}
    numbers = [number * _PIXELS[unit] for number, unit in filter(None, read)]
    if function == "calc":
        both = "*" in match[2] and "+" in match[2]
        result = math.prod(numbers) if "*" in match[2] else sum(numbers)
        if both or "," in match[2]:
            return match[0]
    elif function == "clamp" and len(numbers) == 3:
        result = max(numbers[0], min(numbers[1], numbers[2]))
    else:
        result = min(numbers) if function == "min" else max(numbers)
    return f"{result:.4f}{'' if units == {''} else 'px'}"


def _left_over(name: str, value: str) -> float | None:
    """Return how much of its size a transform, filter or clip leaves a text, 0 for what hides it.

    None where that is not known, which is most of what does not hide.
    """
    if name in ("scale", "zoom", "translate") and "(" not in value:
        value = f"{name}({value})"
    left = 1.0
    for function, arguments in _FUNCTION.findall(value):
        read = [_length(word) for word in re.split(r"[ ,/]+", arguments.partition(" at ")[0])]
        numbers = [number / (100 if unit == "%" else 1) for number, unit in filter(None, read)]
        if len(numbers) < len(read):
            return None
        if function in ("scale", "scale3d", "scalex", "scaley", "zoom"):
            left *= min(abs(number) for number in numbers[:2])
            continue
        moved = [_pixels({"by": word}, "by", 0.0, percent=3.9) for word in re.split(r"[ ,]+", arguments)]
        hides = {
            "translate": min(moved) <= _OFF_SCREEN or max(moved) >= _FAR,
            "matrix": numbers[0] == 0 or numbers[3:4] == [0],
            "opacity": numbers[0] <= _SMALLEST_OPACITY,
            "inset": all(number >= 0.5 for number in numbers) and "%" in arguments,
            "rect": max(numbers) <= 1,
            "circle": numbers[0] == 0, "ellipse": numbers[0] == 0, "polygon": not any(numbers),
        }.get(function.rstrip("xy3d") if function.startswith("translate") else function)  # fmt: skip
        if not hides:
            return None
        left = 0.0
    return left if _FUNCTION.search(value) else None


def _hue(numbers: list[tuple[float, str]]) -> list[float]:
    """Return red, green and blue, from 0 to 1, of the hue, saturation and lightness of hsl()."""
    (hue, _), (saturation, _), (lightness, _) = numbers[:3]
    saturation, lightness = (min(max(number / 100, 0.0), 1.0) for number in (saturation, lightness))
    return list(colorsys.hls_to_rgb(hue / 360 % 1, lightness, saturation))


def _colour(value: str) -> _Colour | None:
    """Read a colour: a name, hexadecimal digits, rgb() or hsl(); None for another."""
    if (found := _RGB.fullmatch(value)) is not None:
        is_hsl = found[1] == "hsl"
        words = re.split(r"[\s,/]+", found[2].strip())
        if is_hsl:
            words[0] = words[0].removesuffix("deg")
        read = [_length(word) or (0.0, "no number") for word in words]
        shares = [number / 100 if unit == "%" else number / 255 for number, unit in read]
        if len(read) not in (3, 4) or any(unit not in ("", "%") for _, unit in read):
            return None
        if len(read) == 4 and shares[3] * (255 if read[3][1] == "" else 1) <= _SMALLEST_OPACITY:
            return _TRANSPARENT
        shares = _hue(read) if is_hsl else shares
        return tuple(round(min(max(share, 0.0), 1.0) * 255) for share in shares[:3])
    digits = _named_colours().get(value) or value.removeprefix("#")
    if not _HEXADECIMAL.fullmatch(digits) or len(digits) == 7:
        return None
    colour = tuple(bytes.fromhex(digits if len(digits) > 4 else "".join(char + char for char in digits)))
    return colour[:3] if colour[3:] == () or colour[3] > 255 * _SMALLEST_OPACITY else _TRANSPARENT


def _is_understood(name: str, value: str) -> bool:
    """Return whether ``value`` is valid; a number without a unit (in old documents) only where it hides."""
    if value in _GLOBAL or value in _UNDERSTOOD[name]:
        return True
    if name.endswith("color"):
        return value in _named_colours() or (
            value.startswith(("#", "rgb", "hsl")) and _colour(value) is not None
        )
    number, unit = _length(value) or (0.0, "no number")
    if name == "opacity":
        return unit in ("", "%")
    if number < 0 and (name in _SIZES or name == "font-size"):
        return False
    return name in _LENGTHS and unit in _PIXELS and (unit != "" or number < _SMALLEST_FONT)


def _longhands(name: str, value: str) -> _Declarations:
    """Return what a declaration sets; nothing if it is of no use here, or invalid."""
    words = value.split()
    longhands: _Declarations
    if name == "font":
        if (found := _FONT.fullmatch(value)) is not None:
            family = value.partition(",")[0]
            symbols = next((font for font in SYMBOL_FONTS if family.endswith(f" {font}")), "")
            return {**_valid({"font-size": found[1] or value}), "font-family": symbols}
        longhands = {}
    elif name == "margin" and 1 <= len(words) <= 4:
        longhands = {"margin-top": words[0], "margin-left": (words[1:2] + words[3:] or words)[-1]}
    elif name == "overflow" and 1 <= len(words) <= 2:
        longhands = {"overflow-x": words[0], "overflow-y": words[-1]}
    elif name == "inset" and 1 <= len(words) <= 4:
        top, right, bottom, left = (words * 4)[:4] if len(words) != 3 else (*words, words[1])
        longhands = {"top": top, "right": right, "bottom": bottom, "left": left}
    elif name == "contain":
        clipped = {"paint", "strict", "content"} & set(words)
        longhands = dict.fromkeys(("overflow-x", "overflow-y"), "clip") if clipped else {}
    elif name == "background-clip":
        return {name: value} if value == "text" else {}
    elif name == "background":
        longhands = _background(value)
    elif name == "background-image":
        longhands = {name: _A_PICTURE if _PICTURE.search(value) else value}
    elif name in _SHOWN_BY:
        meant = _SHOWN_BY[name](value)
        return {} if meant is None else {name: meant}
    else:
        longhands = {name: value} if name in _UNDERSTOOD else {}
    return _valid(longhands)


def _valid(longhands: _Declarations) -> _Declarations:
    return longhands if all(_is_understood(*item) for item in longhands.items()) else {}


def _background(value: str) -> _Declarations:
    if _PICTURE.search(value):
        return {"background-color": "transparent", "background-image": _A_PICTURE}
    colour = "transparent"
    for word in _VALUE_WORD.findall(value):
        if word in _GLOBAL or _is_understood("background-color", word):
            colour = word
        elif word not in _BACKGROUND_WORDS and _length(word) is None:
            return {}
    return {"background-color": colour, "background-image": "none"}


# --- style sheets -----------------------------------------------------------------------------------------

_STRANGE: Final = re.compile(r"[^\t\n\f\r -~]")
_NO_NAME: Final = "\ufffd"  # stands for a character that is in no name, number or bracket that we know
_CSS_PIECE: Final = re.compile(  # comments, strings, addresses, escapes
    r"""/\*(?>[^*]++|\*(?!/))*+(?:\*/|\Z)|"(?>[^"\\\n]++|\\[\s\S])*+"?|'(?>[^'\\\n]++|\\[\s\S])*+'?"""
    r"""|(?<![a-z0-9_-])url\(\s*+(?!["'])(?>[^)\\]++|\\[\s\S])*+\)?|\\(?:([0-9a-f]{1,6})\s?|([\s\S]))"""
)
_BRACKET: Final = re.compile(r"[()\[\]{};]")
_CLOSERS: Final = {"(": ")", "[": "]", "{": "}"}
_BEFORE_A_RULE: Final = re.compile(r"(?>[ \0]++|<!--|-->|@[^;{}]*+;)*+")
_COMBINATOR: Final = re.compile(r"[ >+~]")
_ALWAYS_AROUND: Final = re.compile(r"(?:html ?[> ] ?)?(?:body )?(?=.)")
_SELECTOR: Final = re.compile(r"(?:\*|[a-z][a-z0-9-]*+|(?=[.#]))(?>[.#]-?[a-z_][a-z0-9_-]*+)*+")
_SIMPLE: Final = re.compile(r"[.#]?[a-z0-9_-]+|\*")
# Selectors of what shows no text of the mail, or nothing before the reader points at it.
_ELSEWHERE: Final = re.compile(
    r"[^():]*+(?::hover|:active|:focus|:visited|::?before|::?after|::?selection|::?-moz-[a-z-]+)[^(]*"
)
_OTHER_AT_RULES: Final = ("@font-face", "@page", "@keyframes", "@-", "@viewport")
_EVERY_SCREEN: Final = ("all", "screen", "only all", "only screen")
_OTHER_DEVICE: Final = re.compile(  # no telephone is wider than 1029 pixels
    r"(?:only )?print|(?!.*\b(?:not|or)\b).*\( ?"
    r"(?:max-(?:device-)?width ?: ?(?:(?:\d{1,3}|10[0-2]\d)(?:\.\d{1,4})?px|\d\d?(?:\.\d{1,4})?r?em)"
    r"|prefers-color-scheme ?: ?dark) ?\).*"
)
_MAX_DEPTH: Final = 8  # of @media in @media
_MAX_RULES: Final = 2000
_MAX_CHECKS: Final = 1_000_000


class _Declared(NamedTuple):
    """The declarations of a style attribute or a rule; ``unknown``: one that can hide is not understood."""

    normal: _Declarations
    important: _Declarations
    unknown: bool


class _Rule(NamedTuple):
    rank: tuple[int, ...]  # ids, classes and tags in the selector (its specificity), and its place
    names: frozenset[str]  # what the element must have: "p", ".class", "#id"
    declared: _Declared


class _Styles:
    """What the elements of one document look like, by their attributes and the style sheets.

    A selector of one tag with classes and ids is understood, and ``@media`` where it means every screen or
    another device. Of other rules only this counts: they may hide what the last part of the selector names.
    """

    def __init__(self) -> None:
        self.not_understood = False  # a rule that can hide, on whichever element
        self._rules: dict[str, list[_Rule]] = {}
        self._count = self._checks = 0
        self._cache: dict[str, _Declared] = {}

    def look(self, tag: str, attributes: _Attributes, outer: _Look) -> _Look:
        if self._checks > _MAX_CHECKS:
            return replace(outer, gone=True)  # no real mail needs so many
        found = [_presentational(tag, attributes), *self._matching(tag, attributes)]
        if inline := attributes.get("style"):
            if inline not in self._cache:
                self._cache[inline] = _declarations(_plain(inline))
            found.append(self._cache[inline])
        style: _Declarations = {}
        for declarations in (*(one.normal for one in found), *(one.important for one in found)):
            style.update(declarations)
        if tag == "img" and any(_pixels(style, name, 99.0) <= 1.0 for name in _SIZES):
            return replace(outer, gone=True)
        # The browser shows these only after a click or a script.
        closed = {"hidden", "popover"} & attributes.keys() or (tag == "dialog" and "open" not in attributes)
        if closed and style.get("display", "none") in ("none", "revert", "revert-layer"):
            return replace(outer, gone=True)
        if not outer.unsure and any(declared.unknown for declared in found):
            outer = replace(outer, unsure=True)
        for name, special in _special(outer):
            if not special and style.get(name) == "":
                del style[name]  # by far the most elements say only this
        return _styled(style, outer) if style else outer

    def _matching(self, tag: str, attributes: _Attributes) -> list[_Declared]:
        """Return what the rules declare for an element, the weakest first."""
        if not self._rules:
            return []
        names = {"*", tag, *(f".{name}" for name in _ascii((attributes.get("class") or "")[:500]).split())}
        if identifier := attributes.get("id"):
            names.add(f"#{_ascii(identifier[:100])}")
        rules = [rule for name in names for rule in self._rules.get(name, ())]
        self._checks += len(rules)
        found = sorted((rule for rule in rules if rule.names <= names), key=lambda rule: rule.rank)
        return [rule.declared for rule in found]

    def read(self, sheet: str, attributes: _Attributes) -> None:
        if (attributes.get("type") or "text/css").strip().lower() == "text/css":
            self._read_rules(_plain(sheet), _counts(_plain(attributes.get("media") or "")), 0)

    def _read_rules(self, css: str, counts: bool | None, depth: int) -> None:
        """Read rules that count, or do not (other devices), or of which that is not known (None)."""
        for start, body in _items(css, rules=True):
            head = _BEFORE_A_RULE.sub("", start, count=1).replace("\0", "").strip()
            if body is None or counts is False or head.startswith(_OTHER_AT_RULES):
                continue
            if not head.startswith("@"):
                self._add(head, _declarations(body), known=counts is True)
            elif depth < _MAX_DEPTH:
                inner = _counts(head.removeprefix("@media")) if head.startswith("@media") else None
                self._read_rules(body, False if inner is False else counts and inner, depth + 1)
            else:
                self.not_understood = True

    def _add(self, head: str, declared: _Declared, known: bool) -> None:
        look = _styled({**declared.normal, **declared.important}, _Look())
        may_hide = declared.unknown or not look.readable or look.background != _WHITE
        for selector in [head] if "(" in head else map(str.strip, head.split(",")):
            selector = _ALWAYS_AROUND.sub("", selector)
            last = _COMBINATOR.split(selector)[-1]
            if _ELSEWHERE.fullmatch(selector) or not any(declared):
                continue
            self._count += 1
            if not _SELECTOR.fullmatch(last) or self._count > _MAX_RULES:
                self.not_understood |= may_hide
                continue
            simple = _SIMPLE.findall(last)
            kinds = "".join(name[0] for name in simple)
            rank = (kinds.count("#"), kinds.count("."), kinds[:1].isalpha(), self._count)
            names = frozenset(simple)
            exact = declared if known and last == selector else _Declared({}, {}, may_hide)
            self._rules.setdefault(min(names - {"*"}, default="*"), []).append(_Rule(rank, names, exact))


def _presentational(tag: str, attributes: _Attributes) -> _Declared:
    """Return what the attributes of old HTML declare, which every style goes before."""
    style = dict(_LOOK_OF.get(tag, {}))
    if attributes.get("background"):
        style["background-image"] = _A_PICTURE
    if tag in ("ol", "ul"):
        kind = attributes.get("type") or ""
        style["list-style-type"] = kind if kind in ("a", "A", "i", "I") else ""
    if tag == "font" and (face := attributes.get("face")):
        style |= _longhands("font-family", _ascii(face).strip("\"' "))
    unknown = False
    of_text = {"font": "color", "body": "text"}.get(tag, "")
    for attribute, name in (("bgcolor", "background-color"), (of_text, "color")):
        if value := _ascii(attributes.get(attribute) or "").strip():
            if _colour(value) is None:
                unknown = True
            else:
                style[name] = value
    return _Declared(style, {}, unknown)


def _counts(queries: str) -> bool | None:
    """Return whether a media query means every screen; False: other devices alone; None: not understood."""
    found = [query.strip() for query in queries.split(",")]
    if found == [""] or any(query in _EVERY_SCREEN for query in found):
        return True
    return False if all(_OTHER_DEVICE.fullmatch(query) for query in found) else None


def _declarations(css: str) -> _Declared:
    """Read declarations; of each name the last that is understood counts."""
    normal: _Declarations = {}
    important: _Declarations = {}
    unknown = False
    for head, block in _items(css):
        if block is None and ":" not in head:
            continue
        name, _, value = head.replace("\0", " ").partition(":")
        name = name.strip().removeprefix("-webkit-")
        name = _ALSO_CALLED.get(name, name)
        value, bang, mark = value.partition("!")
        value = _CALCULATED.sub(_calculated, value.strip()) if "(" in value else value.strip()
        if (physical := _PHYSICAL.get(name)) is not None:
            name, value = physical, value.partition(" ")[0]
        if block is not None:  # a rule inside of a rule
            unknown = True
        elif name in _NOT_FOLLOWED:
            kept = important if bang else normal
            left = (1.0 if value in _HARMLESS else _left_over(name, value)) if name in _SHRINK else None
            if left is not None:
                kept[name] = f"{left:.4f}"
            else:
                unknown = unknown or value not in _HARMLESS
            if name == "text-fill-color" and _colour(value) is not None:
                kept[name] = value
        elif (name in _UNDERSTOOD or name in _SHORTHANDS or name in _SHOWN_BY) and (
            not bang or mark.strip() == "important"
        ):
            longhands = _longhands(name, value)
            (important if bang else normal).update(longhands)
            # What is not understood and holds no function is invalid for a browser as well.
            unknown = unknown or (not longhands and "(" in value)
    return _Declared(normal, important, unknown)


def _plain(css: str) -> str:
    """Return ``css`` in small letters, without strings and escapes, comments as NUL."""
    return _BLANKS.sub(" ", _CSS_PIECE.sub(_plain_piece, _ascii(css)))


def _plain_piece(match: re.Match[str]) -> str:
    if match[0][0] != "\\":
        if (name := match[0].strip("\"'")) in SYMBOL_FONTS:
            return name
        return {"/": "\0", "u": _A_PICTURE}.get(match[0][0], '""')
    number = int(match[1], 16) if match[1] else ord(match[2])
    char = chr(number) if number < 128 else _NO_NAME
    return char if char.isalpha() or char in "-_" else _NO_NAME


def _ascii(text: str) -> str:
    """Return ``text`` in small letters. Only ASCII has them in CSS, and only there is white space."""
    return _STRANGE.sub(_NO_NAME, text).lower()


def _items(css: str, *, rules: bool = False) -> Iterator[tuple[str, str | None]]:
    """Cut a list of declarations, or of rules, into heads and {blocks} (CSS Syntax 3, section 5.4)."""
    closers: list[str] = []
    start = brace = 0
    for match in _BRACKET.finditer(css):
        char = match[0]
        if char in _CLOSERS:
            brace = brace if closers else match.start()
            closers.append(_CLOSERS[char])
        elif closers:
            if char == closers[-1]:
                closers.pop()
                if char == "}" and not closers:
                    yield css[start:brace], css[brace + 1 : match.start()]
                    start = match.end()
        elif char == ";" and not rules:
            yield css[start : match.start()], None
            start = match.end()
    if closers[:1] == ["}"]:
        yield css[start:brace], css[brace + 1 :]
    else:
        yield css[start:], None
