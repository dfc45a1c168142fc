"""The table of a run."""

from __future__ import annotations

from collections.abc import Sequence

from tests.crash.rig import Tally
from tests.crash.scenario import Scenario

HEAD = ("what", "at", "way", "accepted", "replied", "failed", "duplicates", "lost", "uncertain", "seconds")
Rows = Sequence[tuple[Scenario, Tally]]


def cells(rows: Rows) -> list[tuple[str, ...]]:
    body = []
    for scenario, tally in rows:
        counts = (tally.accepted, tally.replied, tally.failed, tally.duplicates, tally.lost, tally.uncertain)
        body.append(
            (scenario.group, scenario.name, scenario.ingress, *map(str, counts), f"{tally.seconds:.1f}")
        )
    return body


def plain(rows: Rows) -> str:
    lines = [HEAD, *cells(rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def markdown(rows: Rows) -> str:
    lines = [HEAD, ("---",) * 3 + ("--:",) * (len(HEAD) - 3), *cells(rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
