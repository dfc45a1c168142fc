"""The file ``.env``: what it holds, and what is wrong with it, without ever showing a line of it."""

from __future__ import annotations

import io
import logging
import os
import pwd
import re
import stat
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from cleo_email.errors import SettingsError

log = logging.getLogger(__name__)


def read_dotenv(path: Path, *, foreign: bool = False) -> dict[str, str]:
    """The values in the file, by name; none where there is no file. Raises SettingsError.

    ``foreign``: it belongs to an application that merely calls us. Then a line that says nothing to us is
    passed over, and a directory of that name (some keep a virtual environment there) is no fault.
    """
    text = _text(path, foreign=foreign)
    bindings = list(parse_stream(io.StringIO(text))) if text else []
    faults = [
        f".env line {_line(binding)}: cannot be read as NAME=value (is a quote not closed?)"
        for binding in bindings
        if binding.error
    ]
    if faults and not foreign:
        raise SettingsError(faults)
    for fault in faults:
        log.warning("%s; it is passed over", fault)
    return {binding.key: binding.value for binding in bindings if binding.key and binding.value is not None}


def _text(path: Path, *, foreign: bool) -> str:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode) and not foreign:
            raise SettingsError([".env: found a directory, expected a file with lines NAME=value"])
        return path.read_text("utf-8") if stat.S_ISREG(mode) else ""
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except PermissionError:
        raise SettingsError([f".env: found {_whose(path)}, expected one that this user may read"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            [f".env: found a file that cannot be read ({type(error).__name__}), expected UTF-8 text"]
        ) from None


def _line(binding: Binding) -> int:
    """The parser counts from the blank lines in front of what it could not read."""
    source = binding.original.string
    blank = source[: len(source) - len(source.lstrip())]
    return binding.original.line + len(re.findall(r"\r\n|\n|\r", blank))


def _whose(path: Path) -> str:
    us = _user(os.geteuid())
    try:
        found = path.stat()
    except OSError:
        return f"a directory around it that {us}, the user of this process, may not enter"
    mode = f"{stat.S_IMODE(found.st_mode):o}"
    return f"a file of {_user(found.st_uid)} (mode {mode}) that {us}, the user of this process, may not read"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
