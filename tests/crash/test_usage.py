"""What ``script/crash-test`` says where there is nothing to run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CALL = [sys.executable, "-m", "tests.crash"]


def test_a_word_that_no_row_contains_is_told_of() -> None:
    done = subprocess.run([*CALL, "nosuchword"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "no row contains nosuchword; see --list\n"


def test_a_list_that_nobody_reads_to_its_end_ends_quietly() -> None:
    running = subprocess.Popen(
        [*CALL, "--list"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout
    assert running.stderr
    running.stdout.close()
    assert running.stderr.read() == ""
    running.stderr.close()
    assert running.wait(30) == 0
