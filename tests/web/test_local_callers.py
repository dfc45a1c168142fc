"""Without a secret only a program of this machine and of this user is heard, on a real gunicorn."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleo_email.settings import read_settings
from cleo_email.web import auth
from cleo_email.web.app import create_app
from tests.support.channel import Channel
from tests.webhooks import samples

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
LINE = "   0: 0100007F:9C40 0100007F:1F40 01 00000000:00000000 00:00000000 00000000 {} 0 1 1 0 20 4 30 10 -1"


@pytest.fixture
def channel(tmp_path: Path, redis_url: str) -> Iterator[Channel]:
    with Channel(tmp_path, {"EMAIL_SMTP_HOST": "127.0.0.1", "REDIS_URL": redis_url}) as channel:
        channel.start_web()
        yield channel


def get(channel: Channel, version: str, *headers: str) -> bytes:
    with socket.create_connection(("127.0.0.1", channel.port), timeout=20) as sock:
        lines = [f"GET /email/messages {version}", f"Host: 127.0.0.1:{channel.port}", *headers]
        sock.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        return sock.recv(12)


def test_a_program_of_this_user_is_heard_and_a_proxy_is_not(channel: Channel) -> None:
    assert get(channel, "HTTP/1.1") == b"HTTP/1.1 200"
    assert get(channel, "HTTP/1.0")[9:] == b"401", "nginx speaks 1.0 to what is behind it"
    for header in ("X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: 127.0.0.1"):
        assert get(channel, "HTTP/1.1", header) == b"HTTP/1.1 401"


@pytest.mark.parametrize(
    ("user", "heard"), [(os.geteuid(), True), (0, True), (os.geteuid() + 33, False), (65_534, False)]
)
def test_the_kernel_says_whose_the_connection_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, *, heard: bool
) -> None:
    table = tmp_path / "tcp"
    table.write_text(f"{HEAD}\n{LINE.format(user)}\n", "ascii")
    monkeypatch.setattr(auth, "CONNECTIONS", (table,))
    assert auth._is_of_this_user("40000", "8000") is heard
    assert not auth._is_of_this_user("40001", "8000"), "a connection that is not listed proves nothing"
    assert not auth._is_of_this_user("40000", "8001")
    monkeypatch.setattr(auth, "CONNECTIONS", (tmp_path / "none",))
    assert not auth._is_of_this_user("40000", "8000"), "no table, no proof"


def test_a_stranger_is_not_told_what_is_set_up_and_what_is_wrong(redis_url: str) -> None:
    env = {
        **samples.BASE,
        **samples.secrets_env(),
        "CLEO_API_TOKEN": "unmistakable-token-4711",
        "REDIS_URL": redis_url,
    }
    client = create_app(read_settings(env, dotenv=None)).test_client()
    stranger = {"X-Forwarded-For": "203.0.113.7"}
    ours = {**stranger, "Authorization": "Bearer unmistakable-token-4711"}
    for headers, told in ((stranger, False), (ours, True), ({}, True)):
        ready = client.get("/readyz", headers=headers)
        assert ready.status_code == 503
        assert ("worker" in ready.json["error"]) is told
    del env["EMAIL_BREVO_AUTH"]
    less = create_app(read_settings(env, dotenv=None)).test_client()
    pages = [one.get("/openapi.json", headers=stranger).json for one in (client, less)]
    assert pages[0] == pages[1]
    assert less.get("/openapi.json", headers=ours).json != pages[1]
