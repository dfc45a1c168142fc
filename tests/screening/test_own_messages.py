"""Small messages of our own, of every kind: people are answered, machines are not, reports are understood."""

from __future__ import annotations

import pytest

from benchmarks.screening import judge
from cleo_email.mail.model import Action
from cleo_email.screening.reports import ReportKind
from tests.support.messages import REPORTS, SAMPLES, Sample


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_people_are_answered_and_nobody_else_is(sample: Sample) -> None:
    _, verdict, report = judge(sample.source)
    assert verdict.action is (Action.ANSWER if sample.kind == "person" else Action.IGNORE)
    assert (report is None) is (sample.kind in ("person", "machine"))


@pytest.mark.parametrize("sample", REPORTS, ids=lambda sample: sample.name)
def test_a_report_says_what_a_person_reads_in_it(sample: Sample) -> None:
    report = judge(sample.source)[2]
    assert report is not None
    found = (ReportKind(report.kind).value, report.status, report.recipient, report.original_message_id)
    assert found == (sample.kind, sample.status, sample.recipient, sample.about)
