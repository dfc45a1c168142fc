"""One address: whether mail can be sent to it, in which form SMTP carries it, and whether two are the same.

A header that lists addresses is read by ``mail.headers.parse_addresses``.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import idna

from cleo_email.errors import InvalidField
from cleo_email.mail.model import Address
from cleo_email.mail.wire import clean_header

MAX_LOCAL_PART = 64  # octets, RFC 5321 section 4.5.3.1.1
MAX_DOMAIN = 255  # octets, RFC 5321 section 4.5.3.1.2
MAX_ADDRESS = 254  # octets: a path of 256 (RFC 5321 section 4.5.3.1.3) without its angle brackets
MAX_NAME = 300  # characters, our own limit
_MAX_INPUT = 2000
_MAX_COMPARED = 1000  # characters; a longer address equals no other
_GMAIL = frozenset({"gmail.com", "googlemail.com"})

_EXPECTED = "expected name@example.org or Name <name@example.org>"
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_QUOTED_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"\Z')
# Dots at the ends or in a row are against RFC 5322 and exist all the same (some Japanese carriers).
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+\Z")
_QUOTED_LOCAL_PART = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])+"\Z')
_AMBIGUOUS = re.compile(r'[\s@<>()\[\]:;,\\"]')
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")


def validate_address(field: str, text: str) -> Address:
    """Return the one mailbox that ``text`` names, as ``a@b``, ``<a@b>`` or ``Name <a@b>``.

    Its ``addr`` is ASCII (a domain with umlauts in its IDNA form) and may be used in an envelope. Raise
    InvalidField, whose message names ``field`` and says what to do. Limits: RFC 5321 section 4.5.3.1.
    """
    if _FORBIDDEN.search(text):
        raise _invalid(field, text, "line ends and control characters are not allowed")
    if len(text) > _MAX_INPUT:
        raise _invalid(field, text, f"longer than {_MAX_INPUT} characters")
    text = text.strip()
    if not text:
        raise InvalidField(field, f"{field}: no address given; {_EXPECTED}")
    name, addr = _name_and_addr(field, text)
    if len(addr.rpartition("@")[0]) > MAX_LOCAL_PART:
        raise _invalid(field, addr, f"more than {MAX_LOCAL_PART} characters before the @")
    return Address(addr=_ascii_addr(field, addr), name=name)


def quoted_mailbox(name: str, addr: str) -> str:
    """Return a mailbox by RFC 5322 section 3.4, its name as a quoted-string; the bare address without one."""
    if not name or not addr:
        return addr
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{addr}>'


def ascii_address(field: str, address: Address) -> Address:
    """Return ``address`` fit for an envelope and a header, or raise InvalidField.

    More lenient than ``validate_address``: people and services write to us from addresses whose local part
    is longer than 64 octets, and they want an answer.
    """
    return Address(_ascii_addr(field, address.addr.strip()), clean_header(address.name)[:MAX_NAME].strip())


def can_be_written_to(address: Address) -> bool:
    """Return whether :func:`ascii_address` has no objection."""
    try:
        ascii_address("address", address)
    except InvalidField:
        return False
    return True


def _ascii_addr(field: str, addr: str) -> str:
    """Return the addr-spec ``addr`` in ASCII, its domain by IDNA 2008 (RFC 5891)."""
    local, at, domain = addr.rpartition("@")
    if not at or not local or not domain:
        raise _invalid(field, addr, _EXPECTED)
    if not local.isascii():
        raise _invalid(field, addr, "only ASCII characters are possible before the @")
    if "=?" in local:  # mail programs would decode it, and show another address than the one written to
        raise _invalid(field, addr, "an encoded word (=?) cannot stand before the @")
    if not _LOCAL_PART.match(local) and not _QUOTED_LOCAL_PART.match(local):
        raise _invalid(field, addr, f"exactly one address is needed; {_EXPECTED}")
    result = f"{local}@{ascii_domain(field, domain)}"
    if len(result) > MAX_ADDRESS:
        raise _invalid(field, addr, f"longer than {MAX_ADDRESS} characters")
    return result


def ascii_domain(field: str, domain: str) -> str:
    """Return a domain or address literal (RFC 5321 section 4.1.3) in ASCII; InvalidField if it is none."""
    if len(domain) > MAX_DOMAIN:
        raise _invalid(field, domain, f"the domain is longer than {MAX_DOMAIN} characters")
    if domain.startswith("["):
        inside = domain[1:-1] if domain.endswith("]") else ""
        try:
            if inside[:5].lower() == "ipv6:":
                return f"[IPv6:{ipaddress.IPv6Address(inside[5:])}]"
            return f"[{ipaddress.IPv4Address(inside)}]"
        except ValueError:
            raise _invalid(field, domain, "the part after the @ is no address literal") from None
    result = domain if domain.isascii() else a_label(domain)
    if len(result) > MAX_DOMAIN or not all(_LABEL.match(label) for label in result.split(".")):
        raise _invalid(field, domain, "the part after the @ is no domain name")
    return result


def _name_and_addr(field: str, text: str) -> tuple[str, str]:
    if not text.endswith(">"):
        return "", text
    before, opening, addr = text[:-1].rpartition("<")
    if not opening:
        raise _invalid(field, text, _EXPECTED)
    before = before.strip()
    if quoted := _QUOTED_NAME.match(before):
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


def a_label(domain: str) -> str:
    """Return ``domain`` in lower case, each non-ASCII label as IDNA2008 writes it, or "" if it is none.

    Every domain and host of the package is encoded here. Only lower case and NFC are applied before (RFC 5891
    section 5.2): a letter that merely folds to another (a long s, a full-width letter) makes it no domain.
    Python's own codec is IDNA2003 and turns "straße.de" into "strasse.de", which is another domain.
    """
    labels = unicodedata.normalize("NFC", domain.strip().lower()).removesuffix(".").split(".")
    if not all(labels) or len(domain) > _MAX_COMPARED:
        return ""
    if domain.isascii():
        return ".".join(labels)
    try:
        return ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)
    except UnicodeError:  # idna.IDNAError is one
        return ""


def person(address: str) -> str:
    """Return the address as it is compared where access depends on it: lower case, its domain as A-labels."""
    local, _, domain = address.strip().rpartition("@")
    return f"{_ascii_lower(local)}@{a_label(domain)}"


def split_address(address: str) -> tuple[str, str] | None:
    """Return ``(local part, domain)`` of a plain ``local@domain`` with the domain as A-labels, else None.

    Refuse what programs read in different ways: a quoted local part, blanks, control characters, comments,
    angle brackets, routes (RFC 5322 section 4.4) and characters that normalise to ASCII ones.
    """
    address = address.strip()
    local, at, domain = address.partition("@")
    if not at or not local or len(address) > _MAX_COMPARED:
        return None
    # What normalises to ASCII (the Kelvin sign to K) is a disguise.
    hidden = any(unicodedata.normalize("NFC", char).isascii() for char in address if not char.isascii())
    if hidden or not address.isprintable() or _AMBIGUOUS.search(local + domain):
        return None
    domain = a_label(domain)
    return (local, domain) if domain else None


def is_allowed(address: str, patterns: Sequence[str]) -> bool:
    """Return whether ``address`` is listed: as itself, or its domain as ``@domain`` (sub-domains are others).

    Case does not count. An address that has no plain ``local@domain`` form is never listed.
    """
    parts = split_address(address) if patterns else None
    if parts is None:
        return False
    local, domain = _same_case(parts[0]), parts[1]
    for pattern in patterns:
        wanted_local, at, wanted_domain = pattern.strip().rpartition("@")
        if at and a_label(wanted_domain) == domain and _same_case(wanted_local) in ("", local):
            return True
    return False


def _same_case(local: str) -> str:
    return _ascii_lower(unicodedata.normalize("NFC", local))


def _ascii_lower(local: str) -> str:
    """Return ``local`` with its ASCII letters in lower case: no other may become one (the Kelvin sign)."""
    if local.isascii():
        return local.lower()
    return "".join(char.lower() if char.isascii() else char for char in local)


def is_own(address: str, own_addresses: Iterable[str]) -> bool:
    """Return whether ``address`` is ours or a plus-address of ours (``support+x@…``, RFC 5233 section 1).

    Where ours is itself a plus-address (``alex+cleo@…``), the bare ``alex@…`` is another mailbox.
    """
    own = _loosened(frozenset(own_addresses))
    loose = _loose(address)
    local, _, domain = loose.rpartition("@")
    details = local.split("+")[:20]
    plus = (f"{'+'.join(details[:end])}@{domain}" for end in range(1, len(details) + 1))
    return bool(loose) and (loose in own or any(one in own for one in plus))


def without_details(address: str) -> str:
    """Return one spelling of the mailbox behind a plus-address (RFC 5233 section 1), for counting."""
    local, _, domain = (_loose(address) or address.strip().casefold()).rpartition("@")
    return f"{local.partition('+')[0] or local}@{domain}"


@lru_cache(maxsize=10)  # ours are compared with those of every mail
def _loosened(addresses: frozenset[str]) -> frozenset[str]:
    return frozenset(map(_loose, addresses)) - {""}


def _loose(address: str) -> str:
    """Return a spelling that is the same for all ways to write one mailbox, or "" for no mailbox."""
    local, _, domain = address.strip().strip("<>").rpartition("@")
    if not local or len(address) > _MAX_COMPARED:
        return ""
    local = unicodedata.normalize("NFC", local.strip().strip('"')).casefold()
    domain = ".".join(_u_label(label) for label in domain.strip().removesuffix(".").split("."))
    if domain in _GMAIL:  # dots do not count there, and both names are one
        local, domain = local.replace(".", ""), "gmail.com"
    return f"{local}@{domain}"


def _u_label(label: str) -> str:
    """Return a label of a domain in letters and folded, so that one folded earlier is the same."""
    if label[:4].lower() == "xn--" and label.isascii():
        try:
            label = label[4:].encode("ascii").decode("punycode")
        except UnicodeError:
            return label.lower()
    return unicodedata.normalize("NFC", label).casefold()


def local_part(address: str) -> str:
    """Return what stands before the last ``@``, without case and quotes, or all of it without an ``@``."""
    address = address.strip().strip("<>")[:_MAX_COMPARED]
    local, at, _ = address.rpartition("@")
    return (local if at else address).strip().strip('"').casefold()


def distinct(addresses: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses in order, each mailbox once, compared without case."""
    if len(addresses) == 1:
        return (addresses[0],)
    once: dict[str, str] = {}
    for address in addresses:
        parts = split_address(address)
        once.setdefault(f"{_same_case(parts[0])}@{parts[1]}" if parts else address.strip(), address)
    return tuple(once.values())
