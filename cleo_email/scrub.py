"""Make text from outside fit for a log line or an error, without secrets, and read JSON safely."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def no_surrogates(text: str) -> str:
    """Return ``text`` with surrogate pairs joined and each lone surrogate replaced by U+FFFD."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


REASON_LENGTH = 200  # characters of foreign text in a reason
SERVER_LINE = 300  # characters of what a mail server says


class Scrubber:
    """Makes one printable line of foreign text, and hides secrets in every form a server could repeat."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._spellings: dict[str, str] = {}  # and of each the longest part that no escaping changes
        for secret in secrets:
            self.hide(secret)

    def hide(self, secret: str, *responses: bytes) -> None:
        """Hide ``secret`` and the SASL ``responses`` that hold it from now on, in base64 too."""
        if not secret:
            return
        encoded = (base64.b64encode(value).decode("ascii") for value in (_octets(secret), *responses))
        for spelling in (secret, *encoded):
            self._spellings[spelling] = max(_NOT_ASCII.split(spelling.replace("\\", "")), key=len)

    def line(self, text: object, limit: int = SERVER_LINE) -> str:
        """Return at most ``limit`` characters of ``text``, without line breaks, controls and secrets."""
        hidden = str(text)
        bare = hidden.replace("\\", "")
        for spelling in sorted(self._spellings, key=len, reverse=True):  # one may be part of another
            if self._spellings[spelling] in bare:  # the pattern of a long token takes 0.1 s to compile
                hidden = _however_escaped(spelling).sub("***", hidden)
        # Cut before the walk over the characters, but after the secrets: half of one would survive the cut.
        head = no_surrogates(hidden[: limit * 8])
        line = " ".join("".join(char if char.isprintable() else " " for char in head).split())
        return line if len(line) <= limit else line[: limit - 1] + "…"


def one_line(text: str, limit: int = REASON_LENGTH, *, without: Iterable[str] = ()) -> str:
    """Return at most ``limit`` printable characters on one line; every string in ``without`` is hidden."""
    return Scrubber(without).line(text, limit)


def _however_escaped(secret: str) -> re.Pattern[str]:
    """Match ``secret`` with any backslashes put in (IMAP's quoted strings, Python's repr, both)."""
    letters = [_letter(char) for char in secret if char != "\\"]
    return re.compile(r"\\*".join(letters)) if letters else re.compile(re.escape(secret))


def _letter(char: str) -> str:
    if char.isascii():
        return re.escape(char)
    bytewise = "".join(rf"\\+x{octet:02x}" for octet in _octets(char))
    return f"(?:{re.escape(char)}|{bytewise})"


def _octets(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")  # as the environment has it
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


# --- JSON that another program or a stranger wrote --------------------------------------------------------


def read_json(data: bytes | str) -> Any:
    """Return the value that ``data`` is in JSON. Raise ValueError, whose text shows nothing of it."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("JSON nested too deep") from None
    except ValueError:  # UnicodeDecodeError is one
        raise ValueError("no valid JSON") from None


class JsonObject(dict[str, Any]):
    """A JSON object in which a value of another type than the expected one counts as absent."""

    @classmethod
    def of(cls, value: object) -> JsonObject:
        return cls(value) if isinstance(value, dict) else cls()

    def text(self, name: str) -> str:
        value = self.get(name)
        return value if isinstance(value, str) else ""

    def list(self, name: str) -> list[Any]:
        value = self.get(name)
        return value if isinstance(value, list) else []

    def texts(self, name: str) -> Sequence[str]:
        return [item for item in self.list(name) if isinstance(item, str)]

    def object(self, name: str) -> JsonObject:
        return JsonObject.of(self.get(name))

    def objects(self, name: str) -> Sequence[JsonObject]:
        """Return the objects of a list that are not empty."""
        return [found for item in self.list(name) if (found := JsonObject.of(item))]
