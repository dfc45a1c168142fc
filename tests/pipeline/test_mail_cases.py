"""Mails as clients of many countries write them, read and answered by the pipeline, each with what must hold.

The cases lie beside the repository (``../shared/cases/mail``); their README says what an
expectation means. Our own cases in ``tests/mail`` prove the same kinds in every clone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from cleo_email.mail.model import Answer
from cleo_email.screening.screen import Policy
from tests.support.bench import Bench

FOLDER = Path(__file__).resolve().parents[3] / "shared/cases/mail"
AGENT = "agent@example.com"


def _cases() -> list[Any]:
    listed = FOLDER / "cases.json"
    if not listed.exists():
        skip = pytest.mark.skip(reason=f"the mail cases are not part of this repository: none in {FOLDER}")
        return [pytest.param({}, marks=skip, id="missing")]
    return [pytest.param(case, id=case["file"]) for case in json.loads(listed.read_text("utf-8"))]


@dataclass
class Outcome:
    """What came of a mail: its record's state, the agent's request if it was asked, and the reply if any."""

    state: str
    request: dict[str, Any]
    reply: bytes

    def holds(self, name: str, wanted: Any) -> bool:
        if name == "any":
            return any(all(self.holds(*item) for item in one.items()) for one in wanted)
        if name == "state":
            return self.state in ([wanted] if isinstance(wanted, str) else wanted)
        if name.startswith("reply_"):
            header = {"reply_subject": "Subject", "reply_to": "To"}[name]
            value = str(message_from_bytes(self.reply, policy=policy.default)[header] or "")
            return wanted in value if header == "To" else value == wanted
        return bool(self.request) and self._asked(name, wanted)

    def _asked(self, name: str, wanted: Any) -> bool:
        message = self.request["message"]
        text, full = _plain(message["text"]), _plain(message["full_text"])
        history = _plain("\n".join(turn["content"] for turn in self.request["history"]))
        if name == "rows":
            lines = [
                ["" if cell.strip() in "-–—" else _plain(cell) for cell in line.split("|")]
                for line in message["text"].split("\n")
            ]
            return all(row in lines for row in wanted)
        if name == "attachments":
            return [file["filename"] for file in message["attachments"]] == wanted
        if name == "told":
            quiet = {"message_id", "from_address", "to_address", "subject", "attachments"}
            told = json.dumps({k: v for k, v in message.items() if k not in quiet}, ensure_ascii=False)
            return any(word in told.lower() for word in wanted)
        if name == "subject_has":
            return all(_plain(one) in _plain(message["subject"]) for one in wanted)
        if name in ("subject", "from_address", "from_name"):
            return bool(message[name] == wanted)
        where, kind = name.rsplit("_", 1)
        place = {"text": text, "full_text": full, "thread_history": history}[where]
        found = [_plain(one) in place for one in wanted]
        return {"has": all(found), "not": not any(found), "any": any(found)}[kind]


def _plain(text: str) -> str:
    lines = re.sub(r"[ \t\u00a0]+", " ", text).split("\n")
    return "\n".join(line.strip(" ") for line in lines).strip()


def hand_in(bench: Bench, source: bytes, answer: str = "Vielen Dank.") -> Outcome:
    bench.agent.script = [Answer(answer)]
    asked, sent = len(bench.agent.asked), len(bench.smtp.sent)
    accepted = bench.receive(source.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    bench.work(bench.record(accepted).thread_id)
    requests, mails = bench.agent.asked[asked:], bench.smtp.sent[sent:]
    return Outcome(
        str(bench.record(accepted).state),
        requests[-1].model_dump(mode="json") if requests else {},
        mails[-1].source if mails else b"",
    )


@pytest.mark.parametrize("case", _cases())
def test_what_is_expected_of_a_mail_holds(redis_url: str, case: dict[str, Any]) -> None:
    bench = Bench(redis_url, policy=Policy(frozenset({AGENT})))
    answers = case.get("answers", {})
    for name in case.get("before", []):
        hand_in(bench, (FOLDER / name).read_bytes(), answers.get(name, "Vielen Dank."))
    outcome = hand_in(bench, (FOLDER / case["file"]).read_bytes())
    failed = {name: wanted for name, wanted in case["expect"].items() if not outcome.holds(name, wanted)}
    assert not failed, (case["shows"], outcome)
