"""Content-Transfer-Encoding undone (RFC 2045 section 6), leniently: broken data gives what can be read."""

from __future__ import annotations

import binascii
from typing import Final

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64: Final = bytes(set(range(256)) - set(_ALPHABET))
_MAX_SEGMENTS: Final = 1000


def decode_transfer(data: bytes, encoding: bytes) -> bytes:
    """Give ``data`` with ``encoding`` (lower case) undone; an unknown encoding leaves it as it is."""
    if encoding == b"base64":
        return decode_base64(data)
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(data)
    if encoding in (b"x-uuencode", b"uuencode", b"x-uue", b"uue"):
        return _decode_uu(data)
    return data


def decode_base64(data: bytes) -> bytes:
    """Decode base64 with foreign characters, missing padding, or several padded pieces one after another."""
    try:
        if b"=" not in data.rstrip(b"=\r\n \t"):
            return binascii.a2b_base64(data)
    except binascii.Error:
        pass
    pieces = [piece for piece in data.translate(None, _NOT_BASE64).split(b"=", _MAX_SEGMENTS) if piece]
    return b"".join(_decode_piece(piece) for piece in pieces)


def _decode_piece(piece: bytes) -> bytes:
    piece = piece.replace(b"=", b"")
    # One character too many carries six bits, less than a byte: it is dropped.
    usable = len(piece) - 1 if len(piece) % 4 == 1 else len(piece)
    return binascii.a2b_base64(piece[:usable] + b"=" * (-usable % 4))


def _decode_uu(data: bytes) -> bytes:
    decoded: list[bytes] = []
    for line in data.splitlines():
        if line.startswith(b"begin ") or not line.strip():
            continue
        if line.strip() == b"end":
            break
        try:
            decoded.append(binascii.a2b_uu(line))
        except binascii.Error:
            # Some encoders pad the line too generously: its first character says how much is meant.
            length = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                decoded.append(binascii.a2b_uu(line[:length]))
            except binascii.Error:
                continue
    return b"".join(decoded)
