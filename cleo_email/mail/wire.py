"""Write mail as 7-bit bytes: header fields, parameters and MIME parts.

The standard library encodes words, but its generator is not used: on Python 3.11 it writes a long
Message-ID as an encoded-word, fails on lone surrogates and turns non-ASCII addresses into invalid ones.
Everything here takes text that may come from a model or a stranger and gives ASCII lines of at most 998
bytes (RFC 5322 section 2.1.1), ended by CRLF.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from email.header import Header
from functools import cache
from urllib.parse import quote

from cleo_email.mail.model import Address
from cleo_email.scrub import no_surrogates

CRLF = "\r\n"
LINE = 76  # RFC 2047 section 2: the longest line that holds an encoded-word
LONGEST_LINE = 998  # RFC 5322 section 2.1.1, without CRLF
_BLOCK = 57 * 4096  # bytes; 57 fill one line of base64
_LINE_END = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_ASCII_LINE_ENDS = bytes.maketrans(b"\r\v\f", b"\n\n\n")
_ASCII_CONTROL = bytes([*range(9), *range(0x0E, 0x20), 0x7F])
_HEADER_BLANKS = re.compile("[\x00-\x20\x7f-\x9f\u2028\u2029]+")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+\Z")  # RFC 5322 section 3.2.3, and blanks


def clean_text(text: str) -> str:
    """Return body text with ``\\n`` line ends and without the control characters that mail must not carry."""
    if text.isascii():  # translate() takes a tenth of the time
        data, gone = text.encode("ascii"), _ASCII_CONTROL
        if data.count(b"\r") == data.count(b"\r\n"):  # to leave them out is faster than to replace them
            gone += b"\r"
        else:
            data = data.replace(b"\r\n", b"\n")
        return data.translate(_ASCII_LINE_ENDS, gone).decode("ascii")
    return _CONTROL.sub("", _LINE_END.sub("\n", no_surrogates(text)))


def clean_header(text: str) -> str:
    """Return one line: line ends, control characters and runs of blanks become one blank each."""
    return _HEADER_BLANKS.sub(" ", no_surrogates(text)).strip(" ")


# --- header fields --------------------------------------------------------------------------------------


def field(name: str, tokens: Iterable[str]) -> str:
    """Return ``name: tokens``, folded only between tokens, and before the first only where it must be.

    A token holds no line end and at most 997 ASCII characters.
    """
    lines = [f"{name}:"]
    for token in tokens:
        longest = LONGEST_LINE if lines == [f"{name}:"] else LINE
        if len(lines[-1]) + 1 + len(token) > longest:
            lines.append(f" {token}")
        else:
            lines[-1] += f" {token}"
    return CRLF.join(lines) + CRLF


def text_field(name: str, text: str) -> str:
    """Return an unstructured field: as written where it is plain ASCII, else as encoded-words (RFC 2047)."""
    text = clean_header(text)
    return field(name, text.split() if _is_plain(text) else _encoded_words(text, name))


def address_field(name: str, mailboxes: Sequence[Address]) -> str:
    """Return a list of mailboxes, whose addresses are ASCII and whose names may be any text; "" for none."""
    tokens: list[str] = []
    for number, mailbox in enumerate(mailboxes, 1):
        comma = "," if number < len(mailboxes) else ""
        phrase = _phrase(clean_header(mailbox.name), name if number == 1 else "")
        tokens += [*phrase, f"<{mailbox.addr}>{comma}"] if phrase else [f"{mailbox.addr}{comma}"]
    return field(name, tokens) if tokens else ""


def parameters(values: Sequence[tuple[str, str]]) -> list[str]:
    """Return MIME parameters as tokens with ``;`` between; non-ASCII or long values by RFC 2231, 3 and 4."""
    tokens = [token for name, value in values for token in _parameter(name, value)]
    return [f"{token};" for token in tokens[:-1]] + tokens[-1:]


def _is_plain(text: str) -> bool:
    return text.isascii() and "=?" not in text and all(len(word) < LINE for word in text.split(" "))


def _phrase(text: str, name: str) -> list[str]:
    if not _is_plain(text) or len(text) > LINE:
        return _encoded_words(text, name)
    if not text or _ATOMS.match(text):
        return text.split()
    return ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"']


def _encoded_words(text: str, name: str = "") -> list[str]:
    """Return UTF-8 encoded-words of at most 75 characters that each hold whole characters (RFC 2047).

    ``name`` is the name of the field if the first word stands behind it.
    """
    return Header(text, "utf-8", maxlinelen=LINE - 1, header_name=name or None).encode().split()


def _parameter(name: str, value: str) -> list[str]:
    value = clean_header(value)
    if value.isascii() and len(value) <= 60 and "=?" not in value and not set('"\\') & set(value):
        return [f'{name}="{value}"']
    # Some readers want whole characters in each section.
    units = [quote(character, safe="!#$&+^`|") for character in value]
    if sum(map(len, units)) <= 60:
        return [f"{name}*=utf-8''{''.join(units)}"]
    sections = ["utf-8''"]
    for unit in units:
        if len(sections[-1]) + len(unit) > 60:
            sections.append("")
        sections[-1] += unit
    return [f"{name}*{number}*={section}" for number, section in enumerate(sections)]


# --- MIME parts -----------------------------------------------------------------------------------------


def text_part(subtype: str, text: str) -> bytes:
    """Return a whole ``text/…`` part in UTF-8, as quoted-printable or base64, whichever is shorter.

    ``text`` is clean and has ``\\n`` line ends. Always encoded, so that no line of it can be a boundary.
    """
    data = text.replace("\n", CRLF).encode()
    body = binascii.b2a_qp(data, quotetabs=False, istext=True, header=False)
    # "From " at the start of a line is changed by mbox software; RFC 2045 section 6.8 foresees the escape.
    encoding = "quoted-printable"
    if b"From " in body:  # to look at the start of each line costs more than all of the encoding
        body = re.sub(rb"(?m)^From ", b"=46rom=\r\n ", body)
    if len(body) > len(data) * 4 // 3 + 80:
        encoding, body = "base64", base64_lines(data)
    return _text_head(subtype, encoding) + body


def unencoded_text(subtype: str, text: str) -> bytes:
    """Return what ``text_part`` does, with the text as it is where its lines are short enough.

    It must not be a part of a multipart: a line of it could be a boundary. It takes a tenth of the time.
    """
    data = text.replace("\n", CRLF).encode()
    if _has_long_line(data):
        # The soft line breaks of a text of one line are bare.
        return re.sub(rb"(?<!\r)\n", CRLF.encode("ascii"), text_part(subtype, text))
    return _text_head(subtype, "8bit") + data


def _has_long_line(data: bytes) -> bool:
    """Return whether a line exceeds LONGEST_LINE. A list of all lines would take many times their memory."""
    start = 0
    while len(data) - start > LONGEST_LINE:
        start = data.rfind(b"\n", start, start + LONGEST_LINE + len(CRLF)) + 1
        if not start:
            return True
    return False


@cache
def _text_head(subtype: str, encoding: str) -> bytes:
    head = field("Content-Type", [f"text/{subtype};", 'charset="utf-8"'])
    return (head + field("Content-Transfer-Encoding", [encoding]) + CRLF).encode("ascii")


def base64_lines(data: bytes, head: bytes = b"") -> bytes:
    """Return base64 in lines of 76 (RFC 2045 section 6.8), each ended by CRLF, with ``head`` before them.

    In blocks: all lines of a large file as objects at once take several times its memory.
    """
    view = memoryview(data)
    blocks = (view[start : start + _BLOCK] for start in range(0, len(view), _BLOCK))
    return b"".join([head, *(base64.encodebytes(block).replace(b"\n", b"\r\n") for block in blocks)])


def multipart(subtype: str, boundary: str, parts: Sequence[bytes]) -> bytes:
    """Return a whole multipart, header included. ``boundary`` holds ``=_``, as no encoded part can."""
    head = field("Content-Type", [f"multipart/{subtype};", f'boundary="{boundary}"']) + CRLF
    opening, closing = f"--{boundary}{CRLF}".encode("ascii"), f"--{boundary}--{CRLF}".encode("ascii")
    # The line end before a boundary belongs to the boundary (RFC 2046 section 5.1.1).
    body = [piece for part in parts for piece in (opening, part, b"\r\n")]
    return b"".join([head.encode("ascii"), *body, closing])
