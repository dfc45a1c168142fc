"""Ports for servers that must be told theirs before they listen, and that come back on them after a restart.

They are taken from below the range that the system uses for outgoing connections: one of those may else take
the port between the choice and the server's start, or while the server is down. For the same reason no two
processes of a run (pytest-xdist) have ports in common.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import threading
from pathlib import Path

HOST = "127.0.0.1"
_FIRST = 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")  # Linux; elsewhere it begins at 49,152 (RFC 6335)


def _last() -> int:
    begin = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 49_152
    return begin if begin > _FIRST + 1000 else 32_768


def candidates() -> itertools.cycle[int]:
    """Return the ports of this process, again and again."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = list(range(_FIRST, _last()))[number::count]
    start = random.randrange(len(ports))  # another run at the same time begins elsewhere
    return itertools.cycle(ports[start:] + ports[:start])


_ports = candidates()
_lock = threading.Lock()


def free_ports(count: int) -> list[int]:
    """``count`` loopback ports on which nobody listens and that nobody else in this process was given."""
    found: list[int] = []
    with _lock:
        while len(found) < count:
            port = next(_ports)
            if _is_free(port):
                found.append(port)
    return found


def free_port() -> int:
    return free_ports(1)[0]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
