"""kill -9 around a recipient who is refused for now: nobody gets the mail twice, and nobody is forgotten."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.channel import Rig

ANN, BOB = "ann@example.test", "bob@example.test"


@pytest.mark.parametrize(
    ("point", "uncertain"),
    [
        ("submit-after-record:1", False),  # the first outcome is recorded
        ("submit-before-data:2", False),
        ("submit-before-end-of-data:2", False),
        ("submit-after-mark:2", True),
        ("submit-after-250:2", True),
        ("submit-after-record:2", False),
    ],
)
def test_those_who_have_it_do_not_get_it_again(tmp_path: Path, point: str, uncertain: bool) -> None:
    with Rig(tmp_path, polls=False) as rig:
        rig.smtp.inject("rcpt/bob@=450 4.2.0 try later")
        rig.start_web("--workers", "1")
        body = {"to": [ANN, BOB], "subject": "News", "body": "Hello"}
        assert rig.post(body, "/email/send")[0] == 202
        worker = rig.start_worker(CLEO_CRASH_AT=point)
        worker.wait(90)
        assert worker.returncode == -9
        rig.start_worker()
        if uncertain:
            rig.wait(lambda: rig.records("uncertain"), 90)
            (record,) = rig.records("uncertain")
            assert f"it may have been sent to {BOB} or not" in record["reason"]
        else:
            rig.wait(lambda: [one for one in rig.records("replied") if one["reason"] == ""], 90)
        counts = Counter(who for one in rig.smtp.mails for who in one.recipients)
        assert counts[ANN] == 1
        assert counts[BOB] == (0 if point == "submit-after-mark:2" else 1)
