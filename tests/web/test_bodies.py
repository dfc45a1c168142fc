"""Bodies as gunicorn hands them on: chunked, cut off, slow, too large. Half a mail is never taken for one."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.channel import Channel
from tests.support.mails import mail

LIMIT = 100_000


@pytest.fixture
def channel(tmp_path: Path, redis_url: str) -> Iterator[Channel]:
    env = {"EMAIL_SMTP_HOST": "127.0.0.1", "REDIS_URL": redis_url, "EMAIL_MAX_MESSAGE_BYTES": str(LIMIT)}
    with Channel(tmp_path, env) as channel:
        yield channel


def ask(channel: Channel, head: str, body: bytes, *, hang_up: bool = False) -> tuple[int, str]:
    """Status and text of the answer to a request whose bytes are exactly these."""
    with socket.create_connection(("127.0.0.1", channel.port), timeout=20) as sock:
        sock.sendall(f"{head}\r\nHost: 127.0.0.1\r\n\r\n".encode() + body)
        if hang_up:
            sock.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := sock.recv(65_536):
            answer += chunk
    status, _, text = answer.decode().partition("\r\n\r\n")
    return int(status.split()[1]), text


def chunked(data: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    pieces = [data[start : start + 8192] for start in range(0, len(data), 8192)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


RAW = "POST /email/incoming/raw HTTP/1.1\r\nContent-Type: message/rfc822"
CHUNKED = f"{RAW}\r\nTransfer-Encoding: chunked"


def test_a_chunked_mail_is_whole_or_refused(channel: Channel) -> None:
    channel.start_web()
    assert ask(channel, CHUNKED, chunked(mail(1, text="y" * 50_000)))[0] == 202
    just = mail(2)
    just += b"x" * (LIMIT - len(just))
    assert ask(channel, CHUNKED, chunked(just))[0] == 202
    status, text = ask(channel, CHUNKED, chunked(mail(3, text="y" * LIMIT)))
    assert (status, "EMAIL_MAX_MESSAGE_BYTES" in text) == (413, True)
    body = json.dumps({"body": "y" * LIMIT}).encode()
    head = "POST /email/incoming HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
    assert ask(channel, head, chunked(body))[0] == 413
    assert [record["message_id"] for record in channel.records()] == [
        "<q2@example.test>",
        "<q1@example.test>",
    ]


@pytest.mark.parametrize("chunks", [False, True])
def test_a_mail_that_is_cut_off_is_no_mail(channel: Channel, chunks: bool) -> None:
    """Else its second coming, whole, would be taken for a duplicate."""
    channel.start_web()
    whole = mail(1, text="line\r\n" * 5000 + "the end")
    if chunks:
        status, _ = ask(channel, CHUNKED, chunked(whole[:20_000], b""), hang_up=True)
    else:
        status, _ = ask(channel, f"{RAW}\r\nContent-Length: {len(whole)}", whole[:20_000], hang_up=True)
    assert status == 400
    assert channel.records() == []
    assert ask(channel, f"{RAW}\r\nContent-Length: {len(whole)}", whole)[0] == 202


@pytest.mark.parametrize(
    "body", [b"zz\r\nabc\r\n0\r\n\r\n", b"-5\r\nabc\r\n0\r\n\r\n", b"3\r\nabcdef\r\n0\r\n\r\n"]
)
def test_broken_chunks_are_400(channel: Channel, body: bytes) -> None:
    channel.start_web()
    status, text = ask(channel, CHUNKED, body, hang_up=True)
    assert status == 400
    assert set(json.loads(text)) == {"error", "fields"}
    assert "ERROR" not in channel.log.read_text()


def test_a_refused_caller_who_dawdles_keeps_nobody_waiting(channel: Channel) -> None:
    channel.start_web(EMAIL_WEBHOOK_SECRET="geheim")
    head = f"{RAW}\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n".encode()
    slow = [socket.create_connection(("127.0.0.1", channel.port)) for _ in range(4)]
    for sock in slow:
        sock.sendall(head + b"x")
    begun = time.monotonic()
    assert channel.get("/healthz")[0] == 200
    assert time.monotonic() - begun < 10
    for sock in slow:
        assert sock.recv(12) == b"HTTP/1.1 403"
        sock.close()


QUICK = """
from cleo_email.web import bodies
bodies.BODY_S = 1.0
from cleo_email.web.app import from_environment
app = from_environment()
"""


def trickle(sock: socket.socket, seconds: float) -> bytes:
    """Send a byte now and then until the server answers; return what it says, b'' where it says nothing."""
    sock.settimeout(0.2)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(TimeoutError):
            return sock.recv(1000)
        with contextlib.suppress(OSError):
            sock.sendall(b"x")
    return b""


@pytest.mark.parametrize("threads", ["1", "4"])
@pytest.mark.parametrize("head", [f"{RAW}\r\nContent-Length: 100000", CHUNKED])
def test_a_body_of_a_byte_now_and_then_ends_after_a_while(channel: Channel, threads: str, head: str) -> None:
    (channel.directory / "quick.py").write_text(QUICK)
    bind = [
        "--bind",
        f"127.0.0.1:{channel.port}",
        "--threads",
        threads,
        "--pythonpath",
        str(channel.directory),
    ]
    channel.start("-m", "gunicorn", *bind, "quick:app")
    channel.wait(lambda: channel.get("/healthz")[0] == 200, 20)
    with socket.create_connection(("127.0.0.1", channel.port)) as sock:
        sock.sendall(f"{head}\r\nHost: 127.0.0.1\r\n\r\n".encode())
        if head is CHUNKED:
            sock.sendall(b"ffff\r\n")
        assert trickle(sock, 20).startswith(b"HTTP/1.1 408")
    assert channel.get("/healthz")[0] == 200
    assert channel.records() == []


def test_a_provider_that_is_not_set_up_is_refused_before_its_body(channel: Channel) -> None:
    channel.start_web("--threads", "2")
    for name in ("sendgrid", "ses", "mailgun", "resend", "postmark", "brevo", "cloudmailin"):
        head = f"POST /email/incoming/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", channel.port), timeout=10) as sock:
            sock.sendall(head.encode())
            assert sock.recv(12) in (b"HTTP/1.1 503", b"HTTP/1.1 403")
