"""A real Redis for tests: a directory and a Unix socket of its own, can be killed and started again.

    with RedisServer(tmp_path) as server:
        client = server.client()
        server.kill()
        server.start()  # same URL, same data

It is the system's redis-server, or, where that is not installed, the Valkey of the extra ``embedded``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from cleo_email.embedded.redis import EmbeddedRedis, valkey_binary
from tests.support.ports import HOST, free_port

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


class RedisOnPort:
    """A redis-server without persistence on a loopback port, with options: a primary, a cluster's node …"""

    def __init__(self, directory: Path, *options: str, config: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._options = options
        self._config = config  # a Sentinel insists on a file
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        argv = [str(binary())]
        if self._config:
            (self._directory / "redis.conf").write_text(self._config)
            argv.append("redis.conf")
        argv += ["--port", str(self.port), "--bind", HOST, "--save", "", *self._options]
        with (self._directory / "redis.log").open("wb") as log:
            self._process = subprocess.Popen(argv, cwd=self._directory, stdout=log, stderr=log)
        until = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return self
            except redis.ConnectionError:
                assert time.monotonic() < until, (self._directory / "redis.log").read_text()
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, **options)


class MovableAddress:
    """A port that leads new connections to the port of the day; those that are open stay where they lead.

    What a proxy, a virtual IP or DNS does in a failover while the old primary keeps its connections.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.accepted = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                far = socket.create_connection((HOST, self.target))
            except OSError:
                near.close()
                continue
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
