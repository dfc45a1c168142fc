"""A progress bar for people; nothing for programs and log files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WIDTH = 30


@contextmanager
def progress_bar(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Give a function of (done, total) that draws on standard error where that is a terminal."""
    shown = sys.stderr.isatty() and not quiet
    drawn = False

    def draw(done: int, total: int) -> None:
        nonlocal drawn
        if shown and total > 0:
            bar = ("#" * (WIDTH * min(done, total) // total)).ljust(WIDTH, ".")
            print(f"\r[{bar}] {done} of {total} {what}", end="", file=sys.stderr, flush=True)
            drawn = True

    try:
        yield draw
    finally:
        if drawn:
            print(file=sys.stderr)
