"""Pass the output of child processes on, line by line, each line with the name of its child in front."""

from __future__ import annotations

import os
import sys
from typing import IO, BinaryIO

_PIECE = 64 * 1024  # bytes to a read, and the longest line that is kept whole


class Console:
    """Where the lines go: a binary stream, by default standard output as it is at that moment."""

    def __init__(self, width: int, output: BinaryIO | None) -> None:
        self._width = width
        self._output = output

    def write(self, name: str, line: bytes) -> None:
        output = self._output or sys.stdout.buffer
        try:
            output.write(f"{name:<{self._width}} | ".encode() + line + b"\n")
            output.flush()
        except (OSError, ValueError):  # nobody reads any more: no reason to stop answering mail
            return


class Relay:
    """One child's pipe. ``pump`` reads what is there and never waits for more."""

    def __init__(self, name: str, pipe: IO[bytes], console: Console) -> None:
        os.set_blocking(pipe.fileno(), False)
        self.pipe = pipe
        self._name = name
        self._console = console
        self._partial = b""

    def pump(self) -> bool:
        """Write the whole lines of one read; False when there is nothing more at the moment, or ever."""
        try:
            piece = os.read(self.pipe.fileno(), _PIECE)
        except BlockingIOError:
            return False
        *lines, self._partial = (self._partial + piece).split(b"\n")
        if len(self._partial) > _PIECE:
            lines.append(self._partial)
            self._partial = b""
        for line in lines:
            self._console.write(self._name, line)
        return bool(piece)

    def close(self) -> None:
        """Write what is left, an unfinished line too."""
        while self.pump():
            continue
        if self._partial:
            self._console.write(self._name, self._partial)
        self.pipe.close()
