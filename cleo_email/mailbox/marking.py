"""Flags on messages, and which of them the server has confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .answers import having
from .faults import RefusedForGood, RefusedForNow
from .uidsets import uid_sets
from .wire import Wire

STORE = 1000  # messages in one STORE


def mark(
    wire: Wire, uids: set[int], uid_set: str, system: Sequence[str], keywords: Sequence[str]
) -> set[int]:
    """Add flags and return those of ``uids`` that have the system flags now, or else the keywords."""
    decisive = system or keywords
    if not decisive:
        return set()
    done = having(_store(wire, uid_set, system, keywords), decisive) & uids
    # Dovecot, for one, says nothing about a message whose flags a STORE did not change: ask.
    for _, rest in uid_sets(uids - done, STORE):
        done |= having(wire.fetch(rest, "(UID FLAGS)"), decisive) & uids
    return done


def _store(
    wire: Wire, uid_set: str, system: Sequence[str], keywords: Sequence[str]
) -> dict[int, dict[bytes, Any]]:
    try:
        return wire.store(uid_set, f"({' '.join([*system, *keywords])})")
    except (RefusedForNow, RefusedForGood):
        if not system or not keywords:
            raise
    return wire.store(uid_set, f"({' '.join(system)})")
