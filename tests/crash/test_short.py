"""Killed at the worst instants: nothing lost, nothing answered twice. All rows: ``script/crash-test``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from cleo_email.crashpoints import POINTS, arm
from tests.crash import events, later, people, points, short
from tests.crash.rig import IMAP, WEBHOOK, Tally
from tests.crash.scenario import Scenario

Running = dict[Scenario, Future[Tally]]
ROWS = short.scenarios()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """All rows at once, since each mostly waits for a dead process's lock to expire.

    None where pytest-xdist shares the tests out: each process would run all rows for the few it is given.
    """
    rows = [] if "PYTEST_XDIST_WORKER" in os.environ else ROWS
    base = tmp_path_factory.mktemp("crash")
    with ThreadPoolExecutor(4) as pool:
        yield {row: pool.submit(row.run, base / str(number)) for number, row in enumerate(rows)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}-{row.ingress}")
def test_nothing_is_lost_and_nothing_is_answered_twice(
    running: Running, row: Scenario, tmp_path: Path
) -> None:
    tally = running[row].result(120) if row in running else row.run(tmp_path)
    assert tally.problems == []
    assert (tally.lost, tally.duplicates) == (0, 0)
    assert tally.accepted == tally.replied + tally.uncertain + tally.failed > 0


def test_every_point_is_killed_at_for_both_ways() -> None:
    """A point that nobody kills at proves nothing; at least twenty lie on the way of either ingress."""
    rows = [(row.name.partition("+")[0], row.ingress) for row in points.scenarios()]
    beside = {row.name.partition("+")[0] for row in (*people.scenarios(), *later.scenarios())}
    beside |= set(events.POINTS)
    assert {name for name, _ in rows} | beside == set(POINTS)
    for ingress in (IMAP, WEBHOOK):
        assert len({name for name, way in rows if way == ingress}) >= 20


def test_a_point_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no point 'submit-after-251'"):
        arm({"CLEO_CRASH_AT": "submit-after-251"})
