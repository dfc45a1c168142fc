"""What a mailbox tells and how it can fail, as values for the services above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cleo_email.errors import MailboxUnavailable

SEEN = "\\Seen"
ANSWERED = "\\Answered"
# Keywords (RFC 3501 section 2.3.2) that let people see in their own mail client what became of a mail.
ACCEPTED = "$CleoAccepted"
REPLIED = "$CleoReplied"
HELD = "$CleoHeld"
FAILED = "$CleoFailed"


@dataclass(frozen=True)
class Timeouts:
    """Seconds.

    ``connect``: TCP, TLS and greeting, each wait; ``read``: silence of the server within any command;
    ``liveness``: its answer to the NOOP that tries a kept connection; ``command``: one command as a whole,
    so that a server that sends a byte now and then cannot hold us for ever.
    """

    connect: float = 10.0
    read: float = 60.0
    liveness: float = 15.0
    command: float = 300.0


@dataclass(frozen=True)
class MailboxStatus:
    """A selected mailbox (RFC 3501 section 6.3.1).

    ``uidnext`` is 0 where the server does not tell. ``read_only``: flags cannot be kept here.
    ``keywords_allowed``: our keywords can be stored.
    """

    uidvalidity: int
    uidnext: int
    read_only: bool
    keywords_allowed: bool
    exists: int


@dataclass(frozen=True)
class MessageInfo:
    """``size`` is RFC822.SIZE in octets; ``internal_date`` is when the server got the mail, aware, UTC."""

    uid: int
    size: int
    internal_date: datetime
    flags: frozenset[str]


@dataclass(frozen=True)
class Fetched:
    """One message, byte for byte as the server gives it (CRLF line ends)."""

    uid: int
    source: bytes = field(repr=False)


class BatchFailed(MailboxUnavailable):
    """A FETCH failed, with or without the connection. One of ``uids`` may be the cause: try each alone."""

    def __init__(self, message: str, uids: Sequence[int]) -> None:
        super().__init__(message)
        self.uids = tuple(uids)
