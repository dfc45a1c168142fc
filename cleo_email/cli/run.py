"""``cleo-email run``: web and worker under one supervisor, with an embedded Redis unless REDIS_URL is set."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from cleo_email.cli.binding import read_bind, try_to_bind
from cleo_email.embedded.redis import DATA, EmbeddedRedis
from cleo_email.embedded.supervisor import Command, Supervisor
from cleo_email.errors import CleoError, SettingsError
from cleo_email.settings import gather, make_settings

WEB_PROCESSES = "2"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("run", help="web and worker, with an embedded Redis unless REDIS_URL is set")
    parser.add_argument(
        "--bind",
        type=read_bind,
        default=os.environ.get("PORT") or "8000",
        help="where the web process listens: HOST:PORT, a port of 127.0.0.1, or unix:PATH",
    )
    parser.add_argument("--data", type=Path, default=DATA, help="where the embedded Redis keeps its data")
    parser.set_defaults(call=_run)


def _run(arguments: argparse.Namespace) -> int:
    given = gather()
    if not make_settings(given).enabled:  # faults are told once, before anything starts
        raise SettingsError(["ENABLED_CLIENTS: found no email, expected a list with it, such as email"])
    bind: str = arguments.bind
    try_to_bind(bind)
    with ExitStack() as stack:
        environ = dict(os.environ)
        keepers: list[Callable[[], object]] = []
        if "REDIS_URL" not in given:
            redis = EmbeddedRedis(arguments.data / "redis")
            _start(redis, arguments.data)
            stack.callback(redis.stop)
            keepers.append(redis.ensure)
            environ["REDIS_URL"] = redis.url
            print(f"cleo-email: embedded Redis in {arguments.data / 'redis'}", file=sys.stderr)
        print(f"cleo-email: web on {bind if bind.startswith('unix:') else f'http://{bind}'}", file=sys.stderr)
        return Supervisor(commands(environ, bind), keepers=keepers).run()


def _start(redis: EmbeddedRedis, data: Path) -> None:
    try:
        redis.start()
    except OSError as error:
        raise CleoError(
            f"{data}: {error.strerror or error}; name a folder that this user may write to with --data, "
            "or another Redis in REDIS_URL"
        ) from None


def commands(environ: Mapping[str, str], bind: str, cwd: Path | None = None) -> Sequence[Command]:
    """The two processes of the Procfile, from any working directory; a ``.env`` in ``cwd`` counts."""
    web = [sys.executable, "-m", "gunicorn", "--workers", WEB_PROCESSES, "--bind", bind]
    web += ["--no-control-socket"]  # which would be left in ~/.gunicorn, and nobody uses it
    web += ["--log-level", "warning", "cleo_email.wsgi:app"]
    return (
        Command("web", web, environ, cwd),
        Command("worker", [sys.executable, "-m", "cleo_email.worker"], environ, cwd),
    )
