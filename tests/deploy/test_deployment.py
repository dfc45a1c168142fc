"""The files that a deployment starts from: requirements.txt, Procfile, the units, deploy/nginx.conf."""

from __future__ import annotations

import configparser
import http.client
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cleo_email.embedded.mailserver import Certificates
from cleo_email.errors import BAD_SETTINGS
from cleo_email.worker.process import DRAIN_S
from tests.support.http_server import Handler, HttpServer
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
SUPPORTED = ("3.11.0", "3.11.14", "3.12.12", "3.13.9", "3.14.4")


# --- requirements.txt ---------------------------------------------------------------------------------------


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in found}


def declared() -> list[Requirement]:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    return [Requirement(line) for line in config["options"]["install_requires"].split("\n") if line]


def version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "==", f"{pin} is no exact version"
    return specifier.version


def test_every_declared_requirement_is_pinned_within_its_range() -> None:
    for wanted in declared():
        pin = pins().get(canonicalize_name(wanted.name))
        assert pin is not None, f"{wanted.name} has no pin"
        assert wanted.specifier.contains(version(pin)), f"{pin} is outside of {wanted}"


@pytest.mark.parametrize("python", SUPPORTED)
def test_what_the_pins_need_is_pinned_too_and_nothing_else_is(python: str) -> None:
    environment = {
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": "linux",
        "platform_system": "Linux",
        "extra": "",
    }

    def applies(requirement: Requirement, extras: set[str] = frozenset()) -> bool:  # type: ignore[assignment]
        marker = requirement.marker
        return marker is None or any(marker.evaluate({**environment, "extra": x}) for x in ("", *extras))

    pinned = {name: pin for name, pin in pins().items() if applies(pin)}
    others = [name for name, pin in pinned.items() if installed(name) not in (None, version(pin))]
    if others:  # whose declarations say nothing about the pins; script/test installs none
        pytest.skip(f"other versions than those of requirements.txt are installed: {', '.join(others)}")
    reached: set[str] = set()
    waiting = [requirement for requirement in declared() if applies(requirement)]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        assert name in pinned, f"{wanted} has no pin for Python {python}"
        assert wanted.specifier.contains(version(pinned[name])), f"{pinned[name]} is outside of {wanted}"
        if name not in reached:
            reached.add(name)
            waiting += [requirement for requirement in needs(name) if applies(requirement, wanted.extras)]
    assert reached == set(pinned)


def installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # one for another version of Python
        return None


def needs(name: str) -> list[Requirement]:
    try:
        return [Requirement(line) for line in metadata.requires(name) or ()]
    except metadata.PackageNotFoundError:  # one for another version of Python
        return []


def test_pins_name_no_place_to_fetch_from() -> None:
    text = (ROOT / "requirements.txt").read_text()
    assert not re.search(r"^\s*-|://|@|file:", text, re.MULTILINE)


# --- Procfile -----------------------------------------------------------------------------------------------


def procfile() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {name: command.strip() for name, _, command in (line.partition(":") for line in lines)}


def test_the_procfile_has_the_two_processes_of_the_contract() -> None:
    assert procfile()["worker"] == "python worker.py"
    assert procfile()["web"].startswith("gunicorn wsgi:app")
    assert "access-log" not in procfile()["web"]


def test_the_web_process_listens_on_port_and_ends_in_good_order(tmp_path: Path, redis_url: str) -> None:
    port = free_port()
    environ = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PORT": str(port),
        "REDIS_URL": redis_url,
        "HOME": str(tmp_path),
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {procfile()['web']}"],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        assert answer(port, "/healthz", process, tmp_path / "log") == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert [path.name for path in tmp_path.iterdir()] == ["log"], "such as ~/.gunicorn"
    finally:
        process.kill()
        process.wait()


def answer(port: int, path: str, process: subprocess.Popen[bytes], log: Path) -> int:
    """The status of the first answer that there is."""
    deadline = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except ConnectionError:
            assert process.poll() is None, f"status {process.returncode}:\n{log.read_text()}"
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        finally:
            connection.close()


# --- systemd ------------------------------------------------------------------------------------------------

UNITS = ["cleo-email-web.service", "cleo-email-worker.service"]


def unit(name: str) -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None, delimiters=["="], comment_prefixes=["#"])
    config.optionxform = str  # type: ignore[assignment, method-assign]
    config.read_string((ROOT / "deploy" / name).read_text())
    return config


def test_the_units_start_the_processes_of_the_procfile() -> None:
    folder = "/srv/cleo-email"
    for name, process in zip(UNITS, ("web", "worker"), strict=True):
        service = unit(name)["Service"]
        assert service["WorkingDirectory"] == folder
        command = service["ExecStart"].removeprefix(f"{folder}/.venv/bin/")
        wanted = procfile()[process].replace("${WEB_CONCURRENCY:-1}", "1")
        assert command.replace("--bind 127.0.0.1:8000 ", "") == wanted
    upstream = re.search(r"server (127\.0\.0\.1:\d+);", (ROOT / "deploy" / "nginx.conf").read_text())
    assert upstream
    assert f"--bind {upstream[1]} " in unit(UNITS[0])["Service"]["ExecStart"]


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_restarts_what_ends_stops_in_time_and_is_confined(name: str) -> None:
    service = unit(name)["Service"]
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", str(BAD_SETTINGS))
    assert DRAIN_S < int(service["TimeoutStopSec"]) <= 30
    assert (service["User"], service["ProtectSystem"], service["NoNewPrivileges"]) == (
        "cleo",
        "strict",
        "yes",
    )
    assert unit(name)["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_has_nothing_to_say_of_a_unit(name: str, tmp_path: Path) -> None:
    text = (ROOT / "deploy" / name).read_text()
    for before, after in (
        ("/srv/cleo-email/.venv/bin", str(Path(sys.executable).parent)),
        ("/srv/cleo-email", str(ROOT)),
    ):
        assert before in text
        text = text.replace(before, after)
    (tmp_path / name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    about = [line for line in (done.stdout + done.stderr).splitlines() if name in line]
    if done.returncode and not about:
        pytest.skip(f"systemd-analyze cannot work here: {done.stderr[-200:]}")
    assert about == [], done.stderr


# --- nginx --------------------------------------------------------------------------------------------------


class Upstream(Handler):
    """Stands in for gunicorn: answers with the headers that it was given."""

    def do_POST(self) -> None:
        self.do_GET(len(self.body()))

    def do_GET(self, size: int = 0) -> None:
        names = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Host", "X-Webhook-Secret")
        got = {f"Got-{name}": self.headers.get(name, "none") for name in names}
        self.answer(200, **got, Got_Size=str(size))


def nginx_binary() -> str:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    assert found
    return found


def configuration(folder: Path, ca: Certificates, *, backend: int, http_port: int, https_port: int) -> Path:
    """The example with the paths and ports of a test, in the frame that Debian's nginx.conf gives it."""
    example = (ROOT / "deploy" / "nginx.conf").read_text()
    site = re.sub(r"^\s*listen \[::\].*\n", "", example, flags=re.MULTILINE)
    for before, after in [
        ("/etc/letsencrypt/live/mail.example.com/fullchain.pem", str(ca.cert_file)),
        ("/etc/letsencrypt/live/mail.example.com/privkey.pem", str(ca.key_file)),
        ("127.0.0.1:8000", f"127.0.0.1:{backend}"),
        ("listen 80;", f"listen 127.0.0.1:{http_port};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{https_port} ssl;"),
    ]:
        assert before in site
        site = site.replace(before, after)
    (folder / "site.conf").write_text(site)
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off;\nworker_processes 1;\nerror_log {folder}/error.log;\npid {folder}/nginx.pid;\n"
        f"{'user root;' if os.getuid() == 0 else ''}\n"
        "events {}\nhttp {\n"
        f"access_log {folder}/access.log;\n"
        + "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + f"include {folder}/site.conf;\n}}\n"
    )
    return main


@pytest.fixture
def nginx(tmp_path: Path, ca: Certificates) -> Iterator[tuple[int, int]]:
    """The example at work in front of ``Upstream``; gives the plain and the TLS port."""
    plain, tls = free_port(), free_port()
    with HttpServer(Upstream) as upstream:
        main = configuration(tmp_path, ca, backend=upstream.server_port, http_port=plain, https_port=tls)
        command = [nginx_binary(), "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c", str(main)]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False, timeout=30)
        assert checked.returncode == 0, checked.stderr
        assert "warn" not in checked.stderr
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            answer(plain, "/", process, tmp_path / "error.log")
            yield plain, tls
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.servers("nginx")
def test_nginx_passes_on_what_is_ours_with_the_headers_that_mark_a_caller_from_outside(
    nginx: tuple[int, int], ca: Certificates, tmp_path: Path
) -> None:
    plain, tls = nginx

    def ask(method: str, path: str, size: int = 0) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection("localhost", tls, context=ca.client_context(), timeout=30)
        headers = {"X-Webhook-Secret": "s", "X-Forwarded-For": "10.9.8.7", "Forwarded": "for=10.9.8.7"}
        try:
            connection.request(method, path, body=b"x" * size if size else None, headers=headers)
            response = connection.getresponse()
            response.read()
            return response
        finally:
            connection.close()

    for path in ("/email/incoming", "/email/incoming/raw", "/workflows"):
        response = ask("POST", path, 25 * 1024 * 1024)
        assert (response.status, response.headers["Got-Size"]) == (200, str(25 * 1024 * 1024))
        assert response.headers["Got-X-Forwarded-For"] == "10.9.8.7, 127.0.0.1"
        assert response.headers["Got-X-Real-IP"] == "127.0.0.1"
        assert response.headers["Got-X-Forwarded-Proto"] == "https"
        assert response.headers["Got-X-Webhook-Secret"] == "s"
        assert response.headers["Got-Forwarded"] == "none"
    assert ask("GET", "/healthz").status == 200
    assert announce(tls, ca, 27 * 1024 * 1024) == 413
    wrapped = ask("POST", "/email/incoming/postmark", 37 * 1024 * 1024)
    assert (wrapped.status, wrapped.headers["Got-X-Real-IP"]) == (200, "127.0.0.1")
    assert ask("POST", "/email/incoming/sendgrid?secret=geheim-4711", 100).status == 200
    log = (tmp_path / "access.log").read_text()
    assert "/email/incoming/postmark" in log
    assert "geheim-4711" not in log
    for path in ("/", "/readyz", "/workflows/x", "/admin"):
        assert ask("GET", path).status == 404

    connection = http.client.HTTPConnection("127.0.0.1", plain, timeout=30)
    connection.request("POST", "/email/incoming", body=b"x", headers={"Host": "mail.example.com"})
    response = connection.getresponse()
    connection.close()
    assert response.status == 301
    assert response.headers["Location"] == "https://mail.example.com/email/incoming"


def announce(port: int, ca: Certificates, size: int) -> int:
    """The answer to the headers of a POST whose body has not been sent yet."""
    connection = http.client.HTTPSConnection("localhost", port, context=ca.client_context(), timeout=30)
    try:
        connection.putrequest("POST", "/email/incoming")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_example_can_only_speak_modern_tls() -> None:
    assert ssl.HAS_TLSv1_3
    protocols = re.findall(r"ssl_protocols\s+(.*);", (ROOT / "deploy" / "nginx.conf").read_text())
    assert protocols == ["TLSv1.2 TLSv1.3"]
