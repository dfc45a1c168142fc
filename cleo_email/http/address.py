"""Parse URLs, and find the proxy and the trusted certificates that the environment names."""

import base64
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from cleo_email.errors import SettingsError
from cleo_email.mail.address import a_label
from cleo_email.runtime import is_loopback

_EXPECTED = "http://host[:port]/path or https://host[:port]/path"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class WebAddress:
    """The parts of a URL. ``str()`` gives the origin alone, because paths and queries can hold keys."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)  # path and query
    basic: str = field(default="", repr=False)  # the value of an Authorization header, from user:password@
    secrets: tuple[str, ...] = field(default=(), repr=False)  # what no log may show

    def __str__(self) -> str:
        usual = f":{_PORTS[self.scheme]}"
        return f"{self.scheme}://{self.authority.removesuffix(usual)}"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def authority(self) -> str:
        """Return ``host:port``, also for the usual port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def tls(self) -> bool:
        return self.scheme == "https"


def web_address(variable: str, url: str, path: str = "") -> WebAddress:
    """Take ``url`` apart; ``path`` is put behind its own path, in front of its query.

    :raises SettingsError: one line that names ``variable`` and shows no secret of ``url``.
    """
    url = url.strip()
    if any(ord(char) < 33 for char in url):
        raise SettingsError([f"{variable}: found a URL with white space in it, expected {_EXPECTED}"])
    try:
        parts = urlsplit(url)
        host, port = _ascii_host(parts.hostname or ""), parts.port
    except ValueError:
        raise SettingsError([f"{variable}: found a malformed URL, expected {_EXPECTED}"]) from None
    if parts.scheme not in _PORTS or not host or port == 0:
        shown = f"{parts.scheme}://{parts.hostname}" if parts.hostname else "a URL without a host"
        raise SettingsError([f"{variable}: found {shown}, expected {_EXPECTED}"])
    return WebAddress(
        scheme=parts.scheme,
        host=host,
        port=port or _PORTS[parts.scheme],
        target=_target(parts, path),
        basic=_basic(parts),
        secrets=tuple(unquote(part) for part in (parts.password, parts.query) if part),
    )


def _ascii_host(host: str) -> str:
    """Return the host as DNS knows it, "" for none. Raise ValueError for what is no name."""
    if not host or ":" in host:  # an IPv6 address has no labels
        return host
    name = a_label(host)
    if not name or any(len(label) > 63 for label in name.split(".")):
        raise ValueError(host)
    return name


def _target(parts: SplitResult, path: str) -> str:
    # What is quoted already stays as it is.
    path = quote((parts.path.rstrip("/") + path if path else parts.path) or "/", safe="/%:=&~+!$,;'@()*")
    query = quote(parts.query, safe="/%:=&?~+!$,;'@()*[]")
    return f"{path}?{query}" if query else path


def _basic(parts: SplitResult) -> str:
    if parts.username is None and parts.password is None:
        return ""
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


def proxy_address(address: WebAddress, environ: Mapping[str, str]) -> WebAddress | None:
    """Return the proxy that ``HTTP_PROXY`` or ``HTTPS_PROXY`` names; None for what ``NO_PROXY`` names.

    Lower case wins. This machine itself is never reached through a proxy. Raise SettingsError for another
    than an ``http://`` URL.
    """
    name = f"{address.scheme}_proxy"
    url = environ.get(name, environ.get(name.upper(), "")).strip()
    excepted = environ.get("no_proxy", environ.get("NO_PROXY", ""))
    if not url or is_loopback(address.host) or _is_excepted(address, excepted):
        return None
    proxy = web_address(name.upper(), url if "://" in url else f"http://{url}")
    if proxy.tls:
        raise SettingsError([f"{name.upper()}: found an https:// URL, expected http://host:port"])
    return proxy


def _is_excepted(address: WebAddress, excepted: str) -> bool:
    """Return whether ``excepted`` (``*``, or domains with or without a port) names the address."""
    domains = excepted.lower().replace(",", " ").split()
    names = (f".{address.host}", f".{address.authority}")
    return "*" in domains or any(
        name.endswith("." + domain.removeprefix("*").lstrip(".")) for domain in domains for name in names
    )


def trust_store(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return a file in PEM and directories of hashed names that hold the trusted authorities; "" for none.

    They are those of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` (SettingsError for what cannot be read) and the
    system's, named by hand: a wheel of pycurl has an OpenSSL of its own, which does not know where they are.
    """
    file, folders = environ.get("SSL_CERT_FILE", ""), environ.get("SSL_CERT_DIR", "")
    faults = []
    try:
        if file:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except OSError:  # ssl.SSLError is one
        faults.append(f"SSL_CERT_FILE: found {file!r}, expected a readable file of PEM certificates")
    if folders and not all(Path(folder).is_dir() for folder in folders.split(os.pathsep) if folder):
        faults.append(f"SSL_CERT_DIR: found {folders!r}, expected a directory of PEM certificates")
    if faults:
        raise SettingsError(faults)
    system = ssl.get_default_verify_paths()
    if not file and Path(system.openssl_cafile).is_file():
        file = system.openssl_cafile
    return file, os.pathsep.join(folder for folder in (folders, system.openssl_capath) if folder)
