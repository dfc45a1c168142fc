"""Header fields as values: words (RFC 2047), parameters (RFC 2231), addresses, dates, ids (RFC 5322)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from cleo_email.mail.decoding import clean, codec_of, decode, decode_base64
from cleo_email.mail.model import Address
from cleo_email.scrub import one_line

MAX_VALUE = 500  # characters of a header that are looked at and quoted


def keyword(value: str) -> str:
    """The first word of a structured value in lower case, without comments and parameters (RFC 3834, 5)."""
    out: list[str] = []
    depth, escaped = 0, False
    for char in value[:MAX_VALUE]:
        if escaped:
            escaped = False
        elif char == "\\" and depth:
            escaped = True
        elif char == "(":
            depth += 1
        elif char == ")" and depth:
            depth -= 1
        elif not depth:
            if char == ";":
                break
            out.append(char)
    return " ".join("".join(out).split()).strip("\"'").lower()


def first_reason(*checks: Callable[[], str]) -> str:
    """What the first check says that says anything."""
    return next((reason for check in checks if (reason := check())), "")


def shown(value: str, length: int = 80) -> str:
    """Return ``value`` on one printable line of at most ``length`` characters, for a record."""
    return one_line(value[:MAX_VALUE], length)


def quoted(name: str, value: str) -> str:
    title = "-".join(word.capitalize() for word in name.split("-"))
    return f"`{shown(title)}: {shown(value)}`"


# Every part is bounded or stops at a question mark, so that a run of false starts costs linear time. The
# language that RFC 2231 section 5 allows after the charset is passed over.
_WORD: Final = re.compile(r"=\?([^?*\s=]{1,40})(?:\*[^?\s]{0,20})?\?([bBqQ])\?([^?]*+)\?=")
_COMMENT_MARK: Final = re.compile(r"\\.|[()]", re.DOTALL)
_FOLD: Final = re.compile(r"\r?\n(?=[ \t])|[\r\n]+")


def header_text(raw: bytes) -> str:
    """Give a raw header value unfolded (RFC 5322 section 2.2.3), its encoded words still as they are."""
    text = raw.decode("ascii") if raw.isascii() else decode(raw).text
    return clean(_FOLD.sub("", text)).replace("\n", " ").replace("\t", " ").strip()


def without_comments(text: str) -> str:
    """Give ``text`` without its comments in parentheses, which may be nested (RFC 5322 section 3.2.2)."""
    if "(" not in text:
        return text
    kept: list[str] = []
    depth = position = 0
    for match in _COMMENT_MARK.finditer(text):
        if match[0] == "(":
            if not depth:
                kept.append(text[position : match.start()])
            depth += 1
        elif match[0] == ")" and depth:
            depth -= 1
            position = match.end()
    return "".join(kept) + ("" if depth else text[position:])


def decode_header(raw: bytes) -> str:
    """Give a raw header value unfolded and decoded. Never raises."""
    return decode_words(header_text(raw))


def decode_words(text: str) -> str:
    """Decode the encoded words in ``text``; white space between two of them goes (RFC 2047 section 6.2).

    Neighbours of one charset are decoded as one, because clients cut them in the middle of a character.
    """
    if "=?" not in text:
        return text
    out: list[str] = []
    pending: list[bytes] = []
    charset, position = "", 0
    for match in _WORD.finditer(text):
        between = text[position : match.start()]
        separate = bool(between.strip()) or not pending
        if separate or match[1].lower() != charset:
            out.append(decode(b"".join(pending), charset).text)
            pending = []
        if separate:
            out.append(between)
        charset, position = match[1].lower(), match.end()
        pending.append(_bytes_of(match[2], match[3], match[1]))
    out.append(decode(b"".join(pending), charset).text)
    out.append(text[position:])
    return clean("".join(out)).replace("\n", " ").replace("\t", " ")


def _bytes_of(encoding: str, payload: str, charset: str) -> bytes:
    try:
        # Characters that somebody forgot to encode are by now text: back to what they were.
        raw = payload.encode(codec_of(charset) or "utf-8")
    except (UnicodeError, LookupError):
        raw = payload.encode("utf-8", "replace")
    if encoding in "bB":
        return decode_base64(raw)
    return binascii.a2b_qp(raw.replace(b" ", b"_"), header=True)


_VALUE: Final = re.compile(r"[^;\s/]*+(?:\s*+/\s*+[^;\s]*+)?+")
# Possessive throughout: a hundred thousand semicolons or an open quote are passed over once.
_PARAMETER: Final = re.compile(
    r"""[;\s]*+
        ([^=;\s"]++)\s*+
        (?:=\s*+ (?: "((?:[^"\\]|\\.)*+)(?:"|\\?\Z) | ([^;]*+) ))?+
        [^;]*+""",
    re.VERBOSE | re.DOTALL,
)
_SECTION: Final = re.compile(r"([^*]+)(?:\*(\d{1,4}))?(\*)?\Z")
_PARAMETER_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_PARAMETER_FOLD: Final = re.compile(r"\r?\n[ \t]*")
_MAX_PARAMETERS: Final = 1000


class HeaderValue(NamedTuple):
    """``value`` is in lower case; ``parameters`` have lower-case names, decoded values, the first of each."""

    value: str
    parameters: dict[str, str]


class _Piece(NamedTuple):
    number: int  # of the section; -1 where there are none
    encoded: bool
    text: str


def parse_header_value(text: str) -> HeaderValue:
    """Read ``text`` leniently. Never raises; takes linear time."""
    text = _PARAMETER_FOLD.sub(" ", text).strip()
    head = _VALUE.match(text)
    position = head.end() if head else 0
    pieces: dict[str, list[_Piece]] = {}
    for _ in range(_MAX_PARAMETERS):
        match = _PARAMETER.match(text, position)
        if match is None:
            break
        position = match.end()
        _add(pieces, match[1].lower(), _unquoted(match))
    value = "".join(head[0].split()).lower() if head else ""
    return HeaderValue(value, {k: _join(v) for k, v in pieces.items()})


def _unquoted(match: re.Match[str]) -> str:
    if match[2] is not None:
        # Windows clients write paths without escaping the backslashes; only quotes are surely escaped.
        return (
            match[2].replace('\\"', '"') if "\\\\" not in match[2] else _PARAMETER_ESCAPE.sub(r"\1", match[2])
        )
    return (match[3] or "").strip().strip("\"'")


def _add(pieces: dict[str, list[_Piece]], name: str, text: str) -> None:
    section = _SECTION.match(name)
    if section is None:
        return
    number = int(section[2]) if section[2] else -1
    pieces.setdefault(section[1], []).append(_Piece(number, section[3] is not None, text))


def _join(pieces: list[_Piece]) -> str:
    """Put the sections of one parameter together (RFC 2231 section 3); the extended form beats the plain."""
    whole = [piece for piece in pieces if piece.number < 0]
    sections = sorted((piece for piece in pieces if piece.number >= 0), key=lambda piece: piece.number)
    chosen = [p for p in whole if p.encoded][:1] or sections or whole[:1]
    if not any(piece.encoded for piece in chosen):
        return decode_words("".join(piece.text for piece in chosen))
    charset, raw = "", b""
    collected: list[bytes] = []
    for place, piece in enumerate(chosen):
        value = piece.text
        if piece.encoded:
            if place == 0 and value.count("'") >= 2:
                charset, _, value = value.split("'", 2)
            raw = unquote_to_bytes(value)
        else:
            raw = value.encode("utf-8", "replace")
        collected.append(raw)
    return decode(b"".join(collected), charset).text


MAX_ADDRESSES: Final = 2000

_TOKEN: Final = re.compile(
    r"""(?P<quoted>"(?:[^"\\]|\\.)*+(?:"|\\?\Z))
      | (?P<angle><[^<>]*+(?:>|(?=<)|\Z))
      | (?P<mark>[,;:()])
      | (?P<text>(?:[^"<,;:()\\]|\\.)++|\\)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_QUOTED_LOCAL: Final = re.compile(r'"(?:[^"\\]|\\.)*+"@\S++', re.DOTALL)
_BLANKS: Final = re.compile(r"\s+")


class _Mailbox:
    """The pieces of one list item while it is being read."""

    def __init__(self) -> None:
        self.raw: list[str] = []  # as they stand: an address may have a quoted local part
        self.shown: list[str] = []  # quoted strings without their quotes
        self.comment: list[str] = []
        self.angle: str | None = None

    def add(self, raw: str, shown: str) -> None:
        self.raw.append(raw)
        self.shown.append(shown)

    def address(self) -> Address | None:
        """Give the mailbox that the pieces make, or None for an empty item or a name without an address."""
        words = "".join(self.raw).strip()
        addr = _addr_spec(self.angle) if self.angle is not None else ""
        name = "".join(self.shown)
        if not addr and "@" in words:
            addr, name = _bare_address(words)
        elif self.angle is None and words and not _BLANKS.search(words):
            addr, name = words.strip('"'), ""  # "MAILER-DAEMON", "root": a local part alone
        if not addr:
            return None
        return Address(addr=addr, name=_display(name) or _display("".join(self.comment)))


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Give the mailboxes in an unfolded header value, groups opened up, at most MAX_ADDRESSES.

    Never raises.
    """
    found: list[Address] = []
    mailbox, depth = _Mailbox(), 0
    for match in _TOKEN.finditer(text):
        piece, kind = match[0], match.lastgroup
        if piece == "(":
            mailbox.comment += piece * (depth > 0)
            depth += 1
        elif piece == ")" and depth:
            depth -= 1
            mailbox.comment += piece * (depth > 0)
        elif depth:
            mailbox.comment.append(piece)
        elif kind == "quoted":
            mailbox.add(piece, _ESCAPE.sub(r"\1", piece[1:].removesuffix('"')))
        elif kind == "angle":
            mailbox.angle = piece if mailbox.angle is None else mailbox.angle
        elif piece in (",", ";"):
            _take(found, mailbox)
            mailbox = _Mailbox()
        elif piece == ":":
            mailbox = _Mailbox()  # what precedes is the name of a group, or "mailto"
        else:
            mailbox.add(piece, piece)
        if len(found) >= MAX_ADDRESSES:
            return tuple(found)
    _take(found, mailbox)
    return tuple(found)


def _take(found: list[Address], mailbox: _Mailbox) -> None:
    if (address := mailbox.address()) is not None:
        found.append(address)


def _bare_address(words: str) -> tuple[str, str]:
    """Give the first word that is an address, and the other words as the name; the address may be empty."""
    if words.startswith('"') and (quoted := _QUOTED_LOCAL.match(words)):
        return quoted[0], words[quoted.end() :].strip()
    split = words.split()
    for number, word in enumerate(split):
        if "@" in word.strip("@"):
            name = " ".join(split[:number] + split[number + 1 :])
            return word.strip('<>"'), name.replace('"', "")
    return "", words


def _addr_spec(angle: str) -> str:
    """Give what stands between the brackets, without comments and the obsolete route (section 4.4)."""
    inner = _BLANKS.sub("", without_comments(angle.strip("<>")))
    if inner.startswith("@") and ":" in inner:
        inner = inner.rpartition(":")[2]
    return inner[7:] if inner.lower().startswith("mailto:") else inner


def _display(text: str) -> str:
    return " ".join(decode_words(text).split()).strip("'").strip()


_MAX_LENGTH: Final = 200
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
# As Postmark writes it: "Fri, 1 Aug 2014 16:45:32 -04:00".
_ZONE_WITH_COLON: Final = re.compile(r"(?<=[\s0-9])([+-][0-9]{2}):([0-9]{2})$")


def parse_date(text: str) -> datetime | None:
    """Give the moment that ``text`` names, in UTC, or None where it names none between 1970 and 2200.

    A zone that cannot be (more than a day away) is read as UTC, as is none at all or -0000. Never raises.
    """
    if len(text) > _MAX_LENGTH:
        return None
    moment = _rfc5322(text) or _iso8601(text.strip())
    if moment is None or not _EARLIEST <= moment <= _LATEST:
        return None
    return moment


def _rfc5322(text: str) -> datetime | None:
    try:
        plain = _ZONE_WITH_COLON.sub(r"\1\2", " ".join(without_comments(text).split()))
        fields = parsedate_tz(plain)
        if fields is None:
            return None
        offset = timedelta(seconds=fields[9] or 0)
        zone = timezone(offset) if abs(offset) < timedelta(days=1) else UTC
        year, month, day, hour, minute, second = fields[:6]
        # A leap second is a moment that datetime does not know.
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
        return None


def _iso8601(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


MAX_IDENTIFIERS: Final = 1000

_BRACKETED: Final = re.compile(r"<([^<>]{1,998}+)>")
_SEPARATORS: Final = re.compile(r"[\s,;]+")


def parse_message_ids(text: str) -> tuple[str, ...]:
    """Give the identifiers in an unfolded header value in order, each once.

    White space inside of the brackets, as careless folding leaves it, is taken out. Without any brackets,
    words that look like identifiers count and get brackets. Of more than MAX_IDENTIFIERS the first and the
    last are kept. Never raises.
    """
    found = ["<" + "".join(match[1].split()) + ">" for match in _BRACKETED.finditer(text)]
    if not found and "<" not in text:
        words = _SEPARATORS.split(text)
        found = [f"<{word}>" for word in words if len(word) <= 998 and "@" in word.strip("@")]
    unique = tuple(dict.fromkeys(item for item in found if item != "<>"))
    if len(unique) > MAX_IDENTIFIERS:
        return unique[:1] + unique[1 - MAX_IDENTIFIERS :]
    return unique
