"""Status codes (RFC 3463) in the words of mail servers."""

from __future__ import annotations

import re

_MAX_TEXT = 64 * 1024

# A code is no part of a longer dotted number: "5.1.1", not the address 5.1.1.9 nor the version 8.5.1.1.
_CODE = r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9]|\.[0-9])"
# Narrower, for running text: neither "Postfix 2.5.6" nor a date such as 5.10.23.
_FAILURE = r"[45]\.[0-7]\.[0-9]{1,3}(?![0-9]|\.[0-9])"
_STATUS = re.compile(rf"\s*({_CODE})")
_AFTER_REPLY = re.compile(rf"(?<![0-9.])([245])[0-9]{{2}}[ -]{{1,2}}(?:\(?#)?({_CODE})")
_MARKED = re.compile(rf"#({_CODE})")
_ANYWHERE = re.compile(rf"(?<![0-9.A-Za-z])({_FAILURE})")
# A reply code counts only where a server is quoted: "said: 550 …", "host x [1.2.3.4]: 550 …", "<<< 550 …".
_REPLY = re.compile(
    r"(?:said:?|says:?|replied:?|responded:?|response:?|response was:?|returned:?|error:?|message:|reason:"
    r"|\]:|\):|<<<|>:|smtp;|rejected:|state 1[0-9]\)\.?|code:?|connection:|of data:|size=[0-9]{1,12}:)"
    r"[ \"'(]{0,3}([45][0-57][0-9])(?=[ \-:,.)\"']|$)",
    re.IGNORECASE,
)
_LEADING_REPLY = re.compile(r"\s*(?:smtp;)?\s*([45][0-5][0-9])(?=[ \-:]|$)", re.IGNORECASE)


def leading_status(value: str) -> str:
    """The code at the beginning of a Status field (RFC 3464 section 2.3.4), or an empty string."""
    found = _STATUS.match(value[:200])
    return _plain(found[1]) if found else ""


def status_in(text: str) -> str:
    """The status that ``text`` reports, or an empty string.

    An enhanced code right after a reply code of the same class is the remote server's own (a failure before
    a success: transcripts hold both); then one marked with ``#`` (qmail); then any. A bare reply code gives
    only its class, ``550`` → ``5.0.0``, and only where a server is quoted.
    """
    text = " ".join(text[:_MAX_TEXT].split())
    codes = [found[2] for found in _AFTER_REPLY.finditer(text) if found[1] == found[2][0]]
    if codes:
        return _plain(next((code for code in codes if code[0] != "2"), codes[0]))
    for pattern in (_MARKED, _ANYWHERE):
        if found_one := pattern.search(text):
            return _plain(found_one[1])
    reply = _LEADING_REPLY.match(text) or _REPLY.search(text)
    return f"{reply[1][0]}.0.0" if reply else ""


def better(status: str, other: str) -> str:
    """``status``, or ``other`` where that says more about the same class: ``5.7.1`` beats ``5.0.0``."""
    if not status:
        return other
    says_nothing = status.endswith(".0.0")
    return other if says_nothing and other[:1] == status[0] and not other.endswith(".0.0") else status


def _plain(code: str) -> str:
    """Without leading zeros, which RFC 3463 section 2 forbids and some write."""
    return ".".join(str(int(number)) for number in code.split("."))
