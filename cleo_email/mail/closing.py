"""What the operator adds below mail: a signature, and a notice that a machine wrote it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cleo_email.mail.language import detect

_RULE = re.compile(r"\s*(?:--|—|-{3,}|\*{3,}|_{3,})\s*")
_WORD = re.compile(r"</?[a-z]{1,6} {0,3}/?>|\w+", re.IGNORECASE)
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
_MOST_WORDS = 500  # of a signature
_FALLBACK = "en"


@dataclass(frozen=True)
class Closing:
    """The texts (Markdown) by language; one that is the same in every language has '' for a key."""

    signatures: Mapping[str, str] = field(default_factory=dict)
    notices: Mapping[str, str] = field(default_factory=dict)

    def signature(self, language: str | None, text: str) -> str:
        """Return the signature in ``language``, else in that of ``text``.

        Where there is none in either it is the English one, or the first by name: no mail goes without.
        """
        return _in_language(self.signatures, language, text)

    def notice(self, language: str | None, text: str) -> str:
        return _in_language(self.notices, language, text)

    @property
    def texts(self) -> tuple[str, ...]:
        """Return what may come back in a quote without being part of any answer."""
        return (*self.notices.values(), *self.signatures.values())

    def without(self, text: str) -> str:
        """Take a signature or a notice, or the beginning of one, off the end of ``text``: agents write them.

        Words alone are compared, so that lines may end elsewhere.
        """
        for _ in range(2):  # a signature below a notice, or the other way round
            for closing in (*self.signatures.values(), *self.notices.values()):
                if closing and (rest := _above(text, closing)):
                    text = rest
        return text


def _above(text: str, closing: str) -> str:
    """Return what stands above ``closing``, or above a part of it, '' where that is not at the end."""
    found = [(match.start(), word) for match in _WORD.finditer(text) if (word := _plain(match[0]))]
    lines = [list(filter(None, map(_plain, _WORD.findall(line)))) for line in closing.split("\n")]
    wanted = [word for line in lines for word in line][:_MOST_WORDS]
    first_line = len(next(filter(None, lines), []))
    written = [word for _, word in found[-_MOST_WORDS:]]
    for count in range(min(len(wanted), len(written)), 0, -1):
        whole, last = count == len(wanted) > 3, written[-count:]
        is_start = last == wanted[:count] and count >= first_line
        if not (is_start or (last == wanted[-count:] and count >= max(4, len(wanted) // 2))):
            continue
        above, _, marks = text[: found[-count][0]].rpartition("\n")
        if marks.strip(" >*_#|"):
            continue
        line = above.rpartition("\n")[2]
        if not whole and (not above.strip() or (line.strip() and not _RULE.fullmatch(line))):
            continue  # the last line of a paragraph, such as the name that was asked for
        rest = above.split("\n")
        while rest and (not rest[-1].strip() or _RULE.fullmatch(rest[-1])):
            rest.pop()
        return "\n".join(rest)
    return ""


NOTHING_BELOW = Closing()


def _in_language(texts: Mapping[str, str], language: str | None, text: str) -> str:
    if not texts:
        return ""
    for wanted in ((language or "").lower().replace("_", "-"), "", detect(text), _FALLBACK):
        base = wanted.partition("-")[0]
        regional = min((key for key in texts if key.partition("-")[0] == base), default=base)
        for key in (wanted, base, regional):
            if key in texts:
                return texts[key]
    return texts[min(texts)]


def _plain(word: str) -> str:
    """Return a word as it is compared: without the marks of Markdown and HTML, umlauts as two letters."""
    return "" if word[0] == "<" else word.strip("_").casefold().translate(_UMLAUTS)
