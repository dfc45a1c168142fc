"""Subject lines that a machine wrote: absence notes, automatic replies, challenges, read receipts, bounces.

A subject is weak evidence: "Abwesenheitsnotiz einrichten" is what people ask their IT team. The rule:

- A phrase must stand at the very start ("Re: Automatic reply" is a person who answers one).
- A clear phrase alone counts if the subject ends there or goes on as the programs do
  (``Abwesenheitsnotiz: …``, ``Out of Office Re: …``), unless what follows speaks of the phrase itself
  ("Out of office: can you switch mine on?") and the text does not read like an absence note.
- For a mail in answer to another one (In-Reply-To) less evidence is enough, as a person's answer would begin
  with ``Re:``: clear phrases count whatever follows, ambiguous ones if the subject goes on like a program's.
- An ambiguous phrase that is an everyday topic ("Holiday: two more rooms please") needs the text as well:
  one that is empty or reads like an absence note.

Where the two sides weigh the same, the mail is a machine's: an answer to a machine may come back for ever.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Final

_MAX_SUBJECT: Final = 500
_MAX_TEXT: Final = 1500  # characters of the text that are looked at
_MAX_NAME: Final = 60  # characters of a name, and how many words it may have
_MAX_NAME_WORDS: Final = 6

# Words of programs after a phrase; a person goes on differently ("… einrichten", "… process").
_NEXT_WORDS: Final = frozenset(
    ("re", "aw", "until", "till", "bis", "from", "von", "vom", "ab", "jusqu'au", "hasta", "fino", "tot")
)
# Marks of the mail that the program answers. They carry a colon, and a topic of ours follows.
_MARKS: Final = re.compile(r"(?:re|aw|antw|sv|vs|r|rif|res|ref|odp|ynt|rv|tr|wg|fwd?)\s?:")
_DELIMITERS: Final = frozenset("-–—−(|[{<>=*~.!])\"'«»„“”【（、。")
_OPENING: Final = "[(*<\"'„“«【（~ "
_BRACKETS: Final = {")": "(", "]": "[", ">": "<", "）": "（", "】": "【"}


def fold(subject: str) -> str:
    """Return ``subject`` without case, width and spare blanks, cut to 500 characters.

    The dotted and the dotless i of Turkish become the plain one: "OTOMATİK YANIT" is "otomatik yanıt".
    """
    plain = unicodedata.normalize("NFKC", subject[: _MAX_SUBJECT * 2]).casefold()
    return " ".join(plain.replace("i\u0307", "i").replace("ı", "i").split())[:_MAX_SUBJECT]


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("phrases.toml").read_text("utf-8"))


@cache
def pattern(name: str) -> re.Pattern[str]:
    """Return the pattern of that name in phrases.toml."""
    spec = _data()["pattern"][name]
    return re.compile(spec["form"].replace("…", spec["any"].strip("\n").replace("\n", "|")), re.IGNORECASE)


@cache
def _phrases(name: str) -> tuple[str, ...]:
    """Return the phrases of a list in phrases.toml, folded, the longest first."""
    lists = _data()
    lines = lists[name] + ("|" + lists["topics"] if name == "weak" else "")
    folded = {fold(phrase) for phrase in lines.replace("\n", "|").split("|")} - {""}
    return tuple(sorted(folded, key=lambda phrase: (-len(phrase), phrase)))


def is_automatic_subject(subject: str, *, is_reply: bool, text: str = "") -> bool:
    """Return whether ``subject`` is a machine's.

    ``is_reply``: the mail has In-Reply-To. ``text``: what the sender wrote.
    """
    line = fold(subject)
    begin = line.lstrip(_OPENING)
    return (
        any(is_reply or _is_alone(rest, text) for _, rest in _begun(_phrases("strong"), begin))
        or _absent_person(line, is_reply=is_reply)
        or (is_reply and _in_answer(line, begin, text))
    )


def _begun(phrases: Iterable[str], line: str) -> Iterator[tuple[str, str]]:
    """Yield each phrase with which ``line`` begins, and what follows it."""
    return ((phrase, line[len(phrase) :]) for phrase in phrases if line.startswith(phrase))


def _in_answer(line: str, begin: str, text: str) -> bool:
    """Return whether there is a phrase that counts in answer to a mail only."""
    return (
        any(
            _ends_like_a_program(rest) and not (phrase in _phrases("topics") and _is_a_topic(rest, text))
            for phrase, rest in _begun(_phrases("weak"), begin)
        )
        or any(_ends_like_a_title(rest) for _, rest in _begun(_phrases("titles"), begin))
        or begin.startswith((*_phrases("sentences"), *_phrases("bounces")))
        or _is_appended(line)
    )


def _is_alone(rest: str, text: str) -> bool:
    """Return whether a clear phrase counts without further evidence, by what follows it."""
    if not _ends_like_a_program(rest):
        return False
    return pattern("itself").search(rest) is None or _reads_like_a_note(text)


def _is_a_topic(rest: str, text: str) -> bool:
    """Return whether a person writes about holidays or cars: ``rest`` and ``text`` are no absence note's."""
    named = rest.lstrip().lstrip(":-–—−|.! ")
    if not named or named == rest.lstrip() or _MARKS.match(named):
        return False
    return bool(text.strip()) and not _reads_like_a_note(text)


def _reads_like_a_note(text: str) -> bool:
    return pattern("absence_note").search(" ".join(text[:_MAX_TEXT].casefold().split())) is not None


def _ends_like_a_program(rest: str) -> bool:
    stripped = rest.lstrip()
    if not stripped or stripped[0] == ":":
        return True
    if rest != stripped and _MARKS.match(stripped):
        return True
    if "?" in stripped:  # "Out of office - how do I set it up?"
        return False
    return stripped[0] in _DELIMITERS or (rest != stripped and stripped.split(" ", 1)[0] in _NEXT_WORDS)


def _ends_like_a_title(rest: str) -> bool:
    stripped = rest.lstrip()
    return not stripped or stripped[0] in ":#" or stripped[0] in _DELIMITERS or stripped[0].isdigit()


def _absent_person(line: str, *, is_reply: bool) -> bool:
    """Find ``Max Mustermann ist außer Haus.``, by Notes: a name, and a full stop or a date at the end."""
    for phrase in _phrases("absent"):
        name, found, rest = line.partition(f" {phrase}")
        if not found or len(name) > _MAX_NAME or not 0 < len(name.split()) <= _MAX_NAME_WORDS:
            continue
        if ":" in name.removeprefix("auto:") or "?" in line:
            continue
        dated = rest.startswith(" (") and rest.rstrip(".").endswith(")")
        if rest == "." or dated or (is_reply and not rest):
            return True
    return False


def _is_appended(line: str) -> bool:
    """Find ``Re: Offer [Automatic reply]``, ``Re: Offer (verification required)``."""
    opening = _BRACKETS.get(line[-1:], "")
    return bool(opening) and line[:-1].rpartition(opening)[2].strip() in _phrases("appended")


def is_bounce_subject(subject: str) -> bool:
    """Return whether ``subject`` begins like a bounce's; a person's answer or forward begins with ``Re:``."""
    return fold(subject).lstrip(_OPENING).startswith(_phrases("bounces"))


def mentions_bounce(subject: str) -> bool:
    """Return whether such words stand anywhere in ``subject``: "mx1.example.net Mail delivery failed : …"."""
    text = fold(subject)
    return any(phrase in text for phrase in _phrases("bounces"))
