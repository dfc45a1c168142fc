"""A progress bar for people; nothing for programs and log files."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

WIDTH = 30


class Progress:
    """Call with (done, total); draws on standard error where that is a terminal."""

    def __init__(self, what: str, *, quiet: bool = False) -> None:
        self._what = what
        self._on = sys.stderr.isatty() and not quiet
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __call__(self, done: int, total: int) -> None:
        if not self._on or total <= 0:
            return
        filled = WIDTH * min(done, total) // total
        bar = "#" * filled + "." * (WIDTH - filled)
        print(f"\r[{bar}] {done} of {total} {self._what}", end="", file=sys.stderr, flush=True)
        self._drawn = True

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            print(file=sys.stderr)
