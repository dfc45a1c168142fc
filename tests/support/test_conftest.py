"""A test that cannot run for want of a server is skipped loudly, or fails where it must run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SLOW

ROOT = Path(__file__).resolve().parent.parent.parent

TESTS = {
    "server": "import pytest\n@pytest.mark.servers('no-such-server')\ndef test(): pass\n",
    "own check": "import pytest\n@pytest.mark.servers\ndef test(): pytest.skip('no dovecot found')\n",
    "corpora": "def test(corpora): pass\ndef test_too(corpora): pass\n",
    "module": "import pytest\npytest.skip('apt-get install postfix', allow_module_level=True)\n",
    "package": "import pytest\npytest.skip('pip install playwright', allow_module_level=True)\n",
    "other": "import pytest\n@pytest.mark.skipif(True, reason='Linux only')\ndef test(): pass\n",
}


def run(folder: Path, test: str, **environ: str) -> subprocess.CompletedProcess[str]:
    file = folder / "test_sample.py"
    file.write_text(TESTS[test] + "\ndef test_that_runs(): pass\n")
    options = ["-c", "setup.cfg", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    clean = {name: value for name, value in os.environ.items() if name != "CLEO_REQUIRE_SERVERS"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(file)],
        cwd=ROOT,
        # Plugins take a second of each start, and no part in this.
        env={**clean, "CLEO_CORPORA": "/no/such/folder", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("test", list(TESTS))
def test_a_skip_is_a_skip_by_default_and_missing_servers_are_said_at_the_end(
    tmp_path: Path, test: str
) -> None:
    done = run(tmp_path, test)
    assert done.returncode in (0, 5), done.stdout
    assert ("2 skipped" if test == "corpora" else "1 skipped") in done.stdout
    assert ("SERVERS MISSING" in done.stdout) is (test not in ("corpora", "other"))
    assert "skipped" in done.stdout.rstrip().splitlines()[-1]  # pytest's own line stays the last one


@pytest.mark.parametrize("test", ["server", "own check", "module", "package"])
def test_where_the_servers_must_be_there_it_is_a_failure(tmp_path: Path, test: str) -> None:
    done = run(tmp_path, test, CLEO_REQUIRE_SERVERS="1")
    assert done.returncode in (1, 2), done.stdout
    assert "CLEO_REQUIRE_SERVERS is set, and this was skipped" in done.stdout


@pytest.mark.parametrize("test", ["corpora", "other"])
def test_any_other_skip_stays_one(tmp_path: Path, test: str) -> None:
    done = run(tmp_path, test, CLEO_REQUIRE_SERVERS="1")
    assert done.returncode == 0, done.stdout
    assert f"1 passed, {2 if test == 'corpora' else 1} skipped" in done.stdout


def test_missing_corpora_are_one_line_that_says_that_nothing_is_wrong(tmp_path: Path) -> None:
    (line,) = [line for line in run(tmp_path, "corpora").stdout.splitlines() if "SKIPPED" in line]
    assert "not part of this repository: nothing is wrong" in line


def test_what_is_left_out_by_quick_is_there() -> None:
    assert [name for name in SLOW if not (ROOT / "tests" / name).exists()] == []
