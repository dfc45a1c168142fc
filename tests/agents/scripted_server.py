"""A real HTTP server on loopback whose every byte, and every silence, a test decides."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seen:
    """A request as it came in: ``line`` is its first line, ``headers`` has lower-case names."""

    line: str
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Script = Callable[[socket.socket, Seen], None]


class Server:
    """Serves each connection in a thread of its own with ``script``, after having read the request."""

    def __init__(self, script: Script, context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.seen: list[Seen] = []
        self.over = threading.Event()  # set at the end of the test: a script that hangs waits for it
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        self.over.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in (self._accepting, *self._threads):
            thread.join(20)
            assert not thread.is_alive()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                connection.settimeout(10)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                request = read_request(connection)
                if request is not None:
                    self.seen.append(request)
                    self.script(connection, request)


def read_request(connection: socket.socket) -> Seen | None:
    stream = connection.makefile("rb")
    line = stream.readline().decode("latin-1").strip()
    headers: dict[str, str] = {}
    while header := stream.readline().decode("latin-1").strip():
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    return Seen(line, headers, stream.read(int(headers.get("content-length", 0)))) if line else None


def answer_of(status: int, body: bytes, *headers: str, content_type: str = "application/json") -> bytes:
    head = [f"HTTP/1.1 {status} Some Reason", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, *headers, "", ""]).encode("latin-1") + body


def sending(status: int, body: bytes, *headers: str, content_type: str = "application/json") -> Script:
    """A script that answers every request alike."""
    return lambda connection, _: connection.sendall(
        answer_of(status, body, *headers, content_type=content_type)
    )
