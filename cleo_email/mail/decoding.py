"""Bytes to text: charsets and content transfer encodings, whatever the sender claims about them."""

from __future__ import annotations

import binascii
import functools
import re
from encodings.aliases import aliases
from typing import Final, NamedTuple

# Names that clients use and Python does not know, and names that in practice mean a larger charset than
# they say (the WHATWG Encoding standard, section 4.2, reads them the same way).
_MEANT: Final = {
    name: codec
    for codec, names in {
        "ascii": "x_unknown unknown_8bit unknown default none binary 8bit us_acii en_us",
        "big5hkscs": "big5 x_x_big5 cn_big5",
        "cp1252": "8859 cp819 iso8859_1 iso_8859_1 iso_8859_1_1987 l1 latin1 latin_1 windows_1252"
        " ansi x_ansi",
        "cp1254": "iso8859_9 iso_8859_9 latin5",
        "cp874": "iso_8859_11 tis_620 windows_874",
        "cp932": "windows_31j x_sjis shift_jis sjis",
        "cp949": "euc_kr ks_c_5601_1987 ks_c_5601 ksc5601 windows_949",
        "gb18030": "gb2312 gb_2312_80 gbk x_gbk cp936 windows_936",
        "iso2022_jp_ext": "iso_2022_jp",
        "iso8859_6": "iso_8859_6_i iso_8859_6_e",
        "iso8859_8": "iso_8859_8_i iso_8859_8_e",
        "mac_cyrillic": "x_mac_cyrillic",
        "mac_roman": "x_mac_roman macintosh",
        "utf_7": "unicode_1_1_utf_7 x_unicode_2_0_utf_7",
        "utf_8": "utf8mb4 utf_8_sig unicode_1_1_utf_8",
    }.items()
    for name in names.split()
}
_WITHOUT_ALIAS: Final = (
    "cp1125 cp720 cp737 cp856 cp874 koi8_t koi8_u"  # codecs that Python's table leaves out
)
_NO_CHARSETS: Final = frozenset(
    {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "mbcs"}
)
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
_MAX_NAME: Final = 40

# NUL and the other controls that no text needs, lone surrogates, and the "tag" characters of Unicode that
# show nothing at all and can spell out a whole instruction to a model.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufffe\uffff]"
)
_TAGS: Final = re.compile("[\U000e0000-\U000e007f]+")


class Decoded(NamedTuple):
    """``note`` is empty where the text could be read as declared."""

    text: str
    note: str


@functools.cache
def _known_codecs() -> dict[str, str]:
    table = {name: codec for name, codec in aliases.items() if codec not in _NO_CHARSETS}
    table |= {codec: codec for codec in [*table.values(), *_WITHOUT_ALIAS.split()]}
    return table | _MEANT


def codec_of(charset: str) -> str:
    """Return the name of Python's codec for a charset as a mail names it, or an empty string."""
    # A comment may follow: "us-ascii (plain text)".
    bare = charset[: _MAX_NAME * 2].partition("(")[0].strip().lower()
    name = _SEPARATORS.sub("_", bare).strip("_")
    if len(name) > _MAX_NAME:
        return ""
    codec = _known_codecs().get(name, "")
    return _MEANT.get(codec, codec)


def decode(data: bytes, charset: str = "") -> Decoded:
    """Read ``data`` as ``charset`` (as declared in a header; empty: nothing declared). Never raises."""
    codec = codec_of(charset) if charset else "ascii"
    note = ""
    if not codec:
        note = f"unknown charset {printable(charset)[:_MAX_NAME]}: "
    elif (text := _strict(data, codec)) is not None:
        return Decoded(text, "")
    elif charset and codec != "ascii":
        note = f"not {codec.replace('_', '-')} as declared: "
    if (text := _strict(data, "utf-8")) is not None:
        return Decoded(text, note and f"{note}read as utf-8")
    if codec == "utf_8" and (text := _damaged_utf8(data)) is not None:
        return Decoded(text, "damaged utf-8")
    return Decoded(data.decode("cp1252", "replace"), note and f"{note}read as windows-1252")


def _strict(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except (UnicodeError, LookupError, ValueError):
        return None


def _damaged_utf8(data: bytes) -> str | None:
    """Read a text that is plainly UTF-8 with a few broken characters, such as one cut in the middle."""
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    # In windows-1252 text hardly any pair of high bytes happens to be a valid UTF-8 sequence.
    whole = len(data) - len(data.translate(None, bytes(range(0xC2, 0xF5)))) - broken
    return text if whole > 2 * broken else None


def clean(text: str) -> str:
    """Return ``text`` with ``\\n`` line ends and without NUL, control characters and lone surrogates."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.isprintable():
        return text
    return _UNPRINTABLE.sub("", text)


def drop_tags(text: str) -> tuple[str, bool]:
    """Return ``text`` without the invisible tag characters (U+E0000 to U+E007F), and whether it had any."""
    if text.isascii():
        return text, False
    visible = _TAGS.sub("", text)
    return visible, len(visible) != len(text)


def printable(text: str) -> str:
    """Return ``text`` as one printable line for a note or a log."""
    return "".join(char for char in text if char.isprintable())


_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64: Final = bytes(set(range(256)) - set(_ALPHABET))
_MAX_SEGMENTS: Final = 1000


def decode_transfer(data: bytes, encoding: bytes) -> bytes:
    """Return ``data`` with ``encoding`` (lower case) undone; an unknown encoding leaves it as it is."""
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
    piece = piece.replace(b"=", b"")  # the last of too many pieces
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


_BLANKS: Final = re.compile(r"[ \t\r\n]+")


def decode_base64_strict(text: str) -> bytes:
    """Decode base64 (RFC 4648 section 4), or raise ValueError.

    Line breaks are allowed, since many encoders wrap at 76 columns (RFC 2045 section 6.8).
    """
    try:
        return binascii.a2b_base64(_BLANKS.sub("", text), strict_mode=True)
    except ValueError:
        raise ValueError(
            "no base64: expected the file's bytes in the alphabet of RFC 4648 section 4"
        ) from None
