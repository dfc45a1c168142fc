"""Where the web process of ``cleo-email run`` listens, looked at before gunicorn is started.

gunicorn would end at once on what it cannot use, and be started again for ever, while the worker beside it
already answers mail.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import socket
from pathlib import Path

from cleo_email.errors import CleoError

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*)")
_PORT = re.compile(r"[0-9]{1,5}")
_UNIX = re.compile(r"unix:(?://)?(.+)")
_EXPECTED = "HOST:PORT with a port from 1 to 65535, [IPV6]:PORT or unix:PATH, such as 127.0.0.1:8001"
_ANOTHER = "another: cleo-email run --bind 127.0.0.1:8001"
_SOCKET_PATH_LIMIT = 100  # bytes; sockaddr_un holds 104 on macOS, 108 on Linux


def read_bind(text: str) -> str:
    """What gunicorn's ``--bind`` takes; a bare number is a port of 127.0.0.1.

    Raises argparse.ArgumentTypeError for whatever is no such place.
    """
    if _UNIX.fullmatch(text):
        return text
    if _PORT.fullmatch(text):
        text = f"127.0.0.1:{text}"
    host, _, port = text.rpartition(":")
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65536 or not _is_host(host):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected {_EXPECTED}")
    return text


def try_to_bind(bind: str) -> None:
    """Raises CleoError where nobody can listen: a taken port, an address of another machine, a wrong folder.

    Callers of a taken port would reach another program.
    """
    unix = _UNIX.fullmatch(bind)
    if unix:
        _try_path(Path(unix[1]), bind)
        return
    host, _, port = bind.rpartition(":")
    address = host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.create_server((address, int(port)), family=family).close()
    except (OSError, OverflowError, UnicodeError) as error:  # UnicodeError: a label of more than 63 letters
        raise CleoError(f"{bind}: {getattr(error, 'strerror', None) or error}; {_ANOTHER}") from None


def _try_path(path: Path, bind: str) -> None:
    if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
        raise CleoError(f"{bind}: too long for a socket; {_ANOTHER}")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK) or path.is_dir():
        raise CleoError(f"{bind}: no socket can be made there; {_ANOTHER}")


def _is_host(text: str) -> bool:
    if not (text.startswith("[") and text.endswith("]")):
        return _NAME.fullmatch(text) is not None
    try:
        ipaddress.IPv6Address(text[1:-1])
    except ValueError:
        return False
    return True
