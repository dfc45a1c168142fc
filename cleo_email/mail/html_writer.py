"""Text with structure: paragraphs, quoting depth, list items, table cells."""

from __future__ import annotations

import re
from typing import Final

_BLANKS: Final = re.compile(r"[ \t\n\r\f]+")
# Characters that take no room: fillers behind the preview text, soft hyphens, joiners beside a blank.
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2060-\u2064\ufeff]"
)
_LOOSE_JOINER: Final = re.compile("[\u200c\u200d](?=[\\s\u200c\u200d]|\\Z)|(?<=[ \u00a0])[\u200c\u200d]")
_MAX_DEPTH: Final = 30  # of quotes or lists; deeper ones look the same, and each line stays short
_MAX_GAP: Final = 3


class TextWriter:
    """Collects a text piece by piece. Every method takes time that does not depend on what was written."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._quotes = 0
        self._written_quotes = 0
        self._lists = 0
        self._marker = ""
        self._gap = 0  # line breaks owed before the next text
        self._blank = False  # a blank is owed
        self._cell = False  # a cell separator is owed
        self._at_start = True  # nothing written on this line yet
        self.preformatted = 0

    def text(self, raw: str) -> None:
        """Write a text node; white space collapses unless it is preformatted (CSS Text 3, section 4)."""
        text = raw
        if not text.isascii():
            text = _LOOSE_JOINER.sub("", _INVISIBLE.sub("", text)).replace("\u00a0", "\u2007")
        if self.preformatted:
            self._write_lines(text.expandtabs(8))
            return
        collapsed = _BLANKS.sub(" ", text)
        words = collapsed.strip(" ")
        if not words:
            self._blank = self._blank or bool(collapsed)
            return
        self._blank = self._blank or collapsed.startswith(" ")
        self._emit(words)
        self._blank = collapsed.endswith(" ")

    def _write_lines(self, text: str) -> None:
        for number, line in enumerate(text.split("\n")):
            if number:
                self._gap = min(self._gap + 1, _MAX_GAP)
            if line:
                self._emit(line)

    def _emit(self, words: str) -> None:
        if self._cell:
            self._out.append(" | ")
            self._cell, self._gap = False, 0
        elif self._gap or not self._out:
            self._break_line()
        elif self._blank and not self._at_start:
            self._out.append(" ")
        self._blank = self._at_start = False
        self._out.append(words)

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
        self._cell = False
        self._gap = min(self._gap + 1, _MAX_GAP)
        self._blank = False

    def block(self, gap: int) -> None:
        """Begin or end a block: at least ``gap`` line breaks stand between what is before and after."""
        if self._cell:
            return  # a paragraph at the beginning of a cell
        self._gap = max(self._gap, gap)
        self._blank = False

    def cell(self, row: int) -> None:
        """Begin a table cell; what the row has written since the mark ``row`` goes on in the same line."""
        if len(self._out) > row:
            self._cell = True
            self._blank = False

    def end_row(self) -> None:
        self._cell = False
        self._blank = False
        self._gap = 1  # whatever margin the last paragraph of the last cell has

    def quote(self, step: int) -> None:
        self._cell = False
        self.block(2)
        self._quotes = min(max(self._quotes + step, 0), _MAX_DEPTH)

    def list(self, step: int) -> None:
        self._cell = False
        self._lists = min(max(self._lists + step, 0), _MAX_DEPTH)

    def item(self, marker: str) -> None:
        """Begin a list item; ``marker`` is written before its first text."""
        self._cell = False
        self.block(1)
        self._marker = marker

    def mark(self) -> int:
        """A place in the text, for ``since``."""
        return len(self._out)

    def since(self, mark: int) -> str:
        """What was written after ``mark``, if it was little."""
        return "".join(self._out[mark : mark + 40])

    def result(self) -> str:
        """The text, without blanks at the ends of lines and without empty lines around it."""
        text = "".join(self._out).replace("\u2007", " ")
        return "\n".join(line.rstrip(" \t") for line in text.split("\n")).strip("\n")
