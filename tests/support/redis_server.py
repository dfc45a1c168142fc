"""A real Redis for tests: a directory and a Unix socket of its own, can be killed and started again.

    with RedisServer(tmp_path) as server:
        client = server.client()
        server.kill()
        server.start()  # same URL, same data

It is the system's redis-server, or, where that is not installed, the Valkey of the extra ``embedded``.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from cleo_email.embedded.redis import EmbeddedRedis, valkey_binary

_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def binary() -> Path:
    """The server that tests use. Raises CleoError where there is none at all."""
    found = shutil.which("redis-server", path=_SEARCH_PATH)
    return Path(found) if found else valkey_binary()


class RedisServer:
    """``appendfsync``: ``everysec`` does where the crash of the whole machine is not tested."""

    def __init__(self, directory: Path, *, appendfsync: str = "everysec") -> None:
        self._appendfsync = appendfsync
        self._server = EmbeddedRedis(directory, binary=binary())
        self.url = self._server.url

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._server.pid is not None, "not running"
        return self._server.pid

    def start(self) -> Self:
        """Start, or start again, on the same directory and URL; returns when it answers."""
        self._server.start()
        with self.client() as client:
            client.config_set("appendfsync", self._appendfsync)
        return self

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        """kill -9; returns when the process is gone. Everything that was acknowledged is in its file."""
        os.kill(self.pid, signal.SIGKILL)
        self._server.stop()

    def freeze(self) -> None:
        """The server hangs: connections are accepted and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)
