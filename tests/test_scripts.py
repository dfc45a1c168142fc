"""script/test and script/demo on a fresh clone, with a Python and pip that only note what they are told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Makes an environment whose python notes its arguments in "calls", one line for each call.
PYTHON = """#!/bin/sh
printf '%s\\n' "$*" >>"$CALLS"
if [ "$1 $2" = "-m venv" ]; then
    for target; do :; done
    rm -rf "$target"
    mkdir -p "$target/bin"
    cp "$0" "$target/bin/python"
fi
if [ "$1 $2 $3" = "-m pip install" ]; then
    echo "pip was here"
    exit "${PIP_STATUS:-0}"
fi
exit 0
"""


class Clone:
    """The project's scripts in a folder with a space in its name, run from another one."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a clone"
        self.bin = folder / "bin"
        self.elsewhere = folder / "elsewhere"
        for made in (self.root, self.bin, self.elsewhere):
            made.mkdir()
        shutil.copytree(ROOT / "script", self.root / "script")
        for name in ("setup.cfg", "setup.py", "pyproject.toml", "requirements.txt"):
            shutil.copy(ROOT / name, self.root)
        self.calls_file = folder / "calls"

    def add_python(self, name: str, text: str = PYTHON) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, script: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        self.calls_file.write_text("")
        tools = "/usr/bin:/bin"
        path = self.bin / "tools"
        path.mkdir(exist_ok=True)
        for tool in ("sh", "dirname", "cat", "cksum", "mktemp", "rm", "mkdir", "cp", "chmod"):
            found = shutil.which(tool, path=tools)
            assert found
            if not (path / tool).exists():
                (path / tool).symlink_to(found)
        return subprocess.run(
            [str(self.root / "script" / script), *arguments],
            cwd=self.elsewhere,
            env={"PATH": f"{self.bin}:{path}", "CALLS": str(self.calls_file), **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines()

    def installs(self) -> list[str]:
        return [call.rpartition(" ")[2] for call in self.calls() if call.startswith("-m pip install")]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_the_first_run_installs_and_the_second_only_when_the_declaration_has_changed(clone: Clone) -> None:
    clone.add_python("python3")
    first = clone.run("test", "-k", "two words")
    assert (first.returncode, first.stdout) == (0, "")
    assert "Installing into" in first.stderr
    assert "pip was here" not in first.stderr
    assert clone.installs() == [".[dev]"]
    assert clone.calls()[-1] == "-m pytest -k two words"

    second = clone.run("test")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert clone.installs() == []
    assert clone.calls()[-1] == "-m pytest -n auto --dist worksteal", "all of them on every core"

    with (clone.root / "setup.cfg").open("a") as file:
        file.write("# more\n")
    clone.run("test")
    assert clone.installs() == [".[dev]"]


def test_the_demo_needs_the_embedded_servers_only_and_has_them_after_the_tests(clone: Clone) -> None:
    clone.add_python("python3")
    assert clone.run("demo", "--keep").returncode == 0
    assert clone.installs() == [".[embedded]"]
    assert clone.calls()[-1] == "-m cleo_email demo --keep"
    clone.run("test")
    assert clone.installs() == [".[dev]"]
    clone.run("demo")
    assert clone.installs() == []


def test_coverage_runs_the_tests_and_reports_even_where_one_fails(clone: Clone) -> None:
    clone.add_python("python3")
    assert clone.run("coverage", "-k", "two words").returncode == 0
    assert clone.installs() == [".[dev]"]
    called = [call.removeprefix("-m coverage ") for call in clone.calls() if call.startswith("-m coverage")]
    assert called == ["erase", "run -m pytest -k two words", "combine --quiet", "html --quiet", "report"]

    failing = PYTHON.replace("exit 0\n", "case $* in *pytest*) exit 1 ;; esac\nexit 0\n")
    (clone.root / ".venv" / "bin" / "python").write_text(failing)
    assert clone.run("coverage").returncode == 1
    assert clone.calls()[-1] == "-m coverage report"


def test_the_proof_is_run_from_anywhere_with_its_arguments(clone: Clone) -> None:
    clone.add_python("python3")
    assert clone.run("crash-test", "--random", "1000").returncode == 0
    assert clone.installs() == [".[dev]"]
    assert clone.calls()[-1] == "-m tests.crash --random 1000"


def test_a_failed_installation_shows_what_pip_said_and_is_tried_again(clone: Clone) -> None:
    clone.add_python("python3")
    failed = clone.run("test", PIP_STATUS="1")
    assert failed.returncode == 1
    assert "pip was here" in failed.stderr
    assert not any(call.startswith("-m pytest") for call in clone.calls())
    assert clone.run("test").returncode == 0
    assert clone.installs() == [".[dev]"]


def test_an_environment_that_moved_or_whose_python_is_gone_is_made_anew(clone: Clone) -> None:
    clone.add_python("python3")
    clone.run("test")
    clone.root = clone.root.rename(clone.root.with_name("moved"))
    clone.run("test")
    assert any(call.startswith("-m venv --clear") for call in clone.calls())
    (clone.root / ".venv" / "bin" / "python").unlink()
    assert clone.run("test").returncode == 0
    assert any(call.startswith("-m venv --clear") for call in clone.calls())


def test_a_python_that_is_too_old_is_passed_over(clone: Clone) -> None:
    clone.add_python("python3", "#!/bin/sh\nexit 1\n")
    clone.add_python("python3.12")
    assert clone.run("test").returncode == 0
    assert clone.installs() == [".[dev]"]


def test_without_any_python_the_error_says_what_to_do(clone: Clone) -> None:
    failed = clone.run("demo")
    assert failed.returncode == 1
    assert "No Python >= 3.11" in failed.stderr
    assert "apt-get install python3-venv" in failed.stderr
    named = clone.run("demo", PYTHON="/no/such/python")
    assert named.returncode == 1
    assert "PYTHON=/no/such/python is no Python >= 3.11" in named.stderr


def test_the_scripts_are_plain_sh_and_executable() -> None:
    for name in ("test", "demo", "lint", "coverage", "crash-test"):
        script = ROOT / "script" / name
        assert os.access(script, os.X_OK)
        assert script.read_text().startswith("#!/bin/sh\n")
        subprocess.run(["sh", "-n", str(script)], check=True)
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
