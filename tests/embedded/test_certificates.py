from __future__ import annotations

import os
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest

from cleo_email.embedded.mailserver import Certificates, write_certificates


def greet(files: Certificates, client: ssl.SSLContext, name: str) -> bytes:
    """One TLS connection over a pair of sockets."""
    left, right = socket.socketpair()

    def serve() -> None:
        try:
            with files.server_context().wrap_socket(right, server_side=True) as peer:
                peer.sendall(b"hello")
                peer.recv(1)
        except OSError:
            right.close()

    server = threading.Thread(target=serve)
    server.start()
    try:
        with client.wrap_socket(left, server_hostname=name) as connection:
            return connection.recv(5)
    finally:
        left.close()
        server.join(10)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_who_trusts_the_authority_can_connect_by_every_name_of_this_machine(
    tmp_path: Path, name: str
) -> None:
    files = write_certificates(tmp_path)
    assert greet(files, files.client_context(), name) == b"hello"


def test_another_name_and_another_authority_are_refused(tmp_path: Path) -> None:
    files = write_certificates(tmp_path / "a")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mail\.example\.com"):
        greet(files, files.client_context(), "mail.example.com")
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        greet(files, write_certificates(tmp_path / "b").client_context(), "localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        greet(files, ssl.create_default_context(), "localhost")


def test_the_file_serves_as_ssl_cert_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(files.ca_file))
    assert greet(files, ssl.create_default_context(), "localhost") == b"hello"


def test_keys_are_for_their_owner_alone_whatever_the_umask_and_no_authority_key_is_left(
    tmp_path: Path,
) -> None:
    before = os.umask(0)
    try:
        files = write_certificates(tmp_path / "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(files.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    keys = [file.name for file in files.ca_file.parent.iterdir() if b"PRIVATE KEY" in file.read_bytes()]
    assert keys == ["server.key"]


def test_a_second_run_replaces_the_files_and_leaves_no_others(tmp_path: Path) -> None:
    first = write_certificates(tmp_path).ca_file.read_bytes()
    files = write_certificates(tmp_path)
    assert files.ca_file.read_bytes() != first
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ca.pem", "server.key", "server.pem"]
    assert greet(files, files.client_context(), "localhost") == b"hello"
