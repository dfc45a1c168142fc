"""The channel as an operator runs it: real web and worker processes against real servers.

with Channel(redis_url, imap=…, smtp=…, ca_file=…, agent=…) as channel:
    channel.start_web()
    channel.start_worker()
    channel.post({...})
    channel.wait(lambda: len(channel.records("replied")) == 40)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
AGENT = "agent@cleo.test"
PASSWORD = "geheim-Pässwort"


class Channel:
    """``env`` is added to a minimal environment; every process writes to ``log``."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        drop = ("EMAIL_", "CLEO_", "REDIS_URL", "ENABLED_CLIENTS", "SSL_CERT", "OPENAI_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
        self.env = {
            **clean,
            "PYTHONPATH": str(ROOT),
            "ENABLED_CLIENTS": "email",
            "EMAIL_USER": AGENT,
            "EMAIL_PASSWORD": PASSWORD,
            "EMAIL_POLL_INTERVAL_SECONDS": "1",
            "CLEO_AGENT": "echo",
            **env,
        }
        self.directory = directory
        self.log = directory / "channel.log"
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Under script/coverage: a process that is killed reports nothing.
        if "COVERAGE_PROCESS_CONFIG" in os.environ:
            self._terminate()
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        if kind is not None and self.log.exists():
            print(self.log.read_text("utf-8", "replace")[-20_000:])

    def _terminate(self) -> None:
        for process in self._processes:
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            for process in self._processes:
                process.wait(30)

    # --- processes ----------------------------------------------------------------------------------------

    def start(self, *argv: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, *argv],
                env={**self.env, **(env or {})},
                cwd=self.directory,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )
        self._processes.append(process)
        return process

    def start_worker(self, **env: str) -> subprocess.Popen[bytes]:
        return self.start(str(ROOT / "worker.py"), env=env)

    def start_web(self, *options: str, **env: str) -> subprocess.Popen[bytes]:
        """Returns when it serves."""
        bind = ["--bind", f"127.0.0.1:{self.port}", "--chdir", str(ROOT)]
        process = self.start("-m", "gunicorn", *bind, "--workers", "2", *options, "wsgi:app", env=env)
        self.wait(lambda: process.poll() is not None or self.get("/healthz")[0] == 200, 20)
        assert process.poll() is None, self.log.read_text()
        return process

    @staticmethod
    def kill_pid(pid: int) -> None:
        """kill -9 of one child of a child, such as a worker of gunicorn; it may be gone already."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    @staticmethod
    def kill(process: subprocess.Popen[bytes]) -> None:
        """kill -9 of the process and, for gunicorn, its workers."""
        for child in children(process.pid):
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()

    def run(self, *argv: str, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        """``cleo-email`` with these arguments."""
        return subprocess.run(
            [sys.executable, "-m", "cleo_email", *argv],
            env={**self.env, **env},
            cwd=self.directory,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=120,
            check=False,
        )

    # --- HTTP ---------------------------------------------------------------------------------------------

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", body, dict(headers or {}), method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, _json(response.read()), response.headers
        except urllib.error.HTTPError as error:
            return error.code, _json(error.read()), error.headers
        except OSError as error:
            return 0, str(error), {}

    def post(self, body: Any, path: str = "/email/incoming", **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        status, answer, _ = self.call("POST", path, data, {**kind, **named})
        return status, answer

    def get(self, path: str) -> tuple[int, Any]:
        status, answer, _ = self.call("GET", path)
        return status, answer

    def records(self, state: str = "") -> list[dict[str, Any]]:
        """Every record, newest first."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            query = urllib.parse.urlencode({"state": state, "limit": 1000, "cursor": cursor})
            status, answer = self.get(f"/email/messages?{query}")
            assert status == 200, answer
            found += answer["messages"]
            if not answer["next"]:
                return found
            cursor = answer["next"]

    def wait(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        """Until the condition holds; fails with the log when it does not in time."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                log = self.log.read_text("utf-8", "replace")[-8000:] if self.log.exists() else ""
                raise AssertionError(f"not so within {seconds} s; the end of the log:\n{log}")
            time.sleep(0.05)


def children(pid: int) -> list[int]:
    """Child processes of ``pid`` (Linux)."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def pss_mb(pid: int) -> float:
    """Proportional memory of a process and its children in MiB (Linux)."""
    total = 0
    for one in [pid, *children(pid)]:
        text = Path(f"/proc/{one}/smaps_rollup").read_text()
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")
