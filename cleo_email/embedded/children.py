"""Start child processes that do not outlive this process.

On Linux the kernel sends a child SIGTERM when its parent ends, however the parent ends (PR_SET_PDEATHSIG, see
prctl(2)). The request is made by a few lines of Python that then exec the program, not by a ``preexec_fn``,
which is unsafe in a process with threads. Elsewhere a child is stopped by whoever started it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

# argv: parent's pid, program, arguments. The kernel forgets a parent that has ended before the request was
# made, hence the comparison afterwards. exec keeps the pid, the open files and the request.
_BOUND = """\
import ctypes, os, sys
ctypes.CDLL(None, use_errno=True).prctl(1, 15, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(143)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""

_lasting_thread: tuple[int, ThreadPoolExecutor] | None = None
_lasting_thread_lock = threading.Lock()


@dataclass(frozen=True)
class Command:
    """A child to keep running. ``env`` is its whole environment; None means that of this process."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = field(default=None, repr=False)
    cwd: Path | None = None


@dataclass(frozen=True)
class Pace:
    """All in seconds. The defaults are those of the product; tests take shorter ones."""

    first_delay: float = 1.0
    longest_delay: float = 30.0
    healthy_after: float = 60.0
    grace: float = 28.0


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own, bound to the life of this process where the system can.

    It reads nothing (standard input is empty). ``stdout`` and ``stderr`` are file descriptors or constants of
    ``subprocess``. Raises OSError if not even the Python interpreter could be started; a program that cannot
    be executed ends with exit status 1 and one line on its standard error.
    """
    bound = sys.platform == "linux" and bool(sys.executable)
    binding = [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid())] if bound else []
    argv = [*binding, *command]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own command lines, no shell
            argv,
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            start_new_session=True,  # a Ctrl-C in the terminal reaches the supervisor alone
        )

    # To the kernel the parent is the thread that started the child: one that ends early takes it along.
    if not bound or threading.current_thread() is threading.main_thread():
        return start()
    return _lasting().submit(start).result()


def _lasting() -> ThreadPoolExecutor:
    """One thread that lives as long as this process (a forked child gets its own)."""
    global _lasting_thread
    with _lasting_thread_lock:
        if _lasting_thread is None or _lasting_thread[0] != os.getpid():
            _lasting_thread = (os.getpid(), ThreadPoolExecutor(1, "spawn"))
        return _lasting_thread[1]


def ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process has ended; it stays a zombie, so that its pid and group cannot be reused yet."""
    if process.returncode is not None:
        return True
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return process.poll() is not None
    try:
        status = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return process.poll() is not None
    return status is not None


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the child and whatever it started in its session. No error if none of them is left."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        return
