"""Who calls, as far as it can be known; and what becomes of those who do not know the secret."""

from __future__ import annotations

import ipaddress
import logging

from flask import request

from cleo_email.clock import now_ms
from cleo_email.errors import StoreUnavailable
from cleo_email.store import Failures
from cleo_email.web.answers import Refused

log = logging.getLogger(__name__)

_FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-IP")


def is_direct_loopback() -> bool:
    """Whether the caller is a program of this machine, not somebody behind a proxy that runs here.

    Nor a web page in a browser on this machine, whose own host name was made to lead here (DNS rebinding).
    """
    if any(name in request.headers for name in _FORWARDED) or not _names_loopback(_host()):
        return False
    # A form on any web page can post here from a browser on this machine; browsers say whose page it was.
    own = request.host_url.rstrip("/")
    if request.headers.get("Origin", own) != own:
        return False
    peer = _address(request.environ.get("REMOTE_ADDR", ""))
    return peer is not None and peer.is_loopback  # a Unix socket says nothing about the caller


def _host() -> str:
    """As it came: Werkzeug makes '' of a_b.example and its like, where a browser goes all the same."""
    return request.headers.get("Host", "").strip()


def _names_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]").lower()
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def client_address() -> str:
    """Whose failures are counted together: an IPv4 address, or the /64 of an IPv6 one.

    Behind a proxy on this machine or in the private network that is the last address of X-Forwarded-For, the
    one which that proxy wrote. Only for counting: no right ever follows from a header.
    """
    peer = _address(request.environ.get("REMOTE_ADDR", ""))
    if peer is None or peer.is_loopback or peer.is_private:
        peer = _address(request.headers.get("X-Forwarded-For", "").rpartition(",")[2]) or peer
    if peer is None:
        return "unknown"
    if isinstance(peer, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((peer, 64), strict=False))
    return str(peer)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def failed(fault: Refused, failures: Failures) -> Refused:
    """``fault``, or a 429 where this caller, or all of them together, were wrong too often this minute.

    Called after the secret was found to be wrong, so that a right one is never slowed down. Without Redis
    nobody is counted.
    """
    address = client_address()
    try:
        wait = failures.count(address, now_ms() // 1000)
    except StoreUnavailable:
        return fault
    if wait:
        text = "too many requests with a wrong secret; the right one is taken at any time"
        return Refused(429, text, headers={"Retry-After": str(wait)})
    log.warning("refused a request from %s: %s", address, fault.message)  # bounded by the count above
    return fault
