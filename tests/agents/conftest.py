from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator

import pytest

from cleo_email.agents.base import AgentMessage, AgentRequest
from tests.agents.scripted_server import Script, Server


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Give a function that starts a server; all are stopped at the end."""
    servers: list[Server] = []

    def start(script: Script, context: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(script, context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def request_() -> AgentRequest:
    return AgentRequest(
        id="rec-1",
        thread_id="<first@example.com>",
        message=AgentMessage(
            message_id="<m1@example.com>",
            from_address="anna@example.com",
            from_name="Anna",
            to_address="cleo@example.org",
            subject="Hallo",
            text="Wie geht es?",
            full_text="Wie geht es?\n\n> alt",
            date="2026-11-02T10:00:00+01:00",
        ),
    )
