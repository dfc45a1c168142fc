"""Tests of single lines (and the few around them): is this where a quote begins?

Every test looks at 500 characters of at most a dozen lines, so that cutting takes linear time whatever the
text is made of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from cleo_email.mail import quote_words as words
from cleo_email.mail.quote_blocks import LINE_CAP, is_blank, label

_ATTRIBUTION_LINES: Final = 5
_ATTRIBUTION_CHARS: Final = 600
_FEW_WORDS: Final = 4
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
    return _may_end_attribution(line) or label(line)[0] is not None or quotes_inline(line)


def quotes_inline(line: str) -> bool:
    """Tell ``On … at 10:15, Jane <jane@example.com> wrote: Are you there?``: Yahoo goes on in the line.

    ``Max Muster ---24.11.2026 09:00:00---Are you there?`` is how Notes does it.
    """
    head = line[:LINE_CAP].lstrip(_AROUND)
    if words.NOTES.match(head):
        return True
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
    if tail.endswith((":", "：", "wrote")) or _is_date_line(line):
        return True
    return line.lstrip().startswith("---") and words.FINAL_VERB.search(tail[-20:]) is not None  # Zoho


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
    if _is_citation(joined):
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


def _is_citation(joined: str) -> bool:
    """Tell the lines without a verb: of Horde, Tuta and mutt, with an address each."""
    if not joined.endswith((":", "：")) or words.ADDRESS.search(joined) is None:
        return False
    if words.CITING.match(joined):
        return True
    if not (words.BY.search(joined) or words.IN_BRACKETS.search(joined)):
        return False
    return bool(words.CLOCK.search(joined) and words.YEAR.search(joined))


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
