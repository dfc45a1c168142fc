"""The channel as an operator runs it: real web and worker processes, against real servers.

    with Rig(tmp_path, redis_url) as rig:
        rig.start_web()
        rig.start_worker()
        rig.deliver(mail(1))
        rig.post({...})
        rig.wait(lambda: len(rig.records("replied")) == 2)
        rig.replies()

``Channel`` is the processes alone, for tests whose servers are special or none; ``Rig`` adds the servers.
"""

from __future__ import annotations

import contextlib
import http.client
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
from contextlib import ExitStack
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from imapclient import IMAPClient

from tests.support.dovecot import Dovecot
from tests.support.inboxes import ByImap, DovecotInbox, Inbox
from tests.support.mails import AGENT, PASSWORD
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.smtp_server import AcceptedMail, SmtpServer

ROOT = Path(__file__).resolve().parent.parent.parent


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
                self.kill(process)
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

    def start_web(self, *options: str, preload: bool = True, **env: str) -> subprocess.Popen[bytes]:
        """Returns when it serves."""
        # In the test's own directory: the project's may hold the .env of a real mailbox.
        bind = ["--bind", f"127.0.0.1:{self.port}", "--pythonpath", str(ROOT), "--no-control-socket"]
        how = ["--workers", "2", *(["--preload"] if preload else []), *options]
        process = self.start("-m", "gunicorn", *bind, *how, "wsgi:app", env=env)
        self.wait(lambda: process.poll() is not None or self.get("/healthz")[0] == 200, 60)
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
            with contextlib.suppress(ProcessLookupError):
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
        """Return status, body and headers of the answer; status 0 where there was no whole answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", body, dict(headers or {}), method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, _json(response.read()), response.headers
        except urllib.error.HTTPError as error:
            return error.code, _json(error.read()), error.headers
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error), {}  # the process was killed, perhaps in the middle of its answer

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


class SelfFiling(SmtpServer):
    """An SMTP server whose provider may put each mail that it accepts into Sent by itself."""

    inbox: Inbox | None = None

    def accept_mail(self, mail: AcceptedMail) -> None:
        super().accept_mail(mail)
        if self.inbox is not None:
            self.inbox.file(mail.source)


class Rig(Channel):
    """A channel with its own servers: ``rig.inbox``, ``rig.smtp``, and ``rig.redis`` where no URL is given.

    ``inbox`` is a Dovecot's unless another is given; with ``polls=False`` there is none, and mail comes by
    webhook alone. With ``files`` the provider files what it accepts into Sent by itself.
    """

    appendfsync = "everysec"

    def __init__(
        self,
        directory: Path,
        redis_url: str = "",
        *,
        inbox: Inbox | None = None,
        polls: bool = True,
        files: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory, env or {})
        self.inbox = inbox or (DovecotInbox() if polls else None)
        self.smtp = SelfFiling(
            passwords={self.env["EMAIL_USER"]: self.inbox.password if self.inbox else PASSWORD}
        )
        self._redis_url = redis_url
        self._files = files
        self._own_env = dict(env or {})
        self._servers = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if not self._redis_url:
                server = RedisServer(self.directory / "redis", appendfsync=self.appendfsync)
                self.redis = stack.enter_context(server)
            if self.inbox:
                stack.callback(self.inbox.close)
                self.inbox.start()
            if self._files:
                self.smtp.inbox = self.inbox
            stack.enter_context(self.smtp)
            self.env |= {**self._wiring(), **self._own_env}
            self._servers = stack.pop_all()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._servers:
            super().__exit__(kind, value, trace)

    def _wiring(self) -> dict[str, str]:
        trusted = self.directory / "trusted.pem"
        trusted.write_bytes(self.smtp.ca.cert_pem.bytes() + (self.inbox.ca if self.inbox else b""))
        servers = {
            "EMAIL_SMTP_HOST": "127.0.0.1",
            "EMAIL_SMTP_PORT": str(self.smtp.port),
            "REDIS_URL": self._redis_url or self.redis.url,
            "SSL_CERT_FILE": str(trusted),
        }
        if self.inbox:
            servers["EMAIL_PASSWORD"] = self.inbox.password
            servers |= {"EMAIL_IMAP_HOST": "127.0.0.1", "EMAIL_IMAP_PORT": str(self.inbox.port)}
        return servers

    @property
    def dovecot(self) -> Dovecot:
        assert isinstance(self.inbox, DovecotInbox)
        return self.inbox.server

    def deliver(self, *sources: bytes) -> None:
        assert self.inbox is not None
        self.inbox.deliver(*sources)

    def replies(self) -> list[EmailMessage]:
        """Every mail that the SMTP server accepted."""
        parsed = [message_from_bytes(mail.source, policy=policy.default) for mail in list(self.smtp.mails)]
        return [message for message in parsed if isinstance(message, EmailMessage)]

    def imap(self) -> IMAPClient:
        """A person's look into the mailbox."""
        assert isinstance(self.inbox, ByImap)
        return self.inbox.login()

    def unseen(self) -> int:
        assert self.inbox is not None
        return self.inbox.unseen()


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
