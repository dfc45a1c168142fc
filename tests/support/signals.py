"""Children of the tests start with default signal handling, however the tests themselves were started."""

from __future__ import annotations

import signal

# Those that nohup, a shell's "&" and "trap ''" let a process ignore.
_OFTEN_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def give_children_default_signals() -> None:
    """Ignore by a handler what this process ignores: a child would inherit that, but no handler (execve(2)).

    Otherwise a child under test would not end on a signal that the test sends it.
    """
    for number in _OFTEN_IGNORED:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
