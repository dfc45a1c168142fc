"""What servers say, made fit for an error message: one printable line, short, without a secret."""

from __future__ import annotations

import ast
import base64
import contextlib
import re

LIMIT = 300  # characters
_REMEMBERED = 12  # patterns: of the last three secrets, as each OAuth2 login brings a new token
_CODE = re.compile(r"\[([A-Z][A-Z0-9-]*)[\] ]", re.IGNORECASE)
_BAD = re.compile(r"command error: BAD (\[b.*\])", re.DOTALL)  # how imaplib shows the data of a BAD answer


class Words:
    """Turns server text into one line of at most ``LIMIT`` characters in which no secret appears."""

    def __init__(self) -> None:
        self._secrets: list[re.Pattern[str]] = []

    def hide(self, user: str, secret: str) -> None:
        """From now on leave ``secret`` out, in every spelling in which a server could repeat it."""
        if not secret:
            return
        name, raw = (value.encode("utf-8", "surrogateescape") for value in (user, secret))
        encoded = [raw, b"\0" + name + b"\0" + raw, xoauth2(user, secret)]  # the second: SASL PLAIN, RFC 4616
        spellings = [secret, *(base64.b64encode(value).decode("ascii") for value in encoded)]
        self._secrets = [*map(_however_escaped, spellings), *self._secrets][:_REMEMBERED]

    def line(self, said: object) -> str:
        """``said``: bytes, a text, a list of them as imaplib gives it, or an exception."""
        text = _text(said)
        for secret in self._secrets:
            text = secret.sub("***", text)
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= LIMIT else text[: LIMIT - 1] + "…"


def _however_escaped(secret: str) -> re.Pattern[str]:
    """Matches ``secret`` with any backslashes put in (IMAP's quoted strings, Python's repr, both)."""
    letters = [_letter(char) for char in secret if char != "\\"]
    return re.compile(r"\\*".join(letters)) if letters else re.compile(re.escape(secret))


def _letter(char: str) -> str:
    if char.isascii():
        return re.escape(char)
    bytewise = "".join(rf"\\+x{octet:02x}" for octet in char.encode("utf-8", "surrogateescape"))
    return f"(?:{re.escape(char)}|{bytewise})"


def xoauth2(user: str, token: str) -> bytes:
    """The initial client response of SASL XOAUTH2 (Google's and Microsoft's mechanism, in no RFC)."""
    return f"user={user}\x01auth=Bearer {token}\x01\x01".encode("utf-8", "surrogateescape")


def is_bad(exc: BaseException) -> bool:
    """Whether imaplib's ``exc`` stands for a tagged BAD."""
    return _BAD.search(str(exc)) is not None


def response_code(said: object) -> str:
    """The response code of an answer (RFC 3501 section 7.1, RFC 5530) in capitals, or an empty string."""
    found = _CODE.match(_text(said))
    return found.group(1).upper() if found else ""


def _text(said: object) -> str:
    if isinstance(said, OSError):
        return str(said) or type(said).__name__
    if isinstance(said, BaseException):
        bad = _BAD.search(str(said))
        if bad:
            with contextlib.suppress(ValueError, SyntaxError):
                return "BAD " + _text(ast.literal_eval(bad[1]))
        said = list(said.args) if said.args else type(said).__name__
    if isinstance(said, list | tuple):
        return " ".join(_text(part) for part in said if part is not None)
    if isinstance(said, bytes):
        return said.decode("utf-8", "replace")
    return str(said)
