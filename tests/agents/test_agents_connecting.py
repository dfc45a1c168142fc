from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from scripted_server import Server, sending

from cleo_email.agents import AgentRequest, build_agent
from cleo_email.errors import AgentUnavailable
from cleo_email.http_client import connecting

Serve = Callable[..., Server]
REPLY = json.dumps({"reply": "Gut."}).encode()


def names(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Let every name lead to these ports on loopback, in this order."""
    found: list[Any] = [
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port)) for port in ports
    ]
    monkeypatch.setattr(connecting.socket, "getaddrinfo", lambda *_, **__: found)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port: int = closed.getsockname()[1]
    return port


def test_a_resolver_that_hangs_ends_at_the_deadline(
    request_: AgentRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        over.wait(30)
        return []

    monkeypatch.setattr(connecting.socket, "getaddrinfo", hang)
    started = time.monotonic()
    with pytest.raises(AgentUnavailable, match="DNS"):
        build_agent("http://agent.example", token=None, environ={}).answer(request_, deadline=0.3)
    assert 0.29 < time.monotonic() - started < 10
    over.set()


def test_the_next_address_is_tried(
    serve: Serve, request_: AgentRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(sending(200, REPLY))
    names(monkeypatch, closed_port(), server.port)
    agent = build_agent("http://agent.example", token=None, environ={})
    assert agent.answer(request_, deadline=5).text == "Gut."


def test_a_dead_address_leaves_time_for_the_next(
    serve: Serve, request_: AgentRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(sending(200, REPLY))
    # A queue of one that is full: the kernel drops every further attempt, as a firewall does.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as dead:
        port = dead.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        names(monkeypatch, port, server.port)
        monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1.0)
        agent = build_agent("http://agent.example", token=None, environ={})
        started = time.monotonic()
        assert agent.answer(request_, deadline=20).text == "Gut."
        assert 0.3 < time.monotonic() - started < 10

        names(monkeypatch, port)
        with pytest.raises(AgentUnavailable, match="no connection within 1 s"):
            agent.answer(request_, deadline=5)
        for one in waiting:
            one.close()


def test_a_name_without_an_address_is_temporary(
    request_: AgentRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch)
    with pytest.raises(AgentUnavailable, match="no address"):
        build_agent("http://agent.example", token=None, environ={}).answer(request_, deadline=5)
