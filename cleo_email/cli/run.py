"""``cleo-email run``: web and worker under one supervisor, with an embedded Redis unless REDIS_URL is set."""

import contextlib
import os
import re
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from cleo_email.cli.command import SettingsCommand, open_work
from cleo_email.embedded.redis import DATA, EmbeddedRedis
from cleo_email.embedded.supervisor import Command, Supervisor
from cleo_email.errors import CleoError, StoreUnavailable
from cleo_email.settings import gather, make_settings
from cleo_email.store import Store
from cleo_email.store.connection import connect_web, refuse_unsupported

WEB_THREADS = "16"
PLACE = re.compile(
    r"unix:(?://)?(?P<path>.+)|(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<host>\w[\w.-]*)):(?P<port>[0-9]{1,5})",
    re.ASCII | re.IGNORECASE,
)


def read_bind(text: str) -> str:
    """Return what gunicorn's ``--bind`` takes; a bare number is a port of 127.0.0.1."""
    place = PLACE.fullmatch(f"127.0.0.1:{text}" if text.isdigit() else text)
    if not place or not 0 < int(place["port"] or 1) < 65536:
        expected = "HOST:PORT with a port from 1 to 65535, [IPV6]:PORT or unix:PATH, such as 127.0.0.1:8001"
        raise click.BadParameter(f"found {text!r}, expected {expected}")
    return place[0]


def try_to_bind(bind: str) -> None:
    """Raise CleoError for a place where gunicorn cannot listen.

    It would end at once and be started again for ever, while the worker already answers mail; and callers of
    a port that is taken would reach another program.
    """
    place = PLACE.fullmatch(bind)
    assert place
    try:
        if place["host"] or place["ipv6"]:
            family = socket.AF_INET6 if place["ipv6"] else socket.AF_INET
            socket.create_server((place["ipv6"] or place["host"], int(place["port"])), family=family).close()
        elif not Path(place["path"]).is_socket():  # gunicorn replaces one that is there
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(place["path"])
            Path(place["path"]).unlink()
    except (OSError, UnicodeError) as error:  # UnicodeError: a label of more than 63 letters
        why = getattr(error, "strerror", None) or error
        raise CleoError(f"{bind}: {why}; another: cleo-email run --bind 127.0.0.1:8001") from None


@click.command(cls=SettingsCommand)
@click.option(
    "--bind",
    type=read_bind,
    metavar="PLACE",
    envvar="PORT",
    show_envvar=True,
    default="8000",
    show_default=True,
    help="Where the web process listens: HOST:PORT, a port of 127.0.0.1, or unix:PATH.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=DATA,
    show_default=True,
    help="Where the embedded Redis keeps its data, and the API token that is made.",
)
def run(bind: str, data: Path) -> int:
    """Run web and worker, with an embedded Redis unless REDIS_URL is set."""
    given = gather()
    settings = make_settings(given).with_email()  # else each child would report the faults
    try_to_bind(bind)
    environ = dict(os.environ)
    web = f"cleo-email: web on {bind if bind.startswith('unix:') else f'http://{bind}'}"
    if page := settings.public_url or page_base(bind):
        web += f"\ncleo-email: the operator page is at {page}/operator/"
    if "REDIS_URL" in given:
        refuse_unsupported(settings.redis_url.get_secret_value())
        print(web, file=sys.stderr)
        token = ""
        with contextlib.suppress(OSError):  # then only programs of this user are let in
            token = "" if settings.api_tokens else api_token(data)
        return Supervisor(commands(environ, bind, token=token)).run()
    redis = EmbeddedRedis(data / "redis")
    try:
        redis.start()
    except OSError as error:
        raise CleoError(
            f"{data}: {error.strerror or error}; name a folder that this user may write to with --data, "
            "or another Redis in REDIS_URL"
        ) from None
    with redis:
        print(f"cleo-email: embedded Redis in {data / 'redis'}", web, sep="\n", file=sys.stderr)
        environ["REDIS_URL"] = redis.url
        token = "" if settings.api_tokens else api_token(data)
        status = Supervisor(commands(environ, bind, token=token), keeper=redis.ensure).run()
        _tell_what_is_left(redis, data)
        return status


def page_base(bind: str) -> str:
    """Return where a browser on this machine finds the web process, '' for a Unix socket."""
    host, _, port = bind.rpartition(":")
    if bind.startswith("unix:"):
        return ""
    return f"http://{'localhost' if host in ('0.0.0.0', '[::]', '127.0.0.1') else host}:{port}"  # noqa: S104 - no bind  # nosec B104


def api_token(data: Path) -> str:
    """Return the token in ``data``/api-token, for this user alone; make it where there is none yet.

    Callers through a proxy or a Unix socket need one; programs of the same user on this machine do not. Raise
    OSError.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data / "api-token"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+", encoding="ascii", errors="replace") as file:
        os.fchmod(descriptor, 0o600)
        token = file.read().strip()
        if not token:
            token = secrets.token_hex(32)
            file.write(f"{token}\n")
    print(f"cleo-email: the API token is in {path} (CLEO_API_TOKEN is not set)", file=sys.stderr)
    return token


def _tell_what_is_left(redis: EmbeddedRedis, data: Path) -> None:
    """Name what is still open in this Redis: a server with another one would know nothing of it."""
    with contextlib.suppress(StoreUnavailable, OSError):  # OSError: the terminal is gone
        if left := open_work(Store(connect_web(redis.url))):
            print(
                f"cleo-email: messages still open in {data / 'redis'}: {left}. The next cleo-email run here "
                "goes on with them.\ncleo-email: to go on with another Redis, name it in REDIS_URL and take "
                f"them along: cleo-email recover --from {data}",
                file=sys.stderr,
            )


def commands(
    environ: Mapping[str, str], bind: str, cwd: Path | None = None, *, token: str = ""
) -> Sequence[Command]:
    """Return the two processes of the Procfile, for any working directory; a ``.env`` in ``cwd`` counts.

    ``token`` is the API token where nobody has set one.
    """
    web = [sys.executable, "-m", "gunicorn", "--threads", WEB_THREADS, "--bind", bind]
    web += ["--no-control-socket"]  # unused, and it would be left in ~/.gunicorn
    web += ["--log-level", "warning", f"cleo_email.web:from_environment(own_callers={bool(token)})"]
    return (
        Command("web", web, {**environ, "CLEO_API_TOKEN": token} if token else environ, cwd),
        Command("worker", [sys.executable, "-m", "cleo_email.worker"], environ, cwd),
    )
