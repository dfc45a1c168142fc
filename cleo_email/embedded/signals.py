"""Signals of a process whose main thread sleeps in a ``select``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType


@contextmanager
def taken_over(
    stops: Sequence[signal.Signals], on_stop: Callable[[int, FrameType | None], None], wakeup: int
) -> Iterator[bool]:
    """While it lasts ``on_stop`` is called for ``stops``, and a byte for each signal, SIGCHLD included, is
    written to the descriptor ``wakeup``.

    Yields True where that is not ours to do: outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield True
        return
    before = {number: signal.getsignal(number) for number in (*stops, signal.SIGCHLD)}
    wakeup_before = signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    try:
        for number in stops:
            if before[number] is not signal.SIG_IGN:  # nohup means what it says
                signal.signal(number, on_stop)
        signal.signal(signal.SIGCHLD, _wake)
        yield False
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _wake(number: int, frame: FrameType | None) -> None:
    """Present so that the signal is written to the descriptor."""
