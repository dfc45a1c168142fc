"""The HTTP client itself: limits, proxies, trust, threads. What an agent makes of it is in tests/agents."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pycurl
import pytest
import trustme

from cleo_email.agents.base import AgentRequest
from cleo_email.agents.build import build_agent
from cleo_email.errors import CleoError, SettingsError
from cleo_email.http import client as http
from cleo_email.http.address import proxy_address, trust_store, web_address
from cleo_email.http.client import AnswerTooLarge, HttpClient, NotHttp, TlsFailed, UntrustedCertificate
from cleo_email.oauth.endpoint import Endpoint
from cleo_email.runtime import Deadline
from tests.agents.scripted_server import Script, Seen, Server, answer_of, sending

Serve = Callable[..., Server]
QUESTION = {
    "id": "rec-1",
    "thread_id": "<first@example.com>",
    "message": {
        "message_id": "<m1@example.com>",
        "from_address": "anna@example.com",
        "from_name": "Anna",
        "to_address": "cleo@example.org",
        "subject": "Hallo",
        "text": "Wie geht es?",
        "full_text": "Wie geht es?",
        "date": "2026-11-02T10:00:00+01:00",
    },
}
SECRET = "unmistakable-3f9c1e"


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(script: Script, context: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(script, context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def client_of(url: str, environ: dict[str, str] | None = None, max_bytes: int = 0) -> HttpClient:
    address = web_address("URL", url)
    return HttpClient(address, environ or {}, authorization=address.basic, max_bytes=max_bytes)


# --- addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("straße.de", "xn--strae-oqa.de"),
        ("STRASSE.de", "strasse.de"),
        ("Bücher.example.", "xn--bcher-kva.example"),
        ("xn--strae-oqa.de", "xn--strae-oqa.de"),
        ("my_agent", "my_agent"),
    ],
)
def test_a_host_is_written_by_idna_2008(written: str, host: str) -> None:
    assert web_address("URL", f"https://{written}/x").host == host


@pytest.mark.parametrize("host", ["i\u2764.example", "a..example", "a" * 64 + ".example", "-ö.example"])
def test_a_host_that_dns_cannot_know_is_a_malformed_url(host: str) -> None:
    with pytest.raises(SettingsError, match="URL: found a malformed URL"):
        web_address("URL", f"https://{host}/")


@pytest.mark.parametrize(
    ("url", "no_proxy", "by_proxy"),
    [
        ("http://agent.example/", "", True),
        ("http://agent.example/", "*", False),
        ("http://agent.example/", "example", False),
        ("http://agent.example/", ".example,other", False),
        ("http://agent.example/", "other, agent.example", False),
        ("http://agent.example:81/", "agent.example:80", True),
        ("http://agent.example:81/", "agent.example:81", False),
        ("http://myagent.example/", "agent.example", True),
        ("http://localhost:5/", "", False),
        ("http://127.0.0.1:5/", "", False),
        ("http://[::1]:5/", "", False),
        ("http://localhost.example/", "", True),
        ("https://agent.example/", "", False),
    ],
)
def test_what_goes_by_a_proxy(url: str, no_proxy: str, by_proxy: bool) -> None:
    environ = {"HTTP_PROXY": "http://proxy.example:3128", "NO_PROXY": no_proxy}
    proxy = proxy_address(web_address("CLEO_AGENT", url), environ)
    assert (proxy is not None) == by_proxy


@pytest.mark.parametrize("variable", ["CLEO_AGENT", "OPENAI_BASE_URL", "EMAIL_OAUTH_TOKEN_URL"])
def test_every_url_of_the_settings_leads_to_the_domain_that_is_written(serve: Serve, variable: str) -> None:
    """IDNA 2003 made strasse.de of it, which belongs to somebody else."""
    proxy = serve(sending(400, b"{}"))
    environ = {"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}", "OPENAI_BASE_URL": "http://straße.de"}
    request = AgentRequest.model_validate(QUESTION)
    ask: dict[str, Callable[[], object]] = {
        "CLEO_AGENT": lambda: build_agent("http://straße.de", token=None, environ=environ).answer(
            request, deadline=10
        ),
        "OPENAI_BASE_URL": lambda: build_agent("openai:gpt-x", token=None, environ=environ).answer(
            request, deadline=10
        ),
        "EMAIL_OAUTH_TOKEN_URL": lambda: Endpoint(variable, "http://straße.de", environ).ask({"a": "b"}),
    }
    with pytest.raises(CleoError):
        ask[variable]()
    [seen] = proxy.seen
    assert seen.line.startswith("POST http://xn--strae-oqa.de/")
    assert seen.headers["host"] == "xn--strae-oqa.de"


# --- names and connections --------------------------------------------------------------------------------


def names(monkeypatch: pytest.MonkeyPatch, port: int, *addresses: str) -> None:
    """Let agent.example lead to these addresses, in this order."""
    real = pycurl.Curl

    def curl() -> pycurl.Curl:
        made = real()
        made.setopt(pycurl.RESOLVE, [f"agent.example:{port}:{','.join(addresses)}"])
        return made

    monkeypatch.setattr(http.pycurl, "Curl", curl)


def test_the_next_address_is_tried(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(sending(200, b"Gut."))
    names(monkeypatch, server.port, "127.0.0.2", "127.0.0.1")  # the server is at the second alone
    answer = client_of(f"http://agent.example:{server.port}/").post(b"", {}, Deadline(5))
    assert answer.body == b"Gut."


def test_a_dead_address_leaves_time_for_the_next(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(sending(200, b"Gut."))
    # A queue of one that is full: the kernel drops every further attempt, as a firewall does.
    with socket.create_server(("127.0.0.2", server.port), backlog=0):
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.2", server.port))
        names(monkeypatch, server.port, "127.0.0.2", "127.0.0.1")
        monkeypatch.setattr(http, "CONNECT_SECONDS", 2.0)
        client = client_of(f"http://agent.example:{server.port}/")
        started = time.monotonic()
        assert client.get({}, Deadline(20)).body == b"Gut."
        assert 0.1 < time.monotonic() - started < 10

        monkeypatch.setattr(http, "CONNECT_SECONDS", 1.0)
        names(monkeypatch, server.port, "127.0.0.2")
        with pytest.raises(TimeoutError, match="no connection within 1 s"):
            client.get({}, Deadline(5))
        for one in waiting:
            one.close()


SLOW_RESOLVER = """
#include <netdb.h>
#include <unistd.h>
int getaddrinfo(const char *n, const char *s, const struct addrinfo *h, struct addrinfo **r)
{ sleep(20); return EAI_AGAIN; }
"""
ASKING = """
import time
from cleo_email.runtime import Deadline
from cleo_email.http.address import web_address
from cleo_email.http.client import HttpClient
started = time.monotonic()
for _ in range(2):
    try:
        HttpClient(web_address("URL", "http://agent.example/"), {}).get({}, Deadline(0.3))
    except TimeoutError as error:
        print(error)
print(0.59 < time.monotonic() - started < 15)
"""


@pytest.mark.skipif(
    not shutil.which("cc") or sys.platform != "linux", reason="needs cc on Linux to make a slow resolver"
)
def test_a_resolver_that_hangs_ends_at_the_deadline(tmp_path: Path) -> None:
    source, library = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text(SLOW_RESOLVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    ran = subprocess.run(
        [sys.executable, "-c", ASKING],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout.splitlines() == ["no answer from DNS within 0.3 s"] * 2 + ["True"], ran.stderr


def test_a_connection_that_is_refused_is_named_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        client_of(f"http://127.0.0.1:{port}/").reach(Deadline(5))


# --- bodies -----------------------------------------------------------------------------------------------


def test_bodies_of_every_size_go_out_at_once(serve: Serve) -> None:
    server = serve(sending(200, b""))
    client = client_of(server.url)
    for size in (0, 1, 2**20 + 1, 5 * 2**20):
        started = time.monotonic()
        assert client.post(b"\0" * size, {"Content-Type": "x/y"}, Deadline(20)).body == b""
        assert time.monotonic() - started < 10
        seen = server.seen[-1]
        assert seen.body == b"\0" * size
        assert seen.headers["content-length"] == str(size)
        assert "expect" not in seen.headers
        assert seen.headers["content-type"] == "x/y"


def test_what_a_get_sends(serve: Serve) -> None:
    server = serve(sending(204, b""))
    assert client_of(f"{server.url}/a/../b?c=%20").get({"X-A": "ü"}, Deadline(5)).status == 204
    [seen] = server.seen
    assert seen.line == "GET /a/../b?c=%20 HTTP/1.1"
    assert seen.headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": "cleo-email",
        "accept": "application/json",
        "accept-encoding": "identity",
        "connection": "close",
        "x-a": "ü",
    }


def test_a_header_cannot_bring_another() -> None:
    with pytest.raises(ValueError, match="line break"):
        client_of("http://127.0.0.1:9/").get({"X-A": "b\r\nX-B: c"}, Deadline(5))


def test_the_limit_of_the_answer_is_exact(serve: Serve) -> None:
    server = serve(sending(200, b"x" * 1000))
    assert len(client_of(server.url, max_bytes=1000).get({}, Deadline(5)).body) == 1000
    with pytest.raises(AnswerTooLarge):
        client_of(server.url, max_bytes=999).get({}, Deadline(5))


def test_a_refusal_counts_even_if_its_text_is_cut_off_or_endless(serve: Serve) -> None:
    cut = serve(lambda connection, _: connection.sendall(b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\nno"))
    answer = client_of(cut.url).get({}, Deadline(5))
    assert (answer.status, answer.body) == (500, b"no")
    long = serve(sending(404, b"x" * 500_000))
    answer = client_of(long.url).get({}, Deadline(5))
    assert (answer.status, len(answer.body)) == (404, http.MAX_ERROR_BYTES)


def test_a_refusal_whose_text_never_comes_is_heard_after_a_moment(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(connection: socket.socket, _: Seen) -> None:
        connection.sendall(b"HTTP/1.1 429 X\r\nRetry-After: 3\r\nContent-Length: 9\r\n\r\n")
        server.over.wait(30)

    monkeypatch.setattr(http, "ERROR_BODY_SECONDS", 0.2)
    server = serve(silent)
    started = time.monotonic()
    answer = client_of(server.url).get({}, Deadline(60))
    assert (answer.status, answer.headers["retry-after"]) == (429, "3")
    assert 0.19 < time.monotonic() - started < 20


def test_a_connection_that_the_server_closes_is_not_used_again(serve: Serve) -> None:
    """The server promises keep-alive and hangs up all the same."""
    server = serve(sending(200, b"ok", "Connection: keep-alive", "Keep-Alive: timeout=60"))
    client = client_of(server.url)
    assert [client.post(b"x", {}, Deadline(5)).body for _ in range(5)] == [b"ok"] * 5


def test_an_answer_counts_although_the_request_was_not_read_to_its_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer_of(200, b"hi"))
                read.wait(1)  # then it hangs up with the request half read

        read = threading.Event()
        serving = threading.Thread(target=answer)
        serving.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            assert client_of(url).post(b"x" * 30_000_000, {}, Deadline(10)).body == b"hi"
        finally:
            read.set()
            serving.join(10)


@pytest.mark.parametrize("name", ["HTTP/x", "HTTP/1.1 200 x", "HTTP/"])
def test_a_header_that_looks_like_a_status_line_is_a_header(
    serve: Serve, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    head = f"HTTP/1.1 200 OK\r\n{name}: y\r\nContent-Length: 2\r\n\r\nhi".encode()
    server = serve(lambda connection, _: connection.sendall(head))
    with suppress(OSError):  # libcurl may take it for no HTTP
        assert client_of(server.url).get({}, Deadline(5)).status == 200
    assert capfd.readouterr().err == ""
    assert server.seen[0].headers["accept-encoding"] == "identity"


def test_something_else_than_http(serve: Serve) -> None:
    server = serve(lambda connection, _: connection.sendall(b"220 mail.example.com ESMTP\r\n"))
    with pytest.raises(NotHttp):
        client_of(server.url).get({}, Deadline(5))


# --- proxies and trust ------------------------------------------------------------------------------------


def context_of(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def tunnel_to(port: int) -> Script:
    def tunnel(connection: socket.socket, _: Seen) -> None:
        with socket.create_connection(("127.0.0.1", port), 5) as onward:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\nX-Of: proxy\r\n\r\n")
            back = threading.Thread(target=copy, args=(onward, connection))
            back.start()
            copy(connection, onward)
            back.join(20)

    return tunnel


def test_a_tunnel_gets_its_own_credentials_and_the_server_its_own(
    serve: Serve, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    target = serve(sending(200, b"ok"), context_of(authority, "agent.example"))
    proxy = serve(tunnel_to(target.port))
    environ = {"HTTPS_PROXY": f"http://u:p@127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    client = client_of("https://bot:pw@agent.example/x", environ)
    answer = client.post(b"y" * 2_000_000, {}, Deadline(20))
    assert (answer.status, answer.body, answer.headers.get("x-of")) == (200, b"ok", None)
    assert proxy.seen[0].line == "CONNECT agent.example:443 HTTP/1.1"
    assert proxy.seen[0].headers["proxy-authorization"] == "Basic dTpw"
    assert "authorization" not in proxy.seen[0].headers
    assert target.seen[0].headers["authorization"] == "Basic Ym90OnB3"
    assert "proxy-authorization" not in target.seen[0].headers
    assert len(target.seen[0].body) == 2_000_000
    client.reach(Deadline(10))
    assert len(proxy.seen) == 2
    assert len(target.seen) == 1


@pytest.mark.parametrize("status", [407, 502])
def test_a_proxy_that_refuses_is_not_taken_for_the_server(serve: Serve, status: int) -> None:
    proxy = serve(sending(status, b"no"))
    client = client_of("https://agent.example/", {"HTTPS_PROXY": f"http://u:{SECRET}@127.0.0.1:{proxy.port}"})
    for call in (client.reach, lambda deadline: client.get({}, deadline)):
        with pytest.raises(OSError, match=str(status)) as caught:
            call(Deadline(5))
        assert SECRET not in f"{caught.value!r} {client!r}"


def test_the_environment_of_the_process_names_no_proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(sending(200, b"ok"))
    for name in ("http_proxy", "all_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert client_of(server.url).get({}, Deadline(5)).body == b"ok"
    monkeypatch.setenv("NO_PROXY", "*")
    by_proxy = client_of("http://agent.example/", {"HTTP_PROXY": f"http://127.0.0.1:{server.port}"})
    assert by_proxy.get({}, Deadline(5)).body == b"ok"


def test_an_authority_in_a_directory(serve: Serve, authority: trustme.CA, tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to name the file by its hash")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    subprocess.run(["openssl", "rehash", str(tmp_path)], check=True)
    server = serve(sending(200, b"ok"), context_of(authority, "127.0.0.1"))
    environ = {"SSL_CERT_DIR": str(tmp_path)}
    assert client_of(server.url, environ).get({}, Deadline(5)).body == b"ok"
    with pytest.raises(SettingsError, match=r"SSL_CERT_DIR: found .* expected a directory"):
        trust_store({"SSL_CERT_DIR": str(tmp_path / "none")})


@pytest.mark.parametrize("known", [False, True])
def test_a_certificate_that_is_not_trusted(
    serve: Serve, authority: trustme.CA, tmp_path: Path, known: bool
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = serve(sending(200, b"ok"), context_of(authority, "other.example" if known else "127.0.0.1"))
    environ = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")} if known else {}
    with pytest.raises(UntrustedCertificate, match="127.0.0.1" if known else "issuer"):
        client_of(server.url, environ).reach(Deadline(5))
    assert server.seen == []


def test_tls_spoken_to_a_plain_port_is_told_apart(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def plain() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=plain)
        thread.start()
        with pytest.raises(TlsFailed) as caught:
            client_of(f"https://127.0.0.1:{listening.getsockname()[1]}").reach(Deadline(5))
        assert caught.value.plain
        thread.join(20)


def test_fifty_threads_share_a_client(serve: Serve, authority: trustme.CA, tmp_path: Path) -> None:
    def echo(connection: socket.socket, seen: Seen) -> None:
        connection.sendall(answer_of(200, seen.body))

    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = serve(echo, context_of(authority, "127.0.0.1"))
    client = client_of(server.url, {"SSL_CERT_FILE": str(tmp_path / "ca.pem")})
    with ThreadPoolExecutor(50) as pool:
        answers = pool.map(lambda n: client.post(b"%d" % n * 1000, {}, Deadline(60)).body, range(200))
        assert list(answers) == [b"%d" % n * 1000 for n in range(200)]


def test_the_web_process_loads_neither_libcurl_nor_imap_nor_smtp() -> None:
    """Each takes some MiB, and most installations fetch nothing for a webhook."""
    code = "import sys, cleo_email.web.app; print(sorted(NAMES & set(sys.modules)))"
    names = {"pycurl", "imaplib", "imapclient", "smtplib", "cleo_email.smtp", "cleo_email.imap"}
    command = [sys.executable, "-c", code.replace("NAMES", repr(names))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
