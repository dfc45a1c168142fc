"""The package as a stranger gets it: built from a clone, installed elsewhere, run in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import BytesParser
from email.policy import compat32
from pathlib import Path

import pytest

import cleo_email
from tests.support.channel import ROOT, Channel

NOT_OURS = shutil.ignore_patterns(
    ".git",
    ".venv",
    "var",
    "build",
    "dist",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    ".env",
    "*.whl",
)


def run(*argv: str, cwd: Path) -> str:
    """Without the network, and without what the shell of the developer sets."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GITHUB_"))}
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**clean, "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution; the wheel is built from the latter."""
    clone = tmp_path_factory.mktemp("package") / "clone"
    shutil.copytree(ROOT, clone, ignore=NOT_OURS)
    run(sys.executable, "-m", "build", "--no-isolation", ".", cwd=clone)
    (wheel,) = (clone / "dist").glob("*.whl")
    (source,) = (clone / "dist").glob("*.tar.gz")
    return wheel, source


@pytest.fixture(scope="session")
def programs(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs of an environment lie into which the wheel was installed.

    What it depends on is lent by the environment of the tests, whose own installation of the project is not.
    """
    home = tmp_path_factory.mktemp("elsewhere") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", str(home), cwd=home.parent)
    python = str(home / "bin" / "python")
    (site,) = home.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(
        *(
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--no-deps",
            "--no-index",
            str(built[0]),
        ),
        cwd=home.parent,
    )
    return home / "bin"


def elsewhere(programs: Path, folder: Path) -> Channel:
    channel = Channel(folder, {"PATH": f"{programs}:/usr/bin:/bin", "CLEO_AGENT": ""})
    for name in [name for name in channel.env if name.startswith("PYTHON")]:
        del channel.env[name]
    return channel


def test_the_wheel_holds_the_package_and_the_source_distribution_the_repository(
    built: tuple[Path, Path],
) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        head = BytesParser(policy=compat32).parsebytes(wheel.read(metadata))
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "cleo_email").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == there
    assert head["Version"] == cleo_email.__version__
    assert {link.partition(",")[0] for link in head.get_all("Project-URL")} >= {"Documentation", "Source"}
    assert head["License-File"] == "LICENSE"
    text = str(head.get_payload())
    assert re.findall(r"\]\((?!https?://|#|mailto:)[^)]*\)", text) == [], (
        "links lead nowhere on an index's page"
    )

    with tarfile.open(built[1]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    for kept in (
        "LICENSE",
        "CHANGELOG.md",
        "requirements.txt",
        "Procfile",
        "worker.py",
        "wsgi.py",
        ".ci/run",
    ):
        assert kept in names
    for folder in ("docs", "tests", "script", "deploy", "benchmarks", "examples"):
        here = {
            str(path.relative_to(ROOT))
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and not {"__pycache__", ".venv", "var"} & set(path.parts)
        }
        assert here <= names


def test_it_runs_in_an_empty_folder_elsewhere(programs: Path, tmp_path: Path, redis_url: str) -> None:
    """``wsgi.py`` and ``worker.py`` are the clone's alone: web and worker start as the documentation says."""
    with elsewhere(programs, tmp_path) as channel:
        version = run(str(programs / "cleo-email"), "--version", cwd=tmp_path)
        assert version.strip() == cleo_email.__version__
        where = [str(programs / "python"), "-c", "import cleo_email; print(cleo_email.__file__)"]
        assert Path(run(*where, cwd=tmp_path)).is_relative_to(programs.parent)
        done = subprocess.run(
            [programs / "cleo-email", "demo"],
            cwd=tmp_path,
            env=channel.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("In-Reply-To: ") == 2
        env = {**channel.env, "EMAIL_SMTP_HOST": "127.0.0.1", "REDIS_URL": redis_url}
        bind = ["--bind", f"127.0.0.1:{channel.port}", "--no-control-socket"]
        web = ["gunicorn", *bind, "--preload", "cleo_email.web:from_environment()"]
        processes = [
            subprocess.Popen([programs / "python", "-m", *argv], cwd=tmp_path, env=env)
            for argv in (web, ["cleo_email.worker"])
        ]
        try:
            channel.wait(lambda: channel.get("/readyz") == (200, {"status": "ready"}), 60)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(40)


def test_the_workflow_lets_a_tag_be_the_version_only() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    check = re.findall(r'run: (test "\$GITHUB_REF_NAME".*)', workflow)
    assert len(check) == 1
    for tag, status in ((f"v{cleo_email.__version__}", 0), ("v0.0.1", 1), (cleo_email.__version__, 1)):
        env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "GITHUB_REF_NAME": tag}
        assert subprocess.run(["sh", "-c", check[0]], cwd=ROOT, env=env, check=False).returncode == status


def test_the_workflow_tests_every_python_that_the_package_names() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    matrix = re.search(r"^ +python: (\[.+\])$", workflow, re.MULTILINE)
    assert matrix
    classified = re.findall(r"Python :: (3\.\d+)$", (ROOT / "setup.cfg").read_text("utf-8"), re.MULTILINE)
    assert json.loads(matrix[1]) == classified
    assert f"tested up to {classified[-1]}" in (ROOT / "README.md").read_text("utf-8")
