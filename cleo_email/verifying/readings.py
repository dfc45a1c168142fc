"""Whether a body that is signed can be read in one way only, where the fields that say how are not signed.

Gmail, for one, signs neither Content-Type nor Content-Transfer-Encoding. Whoever holds such a mail could
give it others, with which other words of the same bytes become the text: by a boundary that stands in a
quotation, by an encoding that was not there. So what is not signed must follow from the body itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cleo_email.mail.charsets import decode
from cleo_email.mail.parameters import parse_header_value
from cleo_email.mail.transfer import decode_transfer

_PREAMBLES = frozenset({b"this is a multi-part message in mime format.", b"this is a multipart message."})
_MULTIPARTS = frozenset(f"multipart/{kind}" for kind in ("mixed", "alternative", "related", "signed"))
_IDENTITIES = frozenset({b"", b"7bit", b"8bit", b"binary"})
# In these the letters of ASCII are themselves, and other octets are no letters of ASCII.
_CHARSET = re.compile(r"(?:us-ascii|ascii|utf-?8|iso-8859-\d{1,2}|windows-125\d)?")
_QUOTED_PRINTABLE = re.compile(rb"(?:[^=\x80-\xff]|=[0-9A-Fa-f]{2}|=[ \t]*\r?(?:\n|\Z))*+")
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{1,76}\r?\n)*+[A-Za-z0-9+/]{0,76}={0,2}\s*+")
_LONG_LINE = re.compile(rb"[^\r\n]{79}")
_HTML_BEGINS = 400  # octets that are looked at
_HTML = re.compile(rb"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)


def must_be_signed(types: Sequence[bytes], encodings: Sequence[bytes], body: bytes) -> frozenset[bytes]:
    """Which fields the body does not speak for, in lower case. ``types`` and ``encodings`` are the values of
    the mail's Content-Type and Content-Transfer-Encoding. Linear in the length of the body.
    """
    found = set()
    encoding = encodings[0].strip().lower() if encodings else b""
    kind, parameters = parse_header_value(decode(types[0]).text) if types else ("text/plain", {})
    if len(types) > 1 or not _is_evident(kind, parameters, encoding, body):
        found.add(b"content-type")
    if len(encodings) > 1 or not _is_encoded(encoding, kind, body):
        found.add(b"content-transfer-encoding")
    return frozenset(found)


def _is_evident(kind: str, parameters: Mapping[str, str], encoding: bytes, body: bytes) -> bool:
    """Whether the body is of that type and could be of no other with a text of its own."""
    if kind in _MULTIPARTS:
        boundary = parameters.get("boundary", "")
        return boundary.isascii() and boundary.encode() == _boundary(body)
    if kind == "text/html":
        return bool(_HTML.match(decode_transfer(body[:_HTML_BEGINS], encoding)))
    plain = kind == "text/plain" and _boundary(body) is None
    return plain and bool(_CHARSET.fullmatch(parameters.get("charset", "").strip().lower()))


def _is_encoded(encoding: bytes, kind: str, body: bytes) -> bool:
    """Whether ``encoding`` leaves the body as it is, or shows by the form of it."""
    if encoding in _IDENTITIES:
        return True
    if kind.startswith(("multipart/", "message/")):
        return False
    if encoding == b"quoted-printable":
        return bool(_QUOTED_PRINTABLE.fullmatch(body)) and not _LONG_LINE.search(body)
    characters = len(body) - sum(map(body.count, (b"\r", b"\n", b" ", b"\t")))
    return encoding == b"base64" and characters % 4 == 0 and bool(_BASE64.fullmatch(body))


def _boundary(body: bytes) -> bytes | None:
    """The boundary with which the body begins and ends (RFC 2046 section 5.1.1), None for none."""
    text = body.strip(b"\r\n \t")
    first, _, rest = text.partition(b"\n")
    if first.strip().lower() in _PREAMBLES:
        first = rest.lstrip(b"\r\n \t").partition(b"\n")[0]
    last = text.rpartition(b"\n")[2].strip()
    name = first.strip()[2:] if first.startswith(b"--") else b""
    return name if name and last == b"--" + name + b"--" else None
