"""Split a reply into its new part and its quotes. The words of mail clients are in quote_words.toml."""

import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from itertools import accumulate
from typing import Final, NamedTuple

from cleo_email.mail.model import Split
from cleo_email.mail.thread import is_forward, is_reply, may_be_forward, normalise_subject


class QuoteWords(NamedTuple):
    """Patterns ignore letter case; phrases are in lower case."""

    verb: re.Pattern[str]
    final_verb: re.Pattern[str]
    own: re.Pattern[str]
    spoken: re.Pattern[str]
    opening: re.Pattern[str]
    citing: re.Pattern[str]
    by: re.Pattern[str]
    mobile: re.Pattern[str]
    device: re.Pattern[str]
    unsent: re.Pattern[str]
    original: frozenset[str]
    forwarded: frozenset[str]
    forward_lines: frozenset[str]
    list_footers: tuple[str, ...]
    labels: dict[str, str]  # "gesendet": "sent"


@cache
def quote_words() -> QuoteWords:
    """Return the words of all languages; every pattern takes linear time on any line."""
    lists = tomllib.loads(files(__package__).joinpath("quote_words.toml").read_text("utf-8"))

    def pattern(name: str, before: str = r"(?<!\w)", after: str = r"(?!\w)") -> re.Pattern[str]:
        return re.compile(rf"{before}(?:{'|'.join(lists[name])}){after}", re.IGNORECASE)

    def phrases(name: str) -> frozenset[str]:
        return frozenset(phrase.lower() for phrase in lists[name])

    return QuoteWords(
        # Chinese, Japanese and Korean put no blank before it.
        verb=pattern("verbs", before=r"(?:(?<!\w)|(?=[\u3000-\u9fff\uac00-\ud7af]))"),
        final_verb=pattern("verbs", after=r"\Z"),
        own=pattern("own"),
        spoken=re.compile(
            rf"(?<!\w)(?:{'|'.join(lists['spoken'])})(?!\w)|{'|'.join(lists['spoken_joined'])}"
        ),
        opening=pattern("openings", before=""),
        # The address must come last.
        citing=pattern("citing", "", r" [^:\n]{0,200}[^\s<>@]{1,64}+@[^\s<>:：]{1,200}+>?\s?[:：]\Z"),
        by=pattern("by", r"\d,? ", r" [^\s<>@]{1,64}+@[^\s<>]{1,200}+\Z"),
        mobile=pattern("mobile", r"\s*", ""),
        device=pattern("device", "", ""),
        unsent=pattern("unsent"),
        original=phrases("original"),
        forwarded=phrases("forwarded"),
        forward_lines=phrases("forward_lines"),
        list_footers=tuple(phrases("list_footers")),
        labels={word.lower(): kind for kind, words in lists["labels"].items() for word in words},
    )


_LINE_CAP: Final = 500  # characters of a line that are looked at
_LONG_LINE: Final = 60  # characters; a shorter one is not broken
_MAX_BLOCK: Final = 6  # lines below a separator in which the author is named
_MAX_ATTEMPTS: Final = 5000  # lines that look like the introduction of a quote and are none
# The labels of Danish and Norwegian Outlook; no other language has this pair.
_FRA: Final = re.compile(r"^[ \t>*]{0,8}fra\*{0,2}[ \t\u00a0]?:", re.IGNORECASE | re.MULTILINE)
_EMNE: Final = re.compile(r"^[ \t>*]{0,8}emne\*{0,2}[ \t\u00a0]?:", re.IGNORECASE | re.MULTILINE)

_ADDRESS: Final = re.compile(r"[^\s<>@]{1,64}+@[^\s<>@]{1,200}+")
_ANGLE: Final = re.compile(r"[<\[](?:mailto:)?[^\s<>@]{1,64}+@[^\s<>@]{1,200}+[>\]]")
_DATE_FIRST: Final = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[ ,T]|\Z)")
_CLOCK: Final = re.compile(r"(?<!\d)\d{1,2}(?:[:.h]| h )\d{2}(?!\d)")
_COLON_CLOCK: Final = re.compile(r"(?<!\d)\d{1,2}:\d{2}(?!\d)")
_DIGIT: Final = re.compile(r"\d")
_YEAR: Final = re.compile(r"(?<!\d)(?:(?:19|20)\d\d|\d{1,2}[./-]\d{1,2}[./-]\d{2})(?!\d)")
# "30.09.2017, 18.30, Max <max@example.org>:" has no verb; the address must come last.
_NO_VERB: Final = re.compile(r"<[^\s<>@]{1,64}+@[^\s<>@]{1,200}+>\s*[:：]\Z")
# "* Max <max@example.org> [2026-11-24 09:00]:" (mutt)
_IN_BRACKETS: Final = re.compile(r"> \[[^\[\]\n]{6,60}\]\s?:\Z")
# "Max Muster ---24.11.2026 09:00:00---Guten Tag" (Notes)
_NOTES: Final = re.compile(
    r"[^\s-][^\n]{0,80}? ?--- ?\d{1,4}[./-]\d{1,2}[./-]\d{2,4},? \d{1,2}[:.]\d{2}(?:[:.]\d{2})?"
    r"(?: [AP]M)? ?---"
)
_LABEL: Final = re.compile(
    r"[ \t>*_]{0,8}([^\W\d_][^:*\n]{0,24}?)[ \t\u00a0]?\*{0,2}[:：]\*{0,2}(?=\s|\Z|[<\"'\w])"
)


_DIRECTION: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
# A name or an address may hold the words of a sentence: "Ihr Team <team@example.us>".
_AUTHOR: Final = re.compile(
    r""""[^"\n]{1,100}+"|[^\s<>@]{1,64}+@[^\s<>@]{1,200}+"""
    r"""|(?<!\w)(?:Ihre?|Your|Our|My|Unser)(?= (?>[^\W\d_a-z][^\s<>]{0,40}+ ){1,4}+<)"""
)


class _Cut(NamedTuple):
    """Where a quote begins: its introduction at ``start``, what it quotes at ``body``."""

    start: int
    body: int
    introduced: bool  # by a line that names the author, a separator or a header block
    to_the_end: bool  # everything below belongs to it


_KEEP: Final = _Cut(-1, -1, introduced=False, to_the_end=False)  # a forward: nothing may be cut


@dataclass(frozen=True)
class Setting:
    """What is known about a mail, by which a quote is told from what the writer cites, lists or indents.

    ``replies``: it answers another one. A mail that does not has nothing of ours to quote, so an earlier mail
    in it was pasted for us to read, unless one of ``recipients`` (lower case) wrote it. ``subject`` is folded
    and without its marks. ``known`` holds the earlier texts of the thread, the newest last: unmarked lines
    are a quote without further evidence only if the thread knows them as a whole.
    """

    replies: bool
    subject: str
    recipients: frozenset[str]
    known: tuple[str, ...] = ()


def cut_new_part(
    text: str,
    *,
    subject: str,
    replies: bool,
    recipients: Collection[str] = (),
    known: Sequence[str] = (),
    answers: Sequence[str] | None = None,
) -> Split:
    """Split ``text`` (``\\n`` line ends) into new part and quotes. Never raises; takes linear time.

    ``replies`` says that the mail names an earlier one (In-Reply-To, References) or goes on with a thread.
    ``recipients`` are the addresses to which it goes, ``known`` the earlier texts of the thread, ``answers``
    those of them that the writer may answer: what people have said themselves they say again on purpose.
    """
    forwarded = is_forward(subject) or bool(
        may_be_forward(subject) and _FRA.search(text) and _EMNE.search(text)
    )
    setting = Setting(
        replies or is_reply(subject),
        normalise_subject(subject, forwards=True).casefold(),
        frozenset(one.strip().lower() for one in recipients),
        tuple(known),
    )
    return split_quoted(
        text, known, forwarded=forwarded, setting=setting, answers=known if answers is None else answers
    )


def split_quoted(
    text: str,
    known: Sequence[str] = (),
    *,
    forwarded: bool = False,
    setting: Setting | None = None,
    answers: Sequence[str] | None = None,
) -> Split:
    """Cut the quoted part off ``text`` (``\\n`` line ends).

    ``known`` are earlier texts of the thread: one of the ``answers`` among them (None: all) that is repeated
    as a whole at the end counts as quoted even without a mark. ``forwarded`` says that the mail is a forward
    (by its subject); it stays whole.
    Without a ``setting`` whatever looks like a quote is one.
    """
    whole = Split(text.strip("\n"), "")
    if forwarded:
        return whole
    lines = text.split("\n")
    # Clients of languages from right to left put marks of direction around names and addresses.
    shown = _DIRECTION.sub("", text).split("\n") if not text.isascii() else lines
    cut = _Finder(shown, setting).find()
    if cut is _KEEP:
        return whole
    if cut and cut.to_the_end and known and _answered_inside(lines, cut.body, known):
        return whole
    start, end = _new_part(lines, cut)
    if known:
        end = _known_suffix(lines, start, end, known, known if answers is None else answers)
    start, end = _trimmed(lines, start, end)
    if start >= end:
        return whole
    rest = "\n".join([*lines[:start], *lines[end:]])
    return Split("\n".join(lines[start:end]), rest.strip("\n"))


def _new_part(lines: list[str], cut: _Cut | None) -> tuple[int, int]:
    """Return the first line of the new part and the one after its last, signature and rules included."""
    whole = 0, len(lines)
    if cut is None:
        return whole
    before = next((n for n in range(cut.start - 1, -1, -1) if not is_blank(lines[n])), None)
    if cut.to_the_end:
        return whole if before is None else (0, cut.start)
    below = _below_quote(lines, cut.body)
    if before is None:
        # Answered below the quote. Without the author's line it may just as well be a citation: kept.
        return (below, len(lines)) if cut.introduced and below is not None else whole
    if below is not None or _text_follows(lines, cut.body):
        return whole  # answered between the lines
    if not cut.introduced and lines[before].rstrip().endswith(":"):
        return whole  # "This is what I mean:" and a citation
    return 0, cut.start


def introduces_quote(text: str) -> bool:
    """Return whether the last line of ``text`` is one with which a client introduces what it quotes."""
    lines = text.rstrip().split("\n")
    return (
        _may_introduce(lines[-1])
        and _attribution_start(lines, len(lines) - 1, marked=True) is not None
        and bool(_DIGIT.search(lines[-1]) or "@" in lines[-1])
    )


# --- where the quote begins -------------------------------------------------------------------------------


class _Finder:
    """Finds the first place where a quote begins."""

    def __init__(self, lines: list[str], setting: Setting | None) -> None:
        self._lines = lines
        self._setting = setting
        self._known = _Repetition(lines, _Known(setting.known)) if setting and setting.known else None

    def find(self) -> _Cut | None:
        """Return where a quote begins, or None; ``_KEEP`` for a forward or a pasted mail before any quote."""
        lines, words = self._lines, quote_words()
        above = ""  # the last line with a text
        attempts = 0
        for number, line in enumerate(lines):
            if is_blank(line):
                continue
            title = _between_rules(line)
            if title in words.forwarded or _is_forward(lines, number):
                return _KEEP
            if title in words.original:
                # A header block follows, the author's line, or the quote at once.
                rule = _Cut(number, number + 1, introduced=True, to_the_end=not _is_marked(lines, number + 1))
                return rule if self._may_quote(number, number + _MAX_BLOCK) else _KEEP
            if attempts < _MAX_ATTEMPTS and _may_introduce(line):
                attempts += 1
                if (cut := self._introduction(number, after_rule=is_rule(above))) is not None:
                    return cut
            if _is_quoted(line) and self._is_bare_quote(number):
                author = self._names_author(number)
                start = number if author is None else author
                return _Cut(start, number, author is not None, to_the_end=False)
            above = line
        return None

    def _introduction(self, number: int, *, after_rule: bool) -> _Cut | None:
        lines, line = self._lines, self._lines[number]
        end = _header_block_end(lines, number, after_rule=after_rule)
        if end is not None:
            if not self._may_quote(number, end):
                return _KEEP
            if not self._is_mail(number, end):
                return None
            top = number
            while top and _is_quoted(line) and _is_quoted(lines[top - 1]):
                top -= 1  # Orange writes a title above it
            return _Cut(top, end, introduced=True, to_the_end=not _is_quoted(line))
        marked = _is_marked(lines, number + 1)
        first = _attribution_start(lines, number, marked=marked)
        if first is not None:
            to_the_end = not (marked or _is_quoted(lines[first]))
            fits = self._is_attribution(first, number + 1, marked=not to_the_end)
            return _Cut(first, number + 1, introduced=True, to_the_end=to_the_end) if fits else None
        if _quotes_inline(line) and self._is_attribution(number, number + 1, marked=False):
            return _Cut(number, number, introduced=True, to_the_end=True)
        return None

    def _may_quote(self, start: int, end: int) -> bool:
        """Return whether an earlier mail may be a quote at all: in a reply, or if one of us wrote it."""
        return self._setting is None or self._setting.replies or self._names_us(start, end)

    def _names_us(self, start: int, end: int) -> bool:
        """Return whether one of the recipients stands in these lines, and not as a recipient."""
        return self._setting is not None and any(
            match[0].strip("[](),;:'\"").lower().removeprefix("mailto:") in self._setting.recipients
            for line in self._lines[start:end]
            if _label(line)[0] in (None, "from")
            for match in _ADDRESS.finditer(line[:_LINE_CAP])
        )

    def _is_mail(self, start: int, end: int) -> bool:
        """Tell the head of an earlier mail from a form with fields such as Von, An, Datum, Betreff.

        What a reply quotes has its subject, one of its recipients for an author, or a text that is known. In
        a thread of which nothing is known the way in which clients write an author must do.
        """
        setting = self._setting
        if setting is None or self._names_us(start, end) or self._is_known(end):
            return True
        fields = dict(_label(line) for line in reversed(self._lines[start:end]))
        if (
            self._known is None
            and _ANGLE.search(fields.get("from", ""))
            and _CLOCK.search(fields.get("sent", ""))
        ):
            return True
        subject = normalise_subject(fields.get("subject", "").strip(" *\t"), forwards=True).casefold()
        # Servers add tags to a subject, clients break it.
        return bool(subject and setting.subject) and (
            subject in setting.subject or setting.subject in subject
        )

    def _is_attribution(self, start: int, end: int, *, marked: bool) -> bool:
        """Tell the line of a client from a sentence of the writer's, such as "Your colleague wrote to me:".

        It must name a recipient of the mail, for whoever answers a mail writes to its author, or the text
        below must be known. Else lines with marks must do, or, in a thread of which nothing is known, the way
        in which clients write an author and a time; where the thread is known but not these lines, both.
        """
        setting = self._setting
        if setting is None:
            return True
        names_us = self._names_us(start, end)
        if not setting.replies and not names_us:
            return False
        words = " ".join(line[:_LINE_CAP] for line in self._lines[start:end])
        if _is_said(words):
            return self._known is not None and self._known.covers(end)
        if names_us or (marked and self._known is None) or self._is_known(end):
            return True
        return (marked or self._known is None) and bool(_ANGLE.search(words) and _CLOCK.search(words))

    def _is_bare_quote(self, number: int) -> bool:
        """Return whether marks without an introduction are those of a quote, not of a menu or a table."""
        setting = self._setting
        if setting is None:
            return True
        if self._known is not None:
            return self._is_known(number, marked=True)
        return setting.replies and self._lines[number].lstrip(" \t").startswith(">")

    def _names_author(self, number: int) -> int | None:
        """Return the line above a known quote that names its author and a time, in whatever language."""
        if self._known is None:
            return None
        above = next(
            (n for n in range(number - 1, max(-1, number - 3), -1) if not is_blank(self._lines[n])), -1
        )
        line = self._lines[above].rstrip() if above >= 0 else ""
        return above if line.endswith((":", "：")) and _is_dated(line) and not _is_said(line) else None

    def _is_known(self, start: int, *, marked: bool = False) -> bool:
        return self._known is not None and self._known.repeats(start, marked=marked)


def _is_forward(lines: list[str], number: int) -> bool:
    """Return whether a line without rules around it introduces a forward.

    It is ``Anfang der weitergeleiteten Nachricht:`` or, above a header block, a bare ``Weitergeleitete
    Nachricht`` (GMX).
    """
    line = lines[number]
    title = line[:_LINE_CAP].strip(" \t>*\u00a0").rstrip(":： \u00a0").lower()
    if title in quote_words().forward_lines:
        return True
    if len(line) > _MAX_TITLE or title not in quote_words().forwarded:
        return False
    follows = _next_text(lines, number + 1)
    return follows is not None and _header_block_end(lines, follows, after_rule=True) is not None


def _is_marked(lines: list[str], position: int) -> bool:
    follows = _next_text(lines, position)
    return follows is not None and _is_quoted(lines[follows])


def _below_quote(lines: list[str], body: int) -> int | None:
    """Return the first line of the text below the only marked block from ``body`` on, or None.

    None also where there are more blocks: then the answer stands between the lines.
    """
    position = _next_text(lines, body)
    while position is not None and _is_quoted(lines[position]):
        position = _next_text(lines, position + 1)
    if position is None or any(_is_quoted(line) for line in lines[position:]):
        return None
    return None if _is_closing(lines, position) else position


def _text_follows(lines: list[str], body: int) -> bool:
    """Return whether an unquoted text other than a signature stands anywhere below ``body``."""
    last_quote = max((n for n in range(body, len(lines)) if _is_quoted(lines[n])), default=body)
    for number in range(body, last_quote):
        line = lines[number]
        if not (_is_quoted(line) or is_blank(line) or _is_torn_off(lines, number)):
            return True
    position = _next_text(lines, last_quote + 1)
    if position is not None and position == last_quote + 1 and _is_torn_off(lines, position):
        position = _next_text(lines, position + 1)
    return position is not None and not _is_closing(lines, position)


def _is_torn_off(lines: list[str], number: int) -> bool:
    """Return whether it is the rest of a quoted line that was too long and broken without a new mark."""
    before, line = lines[number - 1].rstrip(), lines[number]
    return (
        _is_quoted(before)
        and len(before) >= _LONG_LINE
        and not before.endswith((".", "?", "!", ":"))
        and line[:1].islower()
    )


def _next_text(lines: list[str], position: int) -> int | None:
    return next((n for n in range(position, len(lines)) if not is_blank(lines[n])), None)


# --- single lines -----------------------------------------------------------------------------------------

_MAX_TITLE: Final = 60
_RULE: Final = re.compile(r"[-_=*~#+─—–\s]+\Z")
_RULE_ENDS: Final = "-_=*~ \t>#─—–"
_LONE_MARKS: Final = frozenset({"ᐧ", "—", "ᣟ"})
_NO_BRACKETS: Final = str.maketrans("", "", "<>[]()*_")
_QUOTE: Final = re.compile(r"[ \t]{0,3}(?:>|\|(?: |\Z))")


def is_blank(line: str) -> bool:
    return not line or line[:_LINE_CAP].isspace()


def is_rule(line: str) -> bool:
    """Return whether a line is dashes or the like, two at least, or a mark that a tracker leaves."""
    text = line.strip()
    return text in _LONE_MARKS or (len(text) > 1 and _RULE.match(line[:_LINE_CAP]) is not None)


def _is_quoted(line: str) -> bool:
    """Return whether a line carries a quote mark; ``|`` is what some clients write for ``>``."""
    return line.startswith(">") or _QUOTE.match(line) is not None


def _between_rules(line: str) -> str:
    """Return ``ursprüngliche nachricht`` of ``-----Ursprüngliche Nachricht-----``, or an empty string."""
    text = line[:_LINE_CAP].lstrip().lstrip(">").strip()
    if "&nbsp;" in text:  # QQ Mail's plain text
        text = text.replace("&nbsp;", " ").strip()
    if not text or text[0] not in "-_=*~─—–" or len(text) > 120:
        return ""
    return text.strip(_RULE_ENDS).rstrip(":").strip().lower().replace("’", "'")


def _is_mobile_signature(line: str) -> bool:
    """Return whether it is ``Von meinem iPhone gesendet`` or the like."""
    text = line.strip()
    if not text or len(text) > 160 or text.endswith(("?", "？", "؟")):
        return False
    text = text.translate(_NO_BRACKETS)
    words = quote_words()
    return bool(words.mobile.match(text) and words.device.search(text) and not words.unsent.search(text))


# --- "Von: … Gesendet: … An: … Betreff: …" ----------------------------------------------------------------

_HEADER_LINES: Final = 14


def _header_block_end(lines: Sequence[str], start: int, *, after_rule: bool) -> int | None:
    """Return the line after a header block that begins at ``start``, or None.

    Without a separator before it (``after_rule``) the block must be complete.
    """
    if _label(lines[start])[0] is None:
        return None
    seen: set[str] = set()  # the labels, and "@", "digit" and "moment"
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
            if kind is not None:
                seen.add(kind)
                if kind in ("from", "to") and "@" in value:
                    seen.add("@")
                if kind == "sent" and any(c.isdigit() for c in value):
                    seen.add("digit")
                    seen |= {"moment"} if _YEAR.search(value) or _COLON_CLOCK.search(value) else set()
            elif position == start + 1 or not _is_complete(seen, after_rule):
                seen |= {"@"} if "@" in line[:_LINE_CAP] else set()
            elif not line.startswith((" ", "\t")):
                break
        position += 1
    return position if _is_complete(seen, after_rule) else None


def _label(line: str) -> tuple[str | None, str]:
    """Return what a label such as ``Von:`` means (a key of ``quote_words``) and what follows it."""
    match = _LABEL.match(line[:_LINE_CAP])
    if match is None:
        return None, ""
    return quote_words().labels.get(match[1].strip().lower().replace("’", "'")), line[match.end() : _LINE_CAP]


def _is_complete(seen: set[str], after_rule: bool) -> bool:
    """Return whether the block is whole. ``Von: Berlin An: …``, without address or moment, may be a list."""
    if "from" not in seen:
        return False
    if after_rule and seen & {"sent", "to", "subject"}:
        return True
    if "subject" in seen and seen & {"sent", "to"}:
        return bool(seen & {"@", "moment"})
    return seen >= {"@", "digit"}


# --- "Am … schrieb …:" ------------------------------------------------------------------------------------

_ATTRIBUTION_LINES: Final = 5
_ATTRIBUTION_CHARS: Final = 600
_FEW_WORDS: Final = 4
_AROUND: Final = " >*-\u00a0\t"
# The address follows in the next line, or is all that this line holds.
_TORN: Final = re.compile(r"<\Z|\A[ \t>]*<?[^\s<>]{1,100}@[^\s<>]{1,200}>?\Z")
_SENTENCE_END: Final = re.compile(r"[!?:]\Z|\w{6,}\.\Z")  # abbreviated months end with a full stop too


def _may_introduce(line: str) -> bool:
    """Return whether a line may end an attribution or begin a header block; says no quickly."""
    if not (":" in line or "：" in line or "---" in line or "<" in line or "wrote" in line or "GMT" in line):
        return False
    if len(line) > _LINE_CAP:
        return _quotes_inline(line)
    tail = line.rstrip(" \t\u00a0*_-")
    if tail.endswith((":", "：", "wrote")) or _is_date_line(line):
        return True
    if line.lstrip().startswith("---") and quote_words().final_verb.search(tail[-20:]):  # Zoho
        return True
    return _label(line)[0] is not None or _quotes_inline(line)


def _quotes_inline(line: str) -> bool:
    """Return whether the quote follows in the line of its attribution.

    ``On … at 10:15, Jane <jane@example.com> wrote: Are you there?`` is what Yahoo writes, and
    ``Max Muster ---24.11.2026 09:00:00---Are you there?`` what Notes does.
    """
    head = line[:_LINE_CAP].lstrip(_AROUND)
    if "---" in head and _NOTES.match(head):
        return True
    if not quote_words().opening.match(head) or not _CLOCK.search(head):
        return False
    verb = quote_words().verb.search(head)
    if verb is None or quote_words().own.search(head):
        return False
    colon = head[verb.end() :].lstrip().startswith((":", "："))
    return colon and _ADDRESS.search(head[: verb.start()]) is not None


def _attribution_start(lines: Sequence[str], end: int, *, marked: bool) -> int | None:
    """Return the first line of the attribution that ends in line ``end``, or None.

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


def _dangling(line: str) -> bool:
    """Return whether an empty line tore it off the first half of an attribution: ``<``, ``> wrote:``."""
    return line.lstrip().startswith(("<", ">", "mailto:"))


def _is_attribution(joined: str, *, marked: bool) -> bool:
    if not marked and "@" not in joined and not _DIGIT.search(joined):
        return False  # without marks below it, each kind has an address or a date
    if _is_date_line(joined) or _is_citation(joined):
        return True
    if not (marked or "@" in joined or _CLOCK.search(joined) or _YEAR.search(joined)):
        return False
    verb = quote_words().verb.search(joined)
    if verb is None and (_NO_VERB.search(joined) or (marked and _in_any_language(joined))):
        return _is_dated(joined)
    if verb is None or quote_words().own.search(joined):
        return False
    if marked:
        return True
    if not _DIGIT.search(joined):
        # "Max Muster <max@example.org> schrieb:" has no date: the verb must come last.
        return _ADDRESS.search(joined) is not None and not joined[verb.end() :].strip(" :：*")
    if _ADDRESS.search(joined) or _CLOCK.search(joined):
        return True
    return quote_words().opening.match(joined) is not None and _YEAR.search(joined) is not None


def _in_any_language(joined: str) -> bool:
    """Return whether it may be an attribution by its form: an address in brackets, a colon at the end."""
    return joined.endswith((":", "：")) and _ANGLE.search(joined) is not None


def _is_date_line(line: str) -> bool:
    """Return whether it is ``2016-03-03 17:21 GMT+01:00 Some One <some@example.org>`` (Gmail, older)."""
    stripped = line.strip(" \t:")
    if not _DATE_FIRST.match(stripped) or len(stripped) > 200:
        return False
    return bool("<" in stripped or (_CLOCK.search(stripped) and "GMT" in stripped))


def _is_dated(line: str) -> bool:
    return _CLOCK.search(line[:_LINE_CAP]) is not None and _YEAR.search(line[:_LINE_CAP]) is not None


def _is_said(line: str) -> bool:
    """Return whether it is a sentence of the writer's, not the line of a client."""
    words = _AUTHOR.sub(" ", line[:_ATTRIBUTION_CHARS])
    return quote_words().spoken.search(words) is not None or quote_words().own.search(words) is not None


def _is_citation(joined: str) -> bool:
    """Return whether it is a line without a verb, but with an address: of Horde, Tuta or mutt."""
    if not joined.endswith((":", "：")) or _ADDRESS.search(joined) is None:
        return False
    if quote_words().citing.match(joined):
        return True
    if not (quote_words().by.search(joined) or _IN_BRACKETS.search(joined)):
        return False
    return _is_dated(joined)


def _with_opening(lines: Sequence[str], start: int, joined: str) -> int:
    """Take the lines before along where the attribution began there: ``Am 3. Februar 2025 um 10:15 Uhr``."""
    first = start
    complete = bool(quote_words().opening.match(joined) or _DATE_FIRST.match(joined))
    for above in range(start - 1, max(0, start - 3) - 1, -1):
        line = lines[above]
        if complete or len(line) > _LINE_CAP:
            break
        if is_blank(line):
            if not _dangling(lines[above + 1]):
                break
            continue
        text = line.strip(" >*\t\u00a0")
        opening = quote_words().opening.match(text) is not None
        if opening and len(text.split()) <= _FEW_WORDS and not _SENTENCE_END.search(text):
            first, complete = above, True
        elif _TORN.search(line.rstrip()):
            first = above
        elif _DIGIT.search(text) and not _SENTENCE_END.search(text):
            dated = _CLOCK.search(text) or _YEAR.search(text)
            if not opening and not (dated and not _CLOCK.search(joined)):
                break
            first, complete = above, opening
        else:
            break
    return first


# --- an unmarked repetition of earlier texts --------------------------------------------------------------

_WORD: Final = re.compile(r"\w+")
_RUN: Final = 4  # words in a row that must agree
_MIN_WORDS: Final = 8  # fewer may be a greeting or a name
_MOST: Final = 6  # of ten runs of words
_NEARLY_ALL: Final = 8
_MAX_COMPARED: Final = 5_000_000  # words that are compared with whole texts
_MAX_KNOWN: Final = 400_000  # characters of the earlier texts; the newest come last


class _Known:
    """The earlier texts of a thread, for comparing by their words.

    Line breaks and quote marks do not matter, since every client wraps anew.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts: list[list[str]] = []
        self.runs: set[tuple[str, ...]] = set()
        room = _MAX_KNOWN
        for text in reversed(texts):
            words = _words_of(text[: max(room, 0)])
            self.texts.append(words)
            self.runs.update(_windows(words))
            room -= len(text)

    def holds_a_whole(self, words: Sequence[str]) -> bool:
        """Return whether nearly all of an earlier text stands in ``words``."""
        found = set(_windows(words))
        return any(
            len(text) >= _MIN_WORDS
            and sum(window in found for window in _windows(text)) * 10 >= (len(text) - _RUN + 1) * _NEARLY_ALL
            for text in self.texts
            if len(text) <= 2 * len(words)
        )


class _Repetition:
    """Tells how much of a mail is known from any of its lines on.

    The words are looked up once for all lines: a stranger may write any number that look like a quote.
    """

    def __init__(self, lines: Sequence[str], known: _Known) -> None:
        self._lines, self._earlier = lines, known
        self._room = _MAX_COMPARED

    @cached_property
    def _by_line(self) -> list[list[str]]:
        return [_words_of(line) for line in self._lines]

    @cached_property
    def _words(self) -> list[str]:
        return [word for words in self._by_line for word in words]

    @cached_property
    def _first(self) -> list[int]:
        """Return the place of the first word of each line, and of the end."""
        return [0, *accumulate(map(len, self._by_line))]

    @cached_property
    def _counts(self) -> list[int]:
        """Return how many runs of words before each one are known."""
        return [0, *accumulate(window in self._earlier.runs for window in _windows(self._words))]

    @cached_property
    def _quoted_until(self) -> list[int]:
        """Return for each line where the lines with marks, and the blank ones, that begin with it end."""
        ends = [len(self._lines)]
        for number in range(len(self._lines) - 1, -1, -1):
            line = self._lines[number]
            ends.append(ends[-1] if _is_quoted(line) or is_blank(line) else number)
        return ends[::-1]

    def repeats(self, start: int, *, marked: bool) -> bool:
        """Return whether the lines begin with a whole earlier text, or are for the most part known."""
        end = self._quoted_until[start] if marked else len(self._lines)
        return self._begins_with_a_text(start, end) or self._share(start, end) >= _MOST

    def covers(self, start: int) -> bool:
        """Return whether hardly anything but what is known stands from that line on."""
        return self._share(start, len(self._lines)) >= _NEARLY_ALL

    def _begins_with_a_text(self, start: int, end: int) -> bool:
        first, last = self._first[start], self._first[end]
        for text in filter(None, self._earlier.texts):
            size = len(text)
            head = min(size, _RUN)
            if size > last - first or self._words[first : first + head] != text[:head] or self._room < size:
                continue
            self._room -= size
            if self._words[first : first + size] == text:
                return True
        return False

    def _share(self, start: int, end: int) -> float:
        """Return how many of ten runs of words are known."""
        first, last = self._first[start], self._first[end] - _RUN + 1
        return (self._counts[last] - self._counts[first]) * 10 / (last - first) if last > first else 0


def _answered_inside(lines: Sequence[str], body: int, known: Sequence[str]) -> bool:
    """Return whether new lines stand between those of one earlier text, which begins at ``body``.

    Outlook sets no marks: people write their answers below each question, in another colour.
    """
    new = answered = False
    vocabulary: set[str] | None = None
    for line in lines[body:]:
        words = _words_of(line[:_LINE_CAP])
        if len(words) < _RUN:
            continue
        if vocabulary is None:
            text = next((one for one in reversed(known) if _holds(one, words)), None)
            if text is None:
                return False
            earlier, vocabulary = _Known([text]), set(_words_of(text[:_MAX_KNOWN]))
        elif all(window in earlier.runs for window in _windows(words)):
            answered = new
        elif sum(word in vocabulary for word in words) * 2 < len(words):
            new = True
        if answered:
            return True
    return False


def _holds(text: str, words: Sequence[str]) -> bool:
    return " ".join(words) in " ".join(_words_of(text[:_MAX_KNOWN]))


def _known_suffix(
    lines: Sequence[str], start: int, end: int, known: Sequence[str], answers: Sequence[str]
) -> int:
    """Return the line where the part of ``lines[start:end]`` begins that repeats one of ``answers``.

    It is ``end`` where no text is repeated as a whole (a sentence of it may be what the writer answers with),
    where it follows a colon, or where nothing else would be left.
    """
    earlier = _Known(known)
    found = [(word, number) for number in range(start, end) for word in _words_of(lines[number])]
    repeated = [False] * len(found)
    for position, window in enumerate(_windows([word for word, _ in found])):
        if window in earlier.runs:
            repeated[position : position + _RUN] = [True] * _RUN
    new = [number for (_, number), known_word in zip(found, repeated, strict=True) if not known_word]
    first = new[-1] + 1 if new else start
    repetition = [word for word, number in found if number >= first]
    if first == start or not _Known(answers).holds_a_whole(repetition):
        return end
    if not lines[new[-1]].rstrip().endswith((":", "：")):
        return first
    # "Support wrote:" goes with it; "This is what I mean:" cites it.
    line = lines[new[-1]][:_LINE_CAP]
    introduces = (quote_words().verb.search(line) or _is_dated(line)) and not _is_said(line)
    return new[-1] if introduces and new[-1] > start else end


def _words_of(text: str) -> list[str]:
    return [match[0].casefold() for match in _WORD.finditer(text)]


def _windows(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[n : n + _RUN]) for n in range(len(words) - _RUN + 1))


# --- signatures -------------------------------------------------------------------------------------------

_MAX_SIGNATURE: Final = 60  # lines after "-- "
_MAX_LOOSE_SIGNATURE: Final = 12  # lines after "--", which may also be a rule between two paragraphs
_SENTENCE_WORDS: Final = 6
_MAX_FOOTER: Final = 8  # lines that a mailing list adds below a long rule
_FOOTER_RULE: Final = 20  # characters


def _is_closing(lines: Sequence[str], position: int) -> bool:
    """Return whether what begins at ``position`` is a signature, a list's footer, or rules only."""
    first = lines[position].strip()
    count = sum(not is_blank(line) for line in lines[position + 1 :])
    if first == "--" and count <= _MAX_SIGNATURE:
        return True
    if is_rule(first) and len(first) >= _FOOTER_RULE and count <= _MAX_FOOTER:
        return True
    rest = (line for line in lines[position:] if not is_blank(line))
    return all(is_rule(line) or _is_mobile_signature(line) for line in rest)


def _trimmed(lines: Sequence[str], start: int, end: int) -> tuple[int, int]:
    """Take empty lines, the signature, rules and "Sent from my phone" off the new part."""
    start, end = _bare(lines, start, end)
    signature = _signature(lines, start, end)
    return _bare(lines, start, _footer(lines, start, end) if signature is None else signature)


def _bare(lines: Sequence[str], start: int, end: int) -> tuple[int, int]:
    while start < end and is_blank(lines[start]):
        start += 1
    while end > start:
        line = lines[end - 1]
        if not (is_blank(line) or is_rule(line) or _is_mobile_signature(line)):
            break
        end -= 1
    return start, end


def _signature(lines: Sequence[str], start: int, end: int) -> int | None:
    """Return the line of the signature separator (RFC 3676 section 4.3), or None."""
    loose = None
    for number in range(max(start + 1, end - _MAX_SIGNATURE), end):
        if lines[number] == "-- ":
            return number
        if lines[number].strip() in ("--", "—"):
            loose = number
    if loose is None or sum(not is_blank(line) for line in lines[loose:end]) > _MAX_LOOSE_SIGNATURE + 1:
        return None
    return None if _is_topic(lines[loose + 1 : end]) else loose


def _is_topic(lines: Sequence[str]) -> bool:
    """Return whether the lines below two dashes ask something, or are a paragraph of their own.

    Many signatures begin so, but some people part two topics that way. A signature that stays costs the agent
    a few lines; a topic that is cut costs its writer the answer.
    """
    if any(line.rstrip().endswith(("?", "？")) for line in lines):
        return True
    apart = bool(lines) and is_blank(lines[0])
    return apart and any(len(line.split()) >= _SENTENCE_WORDS for line in lines)


def _footer(lines: Sequence[str], start: int, end: int) -> int:
    """Return the line of the rule above what a mailing list adds to every mail, or ``end``."""
    for number in range(max(start + 1, end - _MAX_FOOTER), end):
        rule = lines[number].strip()
        if len(rule) >= _FOOTER_RULE and not rule.strip("_"):
            below = "\n".join(line[:_LINE_CAP] for line in lines[number + 1 : end]).lower()
            if any(word in below for word in quote_words().list_footers):
                return number
    return end
