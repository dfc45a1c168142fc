"""Fuzz the judging of mail with atheris (coverage-guided; optional, ``pip install atheris``).

    python -m benchmarks.fuzz_screening [-max_total_time=600] [FOLDER]

Any exception, a verdict without a reason, a report that does not fit a record, authentication out of nothing,
a stranger led into a thread, or more than two seconds is a finding. Seeds: CLEO_CORPORA.
"""

from __future__ import annotations

import sys
import time

from benchmarks.fuzzing import run
from cleo_email.errors import UnreadableMessage
from cleo_email.mail.model import Action
from cleo_email.mail.parse import parse
from cleo_email.mail.thread import choose_thread, fingerprint, quoted_ids
from cleo_email.screening.authentication import authenticated
from cleo_email.screening.reports import read_report
from cleo_email.screening.screen import Policy, screen

_SECONDS = 2.0
OURS = "mx.cleo.test"
POLICY = Policy(frozenset({"agent@cleo.test"}), authserv_id=OURS)


def one_input(data: bytes) -> None:
    begin = time.process_time()
    try:
        mail = parse(data)
    except UnreadableMessage:
        return
    for envelope_from in (None, "", "somebody@example.test"):
        verdict = screen(mail, envelope_from=envelope_from, policy=POLICY)
        assert verdict.reason or verdict.action is Action.ANSWER
        report = read_report(data, mail, envelope_from=envelope_from)
        if report is not None:
            assert "\n" not in report.diagnostic
            assert len(report.diagnostic) <= 500
    if authenticated(mail, OURS):
        assert b"mx.cleo.test" in data.lower()
        assert b"dmarc" in data.lower()
    assert (
        choose_thread(mail, dict.fromkeys(quoted_ids(mail), "<t@x>"), {"<t@x>": frozenset({"nobody"})})
        != "<t@x>"
    )
    assert fingerprint(mail, data) == fingerprint(mail, data)
    assert time.process_time() - begin < _SECONDS


if __name__ == "__main__":
    run(one_input, sys.argv)
