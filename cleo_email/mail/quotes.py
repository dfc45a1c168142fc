"""The new part of a reply, and what it quotes.

Cutting loses nothing: whatever is not in ``text`` is in ``quoted``, and where no new part can be told from
the rest, everything is the new part. Forwards and answers written between the lines of a quote stay whole,
because without the rest they say nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from cleo_email.mail import quote_blocks as blocks
from cleo_email.mail import quote_marks as marks
from cleo_email.mail.quote_known import known_suffix
from cleo_email.mail.quote_trim import is_closing, trimmed

_LONG_LINE: Final = 60  # characters; a shorter one is not broken
_MAX_BLOCK: Final = 6  # lines below a separator in which the author is named
_MAX_ATTEMPTS: Final = 5000  # lines that look like the introduction of a quote and are none


class Split(NamedTuple):
    """``text`` is what the sender wrote now, ``quoted`` everything else: quotes, signatures, their marks."""

    text: str
    quoted: str


@dataclass(frozen=True)
class _Cut:
    """Where a quote begins: its introduction at ``start``, what it quotes at ``body``."""

    start: int
    body: int
    introduced: bool  # by a line that names the author, a separator or a header block
    to_the_end: bool  # everything below belongs to it


_KEEP: Final = _Cut(-1, -1, introduced=False, to_the_end=False)  # a forward: nothing may be cut


def split_quoted(
    text: str,
    known: Sequence[str] = (),
    *,
    forwarded: bool = False,
    authors: Collection[str] | None = None,
) -> Split:
    """Cut the quoted part off ``text`` (``\\n`` line ends).

    ``known`` are earlier texts of the thread: what repeats them at the end counts as quoted even without a
    mark. ``forwarded`` says that the mail is a forward (by its subject); it stays whole. ``authors`` is given
    for a mail without any mark of a reply: there an earlier mail in the text is a quote only if one of these
    addresses wrote it, else it was pasted for us to read, and the text stays whole. Never raises; takes time
    linear in the length of all texts.
    """
    if forwarded:
        return Split(text.strip("\n"), "")
    lines = text.split("\n")
    cut = _find_cut(lines, authors)
    if cut is _KEEP:
        return Split(text.strip("\n"), "")
    start, end = _new_part(lines, cut)
    if known:
        end = known_suffix(lines, start, end, known)
    start, end = trimmed(lines, start, end)
    if start >= end:
        return Split(text.strip("\n"), "")
    rest = "\n".join([*lines[:start], *lines[end:]])
    return Split("\n".join(lines[start:end]), rest.strip("\n"))


def _new_part(lines: list[str], cut: _Cut | None) -> tuple[int, int]:
    """Give the first line of the new part and the one after its last, signature and rules included."""
    if cut is None:
        return 0, len(lines)
    before = _last_text(lines, cut.start)
    if cut.to_the_end:
        return (0, cut.start) if before is not None else (0, len(lines))
    below = _below_quote(lines, cut.body)
    if before is None:
        # Answered below the quote. Without the author's line it may just as well be a citation: kept.
        return (below, len(lines)) if cut.introduced and below is not None else (0, len(lines))
    if below is not None or _text_follows(lines, cut.body):
        return 0, len(lines)  # answered between the lines
    if not cut.introduced and lines[before].rstrip().endswith(":"):
        return 0, len(lines)  # "This is what I mean:" and a citation
    return 0, cut.start


def _find_cut(lines: list[str], authors: Collection[str] | None) -> _Cut | None:
    """Give the first place where a quote begins, or None; a forward before any quote means ``_KEEP``."""
    after_rule = False
    attempts = 0
    for number, line in enumerate(lines):
        if blocks.is_blank(line):
            continue
        if marks.is_forward_mark(line) or (marks.is_forward_title(line) and _block_follows(lines, number)):
            return _KEEP
        if marks.is_original_separator(line):
            return _separated(lines, number) if _is_theirs(lines, number, None, authors) else _KEEP
        quoted = marks.is_quoted(line)
        if attempts < _MAX_ATTEMPTS and marks.may_introduce(line):
            attempts += 1
            end = blocks.header_block_end(lines, number, after_rule=after_rule)
            if end is not None:
                theirs = _is_theirs(lines, number, end, authors)
                return _Cut(number, end, introduced=True, to_the_end=not quoted) if theirs else _KEEP
            if (cut := _attributed(lines, number)) is not None:
                return cut
        if quoted:
            return _Cut(number, number, introduced=False, to_the_end=False)
        after_rule = marks.is_rule(line)
    return None


def _attributed(lines: list[str], number: int) -> _Cut | None:
    """Give the cut that an attribution ending in line ``number`` makes, if it is one."""
    marked = _is_marked(lines, number + 1)
    if (start := marks.attribution_start(lines, number, marked=marked)) is None:
        return _Cut(number, number, True, True) if marks.quotes_inline(lines[number]) else None
    inside = marks.is_quoted(lines[start])
    return _Cut(start, number + 1, introduced=True, to_the_end=not (marked or inside))


def _separated(lines: list[str], number: int) -> _Cut:
    """A separator is followed by a header block, by an author's line, or by the quote at once."""
    return _Cut(number, number + 1, introduced=True, to_the_end=not _is_marked(lines, number + 1))


def _block_follows(lines: list[str], number: int) -> bool:
    """Tell whether the next line with text begins a header block."""
    follows = _next_text(lines, number + 1)
    return follows is not None and blocks.header_block_end(lines, follows, after_rule=True) is not None


def _is_theirs(lines: list[str], start: int, end: int | None, authors: Collection[str] | None) -> bool:
    """Tell whether the mail quoted below ``start`` was written by one of ``authors``, or may be anybody's."""
    if authors is None:
        return True
    block = lines[start : start + _MAX_BLOCK if end is None else end]
    return any(blocks.names_author(line, authors) for line in block)


def _is_marked(lines: list[str], position: int) -> bool:
    """Tell whether the next line with text carries a quote mark."""
    follows = _next_text(lines, position)
    return follows is not None and marks.is_quoted(lines[follows])


def _below_quote(lines: list[str], body: int) -> int | None:
    """Give the first line of the text below the only marked block from ``body`` on, or None.

    None also where there are more blocks: then the answer stands between the lines.
    """
    position = _next_text(lines, body)
    while position is not None and marks.is_quoted(lines[position]):
        position = _next_text(lines, position + 1)
    if position is None or any(marks.is_quoted(line) for line in lines[position:]):
        return None
    return None if is_closing(lines, position) else position


def _text_follows(lines: list[str], body: int) -> bool:
    """Tell whether an unquoted text other than a signature stands anywhere below ``body``."""
    last_quote = max((n for n in range(body, len(lines)) if marks.is_quoted(lines[n])), default=body)
    for number in range(body, last_quote):
        line = lines[number]
        if not (marks.is_quoted(line) or blocks.is_blank(line) or _is_torn_off(lines, number)):
            return True
    position = _next_text(lines, last_quote + 1)
    if position is not None and position == last_quote + 1 and _is_torn_off(lines, position):
        position = _next_text(lines, position + 1)
    return position is not None and not is_closing(lines, position)


def _is_torn_off(lines: list[str], number: int) -> bool:
    """Tell the rest of a quoted line that was too long and broken without a new quote mark."""
    before, line = lines[number - 1].rstrip(), lines[number]
    return (
        marks.is_quoted(before)
        and len(before) >= _LONG_LINE
        and not before.endswith((".", "?", "!", ":"))
        and line[:1].islower()
    )


def _next_text(lines: list[str], position: int) -> int | None:
    return next((n for n in range(position, len(lines)) if not blocks.is_blank(lines[n])), None)


def _last_text(lines: list[str], end: int) -> int | None:
    return next((n for n in range(end - 1, -1, -1) if not blocks.is_blank(lines[n])), None)
