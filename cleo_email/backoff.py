"""When to try again."""

from __future__ import annotations

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def backoff_ms(failures: int) -> int:
    """Milliseconds to wait after the n-th failure in a row: 10 s, then doubling up to an hour."""
    return int(min(10 * SECOND * 2 ** min(max(failures, 1) - 1, 20), HOUR))
