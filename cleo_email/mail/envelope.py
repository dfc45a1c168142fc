"""Addresses that we may write to: one mailbox, in the ASCII form in which SMTP carries it."""

from __future__ import annotations

import ipaddress
import re

from cleo_email.errors import InvalidField
from cleo_email.mail.model import Address
from cleo_email.mail.senders import a_label
from cleo_email.mail.wire import clean_header

MAX_LOCAL_PART = 64  # octets, RFC 5321 section 4.5.3.1.1
MAX_DOMAIN = 255  # octets, RFC 5321 section 4.5.3.1.2
MAX_ADDRESS = 254  # octets: a path of 256 (RFC 5321 section 4.5.3.1.3) without its angle brackets
MAX_NAME = 300  # characters, our own limit
_MAX_INPUT = 2000

_EXPECTED = "expected name@example.org or Name <name@example.org>"
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_QUOTED_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"\Z')
# Dots at the ends or in a row are against RFC 5322 and exist all the same (some Japanese carriers).
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+\Z")
_QUOTED_LOCAL_PART = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])+"\Z')
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")


def validate_address(field: str, text: str) -> Address:
    """The one mailbox that ``text`` names, as ``a@b``, ``<a@b>`` or ``Name <a@b>``.

    ``addr`` of the answer is ASCII (a domain with umlauts in its IDNA form) and may be used in an envelope.
    Raises InvalidField, whose message names ``field`` and says what to do. Limits: RFC 5321 section 4.5.3.1.
    """
    if _FORBIDDEN.search(text):
        raise _invalid(field, text, "line ends and control characters are not allowed")
    if len(text) > _MAX_INPUT:
        raise _invalid(field, text, f"longer than {_MAX_INPUT} characters")
    text = text.strip()
    if not text:
        raise InvalidField(field, f"{field}: no address given; {_EXPECTED}")
    name, addr = _split(field, text)
    if len(addr.rpartition("@")[0]) > MAX_LOCAL_PART:
        raise _invalid(field, addr, f"more than {MAX_LOCAL_PART} characters before the @")
    return Address(addr=ascii_addr(field, addr), name=name)


def quoted_mailbox(name: str, addr: str) -> str:
    """A mailbox as RFC 5322 section 3.4 writes it, the name as a quoted-string; one without a name bare."""
    if not name or not addr:
        return addr
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{addr}>'


def ascii_address(field: str, address: Address) -> Address:
    """``address`` with an ``addr`` fit for an envelope and a header, or InvalidField.

    More lenient than ``validate_address``: people and services write to us from addresses whose local part
    is longer than 64 octets, and they want an answer.
    """
    return Address(
        addr=ascii_addr(field, address.addr.strip()), name=clean_header(address.name)[:MAX_NAME].strip()
    )


def can_be_written_to(address: Address) -> bool:
    """Whether :func:`ascii_address` has no objection."""
    try:
        ascii_address("address", address)
    except InvalidField:
        return False
    return True


def ascii_addr(field: str, addr: str) -> str:
    """The addr-spec ``addr`` in ASCII, its domain by IDNA 2008 (RFC 5891); InvalidField if it is none."""
    local, at, domain = addr.rpartition("@")
    if not at or not local or not domain:
        raise _invalid(field, addr, _EXPECTED)
    if not local.isascii():
        raise _invalid(field, addr, "only ASCII characters are possible before the @")
    if not _LOCAL_PART.match(local) and not _QUOTED_LOCAL_PART.match(local):
        raise _invalid(field, addr, f"exactly one address is needed; {_EXPECTED}")
    result = f"{local}@{ascii_domain(field, domain)}"
    if len(result) > MAX_ADDRESS:
        raise _invalid(field, addr, f"longer than {MAX_ADDRESS} characters")
    return result


def ascii_domain(field: str, domain: str) -> str:
    """``domain``, or address literal (RFC 5321 section 4.1.3), in ASCII; InvalidField if it is none."""
    if len(domain) > MAX_DOMAIN:
        raise _invalid(field, domain, f"the domain is longer than {MAX_DOMAIN} characters")
    if domain.startswith("["):
        return _literal(field, domain)
    result = domain if domain.isascii() else a_label(domain)
    if len(result) > MAX_DOMAIN or not all(_LABEL.match(label) for label in result.split(".")):
        raise _invalid(field, domain, "the part after the @ is no domain name")
    return result


def _literal(field: str, domain: str) -> str:
    inside = domain[1:-1] if domain.endswith("]") else ""
    try:
        if inside[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(inside[5:])}]"
        return f"[{ipaddress.IPv4Address(inside)}]"
    except ValueError:
        raise _invalid(field, domain, "the part after the @ is no address literal") from None


def _split(field: str, text: str) -> tuple[str, str]:
    """Display name and addr-spec as written."""
    if not text.endswith(">"):
        return "", text
    before, opening, addr = text[:-1].rpartition("<")
    if not opening:
        raise _invalid(field, text, _EXPECTED)
    before = before.strip()
    quoted = _QUOTED_NAME.match(before)
    if quoted:
        name = re.sub(r"\\(.)", r"\1", quoted[1])
    elif "<" in before or ("@" in before and set(",;") & set(before)):
        raise _invalid(field, text, f"exactly one address is needed; {_EXPECTED}")
    else:
        name = before  # "Meier, Hans <h@m.de>" lacks its quotes and is what people type
    name = clean_header(name)
    if len(name) > MAX_NAME:
        raise _invalid(field, text, f"the name is longer than {MAX_NAME} characters")
    return name, addr.strip()


def _invalid(field: str, found: str, reason: str) -> InvalidField:
    shown = found if len(found) <= 80 else f"{found[:80]}…"
    return InvalidField(field, f"{field}: {shown!a} cannot be used: {reason}")
