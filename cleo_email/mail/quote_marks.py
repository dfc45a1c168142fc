"""Tests of single lines (and the few around them): is this where a quote begins?

Every test looks at 500 characters of at most a dozen lines, so that cutting takes linear time whatever the
text is made of.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from cleo_email.mail import quote_words as words

LINE_CAP: Final = 500
_ATTRIBUTION_LINES: Final = 5
_ATTRIBUTION_CHARS: Final = 600
_FEW_WORDS: Final = 4
_HEADER_LINES: Final = 14
_MAX_TITLE: Final = 60
_RULE: Final = re.compile(r"[-_=*~#+─—–\s]+\Z")
_NO_BRACKETS: Final = str.maketrans("", "", "<>[]()*_")
_LONE_MARKS: Final = frozenset({"ᐧ", "—", "ᣟ"})
_AROUND: Final = " >*-\u00a0\t"
_RULE_ENDS: Final = "-_=*~ \t>#─—–"
_QUOTE: Final = re.compile(r"[ \t]{0,3}(?:>|\|(?: |\Z))")
# The address follows in the next line, or is all that this line holds.
_TORN: Final = re.compile(r"<\Z|\A[ \t>]*<?[^\s<>]{1,100}@[^\s<>]{1,200}>?\Z")
_SENTENCE_END: Final = re.compile(r"[!?:]\Z|\w{6,}\.\Z")  # abbreviated months end with a full stop too


def is_blank(line: str) -> bool:
    return not line or line[:LINE_CAP].isspace()


def is_quoted(line: str) -> bool:
    """Tell a line that carries a quote mark; ``|`` is what some clients write for ``>``."""
    return line.startswith(">") or _QUOTE.match(line) is not None


def is_rule(line: str) -> bool:
    """Tell a line of nothing but dashes or the like, two at least, or of a mark that a tracker leaves."""
    text = line.strip()
    return text in _LONE_MARKS or (len(text) > 1 and _RULE.match(line[:LINE_CAP]) is not None)


def is_original_separator(line: str) -> bool:
    """Tell ``-----Ursprüngliche Nachricht-----`` in one of the languages."""
    return _between_rules(line) in words.ORIGINAL


def is_forward_mark(line: str) -> bool:
    """Tell ``---------- Forwarded message ---------`` or ``Anfang der weitergeleiteten Nachricht:``."""
    inner = _between_rules(line)
    if inner in words.FORWARDED:
        return True
    plain = line[:LINE_CAP].strip(" \t>*\u00a0").rstrip(":： \u00a0").lower()
    return plain in words.FORWARD_LINES


def is_forward_title(line: str) -> bool:
    """Tell a bare ``Weitergeleitete Nachricht``, as GMX writes above a header block."""
    return (
        len(line) <= _MAX_TITLE and line.strip(" \t>*\u00a0").rstrip(":： \u00a0").lower() in words.FORWARDED
    )


def names_author(line: str, addresses: Collection[str]) -> bool:
    """Tell a line that names one of ``addresses`` (lower case) and not as a recipient."""
    if _label(line)[0] not in (None, "from"):
        return False
    return any(
        match[0].strip("[](),;:'\"").lower() in addresses for match in words.ADDRESS.finditer(line[:LINE_CAP])
    )


def _between_rules(line: str) -> str:
    text = line[:LINE_CAP].strip().lstrip(">").strip()
    if not text or text[0] not in "-_=*~─—–" or len(text) > 120:
        return ""
    return text.strip(_RULE_ENDS).rstrip(":").strip().lower().replace("’", "'")


def attribution_start(lines: Sequence[str], end: int, *, marked: bool) -> int | None:
    """Give the first line of the attribution ("Am … schrieb …:") that ends in line ``end``, or None.

    Clients wrap it over several lines; the shortest run of lines that makes sense counts. ``marked`` says
    that lines with quote marks follow, beside which less evidence is enough.
    """
    joined = ""
    for start in range(end, max(0, end - _ATTRIBUTION_LINES + 1) - 1, -1):
        line = lines[start]
        if is_blank(line):
            if start < end and not _dangling(lines[start + 1]):
                return None
            continue
        if len(line) + len(joined) > _ATTRIBUTION_CHARS:
            return None
        joined = f"{line.strip(_AROUND)} {joined}".strip()
        if _is_attribution(joined, marked=marked):
            return _with_opening(lines, start, joined)
    return None


def may_introduce(line: str) -> bool:
    """Tell whether a line may end an attribution or begin a header block; says no quickly."""
    if len(line) > LINE_CAP:
        return quotes_inline(line)
    return _may_end_attribution(line) or _label(line)[0] is not None or quotes_inline(line)


def quotes_inline(line: str) -> bool:
    """Tell ``On … at 10:15, Jane <jane@example.com> wrote: Are you there?``: Yahoo goes on in the line."""
    head = line[:LINE_CAP].lstrip(_AROUND)
    if not words.OPENING.match(head) or not words.CLOCK.search(head):
        return False
    verb = words.VERB.search(head)
    if verb is None or words.OWN_WORDS.search(head):
        return False
    return head[verb.end() :].lstrip().startswith((":", "：")) and bool(
        words.ADDRESS.search(head[: verb.start()])
    )


def _may_end_attribution(line: str) -> bool:
    tail = line.rstrip(" \t\u00a0*_-")
    return tail.endswith((":", "：", "wrote")) or _is_date_line(line)


def _is_date_line(line: str) -> bool:
    """Tell ``2016-03-03 17:21 GMT+01:00 Some One <some@example.org>`` (Gmail, older)."""
    stripped = line.strip(" \t:")
    if not words.DATE_FIRST.match(stripped) or len(stripped) > 200:
        return False
    return bool("<" in stripped or (words.CLOCK.search(stripped) and "GMT" in stripped))


def _dangling(line: str) -> bool:
    """Tell the second half of an attribution that was torn off by an empty line: ``<``, ``> wrote:``."""
    return line.lstrip().startswith(("<", ">", "mailto:"))


def _is_attribution(joined: str, *, marked: bool) -> bool:
    if words.DATE_FIRST.match(joined) and _is_date_line(joined):
        return True
    verb = words.VERB.search(joined)
    if verb is None and words.NO_VERB.search(joined):
        return bool(words.CLOCK.search(joined) and words.YEAR.search(joined))
    if verb is None or words.OWN_WORDS.search(joined):
        return False
    if marked:
        return True
    if not words.DIGIT.search(joined):
        # "Max Muster <max@example.org> schrieb:" has no date: the verb must come last.
        return words.ADDRESS.search(joined) is not None and not joined[verb.end() :].strip(" :：*")
    if words.ADDRESS.search(joined) or words.CLOCK.search(joined):
        return True
    return words.OPENING.match(joined) is not None and words.YEAR.search(joined) is not None


def _with_opening(lines: Sequence[str], start: int, joined: str) -> int:
    """Take the lines before along where the attribution began there: ``Am 3. Februar 2025 um 10:15 Uhr``."""
    first = start
    complete = bool(words.OPENING.match(joined) or words.DATE_FIRST.match(joined))
    for above in range(start - 1, max(0, start - 3) - 1, -1):
        line = lines[above]
        if complete or len(line) > LINE_CAP:
            break
        if is_blank(line):
            if not _dangling(lines[above + 1]):
                break
            continue
        text = line.strip(" >*\t\u00a0")
        if words.OPENING.match(text) and len(text.split()) <= _FEW_WORDS and not _SENTENCE_END.search(text):
            first, complete = above, True
        elif _TORN.search(line.rstrip()):
            first = above
        elif words.DIGIT.search(text) and not _SENTENCE_END.search(text):
            opening = words.OPENING.match(text) is not None
            dated = words.CLOCK.search(text) or words.YEAR.search(text)
            if not opening and not (dated and not words.CLOCK.search(joined)):
                break
            first, complete = above, opening
        else:
            break
    return first


def header_block_end(lines: Sequence[str], start: int, *, after_rule: bool) -> int | None:
    """Give the line after a block ("Von: … Gesendet: … An: … Betreff: …") that begins at ``start``, or None.

    ``after_rule`` tells that a separator stands before it; without one the block must be complete.
    """
    kind, _ = _label(lines[start])
    if kind is None:
        return None
    seen: set[str] = set()
    address = digits = dated = False
    blanks = 0
    position = start
    while position < min(len(lines), start + _HEADER_LINES):
        line = lines[position]
        if is_blank(line):
            # Lines of HTML mail may come with an empty line after each.
            if blanks or position + 1 >= len(lines) or _label(lines[position + 1])[0] is None:
                break
            blanks += 1
        else:
            kind, value = _label(line)
            blanks = 0
            if kind is None and position > start + 1 and _complete(seen, address, digits, dated, after_rule):
                if not line.startswith((" ", "\t")):
                    break
            elif kind is not None:
                seen.add(kind)
                address = address or (kind in ("from", "to") and "@" in value)
                digits = digits or (kind == "sent" and any(c.isdigit() for c in value))
                dated = dated or (kind == "sent" and _is_moment(value))
            else:
                address = address or "@" in line[:LINE_CAP]
        position += 1
    return position if _complete(seen, address, digits, dated, after_rule) else None


def _complete(seen: set[str], address: bool, digits: bool, dated: bool, after_rule: bool) -> bool:
    """Tell a whole block. One with neither an address nor a moment may be a list: ``Von: Berlin An: …``."""
    if "from" not in seen:
        return False
    if after_rule and seen & {"sent", "to", "subject"}:
        return True
    if "subject" in seen and (seen & {"sent", "to"}):
        return address or dated
    return address and digits


def _is_moment(value: str) -> bool:
    return words.YEAR.search(value) is not None or words.COLON_CLOCK.search(value) is not None


def _label(line: str) -> tuple[str | None, str]:
    match = words.LABEL.match(line[:LINE_CAP])
    if match is None:
        return None, ""
    return words.LABELS.get(match[1].strip().lower().replace("’", "'")), line[match.end() : LINE_CAP]


def is_list_footer(lines: Sequence[str]) -> bool:
    """Tell the lines that a mailing list adds below a rule: its name and where to leave it."""
    text = "\n".join(line[:LINE_CAP] for line in lines).lower()
    return any(word in text for word in words.LIST_FOOTERS)


def is_mobile_signature(line: str) -> bool:
    """Tell ``Von meinem iPhone gesendet`` and its like."""
    text = line.strip()
    if not text or len(text) > 160:
        return False
    text = text.translate(_NO_BRACKETS)
    return bool(words.MOBILE.match(text) and words.DEVICE.search(text))
