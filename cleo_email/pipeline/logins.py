"""How often the mailbox may be logged into: providers lock an account whose program knocks too often.

A normal login is kept for days; what is counted here are connections of workers that break, or of workers
that start again and again. What a person asks for (``check``, ``poll``) does not count and is never refused.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cleo_email.errors import MailboxError, MailboxUnavailable
from cleo_email.runtime import HOUR, MINUTE
from cleo_email.store import Store, Ticks

LOGINS = 6  # of all processes together
LOGINS_MS = 3 * MINUTE  # within any
_PLACES = tuple(f"login-{number}" for number in range(LOGINS))
LIMITED_MS = 12 * HOUR
LIMITED = "the server limits connections, and the one that listens (IDLE) gives way"
_SPARE = _PLACES[LOGINS // 2 :]
# Two are the poll's alone. It begins with the one that no other spare login takes: where a worker is started
# twice, the connection for Sent and Drafts has its place each time.
_LISTENER = _PLACES[2:]
# Words of a server about how many connections or logins it allows.
_LIMIT = re.compile(
    r"\[(LIMIT|INUSE|THROTTLED)\b|too many|maximum|\blimit|connections|sessions|throttl|back-?\s?off",
    re.IGNORECASE,
)


class LoginsUsedUp(MailboxUnavailable):
    """There were so many logins that the mailbox rests, for ``ms`` milliseconds."""

    def __init__(self, ms: int) -> None:
        until = datetime.now(UTC) + timedelta(milliseconds=ms)
        super().__init__(
            f"{LOGINS} connections to the mailbox were made within {LOGINS_MS // MINUTE} minutes;"
            f" so that the provider does not lock the account it rests until {until:%H:%M:%S} UTC"
        )
        self.ms = ms


class ConnectionRests(LoginsUsedUp):
    """A connection is not made anew for ``ms`` milliseconds, after the ``fault`` that it had."""

    def __init__(self, ms: int, fault: str) -> None:
        MailboxUnavailable.__init__(self, fault)
        self.ms = ms


def limit_logins(ticks: Ticks) -> None:
    """Count a login. Raise LoginsUsedUp where there may be none now, and StoreUnavailable."""
    _count(ticks, _PLACES)


def limit_spare_logins(ticks: Ticks) -> None:
    """Count a login that the poll can do without: some are left to it. Raise as ``limit_logins``."""
    _count(ticks, _SPARE)


def limit_listener_logins(ticks: Ticks) -> None:
    """Count a login of the process that listens. Raise as ``limit_logins``."""
    _count(ticks, _LISTENER)


def is_of_a_limit(error: MailboxError) -> bool:
    """Return whether the server allows no further connection of this account."""
    return not isinstance(error, LoginsUsedUp) and bool(_LIMIT.search(str(error)))


def stop_listening(store: Store, fault: MailboxError) -> None:
    """Let no process listen for a while where a connection was refused as one too many."""
    if is_of_a_limit(fault):
        store.listening.close(LIMITED_MS)
        store.health.listens(0, f"{LIMITED}: {fault}")


def _count(ticks: Ticks, places: Sequence[str]) -> None:
    if not any(ticks.tick(place, LOGINS_MS) for place in places):
        raise LoginsUsedUp(max(min(map(ticks.tick_left_ms, places)), 1))
