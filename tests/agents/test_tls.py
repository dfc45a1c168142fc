from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from cleo_email.agents.base import AgentRequest
from cleo_email.agents.build import build_agent
from cleo_email.errors import AgentError, AgentUnavailable, SettingsError
from tests.agents.scripted_server import Seen, Server, sending

Serve = Callable[..., Server]
REPLY = json.dumps({"reply": "Gut."}).encode()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def test_a_private_ca_is_trusted_once_it_is_named(
    serve: Serve, request_: AgentRequest, authority: trustme.CA, ca_file: str
) -> None:
    server = serve(sending(200, REPLY), server_context(authority, "127.0.0.1"))
    agent = build_agent(server.url, token="t", environ={"SSL_CERT_FILE": ca_file})
    assert agent.answer(request_, deadline=10).text == "Gut."


@pytest.mark.parametrize(
    ("names_ca", "name", "advice"),
    [(False, "127.0.0.1", "SSL_CERT_FILE"), (True, "other.example", "a name that the certificate holds")],
)
def test_a_certificate_that_does_not_fit_is_permanent_and_nothing_is_sent(
    serve: Serve,
    request_: AgentRequest,
    authority: trustme.CA,
    ca_file: str,
    names_ca: bool,
    name: str,
    advice: str,
) -> None:
    """Either the CA is unknown, or it is known and the certificate is another host's."""
    server = serve(sending(200, REPLY), server_context(authority, name))
    agent = build_agent(server.url, token="t", environ={"SSL_CERT_FILE": ca_file} if names_ca else {})
    with pytest.raises(AgentError, match=advice) as caught:
        agent.answer(request_, deadline=10)
    assert not isinstance(caught.value, AgentUnavailable)
    assert server.seen == []


def test_tls_spoken_to_a_plain_port_fails_in_one_line(serve: Serve, request_: AgentRequest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def plain() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=plain)
        thread.start()
        agent = build_agent(f"https://127.0.0.1:{listening.getsockname()[1]}", token=None, environ={})
        with pytest.raises(AgentUnavailable, match="TLS failed"):
            agent.answer(request_, deadline=10)
        thread.join(20)


def test_a_handshake_that_hangs_ends_at_the_deadline(request_: AgentRequest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        agent = build_agent(f"https://127.0.0.1:{silent.getsockname()[1]}", token=None, environ={})
        started = time.monotonic()
        with pytest.raises(AgentUnavailable, match=r"no answer within 0\.3 s"):
            agent.answer(request_, deadline=0.3)
        assert 0.29 < time.monotonic() - started < 10


def test_a_drip_over_tls_ends_at_the_deadline(
    serve: Serve, request_: AgentRequest, authority: trustme.CA, ca_file: str
) -> None:
    def drip(connection: socket.socket, _: Seen) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        while not server.over.wait(0.02):
            connection.sendall(b" ")

    server = serve(drip, server_context(authority, "127.0.0.1"))
    agent = build_agent(server.url, token=None, environ={"SSL_CERT_FILE": ca_file})
    started = time.monotonic()
    with pytest.raises(AgentUnavailable):
        agent.answer(request_, deadline=0.5)
    assert 0.49 < time.monotonic() - started < 10


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_that_cannot_be_read_is_a_fault_of_the_settings(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=r"^SSL_CERT_FILE: found .* expected"):
        build_agent("https://agent.example", token=None, environ={"SSL_CERT_FILE": str(path)})


# --- proxies ----------------------------------------------------------------------------------------------


def test_a_proxy_is_given_the_whole_url(serve: Serve, request_: AgentRequest) -> None:
    proxy = serve(sending(200, REPLY))
    environ = {"HTTP_PROXY": f"http://u:p@127.0.0.1:{proxy.port}"}
    agent = build_agent("http://agent.example/x?y=1", token="t", environ=environ)
    assert agent.answer(request_, deadline=10).text == "Gut."
    [seen] = proxy.seen
    assert seen.line == "POST http://agent.example/x?y=1 HTTP/1.1"
    assert seen.headers["host"] == "agent.example"
    assert seen.headers["proxy-authorization"] == "Basic dTpw"


def test_https_goes_through_a_tunnel_that_never_sees_the_token(
    serve: Serve, request_: AgentRequest, authority: trustme.CA, ca_file: str
) -> None:
    target = serve(sending(200, REPLY), server_context(authority, "agent.example"))

    def tunnel(connection: socket.socket, seen: Seen) -> None:
        with socket.create_connection(("127.0.0.1", target.port), 5) as onward:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=copy, args=(onward, connection))
            back.start()
            copy(connection, onward)
            back.join(20)

    proxy = serve(tunnel)
    environ = {"https_proxy": f"127.0.0.1:{proxy.port}", "SSL_CERT_FILE": ca_file}
    agent = build_agent("https://agent.example/x", token="t", environ=environ)
    assert agent.answer(request_, deadline=10).text == "Gut."
    assert proxy.seen[0].line.startswith("CONNECT agent.example:443 ")
    assert "authorization" not in proxy.seen[0].headers
    assert target.seen[0].line == "POST /x HTTP/1.1"
    assert target.seen[0].headers["host"] == "agent.example"
    assert target.seen[0].headers["authorization"] == "Bearer t"


def copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_a_tunnel_that_is_refused_is_temporary(serve: Serve, request_: AgentRequest) -> None:
    proxy = serve(sending(407, b""))
    environ = {"HTTPS_PROXY": f"http://u:geheim-4711-3f9c@127.0.0.1:{proxy.port}"}
    agent = build_agent("https://agent.example/x", token="t", environ=environ)
    with pytest.raises(AgentUnavailable, match="407") as caught:
        agent.answer(request_, deadline=10)
    assert "geheim-4711-3f9c" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["socks5://u:geheim-4711-3f9c@h:1", "https://u:geheim-4711-3f9c@h", "http://u:geheim-4711-3f9c@"]
)
def test_a_proxy_of_another_kind_is_a_fault_of_the_settings(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^HTTP_PROXY: found ") as caught:
        build_agent("http://agent.example", token=None, environ={"http_proxy": url})
    assert "geheim-4711-3f9c" not in str(caught.value)
