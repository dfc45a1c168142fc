"""One request under one total deadline, on a socket that is ours.

The usual time-out of a Python HTTP client starts anew with every byte that comes in, so that a server which
drips keeps its caller for ever. Here every single wait (name, connection, handshake, each send and receive)
is given what is left of the deadline. No redirects are followed, no cookies kept, no connection reused.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cleo_email.errors import SettingsError
from cleo_email.http_client.address import WebAddress
from cleo_email.http_client.connecting import connect
from cleo_email.http_client.deadline import Deadline

MAX_ANSWER_BYTES = 64 * 2**20
MAX_ERROR_BYTES = 64 * 2**10  # of an answer that is not 2xx
ERROR_BODY_SECONDS = 5.0
_PIECE = 64 * 2**10


class AnswerTooLarge(Exception):
    """The server sends more than was asked for at most."""


class BrokenAnswer(OSError):
    """The connection ended before the announced end of the answer."""


@dataclass(frozen=True)
class HttpAnswer:
    """``headers`` has lower-case names."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def tls_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Verifies against the system's trust store and the CA in ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``.

    Made once for an agent: reading a trust store takes tens of milliseconds.

    :raises SettingsError: the CA cannot be read.
    """
    context = ssl.create_default_context()
    for variable, argument in (("SSL_CERT_FILE", "cafile"), ("SSL_CERT_DIR", "capath")):
        if path := environ.get(variable, ""):
            try:
                context.load_verify_locations(**{argument: path})
            except OSError:  # ssl.SSLError is one
                expected = "a file of certificates in PEM" if argument == "cafile" else "a directory"
                raise SettingsError([f"{variable}: found {path!r}, expected {expected}"]) from None
    return context


@dataclass(frozen=True)
class HttpClient:
    """Whom to ask and how; safe to use from many threads. ``tls`` is needed for an https address.

    An answer of more than ``max_bytes`` (``MAX_ANSWER_BYTES`` where not given) is not read to its end.
    """

    address: WebAddress
    authorization: str = field(default="", repr=False)
    proxy: WebAddress | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    max_bytes: int = 0

    def post(self, body: bytes, headers: Mapping[str, str], deadline: Deadline) -> HttpAnswer:
        """Post ``body`` and read the whole answer.

        :raises OSError: no connection, a broken one, an untrusted certificate, or out of time (TimeoutError).
        :raises http.client.HTTPException: what came back is not HTTP.
        :raises AnswerTooLarge: the answer is larger than ``max_bytes``.
        """
        return self._ask("POST", body, headers, deadline)

    def get(self, headers: Mapping[str, str], deadline: Deadline) -> HttpAnswer:
        """As :meth:`post`, without a body."""
        return self._ask("GET", None, headers, deadline)

    def reach(self, deadline: Deadline) -> None:
        """Connect, through the proxy and TLS, and ask nothing. Raises as :meth:`post` does."""
        connection = _Connection(self, deadline)
        try:
            connection.connect()
        finally:
            connection.hang_up()

    def _ask(
        self, method: str, body: bytes | None, headers: Mapping[str, str], deadline: Deadline
    ) -> HttpAnswer:
        connection = _Connection(self, deadline)
        try:
            _send(connection, method, self._target, body, {**self._headers(), **headers})
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            if 200 <= response.status < 300:
                content = _read_answer(response, deadline, self.max_bytes or MAX_ANSWER_BYTES)
            else:
                content = _read_error(response, deadline)
            return HttpAnswer(response.status, names, content)
        finally:
            connection.hang_up()

    @property
    def _target(self) -> str:
        # To a proxy the whole URL is named (RFC 9112 section 3.2.2); through a tunnel only the path.
        if self.proxy is not None and not self.address.tls:
            return f"{self.address}{self.address.target}"
        return self.address.target

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": "cleo-email", "Accept": "application/json"}
        if self.authorization:
            headers["Authorization"] = self.authorization
        if self.proxy is not None and self.proxy.basic and not self.address.tls:
            headers["Proxy-Authorization"] = self.proxy.basic
        return headers


def _send(
    connection: _Connection, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
) -> None:
    connection.connect()
    with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
        # A server that refuses early (413, 401) may close before all is sent; its answer still counts.
        connection.request(method, target, body=body, headers={**headers, "Connection": "close"})


def _read_answer(response: http.client.HTTPResponse, deadline: Deadline, max_bytes: int) -> bytes:
    if (response.length or 0) > max_bytes:
        raise AnswerTooLarge
    pieces = bytearray()
    while piece := response.read(_PIECE):
        pieces += piece
        if len(pieces) > max_bytes:
            raise AnswerTooLarge
        deadline.left()  # a fast stream without end is never waited for
    if response.length:  # read(n) gives what there is and says nothing of what is missing
        raise BrokenAnswer("the connection broke in the middle of the answer")
    return bytes(pieces)


def _read_error(response: http.client.HTTPResponse, deadline: Deadline) -> bytes:
    """What there is of the body within a moment: the status alone says enough."""
    soon = Deadline(min(ERROR_BODY_SECONDS, deadline.left()))
    body = b""
    with suppress(OSError, http.client.HTTPException):
        while len(body) < MAX_ERROR_BYTES and (piece := response.read1(_PIECE)):
            body += piece
            soon.left()
    return body[:MAX_ERROR_BYTES]


class _Connection(http.client.HTTPConnection):
    """The standard library's connection on a socket that obeys a deadline."""

    def __init__(self, client: HttpClient, deadline: Deadline) -> None:
        self._client, self._deadline = client, deadline
        address = client.address
        super().__init__(address.host, address.port)
        self._peer = client.proxy or address
        if client.proxy is not None and address.tls:
            headers = {"Proxy-Authorization": client.proxy.basic} if client.proxy.basic else {}
            self.set_tunnel(address.host, address.port, headers)
        # The Host header leaves a port out only if it is the scheme's own.
        self.default_port = 443 if address.tls else 80
        self._wire: socket.socket | None = None

    def connect(self) -> None:
        self._wire = raw = connect(self._peer.host, self._peer.port, self._deadline)
        self.sock: Any = _TimedSocket(raw, self._deadline)
        if self._client.proxy is not None and self._client.address.tls:
            self._tunnel()  # type: ignore[attr-defined]
        if self._client.address.tls:
            assert self._client.tls is not None
            raw.settimeout(self._deadline.left())  # a limit to the whole handshake
            self._wire = self._client.tls.wrap_socket(raw, server_hostname=self._client.address.host)
            self.sock = _TimedSocket(self._wire, self._deadline)

    def hang_up(self) -> None:
        """Close for good: ``close()`` is also called between the head of an answer and its body."""
        self.close()
        if self._wire is not None:
            self._wire.close()


class _TimedSocket:
    """What ``http.client`` needs of a socket; every wait is limited by what is left of the deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def sendall(self, data: bytes) -> None:
        # A time-out holds for one send() of a TLS socket, not for its sendall().
        view = memoryview(data)
        while view:
            self._sock.settimeout(self._deadline.left())
            view = view[self._sock.send(view[: 4 * _PIECE]) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_TimedStream(self._sock, self._deadline), _PIECE)

    def close(self) -> None:
        """Nothing: the answer may still be read; :meth:`_Connection.hang_up` closes."""


class _TimedStream(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._sock, self._deadline = sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.left())
        return self._sock.recv_into(buffer)
