"""``cleo-email run``: web and worker under one supervisor, with an embedded Redis unless REDIS_URL is set."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from dotenv import dotenv_values

from cleo_email.embedded.redis import EmbeddedRedis
from cleo_email.embedded.supervisor import Command, Supervisor
from cleo_email.settings import read_settings

WEB_PROCESSES = "2"
DATA = Path("var")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("run", help="web and worker, with an embedded Redis unless REDIS_URL is set")
    parser.add_argument(
        "--bind", default=f"127.0.0.1:{os.environ.get('PORT', '8000')}", help="of the web process"
    )
    parser.add_argument("--data", type=Path, default=DATA, help="where the embedded Redis keeps its data")
    parser.set_defaults(call=_run)


def _run(arguments: argparse.Namespace) -> int:
    read_settings()  # faults are told once, before anything starts
    with ExitStack() as stack:
        environ = dict(os.environ)
        keepers: list[Callable[[], object]] = []
        if not _redis_is_given(environ):
            redis = stack.enter_context(EmbeddedRedis(arguments.data / "redis"))
            keepers.append(redis.ensure)
            environ["REDIS_URL"] = redis.url
            print(f"cleo-email: embedded Redis in {arguments.data / 'redis'}", file=sys.stderr)
        print(f"cleo-email: web on http://{arguments.bind}", file=sys.stderr)
        return Supervisor(commands(environ, arguments.bind), keepers=keepers).run()


def commands(environ: Mapping[str, str], bind: str, cwd: Path | None = None) -> Sequence[Command]:
    """The two processes of the Procfile, from any working directory; a ``.env`` in ``cwd`` counts."""
    web = [sys.executable, "-m", "gunicorn", "--workers", WEB_PROCESSES, "--bind", bind]
    web += ["--log-level", "warning", "cleo_email.wsgi:app"]
    return (
        Command("web", web, environ, cwd),
        Command("worker", [sys.executable, "-m", "cleo_email.worker"], environ, cwd),
    )


def find_embedded_redis() -> None:
    """For the other commands, beside a running ``cleo-email run`` in this directory: use its Redis.

    Only where nobody has set REDIS_URL; ``run --data`` elsewhere needs it to be set.
    """
    redis = EmbeddedRedis(DATA / "redis")
    if not _redis_is_given(os.environ) and redis.is_listening():
        os.environ["REDIS_URL"] = redis.url


def _redis_is_given(environ: Mapping[str, str]) -> bool:
    dotenv = dotenv_values(".env") if Path(".env").is_file() else {}
    return bool(environ.get("REDIS_URL") or dotenv.get("REDIS_URL"))
