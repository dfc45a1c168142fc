"""The server's answers read as values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from imapclient.response_parser import parse_to_datetime  # type: ignore[import-untyped]

from .values import ACCEPTED, FAILED, HELD, REPLIED, SEEN, MailboxStatus, MessageInfo

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
