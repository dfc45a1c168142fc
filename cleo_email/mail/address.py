"""One address: whether we may write to it, in which form SMTP carries it, and whether two are the same."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Sequence

import idna

from cleo_email.errors import InvalidField
from cleo_email.mail.model import Address
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


_MAX_ADDRESS = 1000  # characters; RFC 5321 section 4.5.3.1 allows 320
_GMAIL = frozenset({"gmail.com", "googlemail.com"})


def a_label(domain: str) -> str:
    """``domain`` in lower case, each non-ASCII label as IDNA2008 writes it; an empty string if it is none.

    Every domain and host of the package is encoded here. Only lower case and NFC are applied before (RFC 5891
    section 5.2): a letter that merely folds to another (a long s, a full-width letter) makes it no domain.
    Python's own codec is IDNA2003 and takes "straße.de" to "strasse.de", which belongs to somebody else.
    """
    labels = unicodedata.normalize("NFC", domain.strip().lower()).removesuffix(".").split(".")
    if not all(labels) or len(domain) > _MAX_ADDRESS:
        return ""
    try:
        return ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)
    except UnicodeError:  # idna.IDNAError is one
        return ""


def split_address(address: str) -> tuple[str, str] | None:
    """``(local part, domain)`` of a plain ``local@domain`` with the domain as A-labels, else None.

    Refused is whatever readers disagree on: a quoted local part, blanks, control characters, comments,
    angle brackets, routes (RFC 5322 section 4.4) and characters that stand in for ASCII ones.
    """
    local, at, domain = address.strip().partition("@")
    if not at or not local or len(address) > _MAX_ADDRESS:
        return None
    if any(char in '@<>()[]:;,\\"' or char.isspace() or _is_disguised(char) for char in local + domain):
        return None
    domain = a_label(domain)
    return (local, domain) if domain else None


def _is_disguised(char: str) -> bool:
    """Unprintable, or another character that normalises to an ASCII one (the Kelvin sign to K)."""
    return not char.isprintable() or (not char.isascii() and unicodedata.normalize("NFC", char).isascii())


def is_allowed(address: str, patterns: Iterable[str]) -> bool:
    """Whether ``address`` is listed: as itself, or its domain as ``@domain`` (sub-domains are others).

    Case does not count. An address that has no plain ``local@domain`` form is never listed.
    """
    parts = split_address(address)
    if parts is None:
        return False
    local, domain = _same_case(parts[0]), parts[1]
    for pattern in patterns:
        wanted_local, at, wanted_domain = pattern.strip().rpartition("@")
        if not at or a_label(wanted_domain) != domain:
            continue
        if not wanted_local or _same_case(wanted_local) == local:
            return True
    return False


def _same_case(local: str) -> str:
    """Lower case for ASCII only: no other letter may become an ASCII one by it."""
    return "".join(char.lower() if char.isascii() else char for char in unicodedata.normalize("NFC", local))


def is_own(address: str, own_addresses: Iterable[str]) -> bool:
    """Whether ``address`` is one of ours or a plus-address of ours (``support+x@…``, RFC 5233 section 1).

    Where ours is itself a plus-address (``alex+cleo@…``), the bare ``alex@…`` is somebody else.
    """
    own = {_loose(one) for one in own_addresses}
    own.discard("")
    loose = _loose(address)
    if not loose or not own:
        return False
    local, _, domain = loose.rpartition("@")
    details = local.split("+")[:20]
    return any(f"{'+'.join(details[:end])}@{domain}" in own for end in range(len(details), 0, -1)) or (
        loose in own
    )


def _loose(address: str) -> str:
    """A spelling in which all ways to write one mailbox meet."""
    local, _, domain = address.strip().strip("<>").rpartition("@")
    if not local or len(address) > _MAX_ADDRESS:
        return ""
    local = unicodedata.normalize("NFC", local.strip().strip('"')).casefold()
    domain = ".".join(_u_label(label) for label in domain.strip().removesuffix(".").split("."))
    if domain in _GMAIL:  # dots do not count there, and both names are one
        local, domain = local.replace(".", ""), "gmail.com"
    return f"{local}@{domain}"


def _u_label(label: str) -> str:
    """A label of a domain in letters and folded, so that an address folded earlier ("strasse") meets it."""
    if label[:4].lower() == "xn--" and label.isascii():
        try:
            label = label[4:].encode("ascii").decode("punycode")
        except UnicodeError:
            return label.lower()
    return unicodedata.normalize("NFC", label).casefold()


def local_part(address: str) -> str:
    """What stands before the last ``@``, without case and quotes; all of it where there is no ``@``."""
    address = address.strip().strip("<>")[:_MAX_ADDRESS]
    local, at, _ = address.rpartition("@")
    return (local if at else address).strip().strip('"').casefold()


def distinct(addresses: Sequence[str]) -> tuple[str, ...]:
    """The addresses in order, each mailbox once, whatever its case."""
    return tuple({_case_key(one): one for one in reversed(addresses)}.values())[::-1]


def _case_key(address: str) -> str:
    parts = split_address(address)
    return f"{_same_case(parts[0])}@{parts[1]}" if parts else address.strip()
