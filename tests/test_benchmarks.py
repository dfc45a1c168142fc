"""``python -m benchmarks``: the table, and that each measurement has a place in the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.__main__ import MEASUREMENTS
from benchmarks.harness import Row, mails, table, web_options
from cleo_email.mail.parse import parse

ROOT = Path(__file__).resolve().parent.parent


def run(*options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_a_measurement_is_printed_beside_the_bare_machine() -> None:
    done = run("--only", "help", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["what"] == "cleo-email --help"
    assert row["ratio"] == row["ours"] / row["bare"] > 0


def test_an_unknown_measurement_is_refused() -> None:
    done = run("--only", "speed")
    assert done.returncode == 2
    assert "invalid choice: 'speed'" in done.stderr


def test_the_page_has_every_measurement() -> None:
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    named = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert named == list(MEASUREMENTS)


def test_the_table_has_ours_the_bare_figure_and_the_ratio() -> None:
    head, _, line = table([Row("ingest", 1234.5, "mails/s", 4938, "ratio 0.30", "Dovecot")]).splitlines()
    assert [cell.strip() for cell in head.split("|")[1:-1]] == "measured ours bare ratio goal note".split()
    assert [cell.strip() for cell in line.split("|")[1:-1]] == [
        *("ingest", "1,234 mails/s", "4,938 mails/s", "0.25", "ratio 0.30", "Dovecot")
    ]


def test_the_mails_are_as_large_as_they_say_and_readable() -> None:
    for kilobytes in (12, 60):
        first, second = mails(2, kilobytes)
        assert abs(len(first) / 1000 - kilobytes) < 0.15 * kilobytes
        one, two = parse(first), parse(second)
        assert (one.message_id, one.subject) != (two.message_id, two.subject)
        assert len(one.attachments) == (kilobytes == 60)
        assert not one.notes


def test_gunicorn_runs_as_the_procfile_says() -> None:
    assert "--workers" in web_options()
    assert not [option for option in web_options() if "$" in option or "}" in option]
