"""Header fields as values: words (RFC 2047), parameters (RFC 2231), addresses, dates, Message-IDs (RFC 5322).

Hand-written because ``email.policy.default`` raises on real headers and takes seconds on hostile ones. No
function here raises, and each takes time linear in the length of the value.
"""

import binascii
import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from cleo_email.mail.decoding import UNPRINTABLE_ASCII, clean, codec_of, decode, decode_base64, without_format
from cleo_email.mail.model import Address
from cleo_email.scrub import one_line

_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)

# --- text -------------------------------------------------------------------------------------------------

# The language that RFC 2231 section 5 allows after the charset is passed over. Some clients leave question
# marks and blanks as they are, and some words are cut off: one ends at the next, or with the text. So every
# start is a match, and a run of starts costs linear time.
_WORD_START: Final = r"=\?([^?*\s=]{1,40})(?:\*[^?\s]{0,20})?\?([bBqQ])\?"
_WORD: Final = re.compile(
    rf"{_WORD_START}((?>[^?=]++|\?(?!=)|=(?!\?[^?*\s=]{{1,40}}(?:\*[^?\s]{{0,20}})?\?[bBqQ]\?))*+)(\?=)?"
)
_TAB_TO_BLANK: Final = bytes.maketrans(b"\t", b" ")
_COMMENT_MARK: Final = re.compile(r"\\.|[()]", re.DOTALL)


def header_text(raw: bytes, charset: str = "") -> str:
    """Return a raw header value unfolded (RFC 5322 section 2.2.3), its encoded words still as they are.

    ``charset`` is that of the body, in which some clients write headers too.
    """
    if raw.isascii() and b"\x1b" not in raw:
        return raw.translate(_TAB_TO_BLANK, UNPRINTABLE_ASCII + b"\r\n").decode("ascii").strip()
    text = decode(raw, hint=charset).text
    return _on_one_line(text.replace("\r", "").replace("\n", "")).strip()


def decode_header(raw: bytes) -> str:
    return without_format(decode_words(header_text(raw)))


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
        if not match[4] and " " in match[3].strip():
            continue  # a text about encoded words
        between = text[position : match.start()]
        separate = bool(between.strip()) or not pending
        if separate or match[1].lower() != charset:
            out.append(decode(b"".join(pending), charset).text)
            pending = []
        if separate:
            out.append(between)
        charset, position = match[1].lower(), match.end()
        payload = match[3] if match[4] else match[3].removesuffix("?")
        pending.append(_word_bytes(match[2], payload, match[1]))
    out += [decode(b"".join(pending), charset).text, text[position:]]
    return _on_one_line("".join(out))


def _word_bytes(encoding: str, payload: str, charset: str) -> bytes:
    try:
        # Characters that the client forgot to encode are text by now: back to the bytes that they were.
        raw = payload.encode("ascii" if payload.isascii() else codec_of(charset) or "utf-8")
    except (UnicodeError, LookupError):
        raw = payload.encode("utf-8", "replace")
    if encoding in "bB":
        return decode_base64(raw)
    return binascii.a2b_qp(raw.replace(b" ", b"_"), header=True)


def _on_one_line(text: str) -> str:
    return clean(text).replace("\n", " ").replace("\t", " ")


def without_comments(text: str) -> str:
    """Return ``text`` without its comments in parentheses, which may be nested (RFC 5322 section 3.2.2)."""
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


# --- a value with parameters: Content-Type, Content-Disposition -------------------------------------------

_MAX_PARAMETERS: Final = 1000
_VALUE: Final = re.compile(r"[^;\s/]*+(?>\s*+/\s*+[^;\s]*+)?+")
# Possessive throughout: a hundred thousand semicolons or an open quote are passed over once.
_PARAMETER: Final = re.compile(
    r"""[;\s]*+
        ([^=;\s"]++)\s*+
        (?>(?:=\s*+ (?: "((?>[^"\\]++|\\.)*+)(?:"|\\?\Z) | ([^;]*+) ))?)
        [^;]*+""",
    re.VERBOSE | re.DOTALL,
)
_SECTION: Final = re.compile(r"([^*]+)(?:\*(\d{1,4}))?(\*)?\Z")
_PARAMETER_FOLD: Final = re.compile(r"\r?\n[ \t]*")


class HeaderValue(NamedTuple):
    """``value`` is in lower case; ``parameters`` have lower-case names, decoded values, the first of each."""

    value: str
    parameters: dict[str, str]


def parse_header_value(text: str) -> HeaderValue:
    text = (_PARAMETER_FOLD.sub(" ", text) if "\n" in text else text).strip()
    if not text:
        return HeaderValue("", {})
    head = _VALUE.match(text)
    value, position = (head[0], head.end()) if head else ("", 0)
    pieces: dict[str, list[tuple[int, bool, str]]] = {}
    for _ in range(_MAX_PARAMETERS):
        match = _PARAMETER.match(text, position)
        if match is None:
            break
        position = match.end()
        name = match[1].lower()
        if "*" not in name:
            pieces.setdefault(name, []).append((-1, False, _unquoted(match)))
        elif section := _SECTION.match(name):
            piece = int(section[2] or -1), section[3] is not None, _unquoted(match)
            pieces.setdefault(section[1], []).append(piece)
    return HeaderValue("".join(value.split()).lower(), {name: _join(found) for name, found in pieces.items()})


def _unquoted(match: re.Match[str]) -> str:
    if match[2] is None:
        return (match[3] or "").strip().strip("\"'")
    # Windows clients write paths without escaping the backslashes; only quotes are surely escaped.
    return match[2].replace('\\"', '"') if "\\\\" not in match[2] else _ESCAPE.sub(r"\1", match[2])


def _join(pieces: list[tuple[int, bool, str]]) -> str:
    """Put the sections of one parameter together (RFC 2231 section 3); the extended form beats the plain.

    A piece is the number of its section (-1 where there are none), whether it is encoded, and its text.
    """
    if len(pieces) == 1 and not pieces[0][1]:
        return decode_words(pieces[0][2])
    whole = [piece for piece in pieces if piece[0] < 0]
    sections = sorted((piece for piece in pieces if piece[0] >= 0), key=lambda piece: piece[0])
    chosen = [piece for piece in whole if piece[1]][:1] or sections or whole[:1]
    if not any(encoded for _, encoded, _ in chosen):
        return decode_words("".join(text for _, _, text in chosen))
    charset = ""
    collected: list[bytes] = []
    for place, (_, encoded, text) in enumerate(chosen):
        value = text
        if encoded and place == 0 and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        collected.append(unquote_to_bytes(value) if encoded else value.encode("utf-8", "replace"))
    return decode(b"".join(collected), charset).text


# --- addresses --------------------------------------------------------------------------------------------

_MAX_ADDRESSES: Final = 2000
_MAX_HALVES: Final = 10  # of a name with commas
_TOKEN: Final = re.compile(
    r"""(?P<quoted>"(?>[^"\\]++|\\.)*+(?:"|\\?\Z))
      | (?P<angle><[^<>]*+(?:>++|(?=<)|\Z))
      | (?P<mark>[,;:()])
      | (?P<text>(?>[^"<,;:()\\]++|\\.)++|\\)""",
    re.VERBOSE | re.DOTALL,
)
# What nearly every header holds: one mailbox, whose name is one word in quotes or has no special character.
_ONE_MAILBOX: Final = re.compile(
    r"""(?:"([^"\\]*+)"[ ]|([^"<>,;:()\\]*+))<([^\s"<>,;:()\\@]++@[^\s"<>,;:()\\@]++)>"""
)
_QUOTED_LOCAL: Final = re.compile(r'"(?>[^"\\]++|\\.)*+"@\S++', re.DOTALL)
_BLANKS: Final = re.compile(r"\s+")


class _Mailbox:
    """The pieces of one list item while it is being read."""

    def __init__(self) -> None:
        self.raw: list[str] = []  # as they stand: an address may have a quoted local part
        self.shown: list[str] = []  # quoted strings without their quotes
        self.comment: list[str] = []
        self.angle: str | None = None

    @property
    def is_name(self) -> bool:
        """Return whether it may be the first half of a name with a comma: ``Muster, Anna <anna@…>``."""
        return self.angle is None and bool("".join(self.shown).strip()) and "@" not in "".join(self.raw)

    def begin_with(self, halves: "list[tuple[_Mailbox, str]]") -> None:
        before = [piece for half, mark in halves for piece in (*half.shown, mark)]
        # "Anna, <anna@example.org>" ends with a comma that parts nothing.
        self.shown = [*before, *self.shown] if "".join(self.shown).strip() else before[:-1]

    def add(self, raw: str, shown: str) -> None:
        self.raw.append(raw)
        self.shown.append(shown)

    def addresses(self) -> list[Address]:
        """Return the mailbox that the pieces make; none for an empty item or a name without an address."""
        words = "".join(self.raw).strip()
        addr = _addr_spec(self.angle) if self.angle is not None else ""
        name = "".join(self.shown)
        if not addr and "@" in words:
            addr, name = _address_among(words)
        elif self.angle is None and words and not _BLANKS.search(words):
            addr, name = words.strip('"'), ""  # "MAILER-DAEMON", "root": a local part alone
        return [Address(addr, _display(name) or _display("".join(self.comment)))] if addr else []


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Return the mailboxes in an unfolded header value, groups opened up; at most 2,000."""
    if one := _ONE_MAILBOX.fullmatch(text):
        return (Address(one[3], _display(one[1] or one[2] or "")),)
    found: list[Address] = []
    mailbox, depth = _Mailbox(), 0
    halves: list[tuple[_Mailbox, str]] = []  # of a name, and the mark after each

    def end() -> None:
        if mailbox.angle is not None and mailbox.shown:
            mailbox.begin_with(halves)
        else:
            found.extend(address for half, _ in halves for address in half.addresses())
        halves.clear()
        found.extend(mailbox.addresses())

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
            mailbox.angle = mailbox.angle if (mailbox.angle or "").strip("<>") else piece
        elif piece in (",", ";"):
            if not (mailbox.raw or mailbox.comment or halves) and mailbox.angle is None:
                continue  # an empty item
            if mailbox.is_name and len(halves) < _MAX_HALVES:
                halves.append((mailbox, piece))
            else:
                end()
            mailbox = _Mailbox()
        elif piece == ":":
            halves.clear()
            mailbox = _Mailbox()  # what precedes is the name of a group, or "mailto"
        else:
            mailbox.add(piece, piece)
        if len(found) >= _MAX_ADDRESSES:
            return tuple(found)
    end()
    return tuple(found)


def _address_among(words: str) -> tuple[str, str]:
    """Return the first word that is an address, and the other words as the name; the address may be empty."""
    if words.startswith('"') and (quoted := _QUOTED_LOCAL.match(words)):
        return quoted[0], words[quoted.end() :].strip()
    split = words.split()
    for number, word in enumerate(split):
        if "@" in word.strip("@"):
            name = " ".join(split[:number] + split[number + 1 :])
            return word.strip('<>"[]'), name.replace('"', "")
    return "", words


def _addr_spec(angle: str) -> str:
    """Return what stands between the brackets, without comments and the obsolete route (section 4.4)."""
    inner = _BLANKS.sub("", without_comments(angle.strip("<>")))
    if inner.startswith("@") and ":" in inner:
        inner = inner.rpartition(":")[2]
    return inner[7:] if inner.lower().startswith("mailto:") else inner


def _display(text: str) -> str:
    return " ".join(without_format(decode_words(text)).split()).strip("'").strip()


# --- dates ------------------------------------------------------------------------------------------------

_MAX_DATE: Final = 200
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
# As Postmark writes it: "Fri, 1 Aug 2014 16:45:32 -04:00".
_ZONE_WITH_COLON: Final = re.compile(r"(?<=[\s0-9])([+-][0-9]{2}):([0-9]{2})$")


def parse_date(text: str) -> datetime | None:
    """Return the moment that ``text`` names, in UTC, or None where it names none between 1970 and 2200.

    A zone that cannot be (more than a day away) is read as UTC, as is none at all or -0000.
    """
    if len(text) > _MAX_DATE:
        return None
    moment = _rfc5322(text) or _iso8601(text.strip())
    return moment if moment and _EARLIEST <= moment <= _LATEST else None


def _rfc5322(text: str) -> datetime | None:
    try:
        plain = " ".join(without_comments(text).split())
        if plain[-3:-2] == ":":
            plain = _ZONE_WITH_COLON.sub(r"\1\2", plain)
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


# --- Message-IDs ------------------------------------------------------------------------------------------

_MAX_IDENTIFIERS: Final = 1000
_BRACKETED: Final = re.compile(r"<([^<>]{1,998}+)>")
_SEPARATORS: Final = re.compile(r"[\s,;]+")


def parse_message_ids(text: str) -> tuple[str, ...]:
    """Return the identifiers in an unfolded header value in order, each once.

    White space inside of the brackets, as careless folding leaves it, is taken out. Without any brackets,
    words that look like identifiers count and get brackets. Of more than 1,000 the first, which names the
    thread, and the last are kept.
    """
    if not text:
        return ()
    found = ["<" + "".join(match[1].split()) + ">" for match in _BRACKETED.finditer(text)]
    if not found and "<" not in text:
        words = _SEPARATORS.split(text)
        found = [f"<{word}>" for word in words if len(word) <= 998 and "@" in word.strip("@")]
    unique = tuple(dict.fromkeys(item for item in found if item != "<>"))
    return unique if len(unique) <= _MAX_IDENTIFIERS else unique[:1] + unique[1 - _MAX_IDENTIFIERS :]


# --- for screening, which quotes what it judged by --------------------------------------------------------

MAX_VALUE: Final = 500  # characters of a header that are looked at and quoted


def keyword(value: str) -> str:
    """Return a structured value in lower case, without comments and parameters (RFC 3834 section 5)."""
    plain = without_comments(value[:MAX_VALUE]).partition(";")[0]
    return " ".join(plain.split()).strip("\"'").lower()


def shown(value: str, length: int = 80) -> str:
    """Return ``value`` on one printable line of at most ``length`` characters, for a record."""
    return one_line(value[:MAX_VALUE], length)


def quoted(name: str, value: str) -> str:
    """Return a header field as a reason shows it."""
    title = "-".join(word.capitalize() for word in name.split("-"))
    return f"`{shown(title)}: {shown(value)}`"
