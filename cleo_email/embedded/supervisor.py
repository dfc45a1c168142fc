"""Keep a few processes running: what ``cleo-email run`` and ``cleo-email demo`` put around web and worker.

A child that ends is started again, later each time (1 s doubling to 30 s, from the start again after 60 s of
health). Exit status 3 is a settings fault, which no restart mends: it ends everything with that status.
SIGTERM, SIGINT and SIGHUP stop all children; what is left after 28 s is killed (platforms kill after 30 s).

One thread, no signal handler that does work: a loop that sleeps until a pipe has output, a child has ended, a
signal has come or something is due.
"""

from __future__ import annotations

import math
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import BinaryIO

from cleo_email.errors import CleoError

from .children import Command, Pace, ended, signal_group, spawn
from .relay import Console, Relay
from .signals import taken_over

SETTINGS_FAULT = 3  # exit status
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TICK = 1.0  # seconds between two calls of each keeper
_BLIND_TICK = 0.1  # seconds; outside the main thread no signal tells of a child's end


@dataclass
class _Child:
    command: Command
    delay: float  # until the restart after the next failure
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    due_at: float = 0.0  # when to start it, while there is no process
    relay: Relay | None = None  # of its output


class Supervisor:
    """``run`` returns the exit status for this process: 0 after a stop that was asked for, 3, or 1.

    ``prefix``: output of the children, both streams, goes to ``output`` line by line as ``name | line``;
    without it they write where this process writes. ``keepers`` are called about once a second, to mend what
    is no child of this supervisor (``EmbeddedRedis.ensure``); they must be quick, and a CleoError of theirs
    is reported and tried again.

    ``run`` in the main thread takes over the signals while it runs; in another thread it leaves them alone
    and ends by ``stop``, which is safe to call from anywhere. One run to an object.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        prefix: bool = True,
        output: BinaryIO | None = None,
        keepers: Sequence[Callable[[], object]] = (),
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace or Pace()
        self._children = [_Child(command, self._pace.first_delay) for command in commands]
        self._prefix = prefix
        self._keepers = tuple(keepers)
        self._console = Console(max((len(command.name) for command in commands), default=0), output)
        self._status = 0
        self._kill_at: float | None = None  # set once we are stopping
        self._stop_requests = 0
        self._hurry = False
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._waker = socket.socketpair()

    @property
    def pids(self) -> dict[str, int]:
        """The children that are running, by name."""
        return {child.command.name: child.process.pid for child in self._children if child.process}

    def stop(self) -> None:
        """Begin to stop; ``run`` returns when the last child is gone."""
        self._stop_requests += 1
        try:
            self._waker.send(b"\0")
        except OSError:  # full, so it wakes anyhow, or closed, so it is over
            return

    def run(self) -> int:
        """Start everything, keep it running, and return when it has all ended."""
        for waker in (self._wakeup, self._waker):
            waker.setblocking(False)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        try:
            with taken_over(_STOP_SIGNALS, self._on_stop_signal, self._waker.fileno()) as blind:
                self._loop(blind)
        finally:
            self._abandon()
        return self._status

    def _loop(self, blind: bool) -> None:
        next_tick = time.monotonic() + _TICK
        while True:
            now = time.monotonic()
            self._collect(now)
            if self._stop_requests and self._kill_at is None:
                self._begin_to_stop(now)
            if self._kill_at is None:
                self._start_due(now)
                if now >= next_tick:
                    self._call_keepers()
                    next_tick = time.monotonic() + _TICK
            elif not self.pids:
                return
            elif self._hurry or now >= self._kill_at:
                self._kill()
            self._sleep(blind, next_tick)

    def _sleep(self, blind: bool, next_tick: float) -> None:
        """Pass output on until something else is to be done."""
        if self._kill_at is not None:
            until = [self._kill_at]
        else:
            until = [child.due_at for child in self._children if child.process is None]
            until += [next_tick] if self._keepers else []
        wait = min(until, default=math.inf) - time.monotonic()
        if blind:
            wait = min(wait, _BLIND_TICK)
        for key, _ in self._selector.select(None if wait == math.inf else max(wait, 0.0)):
            if key.data is None:
                self._drain_wakeup()
            else:
                self._pass_on(key.data)

    def _pass_on(self, child: _Child) -> None:
        """One read only, so that a chatty child does not keep us from the others."""
        if child.relay and not child.relay.pump():
            self._hang_up(child)  # it was readable and gave nothing: the end of the file

    def _drain_wakeup(self) -> None:
        try:
            while self._wakeup.recv(4096):
                continue
        except BlockingIOError:
            return

    # --- children ---------------------------------------------------------------------------------------

    def _start_due(self, now: float) -> None:
        for child in self._children:
            if child.process is None and now >= child.due_at:
                self._start(child, now)

    def _start(self, child: _Child, now: float) -> None:
        command = child.command
        child.started_at = now
        try:
            child.process = spawn(
                command.argv,
                env=command.env,
                cwd=command.cwd,
                stdout=subprocess.PIPE if self._prefix else None,
                stderr=subprocess.STDOUT if self._prefix else None,
            )
        except OSError as error:
            self._come_again(child, now, f"could not be started: {error}")
            return
        if child.process.stdout:
            child.relay = Relay(command.name, child.process.stdout, self._console)
            self._selector.register(child.relay.pipe, selectors.EVENT_READ, child)

    def _collect(self, now: float) -> None:
        for child in self._children:
            process = child.process
            if process is None or not ended(process):
                continue
            # What it left behind would hold its port. The zombie keeps the number of the group from reuse.
            signal_group(process, signal.SIGKILL)
            status = process.wait()
            self._hang_up(child)
            child.process = None
            if self._kill_at is not None:
                continue
            if status == SETTINGS_FAULT:
                self._say(child.command.name, "ended with a settings fault; stopping everything")
                self._status = SETTINGS_FAULT
                self._begin_to_stop(now)
            else:
                self._come_again(child, now, _ending(status))

    def _come_again(self, child: _Child, now: float, what: str) -> None:
        if now - child.started_at >= self._pace.healthy_after:
            child.delay = self._pace.first_delay
        child.due_at = now + child.delay
        self._say(child.command.name, f"{what}; starting it again in {child.delay:g} s")
        child.delay = min(child.delay * 2, self._pace.longest_delay)

    def _begin_to_stop(self, now: float) -> None:
        self._kill_at = now + self._pace.grace
        for child in self._children:
            if child.process:
                os.kill(child.process.pid, signal.SIGTERM)  # not reaped, so the number is still its own

    def _kill(self) -> None:
        for child in self._children:
            if child.process:
                self._say(child.command.name, "did not end in time; killed")
                signal_group(child.process, signal.SIGKILL)
        self._kill_at = math.inf
        self._hurry = False

    def _abandon(self) -> None:
        """Nothing of ours is left, however the loop ended."""
        for child in self._children:
            if child.process:
                signal_group(child.process, signal.SIGKILL)
                child.process.wait()
                self._hang_up(child)
                child.process = None
        self._selector.close()
        self._wakeup.close()
        self._waker.close()

    def _call_keepers(self) -> None:
        for keeper in self._keepers:
            try:
                keeper()
            except CleoError as error:
                self._say("supervisor", str(error))

    # --- output -----------------------------------------------------------------------------------------

    def _hang_up(self, child: _Child) -> None:
        if child.relay:
            self._selector.unregister(child.relay.pipe)
            child.relay.close()
            child.relay = None

    def _say(self, name: str, text: str) -> None:
        self._console.write(name, f"[supervisor] {text}".encode())

    def _on_stop_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_requests += 1
        # A second Ctrl-C comes from a person who does not want to wait; platforms may well repeat SIGTERM.
        self._hurry = number == signal.SIGINT and self._stop_requests > 1


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    return f"was ended by {signal.Signals(-status).name}"
