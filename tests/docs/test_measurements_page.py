"""tests/crash/measurements.md has every row, and docs/reliability.md sums them up and names every instant."""

from __future__ import annotations

import re
from pathlib import Path

from cleo_email.crashpoints import POINTS

ROOT = Path(__file__).resolve().parent.parent.parent
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text("utf-8")
MEASUREMENTS = (ROOT / "tests" / "crash" / "measurements.md").read_text("utf-8")
HEAD = "| at | way | accepted | replied | failed | duplicates | lost | uncertain | seconds |"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def groups() -> list[list[list[str]]]:
    """The rows of each table of results."""
    tables = MEASUREMENTS.split(HEAD)[1:]
    return [
        [cells(line) for line in table.split("\n\n")[0].splitlines() if line and not line.startswith("| ---")]
        for table in tables
    ]


def sums(rows: list[list[str]]) -> list[int]:
    """Accepted, replied, failed, duplicates, lost, uncertain."""
    return [sum(int(row[column]) for row in rows) for column in range(2, 8)]


def test_the_totals_are_those_of_the_rows() -> None:
    rows = [row for group in groups() for row in group]
    accepted, replied, failed, duplicates, lost, uncertain = sums(rows)
    text = " ".join(MEASUREMENTS.split())
    assert f"{len(rows)} rows, {accepted} mails accepted, {replied} replied, {failed} failed" in text
    assert re.search(rf"\b{uncertain} uncertain", text)
    assert (duplicates, lost) == (0, 0)
    assert accepted == replied + failed + uncertain


def test_the_short_table_sums_up_the_groups() -> None:
    table = RELIABILITY.split("| what was done |")[1].split("\n\n")[0]
    short = [cells(line) for line in table.splitlines()[2:]]
    assert len(short) == len(groups())
    for line, rows in zip(short, groups(), strict=True):
        accepted, replied, failed, duplicates, lost, uncertain = sums(rows)
        seconds = [float(row[8]) for row in rows]
        numbers = [len(rows), accepted, replied, failed, uncertain, duplicates, lost]
        assert line[1:8] == [str(number) for number in numbers]
        assert line[8] == f"{min(seconds)}–{max(seconds)}"


def test_every_instant_is_in_the_table_with_what_has_happened_then() -> None:
    found = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.*?) \| [^|]* \| [^|]* \|$", RELIABILITY, re.MULTILINE))
    assert found == POINTS
