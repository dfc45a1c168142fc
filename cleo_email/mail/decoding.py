"""Decode bytes to text: charsets and content transfer encodings, also if they are declared wrongly."""

import binascii
import contextlib
import functools
import re
from collections.abc import Iterable
from encodings.aliases import aliases
from importlib.resources import files
from typing import Final, NamedTuple

_WITHOUT_ALIAS: Final = "cp1125 cp720 cp737 cp856 cp874 koi8_t koi8_u"  # Python's table leaves them out
_NO_CHARSETS: Final = frozenset(
    {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "mbcs"}
)
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
_MAX_NAME: Final = 40
_CODE_PAGE: Final = re.compile(r"(?:windows|win|cp|ms|ansi|ibm|microsoft_cp)_?(\d{3,5})(?:_\w{1,20})?")
_ISO_8859: Final = re.compile(r"(?:iso_?)?8859_?(\d{1,2})(?:_\w{1,20})?")
_ASCII_TEXT: Final = re.compile("[\0-\x7f\ufffd]+")
_MULTI_BYTE: Final = (
    "utf",
    "gb",
    "big5",
    "cp932",
    "cp949",
    "cp950",
    "euc",
    "iso2022",
    "hz",
    "johab",
    "shift",
)
_FEWEST_UTF8: Final = 4
_THAI: Final = re.compile("[\u0e00-\u0e7f]")

# NUL and the other controls that no text needs, lone surrogates, and the "tag" characters of Unicode that
# show nothing at all and can spell out a whole instruction to a model.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufffe\uffff]"
)
UNPRINTABLE_ASCII: Final = bytes([*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])
# So can a run of variation selectors; one behind a letter chooses its shape (emoji, Japanese names).
_MORE_SELECTORS: Final = "(?<=[\ufe00-\ufe0f\U000e0100-\U000e01ef])[\ufe00-\ufe0f\U000e0100-\U000e01ef]+"
_TAGS: Final = re.compile(f"[\U000e0000-\U000e007f]+|{_MORE_SELECTORS}")


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


@functools.lru_cache(maxsize=500)
def codec_of(charset: str) -> str:
    """Return the name of Python's codec for a charset as a mail names it, or an empty string."""
    # A comment may follow: "us-ascii (plain text)".
    bare = charset[: _MAX_NAME * 2].partition("(")[0].strip().lower()
    name = _SEPARATORS.sub("_", bare).strip("_")
    if len(name) > _MAX_NAME:
        return ""
    plain = name.removeprefix("x_").removeprefix("cs")
    page, latin = _CODE_PAGE.fullmatch(plain), _ISO_8859.fullmatch(plain)
    spellings = (
        name,
        plain,
        page and f"cp{page[1]}",
        latin and f"iso8859_{latin[1]}",
        plain.replace("_", ""),
    )
    codec = next(filter(None, (_known_codecs().get(one or "") for one in spellings)), "")
    return _meant().get(codec, codec)


def decode(data: bytes, charset: str = "", hint: str = "") -> Decoded:
    """Read ``data`` as ``charset`` (as declared in a header; empty: nothing declared). Never raises.

    ``hint`` is the charset that something else names, such as a document about itself; it counts where
    nothing is declared, or what is declared cannot be. One broken character costs that character alone.
    """
    if not charset and data.isascii() and b"\x1b" not in data:
        return Decoded(data.decode("ascii"), "")
    codec = codec_of(charset) if charset else "ascii"
    note = ""
    if not codec:
        note = f"unknown charset {''.join(filter(str.isprintable, charset))[:_MAX_NAME]}: "
    elif codec == "cp1252" and (meant := _not_western(data, hint)):
        return Decoded(
            data.decode(meant, "replace"), f"not {_shown(codec)} as declared: read as {_shown(meant)}"
        )
    elif (text := _strict(data, codec)) is not None:
        return Decoded(text, "")
    elif charset and codec != "ascii":
        note = f"not {_shown(codec)} as declared: "
    if (text := _strict(data, "utf_8")) is not None:
        return Decoded(text, note and f"{note}read as utf-8")
    if codec not in ("", "ascii") and (text := _damaged(data, codec)) is not None:
        return Decoded(text, f"damaged {_shown(codec)}" if "\ufffd" in text else "")
    guessed = codec_of(hint) if hint else ""
    if guessed not in ("", "ascii", codec):
        text = _strict(data, guessed) or _damaged(data, guessed)
        if text is not None:
            return Decoded(text, note and f"{note}read as {_shown(guessed)}")
    if codec in ("", "ascii") and (text := _damaged(data, "utf_8")) is not None:
        return Decoded(text, "damaged utf-8")
    if codec in ("", "ascii") and (guessed := _guess(data)):
        return Decoded(data.decode(guessed, "replace"), f"charset guessed: {_shown(guessed)}")
    return Decoded(data.decode("cp1252", "replace"), note and f"{note}read as windows-1252")


def _not_western(data: bytes, hint: str) -> str:
    """Return the codec of a text in another script, '' for others and UTF-8.

    Programs that know no other charset declare every text as Western.
    """
    guessed = "" if data.isascii() or _try(data, "utf_8") is not None else _guess(data)
    named = codec_of(hint) if hint else ""
    return named if guessed and named and _try(data, named) is not None else guessed


def _shown(codec: str) -> str:
    return codec.replace("_", "-")


def _strict(data: bytes, codec: str) -> str | None:
    """Return the text, or None where ``data`` is not written in this codec.

    UTF-8 passes for every single-byte charset and often for a double-byte one, and ISO-2022 (RFC 1468,
    RFC 1557), which has seven bits, for ASCII: both are known by what they hold.
    """
    if b"\x1b$" in data and (codec in _SEVEN_BIT or data.isascii()):
        return _read_jis(data) if _JIS_ESCAPE.search(data) else _try(data, "iso2022_kr")
    if not data.isascii() and not codec.startswith("utf") and _is_utf8(data, codec):
        return None
    return _try(data, codec)


def _try(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except (UnicodeError, LookupError, ValueError):
        return None


def _is_utf8(data: bytes, codec: str) -> bool:
    """Return whether a text that is declared as another charset is UTF-8.

    Two letters of a single-byte charset may look like a character of UTF-8; all letters of a text do not.
    Thai comes nearest. So may a character of two bytes, and one in five does where Chinese is written.
    """
    text = _try(data, "utf-8")
    if text is None:
        return False
    if codec.startswith(_MULTI_BYTE):
        # A character that takes three bytes counts twice.
        beyond = _ASCII_TEXT.sub("", text[:_GUESSED_WITHIN])
        return len(beyond) + sum(one > "\u07ff" for one in beyond) >= _FEWEST_UTF8
    return codec != "cp874" or _THAI.search(text) is not None


def _damaged(data: bytes, codec: str) -> str | None:
    """Read a text that is plainly in ``codec`` but for a few broken characters, such as one cut in half."""
    if codec == "utf_8":
        text = data.decode("utf-8", "replace")
        broken = text.count("\ufffd")
        # In windows-1252 text hardly any pair of high bytes happens to be a valid UTF-8 sequence.
        whole = len(data) - len(data.translate(None, bytes(range(0xC2, 0xF5)))) - broken
        return text if whole > 2 * broken else None
    try:
        text = _read_euc_jp(data) if codec == "euc_jp" else data.decode(codec, "replace")
    except (UnicodeError, LookupError, ValueError):
        return None
    broken = text.count("\ufffd")
    return text if len(_ASCII_TEXT.sub("", text)) > 2 * broken else None


# --- nothing declared -------------------------------------------------------------------------------------
#
# In Western languages most letters are ASCII; in a text with hardly any of those windows-1252 is wrong.

_GUESSED_WITHIN: Final = 4000  # bytes
_FEWEST: Final = 10  # bytes beyond ASCII that tell something
_ASCII: Final = bytes(range(128))
_HIGH: Final = bytes(range(128, 256))
_HIGH_BYTE: Final = re.compile(rb"[\x80-\xff]")
_MARKUP: Final = re.compile(rb"<[^<>]*+>")
_LATIN_LETTER: Final = re.compile(rb"[A-Za-z]")
_EUC_PAIRS: Final = re.compile(rb"(?:[\xa1-\xfe]{2})+")
_HANGUL: Final = bytes(
    range(0xB0, 0xC9)
)  # where Korean has its syllables, and Chinese only a part of its own
_BIG5_PAIR: Final = re.compile(rb"[\xa1-\xf9][\x40-\x7e]")
_KANA: Final = re.compile("[\u3041-\u30ff]")
_COMMON_LETTERS: Final = (  # more than half of any text in the language
    ("cp1251", re.compile("[оеаинтсрвлкмпу]")),
    ("koi8_u", re.compile("[оеаинтсрвлкмпу]")),
    ("cp1253", re.compile("[αοιετσνηρκπμλάίόέήύώ]")),
    ("cp1255", re.compile("[יוהלארתבמשםנ]")),
    ("cp1256", re.compile("[اليمونترةبعدسك]")),
    ("iso8859_6", re.compile("[اليمونترةبعدسك]")),
    ("cp874", re.compile("[ารนกอเงมยลวดทส่้ัี]")),
)


def _guess(data: bytes) -> str:
    """Return the codec of a text in another script than the Latin one, '' where it is not plain."""
    first = _HIGH_BYTE.search(data)
    start = first.start() if first else 0
    data = _MARKUP.sub(b" ", data[start : start + _GUESSED_WITHIN])
    high = len(data) - len(data.translate(None, _HIGH))
    if high < _FEWEST or high < 2 * len(_LATIN_LETTER.findall(data)) - high // 2:
        return ""
    shares = [
        (len(common.findall(data.decode(codec, "replace"))), codec) for codec, common in _COMMON_LETTERS
    ]
    share, codec = max(shares)
    if share * 2 > high:
        return codec
    if not _EUC_PAIRS.sub(b"", data).translate(None, _ASCII):  # every character is two high bytes
        leads = b"".join(match[0][::2] for match in _EUC_PAIRS.finditer(data))
        if sum(lead in b"\xa4\xa5" for lead in leads) * 4 > len(leads):
            return "euc_jp"
        syllables = leads.translate(None, b"\xa1\xa2\xa3")
        return "gb18030" if syllables.translate(None, _HANGUL) else "cp949"
    japanese = data.decode("cp932", "replace")
    if len(_KANA.findall(japanese)) * 4 > len(_ASCII_TEXT.sub("", japanese)) and japanese.count("\ufffd") < 2:
        return "cp932"
    chinese = len(_BIG5_PAIR.findall(data)) * 5 > high
    return "big5hkscs" if chinese and data.decode("big5hkscs", "replace").count("\ufffd") < 2 else ""


# --- Japanese ---------------------------------------------------------------------------------------------
#
# Windows clients write characters that no JIS standard has, in NEC's row 13 (circled numbers, the sign of a
# stock company) and elsewhere. Python's codecs refuse them; its code page 932 has them, in other places.

_SEVEN_BIT: Final = ("ascii", "utf_8", "iso2022_jp_ext")
_JIS_ESCAPE: Final = re.compile(rb"\x1b\$(?:[@B]|\([DOPQ])")
_JIS_PIECE: Final = re.compile(rb"\x1b([$(.)]\(?[@-Z])|([\x0e\x0f\r\n])|([^\x1b\x0e\x0f\r\n]+)|\x1b")
_EUC_PIECE: Final = re.compile(
    rb"([\xa1-\xfe]{2})|(\x8e[\xa1-\xdf]|\x8f[\xa1-\xfe]{2}|[\0-\x7f]+)|([\x80-\xff])"
)


def _read_jis(data: bytes) -> str:
    """Read ISO-2022-JP and what Windows makes of it (its code pages 50220 to 50222)."""
    with contextlib.suppress(UnicodeError):
        return data.decode("iso2022_jp_ext")
    out: list[str] = []
    charset, katakana = b"(B", False
    for escape, control, run in _JIS_PIECE.findall(data):
        if escape:
            charset, katakana = escape, False
        elif control in (b"\x0e", b"\x0f"):
            katakana = control == b"\x0e"
        elif control:
            out.append(control.decode("ascii"))
            charset = b"(B"  # each line begins in ASCII
        elif katakana or charset == b"(I":
            out.append(bytes(byte | 0x80 for byte in run).decode("cp932", "replace"))
        elif charset == b"$(D":
            pairs = (b"\x8f%c%c" % (one | 0x80, two | 0x80) for one, two in _pairs(run))
            out.append(b"".join(pairs).decode("euc_jp", "replace"))
        elif charset.startswith(b"$"):
            out += [_jis_character(*pair) for pair in _pairs(run)]
        else:
            out.append(run.decode("ascii", "replace"))
    return "".join(out)


def _read_euc_jp(data: bytes) -> str:
    out: list[str] = []
    for pair, other, broken in _EUC_PIECE.findall(data):
        if pair:
            out.append(_jis_character(*pair))
        else:
            out.append("\ufffd" if broken else other.decode("euc_jp", "replace"))
    return "".join(out)


def _pairs(run: bytes) -> Iterable[tuple[int, int]]:
    return zip(run[::2], run[1::2], strict=False)


def _jis_character(first: int, second: int) -> str:
    """Return the character at a place of JIS X 0208, or what Windows puts at a place without one."""
    with contextlib.suppress(UnicodeError):
        return bytes((first | 0x80, second | 0x80)).decode("euc_jp")
    row, cell = (first & 0x7F) - 0x21, (second & 0x7F) - 0x21
    if not (0 <= row < 94 and 0 <= cell < 94):
        return "\ufffd"
    lead = row // 2 + (0x81 if row < 62 else 0xC1)
    trail = cell + (0x9F if row % 2 else 0x40 + (cell >= 63))
    return bytes((lead, trail)).decode("cp932", "replace")


def clean(text: str) -> str:
    """Return ``text`` with ``\\n`` line ends and without NUL, control characters and lone surrogates."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii():  # most are; translate() takes a tenth of the time
        return text.encode("ascii").translate(None, UNPRINTABLE_ASCII).decode("ascii")
    return _UNPRINTABLE.sub("", text)


# What turns text around, and other format characters that show nothing. Kept: the joiners that emoji and many
# scripts need, and the marks of direction (U+200E, U+200F, U+061C), which cannot turn a letter around.
_FORMAT: Final = re.compile(
    "[\u00ad\u180e\u200b\u202a-\u202e\u2060-\u206f\ufff9-\ufffb\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]+"
    f"|{_MORE_SELECTORS}"
)


def without_format(text: str) -> str:
    """Return ``text`` without bidi overrides and isolates, tags and other invisible format characters.

    For what is shown on one line beside other things (a subject, a name), which an override would turn
    around.
    """
    return text if text.isascii() else _FORMAT.sub("", text)


def drop_tags(text: str) -> tuple[str, bool]:
    """Return ``text`` without the invisible tag characters (U+E0000 to U+E007F), and whether it had any.

    All but the first of a run of variation selectors count as such.
    """
    if text.isascii():
        return text, False
    visible = _TAGS.sub("", text)
    return visible, len(visible) != len(text)


# Not white space, and not what takes no room or is a blank by another name.
_SEEN: Final = re.compile(
    r"[^\s\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2800\u3164\ufeff]"
)


def says_something(text: str) -> bool:
    """Return whether there is more in ``text`` than blanks and characters that cannot be seen."""
    return _SEEN.search(text) is not None


_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64: Final = bytes(set(range(256)) - set(_ALPHABET))
_MAX_SEGMENTS: Final = 1000


def decode_transfer(data: bytes, encoding: bytes) -> bytes:
    """Return ``data`` with ``encoding`` undone; an unknown encoding leaves it as it is.

    ``encoding`` is the value of Content-Transfer-Encoding (RFC 2045 section 6.1). Some programs write
    ``base64;`` or put it in quotes.
    """
    if not encoding:
        return data
    word = _ENCODING.search(encoding.strip()[:200].lower())
    kind = word.lastgroup if word else ""
    if kind == "base64":
        return decode_base64(data)
    if kind == "quoted":
        loose = b"= " in data or b"=\t" in data
        return binascii.a2b_qp(_SOFT_BREAK.sub(b"=", data) if loose else data)
    return _decode_uu(data) if kind == "uu" else data


_ENCODING: Final = re.compile(
    rb"(?P<base64>base[-_ ]?64|\bb64)|(?P<quoted>quoted?[-_ ]?print|\A\W*qp\b)|(?P<uu>\b(?:uuencode|uue)\b)"
)
_SOFT_BREAK: Final = re.compile(rb"=[ \t]++(?=\r?\n)")  # RFC 2045 section 6.7 (3): blanks may follow it


def decode_base64(data: bytes) -> bytes:
    """Decode base64 with foreign characters, missing padding, or several padded pieces one after another.

    What stands above or below it in clear text, such as the footer of a gateway, is kept as it stands.
    """
    banner = clear = b""
    if data.translate(None, _IN_BASE64) or b"===" in data:
        above = _BANNER.match(data)
        if above and above[0].translate(None, _IN_BASE64):
            banner, data = above[0], data[above.end() :]
        end = _clear_text(data)
        data, clear = data[:end], data[end:]
    try:
        if b"=" not in data.rstrip(b"=\r\n \t"):
            return banner + binascii.a2b_base64(data) + clear
    except binascii.Error:
        pass
    decoded: list[bytes] = []
    for padded in data.translate(None, _NOT_BASE64).split(b"=", _MAX_SEGMENTS):
        piece = padded.replace(b"=", b"")  # the last of too many pieces
        # One character too many carries six bits, less than a byte: it is dropped.
        usable = len(piece) - (len(piece) % 4 == 1)
        decoded.append(binascii.a2b_base64(piece[:usable] + b"=" * (-usable % 4)))
    return banner + b"".join(decoded) + clear


_IN_BASE64: Final = _ALPHABET + b"\r\n \t"
# A line of several words, one that begins like a rule, or one of other characters below an empty line.
_CLEAR_LINE: Final = re.compile(
    rb"^[ \t]*+(?:\S++[ \t]++\S|[^A-Za-z0-9+/=\s]{2})|(?<=\n)={3}"
    rb"|(?:(?<=\n\n)|(?<=\n\r\n))[A-Za-z0-9+/=]{0,80}+[^A-Za-z0-9+/=\s]",
    re.MULTILINE,
)
_BANNER: Final = re.compile(rb"(?:[^\n]{0,200}\n){1,6}?\r?\n(?=[A-Za-z0-9+/]{40,}+=*+\s)")
_ABOVE: Final = (b"\n\n", b"\n\r\n", b"=\n", b"=\r\n")
_MAX_TITLE: Final = 80


def _clear_text(data: bytes) -> int:
    """Return where clear text begins below base64, or the length of ``data``."""
    found = _CLEAR_LINE.search(data)
    if found is None or not data[found.start() :].replace(b"===", b"\0").translate(None, _IN_BASE64):
        return len(data)
    above = data[: found.start()].rstrip()
    # Its first line may be one word, with an empty line or the padding of the base64 above.
    begin = max((above.rfind(end) + len(end) for end in _ABOVE if end in above), default=-1)
    return begin if 0 <= len(above) - begin < _MAX_TITLE and begin >= 0 else found.start()


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
