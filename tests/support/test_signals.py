from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# What a process does that was started with the signal ignored, and what its child then says of it.
TEXT = """
import signal, subprocess, sys
from tests.support.signals import give_children_default_signals
give_children_default_signals()
signal.raise_signal(int(sys.argv[1]))  # the process itself goes on ignoring it
child = "import signal, sys; print(signal.getsignal(int(sys.argv[1])) is signal.SIG_IGN)"
subprocess.run([sys.executable, "-c", child, sys.argv[1]], check=True)
"""


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT"])
def test_a_child_does_not_inherit_an_ignored_signal(name: str) -> None:
    ignoring = ["sh", "-c", f'trap "" {name}; exec "$@"', "sh"]
    number = str(int(signal.Signals[f"SIG{name}"]))
    done = subprocess.run(
        [*ignoring, sys.executable, "-c", TEXT, number], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
