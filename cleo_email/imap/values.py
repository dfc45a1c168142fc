"""What a mailbox tells, as frozen values, and the server's answers read into them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from imapclient.response_parser import parse_to_datetime

from cleo_email.errors import MailboxUnavailable

SEEN = "\\Seen"
ANSWERED = "\\Answered"
# Keywords (RFC 3501 section 2.3.2) that let people see in their own mail client what became of a mail.
ACCEPTED = "$CleoAccepted"
REPLIED = "$CleoReplied"
HELD = "$CleoHeld"
FAILED = "$CleoFailed"


@dataclass(frozen=True)
class ImapTimeouts:
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


SET_OCTETS = 7000  # servers need not take command lines above 8000 octets (RFC 2683 section 3.2.1.5)


def uid_sets(uids: Iterable[int], most: int) -> Iterator[tuple[list[int], str]]:
    """Ascending, each at most ``most`` UIDs and ``SET_OCTETS`` long, consecutive ones as a range."""
    batch: list[int] = []
    for uid in sorted(set(uids)):
        batch.append(uid)
        if len(batch) == most or (len(batch) % 100 == 0 and len(_ranges(batch)) > SET_OCTETS - 1200):
            yield batch, _ranges(batch)
            batch = []
    if batch:
        yield batch, _ranges(batch)


def _ranges(uids: list[int]) -> str:
    parts: list[str] = []
    start = previous = uids[0]
    for uid in [*uids[1:], 0]:
        if uid == previous + 1:
            previous = uid
            continue
        parts.append(str(start) if start == previous else f"{start}:{previous}")
        start = previous = uid
    return ",".join(parts)


def batches(sizes: Iterable[tuple[int, int]], most: int, octets: int) -> Iterator[list[int]]:
    """(UID, size) pairs in their order, together at most ``octets`` unless one alone is larger."""
    batch: list[int] = []
    total = 0
    for uid, size in sizes:
        if batch and (len(batch) == most or total + size > octets):
            yield batch
            batch, total = [], 0
        batch.append(uid)
        total += size
    if batch:
        yield batch


Items = Mapping[bytes, Any]
_OURS = frozenset(keyword.lower() for keyword in (ACCEPTED, REPLIED, HELD, FAILED))
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def status_of(selected: Items, uidvalidity: int, uidnext: int) -> MailboxStatus:
    r"""The status from the data of a SELECT answer (RFC 3501 section 7.1).

    Without PERMANENTFLAGS every flag is to be taken as permanent, but no new keyword as possible. With it, a
    mailbox that does not keep ``\Seen`` is as good as read-only.
    """
    told = selected.get(b"PERMANENTFLAGS")
    permanent = {_flag(flag).lower() for flag in told} if told is not None else {SEEN.lower()}
    return MailboxStatus(
        uidvalidity=uidvalidity,
        uidnext=uidnext,
        read_only=bool(selected.get(b"READ-ONLY")) or SEEN.lower() not in permanent,
        keywords_allowed="\\*" in permanent or permanent >= _OURS,
        exists=int(selected.get(b"EXISTS") or 0),
    )


def info_of(uid: int, items: Items) -> MessageInfo | None:
    """Size, date and flags from a FETCH answer; None if it tells no size."""
    size = items.get(b"RFC822.SIZE")
    if not isinstance(size, int):
        return None
    return MessageInfo(
        uid,
        size,
        _internal_date(items.get(b"INTERNALDATE")),
        frozenset(map(_flag, items.get(b"FLAGS") or ())),
    )


def _internal_date(told: Any) -> datetime:
    """A date that makes no sense (some servers store year 0) counts as now: the mail is then not too old."""
    try:
        parsed: datetime = parse_to_datetime(told, normalise=False)
        return parsed.replace(tzinfo=parsed.tzinfo or UTC).astimezone(UTC)
    except (ValueError, TypeError, AttributeError, OverflowError):
        return datetime.now(UTC)


def having(told: Mapping[int, Items], flags: Iterable[str]) -> set[int]:
    """UIDs whose FLAGS hold all of ``flags``, compared without case."""
    wanted = {flag.lower() for flag in flags}
    return {
        uid for uid, items in told.items() if wanted <= {_flag(f).lower() for f in items.get(b"FLAGS") or ()}
    }


def content_of(value: Any) -> bytes | None:
    """A body or header; None for NIL, by which a server says that it has none to give."""
    if isinstance(value, int):  # a quoted or bare number, where the parser has been too clever
        return str(value).encode("ascii")
    return value if isinstance(value, bytes) else None


def search_date(day: date) -> str:
    """A date as SEARCH takes it (RFC 3501 section 9), whatever the locale."""
    return f"{day.day}-{_MONTHS[day.month - 1]}-{day.year:04d}"


def fields_in(header: bytes, wanted: bytes) -> list[str]:
    """Values of the fields named ``wanted`` (lower case) in ``header``, unfolded (RFC 5322 section 2.2.3)."""
    lines = header.replace(b"\r\n", b"\n").replace(b"\n ", b" ").replace(b"\n\t", b" ").split(b"\n")
    fields = (line.partition(b":") for line in lines)
    return [
        value.strip().decode("utf-8", "replace")
        for name, _, value in fields
        if name.strip().lower() == wanted
    ]


def quotable(text: str) -> str | None:
    """``text`` as a quoted string (RFC 3501 section 4.3), or None if only a literal can carry it."""
    if not text.isascii() or not text.isprintable():
        return None
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _flag(flag: Any) -> str:
    if flag is None:  # the parser takes a keyword of that name for NIL
        return "NIL"
    return flag.decode("ascii", "replace") if isinstance(flag, bytes) else str(flag)
