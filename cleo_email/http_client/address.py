"""Where an HTTP server lives: a URL taken apart once, printable without what is secret in it."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, urlsplit

from cleo_email.errors import SettingsError

EXPECTED = "http://host[:port]/path or https://host[:port]/path"


@dataclass(frozen=True)
class WebAddress:
    """``target`` is path and query. ``str()`` gives the origin alone: paths and queries can hold keys."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)
    basic: str = field(default="", repr=False)  # the value of an Authorization header, from user:password@
    secrets: tuple[str, ...] = field(default=(), repr=False)  # what no log may show

    def __str__(self) -> str:
        default = 443 if self.scheme == "https" else 80
        return f"{self.scheme}://{self.authority if self.port != default else self._bracketed}"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def authority(self) -> str:
        return f"{self._bracketed}:{self.port}"

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def tls(self) -> bool:
        return self.scheme == "https"


def web_address(variable: str, url: str, path: str = "") -> WebAddress:
    """``url`` taken apart; ``path`` is put behind its own path, in front of its query.

    :raises SettingsError: one line that names ``variable`` and shows no secret of ``url``.
    """
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").rstrip(".")
        port = parts.port
        # An IPv6 address has no labels to encode.
        host = host if ":" in host else host.encode("idna").decode("ascii")
    except ValueError:
        raise SettingsError([f"{variable}: found a malformed URL, expected {EXPECTED}"]) from None
    scheme = parts.scheme.lower()
    if any(ord(char) < 33 for char in url.strip()):
        raise SettingsError([f"{variable}: found a URL with white space in it, expected {EXPECTED}"])
    if scheme not in ("http", "https") or not host or port == 0:
        raise SettingsError([f"{variable}: found {_shown(parts)}, expected {EXPECTED}"])
    return WebAddress(
        scheme=scheme,
        host=host,
        port=port or (443 if scheme == "https" else 80),
        target=_target(parts, path),
        basic=_basic(parts),
        secrets=tuple(unquote(part) for part in (parts.password, parts.query) if part),
    )


def proxy_address(address: WebAddress, environ: Mapping[str, str]) -> WebAddress | None:
    """The proxy that ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY`` (lower case wins) name for ``address``.

    This machine itself is never reached by way of a proxy.

    :raises SettingsError: it is no ``http://`` URL.
    """
    name = f"{address.scheme}_proxy"
    url = environ.get(name, environ.get(name.upper(), "")).strip()
    excepted = environ.get("no_proxy", environ.get("NO_PROXY", ""))
    if not url or _is_loopback(address.host) or _is_excepted(address, excepted):
        return None
    proxy = web_address(name.upper(), url if "://" in url else f"http://{url}")
    if proxy.tls:
        raise SettingsError([f"{name.upper()}: found an https:// URL, expected http://host:port"])
    return proxy


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_excepted(address: WebAddress, excepted: str) -> bool:
    """Whether ``NO_PROXY`` (``*``, or hosts and domains with or without a port) names the address."""
    for entry in excepted.lower().replace(",", " ").split():
        domain = entry.removeprefix("*").removeprefix(".")
        if entry == "*" or domain in (address.host, address.authority):
            return True
        if domain and (f".{address.host}".endswith(f".{domain}") or address.authority.endswith(f".{domain}")):
            return True
    return False


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


def _shown(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.hostname}" if parts.hostname else "a URL without a host"
