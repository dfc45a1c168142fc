"""The server's words in our errors: one printable line without secrets, and what a reply code means."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import NamedTuple

from cleo_email.errors import SubmissionError, SubmissionLoginRefused, SubmissionUnavailable

LONGEST = 300  # characters
_LOGIN_CODES = frozenset({530, 534, 535, 538})  # RFC 4954 section 6


class Reply(NamedTuple):
    """One reply of RFC 5321 section 4.2: ``text`` has a line for each line of the reply."""

    code: int
    text: str

    @property
    def accepted(self) -> bool:
        return 200 <= self.code < 300

    @property
    def permanent(self) -> bool:
        return 500 <= self.code < 600

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class LinkLost(SubmissionUnavailable):
    """The session ended before the end of DATA (broken off, timed out, 421): another one may work at once."""


class Scrubber:
    """Makes foreign text printable and takes the login's secrets out of it."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms: set[str] = set()
        for secret in filter(None, secrets):
            forms |= {secret, base64.b64encode(secret.encode("utf-8", "replace")).decode("ascii")}
        self._forms = sorted(forms, key=len, reverse=True)

    def line(self, text: object) -> str:
        """``text`` as one line of at most 300 printable characters."""
        line = str(text)
        for form in self._forms:
            line = line.replace(form, "***")
        line = " ".join("".join(c if c.isprintable() else " " for c in line).split())
        return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def refusal(stage: str, reply: Reply, scrub: Scrubber) -> SubmissionError:
    """The error for a reply that is not the hoped-for one, before the end of DATA or in answer to it."""
    words = scrub.line(f"the server answers {stage} with {reply}")
    if reply.code == 421:  # RFC 5321 section 3.8: it closes the connection
        return LinkLost(words)
    if reply.code in _LOGIN_CODES:
        return SubmissionLoginRefused(words)
    if reply.permanent:
        return SubmissionError(words)
    return SubmissionUnavailable(words)
