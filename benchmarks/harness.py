"""What the measurements share: rows of the table, mails of a size, a figure of Redis, memory of processes."""

from __future__ import annotations

import json
import os
import random
import shlex
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from redis import Redis

from tests.support.channel import ROOT, Rig, children
from tests.support.dovecot import missing
from tests.support.inboxes import DovecotInbox, EmbeddedInbox, Inbox
from tests.support.mails import AGENT

KB = 1000


@dataclass(frozen=True)
class Plan:
    """How much is measured: ``full`` takes the numbers of docs/performance.md, the default some minutes."""

    full: bool = False

    def size(self, quick: int, full: int) -> int:
        return full if self.full else quick


@dataclass(frozen=True)
class Row:
    """One line of the table. ``bare``: the same in the same unit as this machine does it without us."""

    what: str
    ours: float
    unit: str
    bare: float | None = None
    goal: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.bare if self.bare else None

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "ratio": self.ratio}


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table of Markdown."""
    head = ["measured", "ours", "bare", "ratio", "goal", "note"]
    lines = [
        [
            row.what,
            f"{number(row.ours)} {row.unit}",
            "" if row.bare is None else f"{number(row.bare)} {row.unit}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.goal,
            row.note,
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    parts = [head, ["-" * width for width in widths], *lines]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in parts
    )


def number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


# --- mail ---------------------------------------------------------------------------------------------------

_WORDS = (
    "invoice order delivery please could tell about customer number yesterday shipment colour address window "
    "today payment reminder contract question answer thank regards monday warehouse return price week line"
).split()


def mails(count: int, kilobytes: int, *, seed: int = 1, files: bool = True) -> list[bytes]:
    """Return mails of about this size, each with its own sender: text and HTML, above 20 kB a file too.

    No file can be compressed. Without ``files`` the text and the HTML are as long as the whole.
    """
    rng = random.Random(seed)
    file_kb = kilobytes - 12 if files and kilobytes > 20 else 0
    text, html = (
        _prose(rng, (kilobytes - file_kb) * KB // 4),
        _prose(rng, (kilobytes - file_kb) * KB * 2 // 3),
    )
    data = "\r\n".join(_base64_lines(rng, file_kb * KB)) if file_kb else ""
    return [_mail(f"{seed}.{number}", text, html, data) for number in range(count)]


def small_mail(name: str) -> bytes:
    return _mail(name, "Where is my order?", "", "")


def _mail(name: str, text: str, html: str, data: str) -> bytes:
    parts = [("text/plain; charset=utf-8", f"Mail {name}.\r\n{text}")]
    if html:
        body = "<br>\r\n".join(html.split("\r\n"))
        parts.append(
            ("text/html; charset=utf-8", f"<html><body><p>Mail {name}.</p><p>{body}</p></body></html>")
        )
    if data:
        parts.append(('application/pdf; name="scan.pdf"\r\nContent-Transfer-Encoding: base64', data))
    lines = [
        f"From: Customer {name} <customer.{name}@example.test>",
        f"To: {AGENT}",
        f"Subject: Question {name}",
        f"Message-ID: <q.{name}@example.test>",
        "Date: Tue, 24 Nov 2026 09:00:00 +0100",
        "MIME-Version: 1.0",
    ]
    if len(parts) == 1:
        lines += [f"Content-Type: {parts[0][0]}", "", parts[0][1], ""]
    else:
        kind = "mixed" if data else "alternative"
        lines += [f'Content-Type: multipart/{kind}; boundary="=_part"', ""]
        for kind, content in parts:
            lines += ["--=_part", f"Content-Type: {kind}", "", content]
        lines += ["--=_part--", ""]
    return "\r\n".join(lines).encode()


def _prose(rng: random.Random, size: int) -> str:
    lines: list[str] = []
    while size > 0:
        lines.append(" ".join(rng.choices(_WORDS, k=11)))
        size -= len(lines[-1]) + 2
    return "\r\n".join(lines)


def _base64_lines(rng: random.Random, size: int) -> Iterator[str]:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for _ in range(size // 78):
        yield "".join(rng.choices(letters, k=76))


# --- servers ------------------------------------------------------------------------------------------------


def inbox(directory: Path) -> Inbox:
    return EmbeddedInbox(directory) if missing() else DovecotInbox()


def server_name() -> str:
    return "the embedded IMAP server" if missing() else "Dovecot"


def fill(rig: Rig, sources: Sequence[bytes]) -> None:
    """Put mail into the inbox at once."""
    if isinstance(rig.inbox, DovecotInbox):
        rig.inbox.server.fill(AGENT, *sources)
    else:
        rig.deliver(*sources)


def web_options() -> list[str]:
    """Return the options of gunicorn in the Procfile, so that what is measured is what is deployed."""
    line = next(line for line in (ROOT / "Procfile").read_text().splitlines() if line.startswith("web:"))
    text = line.partition("wsgi:app")[2].replace("${WEB_CONCURRENCY:-", "").replace("}", "")
    return shlex.split(text)


def stat(redis: Redis, name: str, section: str = "stats") -> float:
    return float(redis.info(section)[name])  # type: ignore[index]


def pss_mib(pid: int) -> float:
    """Return the proportional memory of a process and all below it."""
    total = 0.0
    for one in [pid, *children(pid)]:
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU of a process and its children."""
    ticks = 0
    for one in [pid, *children(pid)]:
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Let libraries of this process see these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# --- HTTP ---------------------------------------------------------------------------------------------------


def posts_per_second(
    port: int,
    path: str,
    kind: str,
    bodies: Sequence[bytes],
    *,
    callers: int = 8,
    headers: str = "",
    taken: bytes = b"202",
) -> float:
    """Post each body on a connection of its own, from so many callers. Raise where one is not ``taken``."""

    def post(body: bytes) -> None:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nConnection: close\r\n"
            f"{headers}Content-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            connection.sendall(head.encode() + body)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        if answer[9:12] != taken:
            raise RuntimeError(f"{path} answered {answer[:200]!r}")

    with ThreadPoolExecutor(callers) as pool:
        begun = time.monotonic()
        list(pool.map(post, bodies))
        return len(bodies) / (time.monotonic() - begun)


def until(condition: Callable[[], bool], seconds: float, *, pause: float = 0.01) -> None:
    """Wait for the condition. Raise TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not so within {seconds:g} s")
        time.sleep(pause)


def json_bodies(count: int, kilobytes: int, *, seed: int = 1) -> list[bytes]:
    """Return requests of the JSON webhook, each with its own sender and a plain text of about this size."""
    text = _prose(random.Random(seed), kilobytes * KB)
    return [_json_body(f"{seed}.{number}", text) for number in range(count)]


def _json_body(name: str, text: str) -> bytes:
    fields = {
        "from_address": f"customer.{name}@example.test",
        "to_address": AGENT,
        "subject": f"Question {name}",
        "body": f"Mail {name}.\r\n{text}",
        "message_id": f"<j.{name}@example.test>",
    }
    return json.dumps(fields).encode()
