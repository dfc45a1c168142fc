"""A throw-away certificate authority and one server certificate for this machine."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from .extra import require

NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Certificates:
    """Files in PEM form. ``ca_file`` is what a client trusts (``SSL_CERT_FILE``)."""

    ca_file: Path
    cert_file: Path  # the server's certificate and its chain
    key_file: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Verifies host names and trusts this authority alone."""
        return ssl.create_default_context(cafile=self.ca_file)


def write_certificates(directory: Path, *names: str) -> Certificates:
    """Make a new authority and a server certificate and write ``ca.pem``, ``server.pem`` and ``server.key``.

    ``names`` are host names and addresses, by default those of the loopback interface. The authority's own
    key is never written: nobody can issue a second certificate. Files of an earlier run are replaced, each in
    one step. Raises CleoError without the extra ``embedded``, OSError where the directory cannot be written.
    """
    tool = require("trustme", "a throw-away certificate")
    authority = tool.CA(organization_name="cleo-email throw-away CA")
    server = authority.issue_cert(*(names or NAMES))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    chain = b"".join(blob.bytes() for blob in server.cert_chain_pems)
    _write(files.key_file, server.private_key_pem.bytes(), 0o600)
    _write(files.cert_file, chain, 0o644)
    _write(files.ca_file, authority.cert_pem.bytes(), 0o644)
    return files


def _write(path: Path, content: bytes, mode: int) -> None:
    """The file has its mode from the first byte on, whatever the umask, and appears whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
    fresh.replace(path)
