"""Keep a few processes running, such as web and worker under ``cleo-email run`` and ``cleo-email demo``.

A child that ends is started again, later each time (1 s doubling to 30 s, from the start again after 60 s of
health). Exit status 3 is a settings fault, which no restart mends: it ends everything with that status.
SIGTERM, SIGINT and SIGHUP stop all children; what is left after 28 s is killed (platforms kill after 30 s).

One loop looks at the children ten times a second, and a signal handler only sets a flag. The children write
where this process writes, with no pipe in between that could hold them up or lose a line.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from cleo_email.errors import BAD_SETTINGS, CleoError

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK = 0.1  # seconds between two looks at the children
_KEEPER_INTERVAL = 1.0  # seconds between two calls of the keeper

# The kernel sends a child SIGTERM when its parent ends, kill -9 included (PR_SET_PDEATHSIG, prctl(2)). A few
# lines of Python ask for it and then exec the program: a ``preexec_fn`` is unsafe in a process with threads.
# The comparison finds a parent that ended before the request was made.
_BIND_TO_PARENT = """\
import ctypes, os, sys
ctypes.CDLL(None, use_errno=True).prctl(1, 15, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(143)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""
# To the kernel the parent is the thread that started the child, and a thread that ends takes it along. So one
# thread that lasts as long as this process starts them all.
_SPAWNER = ThreadPoolExecutor(1, "spawn")


@dataclass(frozen=True)
class Command:
    """A child to keep running. ``env`` is its whole environment, by default that of this process."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = field(default=None, repr=False)
    cwd: Path | None = None


@dataclass(frozen=True)
class Pace:
    """When to restart and when to kill, in seconds. The defaults are those of the product."""

    first_delay: float = 1.0
    longest_delay: float = 30.0
    healthy_after: float = 60.0
    grace: float = 28.0


@dataclass
class _Child:
    command: Command
    delay: float  # until the restart after the next failure
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    due_at: float = 0.0  # when to start it, while there is no process


class Supervisor:
    """Start the commands and keep them running; ``run`` returns the exit status for this process, 0 or 3.

    ``output`` is a file for both streams of the children and for the supervisor's own lines; without it they
    go where this process writes. ``keeper`` is called about once a second, to mend what is no child of this
    supervisor (``EmbeddedRedis.ensure``); its CleoError is reported, and it is called again.

    ``run`` in the main thread takes the stop signals while it runs; in another thread it leaves them alone
    and ends by ``stop``, which any thread may call. An object runs once.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        output: BinaryIO | None = None,
        keeper: Callable[[], object] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace or Pace()
        self._children = [_Child(command, self._pace.first_delay) for command in commands]
        self._output = output
        self._keeper = keeper
        self._keeper_due = 0.0
        self._status = 0
        self._stop_requests = 0
        self._hurry = False
        self._kill_at: float | None = None  # set once the children have been asked to end

    @property
    def pids(self) -> dict[str, int]:
        return {child.command.name: child.process.pid for child in self._children if child.process}

    def stop(self) -> None:
        """Begin to stop; ``run`` returns when the last child is gone."""
        self._stop_requests += 1

    def run(self) -> int:
        handlers = {}
        if threading.current_thread() is threading.main_thread():
            for number in _STOP_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup SIGHUP stays ignored
                    handlers[number] = signal.signal(number, self._on_stop_signal)
        try:
            while not self._stop_requests or self.pids:
                now = time.monotonic()
                for child in self._children:
                    self._look_at(child, now)
                if self._stop_requests and self._kill_at is None:
                    self._kill_at = now + self._pace.grace
                    for process in filter(None, (child.process for child in self._children)):
                        process.terminate()
                elif self._keeper and not self._stop_requests and now >= self._keeper_due:
                    try:
                        self._keeper()
                    except CleoError as error:
                        self._say(str(error))
                    self._keeper_due = time.monotonic() + _KEEPER_INTERVAL
                time.sleep(_LOOK)
        finally:
            for child in self._children:  # no child is left, however the loop ended
                if child.process:
                    _kill_group(child.process)
            for number, handler in handlers.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        return self._status

    def _look_at(self, child: _Child, now: float) -> None:
        """Start the child if it is due, see to its end, or kill it if it has had its time to end."""
        one, output = child.command, self._output.fileno() if self._output else None
        if child.process is None:
            if not self._stop_requests and now >= child.due_at:
                child.started_at = now
                try:
                    child.process = spawn(one.argv, env=one.env, cwd=one.cwd, output=output)
                except OSError as error:
                    self._restart_later(child, now, f"could not be started: {error}")
        elif (status := child.process.poll()) is not None:
            _kill_group(child.process)  # a process that it left behind would hold its port
            child.process = None
            if self._stop_requests:
                return
            if status == BAD_SETTINGS:
                self._say(f"{one.name} ended with a settings fault; stopping everything")
                self._status = BAD_SETTINGS
                self.stop()
            elif status >= 0:
                self._restart_later(child, now, f"ended with exit status {status}")
            else:
                self._restart_later(child, now, f"was ended by {signal.Signals(-status).name}")
        elif self._kill_at is not None and (self._hurry or now >= self._kill_at):
            self._say(f"{one.name} did not end in time; killed")
            _kill_group(child.process)
            child.process = None

    def _restart_later(self, child: _Child, now: float, what: str) -> None:
        if now - child.started_at >= self._pace.healthy_after:
            child.delay = self._pace.first_delay
        child.due_at = now + child.delay
        self._say(f"{child.command.name} {what}; starting it again in {child.delay:g} s")
        child.delay = min(child.delay * 2, self._pace.longest_delay)

    def _say(self, text: str) -> None:
        output = self._output or sys.stderr.buffer
        with contextlib.suppress(OSError, ValueError):  # a reader that went away stops no mail
            output.write(f"cleo-email: {text}\n".encode())
            output.flush()

    def _on_stop_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_requests += 1
        # A second Ctrl-C comes from a person who does not want to wait; platforms may well repeat SIGTERM.
        self._hurry = number == signal.SIGINT and self._stop_requests > 1


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: int | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own; on Linux it does not outlive this process.

    It reads nothing and writes both streams to the descriptor ``output``, by default where this process
    writes. Raise OSError where not even the Python interpreter starts; a program that cannot be executed
    ends with exit status 1 and one line on its standard error.
    """
    bound = sys.platform == "linux" and bool(sys.executable)
    binding = [sys.executable, "-I", "-S", "-c", _BIND_TO_PARENT, str(os.getpid())] if bound else []

    starting = _SPAWNER.submit(
        subprocess.Popen,
        [*binding, *command],  # our own command lines, no shell
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=tuple(pass_fds),
        start_new_session=True,  # a Ctrl-C in the terminal reaches the supervisor alone
    )
    return starting.result()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the child and all other processes of its session that are still running."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
