"""``cleo-email run``: web and worker under one supervisor, with an embedded Redis unless REDIS_URL is set."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from cleo_email.embedded.beside import DATA
from cleo_email.embedded.children import Command
from cleo_email.embedded.redis import EmbeddedRedis
from cleo_email.embedded.supervisor import Supervisor
from cleo_email.errors import CleoError, SettingsError
from cleo_email.settings import gather, make_settings

WEB_PROCESSES = "2"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("run", help="web and worker, with an embedded Redis unless REDIS_URL is set")
    parser.add_argument(
        "--bind", default=f"127.0.0.1:{os.environ.get('PORT', '8000')}", help="of the web process"
    )
    parser.add_argument("--data", type=Path, default=DATA, help="where the embedded Redis keeps its data")
    parser.set_defaults(call=_run)


def _run(arguments: argparse.Namespace) -> int:
    given = gather()
    if not make_settings(given).enabled:  # faults are told once, before anything starts
        raise SettingsError(["ENABLED_CLIENTS: found no email, expected a list with it, such as email"])
    _try_to_bind(arguments.bind)
    with ExitStack() as stack:
        environ = dict(os.environ)
        keepers: list[Callable[[], object]] = []
        if "REDIS_URL" not in given:
            redis = stack.enter_context(EmbeddedRedis(arguments.data / "redis"))
            keepers.append(redis.ensure)
            environ["REDIS_URL"] = redis.url
            print(f"cleo-email: embedded Redis in {arguments.data / 'redis'}", file=sys.stderr)
        print(f"cleo-email: web on http://{arguments.bind}", file=sys.stderr)
        return Supervisor(commands(environ, arguments.bind), keepers=keepers).run()


def _try_to_bind(bind: str) -> None:
    """A taken port is told at once: gunicorn would try again for ever, and callers reach another program."""
    host, _, port = bind.rpartition(":")
    if not port.isdigit() or bind.startswith("unix:"):
        return
    address = host.strip("[]") or "0.0.0.0"  # noqa: S104  # nosec B104
    try:
        socket.create_server(
            (address, int(port)), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        ).close()
    except OSError as error:
        raise CleoError(f"{bind}: {error.strerror}; another: cleo-email run --bind 127.0.0.1:8001") from None


def commands(environ: Mapping[str, str], bind: str, cwd: Path | None = None) -> Sequence[Command]:
    """The two processes of the Procfile, from any working directory; a ``.env`` in ``cwd`` counts."""
    web = [sys.executable, "-m", "gunicorn", "--workers", WEB_PROCESSES, "--bind", bind]
    web += ["--log-level", "warning", "cleo_email.wsgi:app"]
    return (
        Command("web", web, environ, cwd),
        Command("worker", [sys.executable, "-m", "cleo_email.worker"], environ, cwd),
    )
