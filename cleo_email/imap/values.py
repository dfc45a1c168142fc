"""A server's data about a mailbox and its messages, as frozen values; and the arguments of commands."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from imapclient.response_parser import parse_to_datetime

from cleo_email.errors import MailboxError, MailboxUnavailable

SEEN = "\\Seen"
ANSWERED = "\\Answered"
DRAFT = "\\Draft"
DELETED = "\\Deleted"
# Keywords (RFC 3501 section 2.3.2) that let people see in their own mail client what became of a mail.
ACCEPTED = "$CleoAccepted"
REPLIED = "$CleoReplied"
HELD = "$CleoHeld"
FAILED = "$CleoFailed"


@dataclass(frozen=True)
class ImapTimeouts:
    """Seconds.

    ``connect``: TCP, TLS and greeting, each; ``read``: silence of the server within any command;
    ``liveness``: its answer to the NOOP that tries a kept connection; ``command``: one command as a whole,
    as a server may send a byte now and then for ever.
    """

    connect: float = 10.0
    read: float = 60.0
    liveness: float = 15.0
    command: float = 300.0


@dataclass(frozen=True)
class MailboxStatus:
    """A selected mailbox (RFC 3501 section 6.3.1).

    ``read_only``: flags cannot be stored. ``keywords_allowed``: our keywords can be stored. UIDNEXT is left
    out: servers omit it, or name a number that jumps.
    """

    uidvalidity: int
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
    """One message, byte for byte as the server has it (CRLF line ends)."""

    uid: int
    source: bytes = field(repr=False)


_FOR_NOW = re.compile(
    r"\[(UNAVAILABLE|INUSE|LIMIT|OVERQUOTA|SERVERBUG|THROTTLED)\b"
    r"|back-?\s?off|throttl|too (many|much|fast|often)|again\b|\blater\b|temporar|transient|bandwidth|exceed"
    r"|overload|quota|\bbusy\b|time-?d?[ -]?out|unavailable|not available|maintenance|in use\b|slow down"
    r"|shutting down|\bwait\b|limit(s|ed)?\b",
    re.IGNORECASE,
)
_BACK_OFF = re.compile(r"back-?\s?off\D{0,20}(\d+)\s*(ms|milli\w+|s|sec\w*|m|min\w*)?\b", re.IGNORECASE)
_UNITS = {"s": 1000, "m": 60_000}


def throttled_ms(error: MailboxError) -> int | None:
    """Return None unless the server refuses for a while of its own accord, whatever it is asked.

    Else the milliseconds to wait that it names, 0 if none (RFC 5530 section 3; providers say it in words).
    """
    text = str(error)
    words = text.partition("the server says: ")[2] or text.partition(" failed: ")[2]
    if (found := _BACK_OFF.search(words)) is not None:
        unit = (found[2] or "ms").lower()
        return int(found[1][:9]) * (1 if unit.startswith(("ms", "milli")) else _UNITS[unit[0]])
    return 0 if _FOR_NOW.search(words) else None


class BatchFailed(MailboxUnavailable):
    """A FETCH failed, with or without the connection. One of ``uids`` may be the cause: try each alone."""

    def __init__(self, message: str, uids: Sequence[int]) -> None:
        super().__init__(message)
        self.uids = tuple(uids)


# In one sequence set: at ten digits each they leave room in a line of 8000 octets, and servers need not take
# longer ones (RFC 2683 section 3.2.1.5).
SET_UIDS = 500


def uid_sets(uids: Iterable[int]) -> Iterator[tuple[list[int], str]]:
    """Yield ascending UIDs, ``SET_UIDS`` at a time, and their sequence set."""
    ordered = sorted(set(uids))
    for start in range(0, len(ordered), SET_UIDS):
        batch = ordered[start : start + SET_UIDS]
        yield batch, ranges(batch)


def ranges(uids: list[int]) -> str:
    """Return UIDs as a sequence set (RFC 3501 section 9)."""
    parts: list[str] = []
    start = previous = uids[0]
    for uid in [*uids[1:], 0]:
        if uid != previous + 1:
            parts.append(str(start) if start == previous else f"{start}:{previous}")
            start = uid
        previous = uid
    return ",".join(parts)


def batches(sizes: Iterable[tuple[int, int]], most: int, octets: int) -> Iterator[list[int]]:
    """Yield the UIDs of (UID, size) pairs in batches of at most ``octets``, unless one alone is larger."""
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
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def status_of(selected: Items, uidvalidity: int) -> MailboxStatus:
    r"""Return the status from the data of a SELECT answer (RFC 3501 section 7.1).

    Without PERMANENTFLAGS every flag counts as permanent, but no new keyword as possible. With it, a mailbox
    that does not keep ``\Seen`` is as good as read-only.
    """
    permanent = {_flag(flag).lower() for flag in selected.get(b"PERMANENTFLAGS", [SEEN])}
    return MailboxStatus(
        uidvalidity=uidvalidity,
        read_only=bool(selected.get(b"READ-ONLY")) or SEEN.lower() not in permanent,
        keywords_allowed="\\*" in permanent or permanent >= _OURS,
        exists=int(selected.get(b"EXISTS") or 0),
    )


def info_of(uid: int, items: Items) -> MessageInfo | None:
    """Return size, date and flags from a FETCH answer; None if it has no size."""
    size = items.get(b"RFC822.SIZE")
    if not isinstance(size, int):
        return None
    return MessageInfo(uid, size, _internal_date(items.get(b"INTERNALDATE")), _flags(items))


def _internal_date(value: Any) -> datetime:
    """Take a date that makes no sense (some servers store year 0) as now: the mail is then not too old."""
    try:
        parsed: datetime = parse_to_datetime(value, normalise=False)
        return parsed.replace(tzinfo=parsed.tzinfo or UTC).astimezone(UTC)
    except (ValueError, TypeError, AttributeError, OverflowError):
        return datetime.now(UTC)


def having(messages: Mapping[int, Items], flags: Iterable[str]) -> set[int]:
    """Return the UIDs whose FLAGS hold all of ``flags``, compared without case."""
    wanted = {flag.lower() for flag in flags}
    return {uid for uid, items in messages.items() if wanted <= {flag.lower() for flag in _flags(items)}}


def content_of(value: Any) -> bytes | None:
    """Return a body or header; None for NIL, by which a server says that it has none to give."""
    if isinstance(value, int):  # IMAPClient's parser makes a number of content that looks like one
        return str(value).encode("ascii")
    return value if isinstance(value, bytes) else None


def search_date(day: date) -> str:
    """Return a date as SEARCH takes it (RFC 3501 section 9), in English under any locale."""
    return f"{day.day}-{_MONTHS[day.month - 1]}-{day.year:04d}"


def quoted(text: str) -> str:
    """Return printable ASCII ``text`` as a quoted string (RFC 3501 section 4.3)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _flags(items: Items) -> frozenset[str]:
    return frozenset(map(_flag, items.get(b"FLAGS") or ()))


def _flag(flag: Any) -> str:
    if flag is None:  # the parser takes a keyword of that name for NIL
        return "NIL"
    return flag.decode("ascii", "replace") if isinstance(flag, bytes) else str(flag)
