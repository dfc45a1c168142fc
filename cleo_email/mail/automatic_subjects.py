"""Subject lines that a machine wrote: absence notes, automatic replies, challenges, read receipts, bounces.

A subject is weak evidence: "Abwesenheitsnotiz einrichten" is what people ask their IT team. The rule:

- A phrase must stand at the very start ("Re: Automatic reply" is a person who answers one).
- A clear phrase alone counts if the subject ends there or goes on as the programs do
  (``Abwesenheitsnotiz: …``, ``Out of Office Re: …``), unless what follows speaks of the phrase itself
  ("Out of office: can you switch mine on?") and the text does not read like an absence note.
- A mail in answer to another one (In-Reply-To) is held to more, for a person's answer would begin with
  ``Re:``: clear phrases count whatever follows, ambiguous ones if the subject goes on as the programs do.
- An ambiguous phrase that is an everyday topic ("Holiday: two more rooms please") needs the text as well:
  one that is empty or reads like an absence note.

Where the two sides weigh the same, the mail is a machine's: an answer to a machine may come back for ever.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from cleo_email.mail import automatic_words as words

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

# Talk about the function itself: how it is switched on and off.
_ITSELF: Final = re.compile(
    r"(?<!\w)(?:(?:stelle|richte|schalte)n? (?:ich|wir|man)|einrichte\w?|einzurichten|einstelle\w?"
    r"|einzustellen"
    r"|(?:de)?aktiviere\w?|zu (?:de)?aktivieren|(?:aus|ab|ein|an)(?:zu)?schalten|funktioniert"
    r"|(?:rück)?fragen? (?:dazu|hierzu)|switch|turn (?:it |mine )?o(?:n|ff)|set ?up|enabl(?:e|ing)"
    r"|disabl(?:e|ing)"
    r"|configur(?:e|ing|er|ar|are)|(?:de)?activat(?:e|ing)|(?:dés)?activer|(?:des)?activar|(?:dis)?attivare"
    r"|(?:doesn't|does not|not) work(?:ing)?|questions? about (?:it|this))(?!\w)"
)
# What absence notes and confirmations say, and nobody who wants something of us.
_NOTE: Final = re.compile(
    r"(?<!\w)(?:(?:i am|i'm|i will be) (?:currently |now )?(?:out (?:of (?:the )?office|until|from|today)"
    r"|away|unavailable|back|not in|on (?:vacation|holiday|leave|annual|parental|maternity|a business))"
    r"|i will return"
    r"|limited access|no access to (?:my )?(?:e-?)?mail|urgent (?:matters|cases)|in urgent"
    r"|in case of emergency"
    r"|this is an auto|automatically (?:generated|sent)|thank(?:s| you) for (?:your (?:e-?mail|message)"
    r"|contacting)"
    r"|(?:ich )?bin (?:bis|vom|ab|derzeit|zurzeit|zur zeit|momentan|aktuell|(?:im|in) (?:urlaub|elternzeit"
    r"|mutterschutz)|weg|abwesend|ausser haus|(?:nicht|wieder|erst) (?:da|im|am|ab|erreichbar|zu erreichen"
    r"|wieder))|nicht im (?:büro|hause)|in dringenden|dringende fälle|nicht weitergeleitet"
    r"|meine vertretung|wenden sie sich|automatisch (?:erstellt|erzeugt|generiert|versandt|versendet)"
    r"|dank für ihre (?:nachricht|mail|e-mail|anfrage)|ihre nachricht (?:ist|wurde)"
    r"|je suis (?:actuellement )?absent"
    r"|en congé|de retour le|estoy (?:fuera|de)|estaré fuera|sono (?:assente|in ferie|fuori)"
    r"|ik ben (?:afwezig|niet|tot|op)|jestem (?:na|nieobec)|estou (?:ausente|de|fora)"
    r"|jag är (?:inte|på|borta|ledig)|jeg er (?:ikke|på|bort))"
)


def fold(subject: str) -> str:
    """``subject`` without case, width and spare blanks, cut to 500 characters.

    The dotted and the dotless i of Turkish become the plain one: "OTOMATİK YANIT" is "otomatik yanıt".
    """
    plain = unicodedata.normalize("NFKC", subject[: _MAX_SUBJECT * 2]).casefold()
    return " ".join(plain.replace("i\u0307", "i").replace("ı", "i").split())[:_MAX_SUBJECT]


def _prepared(phrases: tuple[str, ...]) -> tuple[str, ...]:
    folded = {fold(phrase) for phrase in phrases}
    folded.discard("")
    return tuple(sorted(folded, key=lambda phrase: (-len(phrase), phrase)))


_STRONG: Final = _prepared(words.STRONG)
_WEAK: Final = _prepared(words.WEAK)
_TOPICS: Final = frozenset(_prepared(words.TOPICS))
_SENTENCES: Final = _prepared(words.SENTENCES)
_TITLES: Final = _prepared(words.TITLES)
_ABSENT: Final = _prepared(words.ABSENT)
_APPENDED: Final = frozenset(_prepared(words.APPENDED))


def automatic_phrase(subject: str, *, is_reply: bool, text: str = "") -> str:
    """The phrase by which ``subject`` is a machine's, or an empty string.

    ``is_reply``: the mail has In-Reply-To. ``text``: what the sender wrote.
    """
    line = fold(subject)
    begin = line.lstrip(_OPENING)
    for phrase in _STRONG:
        if begin.startswith(phrase) and (is_reply or _is_alone(begin[len(phrase) :], text)):
            return phrase
    if phrase := _absent_person(line, is_reply=is_reply):
        return phrase
    return _in_answer(line, begin, text) if is_reply else ""


def _in_answer(line: str, begin: str, text: str) -> str:
    """What counts in answer to a mail only."""
    for phrase in _WEAK:
        if begin.startswith(phrase) and _ends_like_a_program(rest := begin[len(phrase) :]):
            if phrase in _TOPICS and _is_a_topic(rest, text):
                continue
            return phrase
    for phrase in _TITLES:
        if begin.startswith(phrase) and _ends_like_a_title(begin[len(phrase) :]):
            return phrase
    for phrase in (*_SENTENCES, *words.BOUNCES):
        if begin.startswith(phrase):
            return phrase
    return _appended(line)


def _is_alone(rest: str, text: str) -> bool:
    """Whether a clear phrase counts without further evidence, by what follows it."""
    if not _ends_like_a_program(rest):
        return False
    return _ITSELF.search(rest) is None or _reads_like_a_note(text)


def _is_a_topic(rest: str, text: str) -> bool:
    """Whether a person writes about holidays or cars: ``rest`` and ``text`` are no absence note's."""
    named = rest.lstrip().lstrip(":-–—−|.! ")
    if not named or named == rest.lstrip() or _MARKS.match(named):
        return False
    return bool(text.strip()) and not _reads_like_a_note(text)


def _reads_like_a_note(text: str) -> bool:
    return _NOTE.search(" ".join(text[:_MAX_TEXT].casefold().split())) is not None


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


def _absent_person(line: str, *, is_reply: bool) -> str:
    """``Max Mustermann ist außer Haus.``, by Notes: a name, and a full stop or a date at the end."""
    for phrase in _ABSENT:
        name, found, rest = line.partition(f" {phrase}")
        if not found or len(name) > _MAX_NAME or not 0 < len(name.split()) <= _MAX_NAME_WORDS:
            continue
        if ":" in name.removeprefix("auto:") or "?" in line:
            continue
        dated = rest.startswith(" (") and rest.rstrip(".").endswith(")")
        if rest == "." or dated or (is_reply and not rest):
            return phrase
    return ""


def _appended(line: str) -> str:
    """``Re: Offer [Automatic reply]``, ``Re: Offer (verification required)``."""
    opening = _BRACKETS.get(line[-1:], "")
    if not opening:
        return ""
    inner = line[:-1].rpartition(opening)[2].strip()
    return inner if inner in _APPENDED else ""


def is_bounce_subject(subject: str) -> bool:
    """Whether ``subject`` begins as those of bounces do; a person's answer or forward begins with ``Re:``."""
    return fold(subject).lstrip(_OPENING).startswith(words.BOUNCES)


def mentions_bounce(subject: str) -> bool:
    """Whether ``subject`` has such words anywhere: "mx1.example.net Mail delivery failed : …"."""
    text = fold(subject)
    return any(phrase in text for phrase in words.BOUNCES)
