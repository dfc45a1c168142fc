"""What servers say, made fit for an error message: one printable line, short, without a secret."""

from __future__ import annotations

import base64
import re

LIMIT = 300  # characters
_CODE = re.compile(r"\[([A-Z][A-Z0-9-]*)[\] ]", re.IGNORECASE)


class Words:
    """Turns server text into one line of at most ``LIMIT`` characters in which no secret appears."""

    def __init__(self) -> None:
        self._secrets: list[str] = []

    def hide(self, user: str, secret: str) -> None:
        """From now on leave ``secret`` out, in every spelling in which a server could echo it."""
        if not secret:
            return
        raw = secret.encode("utf-8", "surrogateescape")
        name = user.encode("utf-8", "surrogateescape")
        spellings = {
            secret,
            secret.replace("\\", "\\\\").replace('"', '\\"'),  # an IMAP quoted string
            repr(raw)[2:-1],  # imaplib shows the bytes of a BAD answer
            base64.b64encode(raw).decode("ascii"),
            base64.b64encode(b"\0" + name + b"\0" + raw).decode("ascii"),  # SASL PLAIN (RFC 4616)
            base64.b64encode(xoauth2(user, secret)).decode("ascii"),
        }
        self._secrets = sorted({*self._secrets, *spellings}, key=len, reverse=True)

    def line(self, said: object) -> str:
        """``said``: bytes, a text, a list of them as imaplib gives it, or an exception."""
        text = _text(said)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= LIMIT else text[: LIMIT - 1] + "…"


def xoauth2(user: str, token: str) -> bytes:
    """The initial client response of SASL XOAUTH2 (Google's and Microsoft's mechanism, in no RFC)."""
    return f"user={user}\x01auth=Bearer {token}\x01\x01".encode("utf-8", "surrogateescape")


def response_code(said: object) -> str:
    """The response code of an answer (RFC 3501 section 7.1, RFC 5530) in capitals, or an empty string."""
    found = _CODE.match(_text(said))
    return found.group(1).upper() if found else ""


def _text(said: object) -> str:
    if isinstance(said, OSError):
        return str(said) or type(said).__name__
    if isinstance(said, BaseException):
        said = list(said.args) if said.args else type(said).__name__
    if isinstance(said, list | tuple):
        return " ".join(_text(part) for part in said if part is not None)
    if isinstance(said, bytes):
        return said.decode("utf-8", "replace")
    return str(said)
