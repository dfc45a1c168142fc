"""A TCP connection within a deadline, the look-up of the name included."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cleo_email.http_client.deadline import Deadline

CONNECT_SECONDS = 10.0

_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


def connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connected to the first address of ``host`` that takes the connection, within ``CONNECT_SECONDS``.

    :raises OSError: none does, there is no such name, or time is up (TimeoutError).
    """
    limit = Deadline(min(CONNECT_SECONDS, deadline.left()))
    addresses = _resolve(host, port, limit)
    fault: OSError = OSError("the name has no address")
    for tried, (family, kind, protocol, _, where) in enumerate(addresses):
        try:
            # A dead address (often IPv6) must leave time for those after it.
            patience = limit.left() / (len(addresses) - tried)
        except TimeoutError:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(patience)
            sock.connect(where)
        except OSError as error:
            sock.close()
            fault = error
            continue
        _tune(sock)
        return sock
    if isinstance(fault, TimeoutError):
        raise TimeoutError(f"no connection within {limit.seconds:g} s")
    raise fault


def _resolve(host: str, port: int, limit: Deadline) -> Sequence[_Address]:
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    found: list[Sequence[_Address] | OSError] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that is too long
            found.append(error if isinstance(error, OSError) else OSError("no such name"))

    # The resolver takes no time-out: it is left behind when it hangs, and ends by its own rules.
    thread = threading.Thread(target=look_up, name="http-name", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # the system gives no further thread
        raise OSError(str(error)) from None
    thread.join(limit.left())
    if not found:
        raise TimeoutError(f"no answer from DNS within {limit.seconds:g} s")
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # An agent may think for minutes: this keeps a firewall from forgetting the connection, and tells of a
    # peer that has gone without a word.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):  # macOS names the first one otherwise
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
