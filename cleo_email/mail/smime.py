"""Read the content of an S/MIME signed mail whose text lies inside of the signature (RFC 8551 section 3.5.2).

Only the way to the content is followed, and the signature is not checked. Outlook and OpenSSL write BER with
indefinite lengths and strings in pieces, so a decoder for DER alone would not do.
"""

import base64
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_OCTETS: Final = 0x04
_OID: Final = 0x06
_END: Final = b"\0\0"
_CONSTRUCTED: Final = 0x20
_SIGNED_DATA: Final = bytes.fromhex("2a864886f70d010702")  # 1.2.840.113549.1.7.2
_DATA: Final = bytes.fromhex("2a864886f70d010701")  # 1.2.840.113549.1.7.1
_CMS: Final = re.compile(re.escape(bytes.fromhex("06092a864886f70d0107")) + rb"[\x02\x03]", re.DOTALL)
_PEM_LINE: Final = re.compile(rb"-----(?:BEGIN|END)[^\r\n]{0,60}|\s+")
_MAX_DEPTH: Final = 8


class _Malformed(Exception):
    pass


class _Element(NamedTuple):
    """``start`` and ``end`` bound the content; an indefinite length has the end of what is around it."""

    tag: int
    start: int
    end: int
    indefinite: bool


def is_cms(data: bytes) -> bool:
    """Return whether ``data`` begins as a SignedData, EnvelopedData or AuthEnvelopedData does."""
    return data[:1] == b"\x30" and _CMS.search(data, 0, 18) is not None


def signed_content(data: bytes) -> bytes | None:
    """Return the MIME entity that a SignedData holds (RFC 5652 section 5), None where there is none."""
    data = _decoded(data)
    try:
        info = _children(data, _element(data, 0, len(data)))
        if not _is_oid(data, next(info), _SIGNED_DATA):
            return None
        signed = next(_children(data, next(info)))  # [0] EXPLICIT
        fields = _children(data, signed)
        next(fields), next(fields)  # version, digestAlgorithms
        content = _children(data, next(fields))
        if not _is_oid(data, next(content), _DATA):
            return None
        return b"".join(_octets(data, next(_children(data, next(content))), 0))
    except (_Malformed, StopIteration):
        return None


def _decoded(data: bytes) -> bytes:
    """Take off base64, with or without PEM's lines around it, which gateways leave on or put on again."""
    if is_cms(data):
        return data
    try:
        return base64.b64decode(_PEM_LINE.sub(b"", data), validate=True)
    except ValueError:
        return data


def _is_oid(data: bytes, element: _Element, wanted: bytes) -> bool:
    return element.tag == _OID and data[element.start : element.end] == wanted


def _element(data: bytes, at: int, limit: int) -> _Element:
    if at + 2 > limit or data[at] & 0x1F == 0x1F:  # no tag of several bytes stands on the way
        raise _Malformed
    tag, length, start = data[at], data[at + 1], at + 2
    if length == 0x80:
        return _Element(tag, start, limit, indefinite=True)
    if length > 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(data[start : start + count]), start + count
    if start + length > limit:
        raise _Malformed
    return _Element(tag, start, start + length, indefinite=False)


def _children(data: bytes, parent: _Element) -> Iterator[_Element]:
    at = parent.start
    while at < parent.end and not (parent.indefinite and data[at : at + 2] == _END):
        child = _element(data, at, parent.end)
        yield child
        at = _after(data, child)


def _after(data: bytes, element: _Element) -> int:
    """Return the offset behind an element; behind one of indefinite length, by counting what is open."""
    if not element.indefinite:
        return element.end
    at, depth = element.start, 1
    while depth:
        if data[at : at + 2] == _END:
            at, depth = at + 2, depth - 1
            continue
        child = _element(data, at, element.end)
        if child.indefinite:
            at, depth = child.start, depth + 1
        else:
            at = child.end
    return at


def _octets(data: bytes, element: _Element, depth: int) -> Iterator[bytes]:
    """Yield the pieces of an OCTET STRING."""
    if element.tag == _OCTETS:
        yield data[element.start : element.end]
    elif element.tag == _OCTETS | _CONSTRUCTED and depth < _MAX_DEPTH:
        for child in _children(data, element):
            yield from _octets(data, child, depth + 1)
