"""How many files' code runs for one mail: the walk that a reader has to follow. ``-s`` prints the files.

The web application, the worker's run and both servers are in this process. A profile notes each function of
the package that is called, in the web process and in every thread of the worker, its regular ticks included.
What runs once, at the start, is no part of a mail's walk, nor is what runs while a module is loaded.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from operator import gt
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from imapclient import IMAPClient

import cleo_email
from cleo_email import app as app_module
from cleo_email.app import App
from cleo_email.embedded.mailserver import AGENT, CUSTOMER
from cleo_email.embedded.redis import EmbeddedRedis
from cleo_email.settings import read_settings
from cleo_email.store import State
from cleo_email.web.app import create_app
from cleo_email.worker import process, rq_threads
from tests.support.mail_server import FaithfulMailServer
from tests.support.mails import mail

MOST_FILES_OF_A_WEBHOOK_MAIL = 60
MOST_FILES_OF_AN_IMAP_MAIL = 70

PACKAGE = str(Path(cleo_email.__file__).parent) + os.sep
# What the ticker and the watchdog call; a step of the ticker with nothing to do is passed over.
REGULAR = ("_round", "stuck_calls")
QUESTION_ID = "<question@example.test>"


class Walk:
    """How often functions of each file of the package are called while ``noting`` is set."""

    def __init__(self) -> None:
        self.noting = False
        self.calls: Counter[str] = Counter()
        self._names: Counter[str] = Counter()

    def profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call" or not self.noting or not (file := _file(frame.f_code)):
            return
        if file in self.calls or not _while_loading(frame):
            self.calls[file] += 1
            self._names[frame.f_code.co_name] += 1

    @contextmanager
    def of_this_thread(self) -> Iterator[None]:
        sys.setprofile(self.profile)
        try:
            yield
        finally:
            sys.setprofile(None)

    def ticks(self) -> list[int]:
        return [self._names[name] for name in REGULAR]


@functools.cache
def _file(code: CodeType) -> str:
    """Return a function's file below the package, '' for the body of a class and for code of others."""
    if not code.co_filename.startswith(PACKAGE) or not code.co_flags & inspect.CO_OPTIMIZED:
        return ""
    return code.co_filename.removeprefix(PACKAGE)


def _while_loading(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return False


class Post:
    """A mail server, the settings that lead to it, and looks into the mailboxes on it."""

    def __init__(self, server: FaithfulMailServer, environ: dict[str, str]) -> None:
        self.server = server
        self.environ = environ

    @contextmanager
    def box(self, address: str, folder: str) -> Iterator[IMAPClient]:
        account = self.server.imap_account(address)
        context = self.server.certificates.client_context()
        with IMAPClient(account.host, account.port, ssl_context=context, timeout=20) as client:
            client.login(account.login.user, account.login.password)
            client.select_folder(folder, readonly=True)
            yield client

    def answered(self, address: str, folder: str) -> bool:
        """Whether the answer to the question lies there."""
        with self.box(address, folder) as client:
            found = client.fetch(client.search("ALL"), ["BODY.PEEK[]"]).values()
        return any(message_from_bytes(data[b"BODY[]"])["In-Reply-To"] == QUESTION_ID for data in found)

    def is_flagged(self) -> bool:
        with self.box(AGENT, "INBOX") as client:
            return len(client.search(["SEEN", "ANSWERED"])) == 1


def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not so within {seconds} s: {inspect.getsource(condition).strip()}"
        time.sleep(0.05)


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    with FaithfulMailServer(tmp_path / "mail") as server, EmbeddedRedis(tmp_path / "redis") as redis:
        login = server.smtp_account(AGENT).login
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificates.ca_file))
        yield Post(
            server,
            {
                "ENABLED_CLIENTS": "email",
                "EMAIL_USER": login.user,
                "EMAIL_PASSWORD": login.password,
                "EMAIL_SMTP_HOST": "127.0.0.1",
                "EMAIL_SMTP_PORT": str(server.smtp_port),
                "EMAIL_POLL_INTERVAL_SECONDS": "1",
                "REDIS_URL": redis.url,
                "CLEO_AGENT": "echo",
            },
        )


def walk_of(post: Post, scenario: Callable[[App, Walk], None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a worker in this thread, the scenario once it is at work, and return the files of the walk."""
    settings = read_settings(post.environ, dotenv=None)
    walk = Walk()

    class Waiting:
        """In place of the wait for SIGTERM."""

        def __init__(self, stop: threading.Event) -> None:
            self._stop = stop

        def wait(self) -> None:
            app = app_module._apps["worker"][1]
            wait(lambda: app.store.health.read().worker_seen)
            wait(lambda: app.poller is None or app.store.health.read().polled)
            try:
                scenario(app, walk)
                seen = walk.ticks()
                wait(lambda: all(map(gt, walk.ticks(), seen)))
            finally:
                walk.noting = False
                self._stop.set()

    monkeypatch.setattr(app_module, "_apps", {})
    monkeypatch.setattr(process, "_Signals", Waiting)
    monkeypatch.setattr(rq_threads, "WATCH_S", 0.5)
    threading.setprofile(walk.profile)
    try:
        assert process.run_worker(settings) == 0
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]
    return sorted(walk.calls)


def held(what: str, files: list[str], most: int) -> None:
    print(f"\nfiles in which code runs for {what}: {len(files)} (at most {most})\n  " + "\n  ".join(files))
    assert len(files) <= most, f"{len(files)} files, at most {most}: {' '.join(files)}"


def test_a_webhook_mail_walks_through_few_files(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    def scenario(app: App, walk: Walk) -> None:
        web = create_app(app.settings)
        client = web.test_client()
        _ = (web.extensions["cleo_email"].receiver, app.submitter)
        body = {
            "from_address": f"Anna <{CUSTOMER}>",
            "to_address": AGENT,
            "subject": "Opening hours",
            "body": "Are you open on Saturdays?",
            "message_id": QUESTION_ID,
        }
        walk.noting = True
        with walk.of_this_thread():
            answer = client.post("/email/incoming", json=body)
        assert answer.status_code == 202, answer.json
        wait(lambda: app.store.messages.count(State.REPLIED) == 1)
        assert post.answered(CUSTOMER, "INBOX")

    held("a webhook mail", walk_of(post, scenario, monkeypatch), MOST_FILES_OF_A_WEBHOOK_MAIL)


def test_an_imap_mail_walks_through_few_files(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    post.environ |= {"EMAIL_IMAP_HOST": "127.0.0.1", "EMAIL_IMAP_PORT": str(post.server.imap_port)}

    def scenario(app: App, walk: Walk) -> None:
        walk.noting = True
        post.server.deliver(AGENT, mail(1, sender=CUSTOMER, message_id=QUESTION_ID))
        wait(lambda: post.answered(CUSTOMER, "INBOX"))
        wait(lambda: post.is_flagged() and post.answered(AGENT, "Sent"))

    held("an IMAP mail", walk_of(post, scenario, monkeypatch), MOST_FILES_OF_AN_IMAP_MAIL)
