"""Decode bytes to text: charsets and content transfer encodings, also if they are declared wrongly."""

import binascii
import contextlib
import functools
import re
from encodings.aliases import aliases
from importlib.resources import files
from typing import Final, NamedTuple

_WITHOUT_ALIAS: Final = "cp1125 cp720 cp737 cp856 cp874 koi8_t koi8_u"  # Python's table leaves them out
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
def _meant() -> dict[str, str]:
    """Return the codec for each name that clients use in another way than Python does."""
    lines = files(__package__).joinpath("charsets.txt").read_text("ascii").splitlines()
    table = [line.partition(":") for line in lines if not line.startswith("#")]
    return {name: codec for codec, _, names in table for name in names.split()}


@functools.cache
def _known_codecs() -> dict[str, str]:
    table = {name: codec for name, codec in aliases.items() if codec not in _NO_CHARSETS}
    table |= {codec: codec for codec in [*table.values(), *_WITHOUT_ALIAS.split()]}
    return table | _meant()


def codec_of(charset: str) -> str:
    """Return the name of Python's codec for a charset as a mail names it, or an empty string."""
    # A comment may follow: "us-ascii (plain text)".
    bare = charset[: _MAX_NAME * 2].partition("(")[0].strip().lower()
    name = _SEPARATORS.sub("_", bare).strip("_")
    if len(name) > _MAX_NAME:
        return ""
    codec = _known_codecs().get(name, "")
    return _meant().get(codec, codec)


def decode(data: bytes, charset: str = "") -> Decoded:
    """Read ``data`` as ``charset`` (as declared in a header; empty: nothing declared). Never raises."""
    codec = codec_of(charset) if charset else "ascii"
    note = ""
    if not codec:
        note = f"unknown charset {''.join(filter(str.isprintable, charset))[:_MAX_NAME]}: "
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
    decoded: list[bytes] = []
    for padded in data.translate(None, _NOT_BASE64).split(b"=", _MAX_SEGMENTS):
        piece = padded.replace(b"=", b"")  # the last of too many pieces
        # One character too many carries six bits, less than a byte: it is dropped.
        usable = len(piece) - (len(piece) % 4 == 1)
        decoded.append(binascii.a2b_base64(piece[:usable] + b"=" * (-usable % 4)))
    return b"".join(decoded)


def _decode_uu(data: bytes) -> bytes:
    decoded: list[bytes] = []
    for line in data.splitlines():
        if line.strip() == b"end":
            break
        if line.startswith(b"begin ") or not line.strip():
            continue
        # Some encoders pad the line too generously: its first character says how much is meant.
        meant = line[: (((line[0] - 32) & 63) * 4 + 5) // 3]
        for candidate in (line, meant):
            with contextlib.suppress(binascii.Error):
                decoded.append(binascii.a2b_uu(candidate))
                break
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
