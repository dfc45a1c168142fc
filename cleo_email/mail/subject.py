"""The subject of a mail without the marks that replying and forwarding put before it.

There is no standard for these marks beyond ``Re:`` (RFC 5322 section 3.6.5); every language of every mail
client has its own. The lists hold what the clients of the larger languages write.
"""

from __future__ import annotations

import re
from typing import Final

_REPLY: Final = (
    "re|aw|antw|antwort|sv|svar|vs|vast|r|rif|res|resp|ré|rép|rep|réf|odp|ynt|yan|cevap|atb|vá|bls|ref|ha"
    "|απ|σχετ|отв|ответ|відп|נושא|השב|תגובה|رد|回复|回覆|答复|答覆|返信|답장|回信"
)
_FORWARD: Final = (
    "fw|fwd|fwrd|wg|tr|tv|vb|vl|vid|vidarebefordra|videresendt|rv|enc|pd|podaj|i|inol|inoltra|doorst|fs|trs"
    "|továbbítás|ilt|iletme|yml|πρθ|пересл|перес|пер|הועבר|إعادة توجيه|转发|轉寄|轉發|転送|전달"
)
# An optional count, as in Re[2]:, Re(3):, Re^4: and Re5:. White space has been collapsed before, so that
# no two quantifiers compete for the same blanks.
_COUNT: Final = r"(?: ?(?:\[\d{1,4}\]|\(\d{1,4}\)|\^\d{1,4})|\d{1,3})?"
_REPLY_PREFIX: Final = re.compile(rf" ?(?:{_REPLY}){_COUNT} ?[:：] ?", re.IGNORECASE)
_ANY_PREFIX: Final = re.compile(rf" ?(?:{_REPLY}|{_FORWARD}){_COUNT} ?[:：] ?", re.IGNORECASE)
# What a company's server puts before the marks: "[EXTERN] WG: x", "*** EXTERNAL *** FW: x", "EXT: WG: x".
_TAGS: Final = (
    r"(?: ?(?:\[[^\[\]]{1,40}\]|\([^()]{1,40}\)|\{[^{}]{1,40}\}|<[^<>]{1,40}>|\*{1,5}[^*:]{1,40}\*{1,5}"
    r"|(?:extern(?:al|e)?|ext|caution|achtung|spam)[!*]? ?:)){0,4}"
)
# "[Fwd: x]" is what older Mozilla programs write.
_FORWARD_PREFIX: Final = re.compile(rf"{_TAGS} ?\[?(?:{_FORWARD}){_COUNT} ?[:：]", re.IGNORECASE)
_TAGGED_REPLY: Final = re.compile(rf"{_TAGS} ?(?:{_REPLY}){_COUNT} ?[:：]", re.IGNORECASE)
_AMBIGUOUS_PREFIX: Final = re.compile(rf"{_TAGS} ?vs{_COUNT} ?:", re.IGNORECASE)
_MAX_SUBJECT: Final = 1000


def normalise_subject(subject: str, *, forwards: bool = False) -> str:
    """Return ``subject`` without its leading reply marks and with every run of white space as one blank.

    ``forwards`` takes ``Fwd:``, ``WG:`` and their like off as well. Any run of marks goes, in any order and
    language: ``AW: Re[2]: SV: Angebot`` is ``Angebot``. Letter case is kept. Takes time linear in the
    length of the subject.
    """
    collapsed = " ".join(subject.split())
    prefix = _ANY_PREFIX if forwards else _REPLY_PREFIX
    position = 0
    while match := prefix.match(collapsed, position):
        position = match.end()
    return collapsed[position:].strip()


def is_forward(subject: str) -> bool:
    """Return whether the first mark of the subject says that the mail was forwarded, as in ``WG: AW: x``."""
    return _FORWARD_PREFIX.match(_head(subject)) is not None


def is_reply(subject: str) -> bool:
    """Return whether the first mark of the subject says that the mail is an answer."""
    return _TAGGED_REPLY.match(_head(subject)) is not None


def may_be_forward(subject: str) -> bool:
    """Return whether it begins with ``VS:``, a forward in Danish and Norwegian and a reply in Finnish."""
    return _AMBIGUOUS_PREFIX.match(_head(subject)) is not None


def _head(subject: str) -> str:
    return " ".join(subject[:_MAX_SUBJECT].split())
