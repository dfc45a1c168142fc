"""The few rows that tell most, for every run of the tests; less than a minute, four at a time."""

from __future__ import annotations

from tests.crash import events, faults, later, people, points
from tests.crash.rig import IMAP, WEBHOOK
from tests.crash.scenario import Scenario

ROWS = (
    ("accept-after-store", WEBHOOK),
    ("web-before-answer", WEBHOOK),
    ("poll-after-accept", IMAP),
    ("answer-after-keep", IMAP),
    ("callback-after-store", WEBHOOK),
    ("question-after-keep", WEBHOOK),
    ("question-after-resume", WEBHOOK),
    ("review-after-keep", IMAP),
    ("handoff-after-keep", WEBHOOK),
    ("submit-after-mark", WEBHOOK),
    ("submit-after-250+files", IMAP),
    ("chores-after-sent", WEBHOOK),
    ("draft-after-put", WEBHOOK),
    ("draft-after-remove", WEBHOOK),
    ("takeover-after-store", WEBHOOK),
    ("kill -9 after end of DATA", WEBHOOK),
    ("dot: accept+drop, files by itself", IMAP),
)


def scenarios() -> list[Scenario]:
    found = {
        (row.name, row.ingress): row
        for row in (
            *points.scenarios(),
            *people.scenarios(),
            *later.scenarios(),
            *events.scenarios(),
            *faults.scenarios(),
        )
    }
    return [found[row] for row in ROWS]
