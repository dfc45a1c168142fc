"""What the operator adds below mail: a signature, and a notice that a machine wrote it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cleo_email.mail.language import detect

_RULE = re.compile(r"\s*(?:--|—|-{3,}|\*{3,}|_{3,})\s*")
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
        """Take a signature, or its beginning, off the end of ``text``: agents write it too."""
        lines = text.rstrip().split("\n")
        filled = [number for number, line in enumerate(lines) if _words(line)]
        for signature in self.signatures.values():
            wanted = list(filter(None, map(_words, signature.split("\n"))))
            for count in range(min(len(wanted), len(filled)), 0, -1):
                first = filled[-count]
                if [_words(lines[number]) for number in filled[-count:]] != wanted[:count]:
                    continue
                above = lines[first - 1] if first else ""
                if count < len(wanted) and (not first or (above.strip() and not _RULE.fullmatch(above))):
                    continue  # the last line of a paragraph, such as the name that was asked for
                rest = lines[:first]
                while rest and (not rest[-1].strip() or _RULE.fullmatch(rest[-1])):
                    rest.pop()
                return "\n".join(rest) or text
        return text


NOTHING_BELOW = Closing()


def _in_language(texts: Mapping[str, str], language: str | None, text: str) -> str:
    if not texts:
        return ""
    known = re.split(r"[-_]", language or "")[0].lower()
    for key in (known, "", detect(text), _FALLBACK):
        if key in texts:
            return texts[key]
    return texts[min(texts)]


def _words(line: str) -> str:
    """Return the words of a line, without the marks of Markdown."""
    return " ".join(re.findall(r"\w+", line.casefold().replace("_", " ")))
