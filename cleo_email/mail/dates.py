"""Date headers (RFC 5322 section 3.3) as moments in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz
from typing import Final

from cleo_email.mail.words import without_comments

_MAX_LENGTH: Final = 200
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
# As Postmark writes it: "Fri, 1 Aug 2014 16:45:32 -04:00".
_ZONE_WITH_COLON: Final = re.compile(r"(?<=[\s0-9])([+-][0-9]{2}):([0-9]{2})$")


def parse_date(text: str) -> datetime | None:
    """Give the moment that ``text`` names, in UTC, or None where it names none between 1970 and 2200.

    A zone that cannot be (more than a day away) is read as UTC, as is none at all or -0000. Never raises.
    """
    if len(text) > _MAX_LENGTH:
        return None
    moment = _rfc5322(text) or _iso8601(text.strip())
    if moment is None or not _EARLIEST <= moment <= _LATEST:
        return None
    return moment


def _rfc5322(text: str) -> datetime | None:
    try:
        plain = _ZONE_WITH_COLON.sub(r"\1\2", " ".join(without_comments(text).split()))
        fields = parsedate_tz(plain)
        if fields is None:
            return None
        offset = timedelta(seconds=fields[9] or 0)
        zone = timezone(offset) if abs(offset) < timedelta(days=1) else UTC
        year, month, day, hour, minute, second = fields[:6]
        # A leap second is a moment that datetime does not know.
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
        return None


def _iso8601(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
