"""Taking a mail in reads only what that needs: quotes are cut when the agent is asked, not before."""

from __future__ import annotations

from typing import Any

import pytest

from cleo_email.mail import parse as parsing
from cleo_email.mail.quotes import cut_new_part
from tests.support.bench import Bench
from tests.support.mails import mail

QUOTED = b"Thanks!\r\n\r\nAm 24.11.2026 um 09:00 schrieb Max <max@example.test>:\r\n> Kommst du?\r\n"


def test_quotes_are_cut_when_the_agent_is_asked_and_not_before(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts: list[str] = []

    def counted(text: str, **facts: Any) -> Any:
        cuts.append(text)
        return cut_new_part(text, **facts)

    monkeypatch.setattr(parsing, "cut_new_part", counted)
    bench = Bench(redis_url)
    header, _, _ = mail(1).partition(b"\r\n\r\n")
    accepted = bench.receive(header + b"\r\n\r\n" + QUOTED)
    assert cuts == []
    bench.work(accepted.thread_id)
    assert "Thanks!" in cuts[0]
    assert len(cuts) == 1, "once for each reading, however often it is asked for"
