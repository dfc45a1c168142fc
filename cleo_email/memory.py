"""Large blocks of memory go back to the system as soon as they are free."""

from __future__ import annotations

import ctypes
import sys

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
