"""The receiving server's verdict on the sender: Authentication-Results (RFC 8601), DMARC only.

``From`` proves nothing. What counts is one statement: the *topmost* Authentication-Results header, written
by exactly the configured server, says ``dmarc=pass`` for exactly the domain of the one From mailbox. SPF and
DKIM alone prove some other domain, and every doubt counts against the mail.

This relies on the server: it removes Authentication-Results that bear its own name from incoming mail
(RFC 8601 section 5) and writes one for every mail. RFC 2047 section 5 allows encoded words in comments of
this header only; one that is still there makes the header worthless, and one that was decoded earlier cannot
be distinguished from the server's own text, which is why a second ``dmarc`` result makes it worthless too.

Microsoft 365 writes its header without an authserv-id ("spf=pass …; dmarc=pass action=none …"), so that
nothing tells it from a header that the sender wrote: it never counts. Where mail passes through Microsoft
365, another server that names itself has to judge.
"""

import re
from typing import Final

from cleo_email.mail.address import a_label, distinct, split_address
from cleo_email.mail.model import InboundEmail

_MAX_VALUE: Final = 65_536  # characters of one header; real ones have under 4,000
# Blanks, a quoted string, a special or a word. Comments, which may hold comments, are skipped by hand.
_PIECE: Final = re.compile(
    r"""(?P<blank>[ \t\r\n]+)|"(?P<quoted>(?>[^"\\]++|\\.)*+)"|[;=./]|[!#-'*-\-0-:<>-\[\]-~]+""", re.DOTALL
)
_MAX_DEPTH: Final = 20  # of comments within comments
_COMMENT_MARK: Final = re.compile(r"\\.|[()]", re.DOTALL)
_SECTION: Final = re.compile(r'(?>[^";]++|"[^"]*+")*+')
_DMARC: Final = re.compile(r'"?dmarc(?![^ =./"])', re.IGNORECASE)
_PASSED: Final = re.compile(r"dmarc(?: ?/ ?1)? ?= ?pass(?![^ ])", re.IGNORECASE)
_PROPERTY: Final = re.compile(r'([^="]*+)= ?((?>"[^"]*+"|[^ "]++)++)')
_PROPERTIES: Final = re.compile(f"(?>(?:{_PROPERTY.pattern})*)")


class _Malformed(ValueError):
    """Text that does not follow RFC 8601 section 2.2."""


def authenticated(mail: InboundEmail, authserv_id: str) -> bool | None:
    """Return True only if the server ``authserv_id`` states ``dmarc=pass`` for the domain of From.

    None if the mail has no Authentication-Results header at all. Linear in its length; raises nothing.
    """
    if mail.doubt:  # the server may have judged other fields than those that we read
        return False
    headers = mail.header_all("authentication-results")
    if not headers:
        return None
    domain = _single_from_domain(mail)
    if not domain or not authserv_id.strip():
        return False
    try:
        return _vouched_domain(headers[0], authserv_id.strip().lower()) == domain
    except _Malformed:
        return False


def _single_from_domain(mail: InboundEmail) -> str:
    """Return the domain of the one From mailbox as A-labels; empty for two From headers or mailboxes."""
    if len(mail.header_all("from")) > 1:
        return ""
    writers = distinct([address.addr for address in mail.from_])
    parts = split_address(writers[0]) if len(writers) == 1 else None
    return parts[1] if parts else ""


def _vouched_domain(value: str, authserv_id: str) -> str:
    """Return the domain for which this header states ``dmarc=pass``, or an empty string."""
    if len(value) > _MAX_VALUE or "=?" in value:
        raise _Malformed
    if not value.lstrip(" \t\r\n").lower().startswith(authserv_id):
        return ""  # the plain spelling only: a server that removes forgeries may not know a quoted one
    name, *results = [section.strip(" ") for section in _SECTION.findall(_normalised(value))]
    if name.lower() not in (authserv_id, f"{authserv_id} 1"):  # RFC 8601 section 2.2: the version is 1
        return ""
    judged = [result for result in results if _DMARC.match(result)]
    passed = _PASSED.match(judged[0]) if len(judged) == 1 else None
    if passed is None:
        return ""
    found = _header_from(judged[0][passed.end() :])
    return a_label(found[0].rpartition("@")[2]) if len(found) == 1 else ""


def _header_from(properties: str) -> list[str]:
    """Return every value of ``header.from=`` among ``name=value`` and ``type.property=value``."""
    if not _PROPERTIES.fullmatch(properties):
        raise _Malformed
    found = _PROPERTY.findall(properties)
    return [value.replace('"', "") for name, value in found if name.replace(" ", "").lower() == "header.from"]


def _normalised(value: str) -> str:
    """Return ``value`` with one blank for blanks and comments, and without quoted pairs. One pass."""
    out: list[str] = []
    at = 0
    while at < len(value):
        if value[at] == "(":
            at = _after_comment(value, at)
            out.append(" ")
            continue
        piece = _PIECE.match(value, at)
        if piece is None:
            raise _Malformed
        at = piece.end()
        if piece["quoted"] is not None:
            out.append(f'"{_unquoted(piece["quoted"])}"')
        else:
            out.append(" " if piece["blank"] else piece[0])
    return re.sub(" {2,}", " ", "".join(out))


def _unquoted(text: str) -> str:
    text = re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
    if not text.isascii() or not text.isprintable():
        raise _Malformed
    return text.replace('"', "'")  # so that a quotation mark is always the end of the string


def _after_comment(value: str, at: int) -> int:
    """Return the offset behind the comment that begins at ``at``."""
    depth = 0
    for mark in _COMMENT_MARK.finditer(value, at):
        depth += {"(": 1, ")": -1}.get(mark[0], 0)
        if not depth:
            return mark.end()
        if depth > _MAX_DEPTH:
            break
    raise _Malformed
