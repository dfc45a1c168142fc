"""``cleo-email run`` with a place that cannot be used: one line that says what to do, and nothing starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cleo_email.cli.run import read_bind
from tests.support.channel import ROOT

ENV = {
    "ENABLED_CLIENTS": "email",
    "EMAIL_SMTP_HOST": "127.0.0.1",
    "EMAIL_USER": "a@b.test",
    "EMAIL_PASSWORD": "hunter2",
    "PYTHONPATH": str(ROOT),
}


def run(*argv: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    drop = ("EMAIL_", "CLEO_", "REDIS_", "ENABLED_", "PORT")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    return subprocess.run(
        [sys.executable, "-m", "cleo_email", "run", *argv],
        cwd=cwd,
        env={**clean, **ENV, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    "bind",
    ["127.0.0.1:99999", "127.0.0.1:80x", "127.0.0.1:0", "::1:8000", "[x]:80", "unix:", ":", "", "99999"],
)
def test_a_bind_that_is_none_is_wrong_usage(bind: str, tmp_path: Path) -> None:
    done = run(f"--bind={bind}", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "expected HOST:PORT" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [], "nothing was started"


def test_a_port_of_the_environment_is_looked_at_too(tmp_path: Path) -> None:
    done = run(cwd=tmp_path, PORT="80x")
    assert (done.returncode, "expected HOST:PORT" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("given", "bind"),
    [
        ("8001", "127.0.0.1:8001"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("localhost:8000", "localhost:8000"),
        ("[::1]:8000", "[::1]:8000"),
        ("unix:/run/web.sock", "unix:/run/web.sock"),
    ],
)
def test_the_places_that_gunicorn_takes(given: str, bind: str) -> None:
    assert read_bind(given) == bind


@pytest.mark.parametrize("bind", ["192.0.2.1:8000", "unix:/no/such/folder/web.sock", f"{'x' * 70}:80"])
def test_a_place_where_nobody_can_listen_is_one_line(bind: str, tmp_path: Path) -> None:
    done = run("--bind", bind, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "another: cleo-email run --bind 127.0.0.1:8001" in line


@pytest.mark.parametrize("data", ["file", "file/below", "/proc/no", "x" * 300])
def test_data_that_cannot_be_kept_there_is_one_line(data: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--data", data, "--bind", "unix:web.sock", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "with --data, or another Redis in REDIS_URL" in line
