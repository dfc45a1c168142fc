"""What a webhook provider has fetched comes over verified TLS from a name, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cleo_email.embedded.mailserver import Certificates
from cleo_email.webhooks.base import NotNow, TooMuch, Unusable
from cleo_email.webhooks.fetch import Https
from tests.support.http_server import Handler, HttpServer


class Service(Handler):
    seen: list[tuple[str, str]] = []  # noqa: RUF012  (one server, one test)

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization", "")))
        status, _, rest = self.path.lstrip("/").partition("/")
        headers = {"Location": "https://localhost/200/secret"} if rest == "elsewhere" else {}
        self.answer(int(status), b"x" * (int(rest) if rest.isdigit() else 5), **headers)


@pytest.fixture
def port(ca: Certificates) -> Iterator[int]:
    Service.seen.clear()
    server = HttpServer(Service)
    server.socket = ca.server_context().wrap_socket(server.socket, server_side=True)
    with server:
        yield server.server_port


def fetcher(ca: Certificates, port: int) -> Https:
    return Https({"SSL_CERT_FILE": str(ca.ca_file)}, ports=(port,))


def test_the_body_of_a_success(ca: Certificates, port: int) -> None:
    fetch = fetcher(ca, port)
    url = f"https://localhost:{port}/200/1000"
    assert fetch(url, headers={"Authorization": "Bearer k"}, max_bytes=1000) == b"x" * 1000
    assert Service.seen == [("/200/1000", "Bearer k")]
    with pytest.raises(TooMuch):
        fetch(url, headers={}, max_bytes=999)


@pytest.mark.parametrize(
    ("status", "fault"), [(404, Unusable), (403, Unusable), (500, NotNow), (429, NotNow)]
)
def test_what_a_refusal_means(ca: Certificates, port: int, status: int, fault: type[Exception]) -> None:
    with pytest.raises(fault, match=str(status)):
        fetcher(ca, port)(f"https://localhost:{port}/{status}/x", headers={}, max_bytes=100)


def test_redirects_are_not_followed(ca: Certificates, port: int) -> None:
    with pytest.raises(Unusable, match="302"):
        fetcher(ca, port)(f"https://localhost:{port}/302/elsewhere", headers={}, max_bytes=100)
    assert len(Service.seen) == 1


def test_a_certificate_that_is_not_trusted_is_no_answer(port: int) -> None:
    with pytest.raises(NotNow):
        Https({}, ports=(port,))(f"https://localhost:{port}/200/x", headers={}, max_bytes=100)
    assert Service.seen == []


@pytest.mark.parametrize(
    "url",
    [
        *("http://localhost/x", "https://127.0.0.1/x", "https://[::1]/x", "https://169.254.169.254/latest"),
        *("https://2130706433/", "https://127.1/", "https://0x7f000001/", "https://user:pw@localhost/"),
        *(
            "https://localhost:1/",
            "https://localhost:22/",
            "file:///etc/passwd",
            "ftp://localhost/",
            "",
            "x",
            "https://",
        ),
    ],
)
def test_nothing_else_is_fetched(url: str) -> None:
    with pytest.raises(Unusable):
        Https({})(url, headers={}, max_bytes=100)


def test_a_server_that_is_not_there_is_asked_again_later(tmp_path: Path) -> None:
    with pytest.raises(NotNow):
        Https({}, ports=(1,))("https://localhost:1/", headers={}, max_bytes=100)
