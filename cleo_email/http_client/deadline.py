"""A total time limit that every single wait of a call draws from."""

from __future__ import annotations

import time


class Deadline:
    """Ends ``seconds`` after it was made, however many waits are made under it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left, always more than 0 (a socket time-out of 0 would mean "do not block").

        :raises TimeoutError: nothing is left.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError(self.said)
        return left

    @property
    def said(self) -> str:
        """The one line for the record."""
        return f"no answer within {self.seconds:g} s"
