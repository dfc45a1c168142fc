"""Who wrote: telling addresses apart, without believing them.

Two rules that look alike and are not. *Is this address listed?* decides whom to trust, so it matches
exactly: nothing that merely folds to a listed address passes ("straße.de" is not "strasse.de", and a long s
is no s). *Is this address ours?* prevents loops, so it matches generously.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

import idna

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
