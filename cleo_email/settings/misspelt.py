"""Variables that look like settings and are none: what is misspelt would silently be nothing."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from cleo_email.settings.reading import NAMES

_PREFIXES = ("EMAIL_", "CLEO_")
# Of deploy/postfix-pipe, of the crash points and of the tests.
_ELSEWHERE = frozenset(
    {"CLEO_URL", "CLEO_SECRET_FILE", "CLEO_CRASH_AT", "CLEO_CORPORA", "CLEO_REQUIRE_SERVERS"}
)
_ALIKE = 0.75  # of difflib's ratio: two letters changed places, one is missing, a word was forgotten


def misspelt(given: Mapping[str, str]) -> list[str]:
    """A line for each name in ``given`` that begins as our settings do and is none; no value is shown."""
    names = sorted(name for name in given if name.upper().startswith(_PREFIXES))
    return [_line(name) for name in names if name not in NAMES and name not in _ELSEWHERE]


def _line(name: str) -> str:
    ours = sorted(one for one in NAMES if one.startswith(_PREFIXES))
    near = get_close_matches(name.upper(), ours, 1, _ALIKE)
    return f"{name[:80]} is no setting and has no effect" + (f": did you mean {near[0]}?" if near else "")
