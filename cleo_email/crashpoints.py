"""Named instants at which ``script/crash-test`` kills this process.

In production nothing is armed and ``reach`` costs a comparison. Armed by ``CLEO_CRASH_AT=name`` (or
``name:3`` for the third time that the point is reached): the process then ends by SIGKILL, exactly there.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping

POINTS = (
    "poll-after-search",
    "poll-after-fetch",
    "poll-after-accept",
    "poll-after-seen",
    "accept-before-store",
    "accept-after-store",
    "accept-after-wake",
    "answer-after-lock",
    "answer-before-agent",
    "answer-after-agent",
    "answer-after-compose",
    "answer-after-keep",
    "submit-before-data",
    "submit-before-end-of-data",
    "submit-after-mark",
    "submit-after-250",
    "submit-after-record",
    "chores-before-flags",
    "chores-after-flags",
    "chores-before-sent",
    "chores-after-sent",
    "answer-before-next",
)

_guard = threading.Lock()
_armed: dict[str, int] = {}


def arm(environ: Mapping[str, str]) -> None:
    """Read ``CLEO_CRASH_AT``; unknown names are refused, so that a test cannot pass by a typing error."""
    wanted = environ.get("CLEO_CRASH_AT", "")
    if not wanted:
        return
    name, _, count = wanted.partition(":")
    if name not in POINTS:
        raise ValueError(f"CLEO_CRASH_AT: there is no point {name!r}")
    _armed[name] = int(count or 1)


def reach(name: str) -> None:
    """Say that this instant has come."""
    if not _armed or name not in _armed:
        return
    with _guard:
        _armed[name] -= 1
        if _armed[name] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
