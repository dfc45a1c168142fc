"""Files for mail that we send first: what an application, a request or a callable hands over.

Content is bytes, or a binary file that is read here. A path is never opened: whoever may name a path would
decide which of this machine's files leave by mail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from os import PathLike
from typing import BinaryIO

from cleo_email.agents.files import content_type as usable_type
from cleo_email.errors import InvalidField
from cleo_email.mail import model

MAX_FILENAME = 255  # characters, as file systems allow; what mail shows is cut further
_PATH_PARTS = re.compile(r"[/\\\x00-\x1f\x7f]")


@dataclass(frozen=True, init=False)
class Attachment:
    """A file for ``send_message``. ``content`` is bytes, or a binary file object that is read at once.

    Without ``content_type`` the type is guessed from the name. Raises TypeError for a path or a text file as
    content, InvalidField for a name with path parts or line ends.
    """

    filename: str
    content: bytes = field(repr=False)
    content_type: str | None

    def __init__(self, filename: str, content: bytes | BinaryIO, content_type: str | None = None) -> None:
        if not isinstance(filename, str):
            raise TypeError(f"filename is {type(filename).__name__}, expected a string")
        if content_type is not None and not isinstance(content_type, str):
            raise TypeError(f"content_type is {type(content_type).__name__}, expected a string or None")
        object.__setattr__(self, "filename", checked_filename("filename", filename))
        object.__setattr__(self, "content", read_content(content))
        object.__setattr__(self, "content_type", content_type)

    def file(self) -> model.Attachment:
        """As it goes into a mail."""
        return make_file(self.filename, self.content, self.content_type)


def make_file(filename: str, content: bytes, content_type: str | None) -> model.Attachment:
    """``filename`` as checked; a type that is absent or malformed is guessed from it."""
    return model.Attachment(filename, usable_type(content_type or "", filename), content)


def checked_filename(field_name: str, name: str) -> str:
    """The name, or InvalidField for one that is empty, too long or more than a name."""
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


def read_content(content: object) -> bytes:
    """Bytes, or all that a binary file object still holds; TypeError for anything else, a path above all."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, (bytearray, memoryview)):
        return bytes(content)
    if isinstance(content, (str, PathLike)):
        raise TypeError(
            "content is a path or a text: no path is ever opened here. "
            "Give bytes, or a file opened in binary mode: open(path, 'rb')"
        )
    read = getattr(content, "read", None)
    if not callable(read):
        raise TypeError(f"content is {type(content).__name__}, expected bytes or a binary file object")
    data = read()
    if not isinstance(data, bytes):
        raise TypeError("content is a file opened in text mode: open it in binary mode, open(path, 'rb')")
    return data
