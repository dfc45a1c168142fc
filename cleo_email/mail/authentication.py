"""Whether the receiving server vouches for the sender: Authentication-Results (RFC 8601), DMARC only.

``From`` proves nothing. What counts is one statement: the *topmost* Authentication-Results header, written
by exactly the configured server, says ``dmarc=pass`` for exactly the domain of the one From mailbox. SPF and
DKIM alone prove some other domain, and every doubt counts against the mail.

What must hold outside. The server removes Authentication-Results that bear its own name from mail that comes
in (RFC 8601 section 5) and writes one for every mail. The reader of the mail unfolds this header but leaves
it otherwise alone: it is a structured field, in which RFC 2047 section 5 allows encoded words in comments
only. An encoded word that is still there makes the header worthless here; one that was decoded earlier cannot
be told from the server's own words, which is why a second ``dmarc`` result does so too.

Microsoft 365 writes its header without an authserv-id ("spf=pass …; dmarc=pass action=none …"). Nothing
then tells it from a header that the sender wrote, so it never counts; where mail passes through Microsoft
365, another server that names itself has to judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cleo_email.mail.model import InboundEmail
from cleo_email.mail.senders import a_label, distinct, split_address

_MAX_VALUE = 65_536  # characters of one header; real ones have under 4,000
_MAX_DEPTH = 20  # of comments within comments
_MAX_RESULTS = 200
_SPECIALS = frozenset(";=./")


class _Malformed(ValueError):
    """Text that does not follow RFC 8601 section 2.2."""


@dataclass(frozen=True)
class _Token:
    kind: str  # "word", "quoted" or one of ; = . /
    text: str
    spaced: bool  # white space or a comment stands before it


def authenticated(mail: InboundEmail, authserv_id: str) -> bool | None:
    """True only if the server ``authserv_id`` states ``dmarc=pass`` for the domain of the From mailbox.

    None if the mail has no Authentication-Results header at all; False in every other case. Linear in the
    length of the header; raises nothing.
    """
    headers = mail.header_all("authentication-results")
    if not headers:
        return None
    domain = _single_from_domain(mail)
    if not domain or not authserv_id.strip():
        return False
    try:
        return _vouched_domain(headers[0], authserv_id.strip()) == domain
    except _Malformed:
        return False


def _single_from_domain(mail: InboundEmail) -> str:
    """The domain of the one From mailbox as A-labels; empty if there are two From headers or mailboxes."""
    if len(mail.header_all("from")) > 1:
        return ""
    writers = distinct([address.addr for address in mail.from_])
    parts = split_address(writers[0]) if len(writers) == 1 else None
    return parts[1] if parts else ""


def _vouched_domain(value: str, authserv_id: str) -> str:
    """The domain for which this header states ``dmarc=pass``, or an empty string."""
    if len(value) > _MAX_VALUE or "=?" in value:
        raise _Malformed
    if not value.lstrip(" \t\r\n").lower().startswith(authserv_id.lower()):
        return ""  # the plain spelling only: a server that removes forgeries may not know a quoted one
    sections = _sections(list(_tokens(value)))
    if not _names(sections[0], authserv_id):
        return ""
    judged = [section for section in sections[1:] if section and section[0].text.lower() == "dmarc"]
    if len(judged) != 1:
        return ""
    return _passed_domain(judged[0])


def _sections(tokens: list[_Token]) -> list[list[_Token]]:
    sections: list[list[_Token]] = [[]]
    for token in tokens:
        if token.kind == ";":
            sections.append([])
            if len(sections) > _MAX_RESULTS:
                raise _Malformed
        else:
            sections[-1].append(token)
    return sections


def _names(section: list[_Token], authserv_id: str) -> bool:
    """``authserv-id [ CFWS version ]``: the name must be equal but for ASCII case, the version 1."""
    name, version = _joined(section), "1"
    if len(name) == 2:
        version = name.pop()
    return len(name) == 1 and name[0].lower() == authserv_id.lower() and version == "1"


def _joined(section: list[_Token]) -> list[str]:
    """The words of a section, put together again where no blank or comment parted them."""
    words: list[list[str]] = []
    for token in section:
        if token.spaced or not words:
            words.append([])
        words[-1].append(token.text)
    return ["".join(parts) for parts in words]


def _passed_domain(section: list[_Token]) -> str:
    """The one ``header.from`` of ``dmarc[/1] = pass …``, or an empty string."""
    kinds = [token.kind for token in section]
    texts = [token.text.lower() for token in section]
    if kinds[:4] == ["word", "/", "word", "="] and texts[2] == "1":
        at = 4
    elif kinds[:2] == ["word", "="]:
        at = 2
    else:
        return ""
    if len(section) <= at or kinds[at] != "word" or texts[at] != "pass":
        return ""
    if at + 1 < len(section) and not section[at + 1].spaced:
        return ""  # "pass.header" or "pass=…": no result that we know
    found = _header_from(section[at + 1 :])
    return a_label(found[0].rpartition("@")[2]) if len(found) == 1 else ""


def _header_from(tokens: list[_Token]) -> list[str]:
    """Every value of ``header.from=`` among ``name=value`` and ``type.property=value``."""
    found: list[str] = []
    at = 0
    while at < len(tokens):
        start = at
        while at < len(tokens) and tokens[at].kind != "=":
            if tokens[at].kind == "quoted":
                raise _Malformed
            at += 1
        name = "".join(token.text for token in tokens[start:at]).lower()
        at += 1
        start = at
        # The value goes on until a blank, but a value may also stand after one ("reason = x").
        while at < len(tokens) and (at == start or not tokens[at].spaced):
            at += 1
        if at == start:
            raise _Malformed
        if name == "header.from":
            found.append("".join(token.text for token in tokens[start:at]))
    return found


def _tokens(value: str) -> Iterator[_Token]:
    """Words, quoted strings and specials; comments count as blanks. One pass, no recursion."""
    at, spaced, end = 0, False, len(value)
    while at < end:
        char = value[at]
        if char in " \t\r\n":
            at, spaced = at + 1, True
        elif char == "(":
            at, spaced = _after_comment(value, at), True
        elif char == '"':
            text, at = _quoted_string(value, at)
            yield _Token("quoted", text, spaced)
            spaced = False
        elif char in _SPECIALS:
            yield _Token(char, char, spaced)
            at, spaced = at + 1, False
        else:
            start = at
            while at < end and value[at] not in ' \t\r\n(";=./':
                at += 1
            word = value[start:at]
            if not word.isascii() or not word.isprintable() or ")" in word or "\\" in word:
                raise _Malformed
            yield _Token("word", word, spaced)
            spaced = False


def _after_comment(value: str, at: int) -> int:
    depth = 0
    while at < len(value):
        char = value[at]
        if char == "\\":
            at += 1
        elif char == "(":
            depth += 1
            if depth > _MAX_DEPTH:
                raise _Malformed
        elif char == ")":
            depth -= 1
            if not depth:
                return at + 1
        at += 1
    raise _Malformed


def _quoted_string(value: str, at: int) -> tuple[str, int]:
    """The content of the quoted string that begins at ``at``, and where it ends."""
    out: list[str] = []
    at += 1
    while at < len(value):
        char = value[at]
        if char == '"':
            text = "".join(out)
            if not text.isascii() or not text.isprintable():
                raise _Malformed
            return text, at + 1
        if char == "\\" and at + 1 < len(value):
            at += 1
            char = value[at]
        out.append(char)
        at += 1
    raise _Malformed
