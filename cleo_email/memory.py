"""Memory: few large things at once, and what they took goes back to the system when they are done."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_M_MMAP_THRESHOLD = -3
_FROM = 256 * 1024  # bytes


def give_back_large_blocks() -> None:
    """Without this glibc keeps what large mails took.

    Each time it frees a large block it raises the size from which blocks are mapped one by one, up to 32 MB;
    what is smaller stays in the heap of some thread (mallopt(3)). Does nothing where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _FROM)
    except (OSError, AttributeError):
        return


class LargeWork:
    """Lets at most ``at_once`` threads of this process work on something of ``from_bytes`` or more.

    Fifty conversations at once are no matter for memory, fifty mails of 25 MB at once are.
    """

    def __init__(self, at_once: int, *, from_bytes: int = 1 << 20) -> None:
        self._from = from_bytes
        self._slots = threading.BoundedSemaphore(at_once)

    @contextmanager
    def turn(self, size: int, *, patience: float | None = None) -> Iterator[bool]:
        """True once it is our turn; False if that was not so within ``patience`` seconds (None: for ever)."""
        if size < self._from:
            yield True
            return
        taken = self._slots.acquire(timeout=patience)
        try:
            yield taken
        finally:
            if taken:
                self._slots.release()
