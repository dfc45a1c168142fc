"""Attachments: safe file names, plausible types, and the MIME part of a file that is sent."""

import functools
import mimetypes
import re
import unicodedata
from importlib.resources import files
from typing import Final

from cleo_email.errors import InvalidField
from cleo_email.mail import wire
from cleo_email.mail.model import AttachedFile
from cleo_email.scrub import no_surrogates, one_line

# --- what an operator or an agent supplies ----------------------------------------------------------------

MAX_FILENAME: Final = 255  # characters, as file systems allow; what mail shows is cut further
_PATH_PARTS: Final = re.compile(r"[/\\\x00-\x1f\x7f]")
UNKNOWN_TYPE: Final = "application/octet-stream"
MEDIA_TYPE: Final = re.compile(r"([\w!#$&^.+-]{1,64})/([\w!#$&^.+-]{1,64})\Z", re.ASCII)  # RFC 6838, 4.2


def make_file(filename: str, content: bytes, content_type: str | None) -> AttachedFile:
    """Return the file; where no usable type is given, ``filename`` (checked before) suggests one."""
    return AttachedFile(filename, usable_type(content_type or "", filename), content)


def checked_filename(field_name: str, name: str) -> str:
    """Return ``name``, or raise InvalidField for one that is empty, too long or more than a name."""
    if not name.replace(".", "").strip():  # "." and ".." are folders
        raise InvalidField(field_name, "a file needs a name, such as report.pdf")
    if len(name) > MAX_FILENAME:
        raise InvalidField(field_name, f"the file name is longer than {MAX_FILENAME} characters")
    if _PATH_PARTS.search(name):
        raise InvalidField(
            field_name,
            f"{name[:80]!a} is no plain file name: leave out folders, line ends and control characters",
        )
    return name


def usable_type(given: str, filename: str) -> str:
    """Return ``given`` with its parameters, or the type that the file name suggests where it is malformed.

    A type that may not be sent as base64 is replaced later, when the mail is composed.
    """
    if MEDIA_TYPE.match(given.partition(";")[0].strip()):
        return one_line(given)
    guessed, encoding = mimetypes.guess_type(filename)
    return guessed if guessed and not encoding else UNKNOWN_TYPE


# --- file names -------------------------------------------------------------------------------------------

_MAX_CHARACTERS: Final = 120
_MAX_BYTES: Final = 240  # file systems allow 255
_RESERVED: Final = re.compile(r'[<>:"|?*]')
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z)", re.IGNORECASE)
# Controls, invisible format characters (bidi overrides among them), surrogates, private use, unassigned,
# line and paragraph separators.
_UNSAFE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@functools.cache
def _extensions() -> dict[str, str]:
    return dict(re.findall(r"(\S+) (\S+)", files(__package__).joinpath("extensions.txt").read_text("ascii")))


def safe_filename(name: str, content_type: str, number: int) -> str:
    """Return a file name for ``name`` as a sender wrote it: never empty, one path component, short.

    ``number`` counts the attachments of the mail and names the one whose name is of no use.
    """
    # Only the last path component counts, on every system; long names are cut before they are worked on.
    last = name[-4096:].replace("\\", "/").rstrip("/").rpartition("/")[2]
    visible = "".join(c for c in last if unicodedata.category(c) not in _UNSAFE_CATEGORIES)
    plain = " ".join(_RESERVED.sub("_", unicodedata.normalize("NFC", visible)).split()).strip(". ")
    if not plain.strip("_"):
        return f"attachment-{number}{_extensions().get(content_type, '.bin')}"
    return _shortened(f"_{plain}" if _DEVICE.match(plain) else plain)


def _shortened(name: str) -> str:
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem or len(extension) > 10:
        stem, extension = name, ""
    suffix = f".{extension}" if extension else ""
    room = _MAX_BYTES - len(suffix.encode())
    stem = stem[: _MAX_CHARACTERS - len(suffix)].encode()[:room].decode("utf-8", "ignore").rstrip(". ")
    return f"{stem or '_'}{suffix}"


# --- sending ----------------------------------------------------------------------------------------------

_CHARSET: Final = re.compile(r"""charset\s*=\s*"?([A-Za-z0-9_.:+-]{1,40})"?\s*\Z""", re.IGNORECASE)


def attachment_part(attachment: AttachedFile, number: int) -> bytes:
    """Return a whole MIME part in base64, whose ``number`` names a file that has no usable name.

    The name stands in Content-Type too, for older readers, and in both places as RFC 2231 writes it.
    """
    filename = safe_filename(no_surrogates(attachment.filename), attachment.content_type, number)
    content_type, charset = _type_for_base64(attachment.content_type)
    parameters = [*([("charset", charset)] if charset else []), ("name", filename)]
    head = (
        wire.field("Content-Type", [f"{content_type};", *wire.parameters(parameters)])
        + wire.field("Content-Transfer-Encoding", ["base64"])
        + wire.field("Content-Disposition", ["attachment;", *wire.parameters([("filename", filename)])])
        + wire.CRLF
    )
    return wire.base64_lines(attachment.content, head.encode("ascii"))


def _type_for_base64(written: str) -> tuple[str, str]:
    """Return type and charset of ``written``; what is malformed, or must not be base64, is just bytes.

    RFC 2046 section 5 allows no base64 for ``multipart`` and ``message``.
    """
    main, *parameters = written.split(";")
    content_type = main.strip().lower()
    match = MEDIA_TYPE.match(content_type)
    if not match or match[1] in {"multipart", "message"}:
        return UNKNOWN_TYPE, ""
    charsets = [found[1] for found in map(_CHARSET.match, map(str.strip, parameters)) if found]
    return content_type, charsets[0] if charsets and match[1] == "text" else ""
