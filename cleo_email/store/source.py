"""The bytes of a mail as they lie in Redis: compressed where that saves something, else as they came.

What is compressed lies in a list, and not in a string. An earlier version, which shares this Redis during an
upgrade or comes back later, then finds that it cannot read the mail and leaves it to a version that can. It
would take compressed bytes in a string for a mail, and ask the agent about them.
"""

import re
import zlib
from binascii import a2b_base64, b2a_base64
from itertools import islice

MARK = b"\0z"  # keep.lua knows it
PIECE = 1_024_000  # octets that are read at once: 64 of the pieces in which a compressed mail lies
_SIZE = 10  # digits
_HEAD = len(MARK) + _SIZE
_LEAST = 1024  # octets that are worth it
_MOST = 4 << 20  # octets of which some copies more are no burden, where several such mails come at once
# Base64 lies decoded. A line of 76 characters is 57 octets with nothing left over, so it can be written in
# one way only, and comes back as it was; a shorter one, which may end the base64, belongs to what follows.
_LINE = 76
_BASE64 = re.compile(rb"\r\n((?>[A-Za-z0-9+/]{%d}\r\n){16,}+)" % _LINE)
_DECODED = b"="  # in front of such a stream; zlib's own begin with x
_MOST_DECODED = 16  # runs of lines
_SAMPLE = 2048  # octets of what is decoded, by which it is told whether it can be compressed
_DENSE = 0.9  # what is left of those of a picture, or of a file that is compressed itself


def packed(source: bytes) -> bytes:
    """Return the mail compressed, with its size in front, or as it is where that saves less than a tenth.

    0.3 ms for 60 kB. Higher levels take several times as long for a few percent.
    """
    marked = source.startswith(MARK)  # no mail, but nothing may be taken for what it is not
    if not _LEAST <= len(source) <= _MOST and not marked:
        return source
    streams: list[bytes] = []
    whole, done = memoryview(source), 0
    for run in islice(_BASE64.finditer(source), _MOST_DECODED):
        start, end = run.span(1)
        octets = a2b_base64(whole[start:end])
        streams += [zlib.compress(whole[done:start], 1), _DECODED, zlib.compress(octets, _level(octets))]
        done = end
    streams.append(zlib.compress(whole[done:], 1))
    small = b"".join((MARK, b"%0*d" % (_SIZE, len(source)), *streams))
    return small if marked or len(small) < len(source) * 0.9 else source


def _level(octets: bytes) -> int:
    middle = len(octets) // 2
    sample = octets[max(middle - _SAMPLE // 2, 0) : middle + _SAMPLE // 2]
    return 0 if len(zlib.compress(sample, 1)) > len(sample) * _DENSE else 1


def unpacked(kept: bytes) -> bytes:
    """Return the mail that ``packed`` has compressed."""
    parts: list[bytes] = []
    left = kept[_HEAD:]
    while left:
        decoded = left.startswith(_DECODED)
        stream = zlib.decompressobj()
        part = stream.decompress(left[len(_DECODED) :] if decoded else left)
        parts.append(_lines(part) if decoded else part)
        left = stream.unused_data
    return b"".join(parts)


def _lines(octets: bytes) -> bytes:
    """Return the octets as whole lines of base64."""
    characters = b2a_base64(octets, newline=False)
    lines = bytearray(b"\r\n".rjust(_LINE + 2) * (len(characters) // _LINE))
    for column in range(_LINE):
        lines[column :: _LINE + 2] = characters[column::_LINE]
    return bytes(lines)
