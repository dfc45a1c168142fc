"""The files of the image run without privileges, with nothing to write to; compose.yaml and app.json fit."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleo_email import __version__
from cleo_email.settings import read_settings
from tests.support.channel import ROOT
from tests.support.ports import free_port

CONTAINERFILE = (ROOT / "Containerfile").read_text()
COMPOSE = (ROOT / "compose.yaml").read_text()
# Root may not lie in a folder that others can enter, so it stays who it is and loses every privilege.
UNPRIVILEGED = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []


@pytest.fixture
def app_folder(tmp_path: Path) -> Iterator[Path]:
    """What the image has in /app, where nothing can be written."""
    folder = tmp_path / "app"
    folder.mkdir()
    copied = re.search(r"^COPY (?!--)(.+) /app/$", CONTAINERFILE, re.MULTILINE)
    assert copied
    for name in copied[1].split():
        shutil.copy(ROOT / name, folder)
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def start(folder: Path, *words: str, **environ: str) -> subprocess.Popen[bytes]:
    script = (folder / "container-start").read_text().replace("/app/", f"{folder}/")
    return subprocess.Popen(
        [*UNPRIVILEGED, "sh", "-c", script, "container-start", *words],
        cwd=folder,
        env={
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            **environ,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def output(process: subprocess.Popen[bytes]) -> str:
    return process.communicate(timeout=60)[0].decode()


def test_an_argument_that_is_no_process_is_a_command(app_folder: Path) -> None:
    assert __version__ in output(start(app_folder, "--version"))


def test_the_worker_starts_and_ends_in_good_order(app_folder: Path) -> None:
    process = start(app_folder, "worker")
    assert process.stdout
    line = process.stdout.readline().decode()
    assert "the email channel is not enabled" in line
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_the_web_process_serves_and_the_health_check_tells_whether_mail_flows(app_folder: Path) -> None:
    port = free_port()
    process = start(app_folder, PORT=str(port))
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, output(process)
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                connection.request("GET", "/healthz")
                assert connection.getresponse().status == 200
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        checked = re.search(r"^    CMD (\[.+\])$", CONTAINERFILE, re.MULTILINE)
        assert checked
        program, *arguments = json.loads(checked[1])
        assert program == "python"
        check = subprocess.run(
            [sys.executable, *arguments], env={"PORT": str(port)}, capture_output=True, text=True, check=False
        )
        assert check.returncode == 1
        assert "503" in check.stderr, "the channel is not enabled here"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    files = {"Procfile", "wsgi.py", "worker.py", "container-start"}
    assert {path.name for path in app_folder.iterdir()} == files


def test_nothing_can_be_written_there(app_folder: Path) -> None:
    (app_folder / "container-start").chmod(0o755)
    assert subprocess.run([*UNPRIVILEGED, "touch", app_folder / "new"], check=False).returncode != 0


def test_the_image_needs_no_root_and_leaves_out_what_is_secret() -> None:
    user = re.findall(r"^USER (\d+):(\d+)$", CONTAINERFILE, re.MULTILINE)
    assert user, "the user is a number, so that runAsNonRoot can tell"
    assert all(int(one) > 0 for one in user[-1])
    ignored = (ROOT / ".containerignore").read_text().split()
    assert {".env", ".git", "var", ".venv"} <= set(ignored)
    assert (ROOT / ".dockerignore").resolve() == (ROOT / ".containerignore").resolve()


def test_compose_keeps_the_mail_and_gives_the_processes_nothing_to_write_to() -> None:
    valkey = COMPOSE.split("  valkey:\n    image")[1].split("\n  nginx:")[0]
    assert '--appendonly, "yes"' in valkey
    assert "--maxmemory-policy, noeviction" in valkey
    assert 'volumes: ["valkey:/data"]' in valkey
    common = COMPOSE.split("services:")[0]
    for line in ("read_only: true", "cap_drop: [ALL]", "restart: unless-stopped", "stop_grace_period: 30s"):
        assert line in common
    for process in ("web", "worker"):
        assert re.search(
            rf"^  {process}:\n    <<: \*cleo-email\n    command: \[{process}\]", COMPOSE, re.MULTILINE
        )


def test_compose_builds_the_image_once_and_the_check_in_the_documentation_builds_it_too() -> None:
    web = COMPOSE.split("  web:\n")[1].split("\n\n")[0]
    assert "build:" in web
    assert COMPOSE.count("build:") == 1, "podman-compose builds once for each service, at the same time"
    pages = [ROOT / "docs" / page for page in ("operation.md", "de/operation.md", "de/first-steps.md")]
    services = [word for page in pages for word in re.findall(r"compose run --rm (\w+)", page.read_text())]
    # A service without `build` is pulled from a registry where nobody has built it yet.
    assert services == ["web"] * len(pages)


def test_what_heroku_asks_for_is_a_first_configuration(tmp_path: Path) -> None:
    described = json.loads((ROOT / "app.json").read_text())
    given = {"CLEO_REDIS_URL": "redis://localhost"}
    for name, variable in described["env"].items():
        assert len(variable["description"]) > 20
        if variable.get("generator") == "secret":
            given[name] = "f" * 64  # as Heroku makes them
        elif variable.get("required", True):
            given[name] = variable.get("value") or f"{'smtp.' if 'HOST' in name else 'agent@'}example.com"
    settings = read_settings(given, dotenv=tmp_path / ".env")
    assert settings.enabled
    assert settings.api_tokens
    assert set(described["formation"]) == {"web", "worker"}
