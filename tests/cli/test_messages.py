"""``cleo-email messages``: what a person and a program see, right and wrong arguments."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cleo_email.cli import main
from cleo_email.errors import AgentError, AgentUnavailable, SubmissionUncertain
from cleo_email.mail.model import Address, Answer
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.pipeline.send import NewMail, Sender
from cleo_email.runtime import now_ms
from cleo_email.store import Effects, State
from tests.support.bench import FROM, Bench
from tests.support.channel import Channel
from tests.support.mails import mail

ENV = {
    "ENABLED_CLIENTS": "email",
    "EMAIL_SMTP_HOST": "127.0.0.1",
    "EMAIL_USER": "agent@cleo.test",
    "EMAIL_PASSWORD": "x",
}
Failed = Callable[[int], str]


@pytest.fixture
def bench(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name, value in {**ENV, "REDIS_URL": redis_url}.items():
        monkeypatch.setenv(name, value)
    return Bench(redis_url)


@pytest.fixture
def failed(bench: Bench) -> Failed:
    def make(number: int) -> str:
        bench.agent.script = [AgentError("no")]
        accepted = bench.receive(mail(number))
        bench.work(accepted.thread_id)
        return accepted.id

    return make


def test_who_gets_a_mail_is_shown(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    sender = Sender(bench.store, bench.wake, bench.signer, FROM, max_bytes=10**6, clock=bench.clock)
    people = [Address(f"p{number}@example.test") for number in range(3)]
    sent = sender.send(NewMail(to=people[:2], cc=people[2:], subject="News", body="Hello"))
    accepted = bench.receive(mail(1))
    everyone = [person.addr for person in people]
    for id_, expected in ((sent.id, everyone), (accepted.id, [])):
        assert main(["messages", "show", id_, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["recipients"] == expected
    bench.work(accepted.thread_id)
    assert main(["messages", "show", accepted.id]) == 0
    assert "recipients        customer1@example.test\n" in capsys.readouterr().out
    assert main(["messages", "show", sent.id]) == 0
    assert f"recipients        {', '.join(everyone)}\n" in capsys.readouterr().out
    assert main(["messages", "list"]) == 0
    assert "to p0@example.test and 2 more: News" in capsys.readouterr().out


def test_what_waits_for_a_person_is_listed_whatever_it_waits_for(
    bench: Bench, failed: Failed, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.agent.script = [Answer("Hello"), Answer("", handoff="angry"), Answer("A refund", review="money")]
    answered, held, review = (bench.receive(mail(number)) for number in (1, 2, 3))
    for accepted in (answered, held, review):
        bench.work(accepted.thread_id)
    bench.smtp.script = [SubmissionUncertain("?")]
    uncertain = bench.receive(mail(4))
    bench.work(uncertain.thread_id)
    waiting = sorted([failed(5), uncertain.id, review.id, held.id], reverse=True)
    assert main(["messages", "list", "--waiting", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert ([one["id"] for one in told["messages"]], told["next"]) == (waiting, None)
    assert main(["messages", "list", "--waiting", "--limit", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert ([one["id"] for one in told["messages"]], told["next"]) == (waiting[:3], waiting[2])
    assert main(["messages", "list", "--waiting", "--thread", review.thread_id]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "review" in line
    with pytest.raises(SystemExit, match="2"):
        main(["messages", "list", "--waiting", "--state", "held"])


def test_a_thread_that_was_handed_over_with_a_last_word_shows_it_in_the_list(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.agent.script = [
        Answer("A colleague will write.", handoff="wants to cancel"),
        Answer("", handoff="angry"),
    ]
    for number in (1, 2):
        bench.work(bench.receive(mail(number)).thread_id)
    assert main(["messages", "list"]) == 0
    silent, told = sorted(capsys.readouterr().out.splitlines(), key=lambda line: "replied" in line)
    assert "replied" in told
    assert told.endswith("— handed over to a person: wants to cancel")
    assert silent.endswith("— handed over to a person: angry")


def test_one_that_cannot_be_retried_keeps_no_other_from_it(
    bench: Bench, failed: Failed, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = failed(1), failed(2)
    assert main(["messages", "retry", first, "nobody", second, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [entry["id"] for entry in told] == [first, "nobody", second]
    assert "there is no message" in told[1]["error"]
    assert {bench.store.messages.get(id_).state for id_ in (first, second)} == {State.RECEIVED}


def test_a_person_reads_which_was_refused_and_why(
    bench: Bench, failed: Failed, capsys: pytest.CaptureFixture[str]
) -> None:
    first = failed(1)
    assert main(["messages", "release", first]) == 1
    assert main(["messages", "retry", first]) == 0
    assert main(["messages", "retry", first]) == 0
    assert main(["messages", "discard", first]) == 1
    out, err = capsys.readouterr()
    assert out == f"{first} is received again\n" * 2
    assert "is failed: no; only held and ignored ones can be released; retry or dismiss it" in err
    assert re.search(r"is received: retried by a person \(by cli, \S+Z\); only what is in review", err)


@pytest.mark.parametrize(
    "argv",
    [
        ["messages", "list", "--limit", "0"],
        ["messages", "list", "--limit", "-5"],
        ["messages", "list", "--limit", "many"],
        ["messages", "list", "--state", "lost"],
        ["recover", "--days", "-1"],
        ["recover", "--days", "0"],
    ],
)
def test_nonsense_is_refused_with_what_is_expected(
    bench: Bench, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "expected a whole number from 1" in error or "'received', 'answering'" in error


def test_all_that_failed_for_one_reason_are_tried_again_oldest_first(
    bench: Bench, failed: Failed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cleo_email.cli.messages.PAGE", 2)  # several pages
    numbers = []
    for number in range(5):
        bench.clock.pass_(1)
        numbers.append(failed(number))
    bench.agent.script = [AgentError("HTTP 401: wrong CLEO_AGENT_TOKEN")]
    other = bench.receive(mail(9))
    bench.work(other.thread_id)
    assert main(["messages", "retry", "--failed", "--reason", "401"]) == 0
    assert capsys.readouterr().out == f"{other.id} is received again\n"
    assert main(["messages", "retry", "--failed", "--json"]) == 0
    assert [entry["id"] for entry in json.loads(capsys.readouterr().out)] == numbers
    assert main(["messages", "retry", "--failed"]) == 0
    assert capsys.readouterr().out == "no messages\n"


def test_all_that_one_rule_holds_are_released_oldest_first(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cleo_email.cli.messages.PAGE", 2)  # several pages
    ids = []
    for number in range(5):
        bench.clock.pass_(1)
        hold = "The sender was not allowed." if number == 2 else "It is too large."
        ids.append(bench.intake.accept(IncomingMail(mail(number), "test", hold=hold)).id)
    assert main(["messages", "release", "--held", "--reason", "TOO large"]) == 0
    wanted = [id_ for number, id_ in enumerate(ids) if number != 2]
    assert capsys.readouterr().out == "".join(f"{id_} is received again\n" for id_ in wanted)
    assert bench.store.messages.get(ids[2]).state is State.HELD
    assert main(["messages", "release", "--held", "--reason", "TOO large"]) == 0
    assert capsys.readouterr().out == "no messages\n"


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["--held"], ["--held", "--reason", ""], ["--held", "--reason", " "]),
        *(["01", "--held", "--reason", "x"], ["01", "--reason", "x"], ["--reason", "x"], ["01", "--held"]),
    ],
)
def test_what_is_held_is_not_released_blindly(
    bench: Bench, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    held = bench.intake.accept(IncomingMail(mail(1), "test", hold="The sender was not allowed."))
    with pytest.raises(SystemExit) as end:
        main(["messages", "release", *arguments])
    assert end.value.code == 2
    assert "--held" in capsys.readouterr().err
    assert bench.store.messages.get(held.id).state is State.HELD


@pytest.mark.parametrize("arguments", [[], ["01", "--failed"], ["01", "--reason", "x"], ["--reason", "x"]])
def test_what_to_retry_is_said_in_one_way(
    bench: Bench, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["messages", "retry", *arguments])
    assert end.value.code == 2
    assert "--failed" in capsys.readouterr().err


def test_a_person_reads_a_held_mail_and_dismisses_it(
    bench: Bench, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    files = (
        b"--b\r\nContent-Type: text/plain\r\n\r\nSee \x1b[2Jbelow.\r\n--b\r\nContent-Type: application/pdf; "
        b'name="a.pdf"\r\n\r\nxyz\r\n--b--\r\n'
    )
    head = b"From: Eve <eve@example.test>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <a@b>\r\n"
    source = head + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + files
    held = bench.receive(source, hold="look at it")
    assert main(["messages", "show", held.id, "--text"]) == 0
    text = capsysbinary.readouterr().out.decode()
    assert (
        "From: Eve <eve@example.test>\nSubject: Grüße\n\nSee [2Jbelow.\n\n[a.pdf, application/pdf, 3 bytes]"
        in text
    )
    assert main(["messages", "show", held.id, "--source"]) == 0
    assert capsysbinary.readouterr().out == source
    assert main(["messages", "show", held.id, "--answer"]) == 1
    assert b"has no answer" in capsysbinary.readouterr().err
    assert main(["messages", "dismiss", held.id]) == 0
    assert capsysbinary.readouterr().out == f"{held.id} is ignored\n".encode()
    record = bench.record(held)
    assert record.reason == "dismissed by a person; before that held: look at it"
    assert main(["messages", "dismiss", held.id]) == 0, "it was decided before"


def test_times_say_that_they_are_utc(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    accepted = bench.receive(mail(1))
    assert main(["messages", "list"]) == 0
    line = capsys.readouterr().out
    assert re.match(rf"{accepted.id}  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\dZ  received", line)


def test_an_uncertain_message_is_dismissed_without_being_sent(bench: Bench) -> None:
    bench.smtp.script = [SubmissionUncertain("?")]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.UNCERTAIN
    assert main(["messages", "dismiss", accepted.id]) == 0
    tries = bench.smtp.tries
    bench.clock.pass_(3600)
    bench.sweeping.run()
    bench.work(accepted.thread_id)
    assert (bench.record(accepted).state, bench.smtp.tries) == (State.IGNORED, tries)


def test_what_waits_for_its_next_try_is_tried_now(bench: Bench) -> None:
    bench.agent.script = [AgentUnavailable("connection refused"), Answer("fine")]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.ANSWERING, "its next try is due later"
    assert bench.deciding.retry(accepted.id, by="cli").state is State.ANSWERING
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED


def test_the_answers_bytes_are_shown(bench: Bench, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    assert main(["messages", "show", accepted.id, "--answer"]) == 0
    assert capsysbinary.readouterr().out == bench.smtp.sent[-1].source


def test_a_mail_that_answers_nobody_is_listed_with_its_recipient(tmp_path: Path, redis_url: str) -> None:
    with Channel(tmp_path, {"REDIS_URL": redis_url, "EMAIL_SMTP_HOST": "127.0.0.1"}) as channel:
        sent = channel.run("send", "--to", "bob@example.test", "--subject", "Report", "--body", "here")
        assert sent.returncode == 0, sent.stderr
        assert "to bob@example.test: Report" in channel.run("messages", "list").stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("form", [["list"], ["show"], ["show", "--text"]])
def test_a_terminal_that_lacks_a_letter_shows_another_in_its_place(
    bench: Bench, redis_url: str, encoding: str, form: list[str], tmp_path: Path
) -> None:
    subject = "=?utf-8?b?5L2g5aW9?= =?utf-8?q?M=C3=BCller_=F0=9F=98=80?="  # 你好Müller 😀
    id_ = bench.receive(mail(1, subject=subject, text="Grüße, 你好 😀")).id
    with Channel(tmp_path, {**ENV, "REDIS_URL": redis_url}) as channel:
        argv = ["messages", *form, *([] if form == ["list"] else [id_])]
        done = subprocess.run(
            [sys.executable, "-m", "cleo_email", *argv],
            env={**channel.env, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode(encoding)
    assert ("你好" if encoding == "utf-8" else "??") in shown
    assert ("Müller" in shown) is (encoding != "ascii")


def test_a_body_that_is_no_text_of_this_terminal_is_told(
    bench: Bench, redis_url: str, tmp_path: Path
) -> None:
    with Channel(tmp_path, {**ENV, "REDIS_URL": redis_url}) as channel:
        argv = [sys.executable, "-m", "cleo_email", "send", "--to", "a@b.test", "--subject", "s"]
        env = {**channel.env, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
        done = subprocess.run(argv, env=env, input="Grüße".encode(), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"the body on standard input is not ascii: set PYTHONIOENCODING" in done.stderr
    assert bench.store.messages.page()[0] == [], "half a body is no body"


def test_that_there_are_more_is_told_to_a_person_and_to_no_pipe(
    bench: Bench, redis_url: str, tmp_path: Path
) -> None:
    for number in range(3):
        bench.receive(mail(number))
    with Channel(tmp_path, {**ENV, "REDIS_URL": redis_url}) as channel:
        piped = channel.run("messages", "list", "--limit", "2")
        assert len(piped.stdout.splitlines()) == 2, "one line for each message"
        main_side, terminal = pty.openpty()
        argv = [sys.executable, "-m", "cleo_email", "messages", "list", "--limit", "2"]
        with subprocess.Popen(argv, env=channel.env, stdout=terminal, cwd=tmp_path) as process:
            os.close(terminal)
            assert process.wait(30) == 0
        with os.fdopen(main_side, "rb") as screen:
            assert "… more: --limit 4" in screen.read1(100_000).decode()


def test_the_text_of_a_mail_that_answers_none_is_its_answer(
    bench: Bench, redis_url: str, tmp_path: Path
) -> None:
    with Channel(tmp_path, {**ENV, "REDIS_URL": redis_url}) as channel:
        sent = channel.run("send", "--to", "a@b.test", "--subject", "s", "--body", "b", "--json")
        id_ = json.loads(sent.stdout)["id"]
        for form in ("--text", "--source"):
            done = channel.run("messages", "show", id_, form)
            assert done.returncode == 1
            assert "answers no mail, so there is no text of one; see: --answer" in done.stderr
        assert "Subject: s" in channel.run("messages", "show", id_, "--answer").stdout


# --- what waits for a review, and who has a thread ----------------------------------------------------------


@pytest.fixture
def waiting(bench: Bench) -> str:
    """The id of a mail whose answer waits for a review."""
    accepted = bench.receive(mail(1))
    draft = NewMail(to=[Address("customer1@example.test")], subject="Re: Question 1", body="fine")
    sender = Sender(bench.store, bench.wake, bench.signer, FROM, max_bytes=10**6, clock=bench.clock)
    fields: dict[str, str | int] = {"text": "This is question 1.", "answer_text": "fine"}
    move = bench.store.messages.move
    move(accepted.id, State.ANSWERING, now=bench.clock())
    effects = Effects(fields=fields, answer=sender.compose(draft)[0], pop=True)
    move(accepted.id, State.REVIEW, now=bench.clock(), reason="look at it", effects=effects)
    return accepted.id


def test_an_answer_is_approved_and_the_record_says_by_whom(
    bench: Bench, waiting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["messages", "approve", waiting]) == 0
    assert capsys.readouterr().out == f"{waiting} is submitting and approved\n"
    assert main(["messages", "approve", waiting, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "submitting"
    assert main(["messages", "discard", waiting]) == 1
    assert "is submitting: approved by cli (by cli, " in capsys.readouterr().err
    assert main(["messages", "show", waiting]) == 0
    steps = [
        line.split(maxsplit=3) for line in capsys.readouterr().out.partition("history\n")[2].splitlines()
    ]
    assert [step[1:3] for step in steps] == [
        ["received", "agent"],
        ["answering", "agent"],
        ["review", "agent"],
        ["submitting", "cli"],
    ]


def test_an_answer_is_approved_with_a_text_from_a_file_or_from_here(
    bench: Bench, waiting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], redis_url: str
) -> None:
    text = tmp_path / "answer.md"
    for content, told in ((b" \n", "body: it is empty"), (b"\xff", "--body: the text is not UTF-8")):
        text.write_bytes(content)
        assert main(["messages", "approve", waiting, "--body", str(text)]) == 1
        assert told in capsys.readouterr().err
    for argv in (["--body", str(tmp_path / "none.md")], [waiting, "--subject", "x"]):
        with pytest.raises(SystemExit) as end:
            main(["messages", "approve", waiting, *argv])
        assert end.value.code == 2
    assert bench.store.messages.get(waiting).state is State.REVIEW
    with Channel(tmp_path, {**ENV, "REDIS_URL": redis_url}) as channel:
        argv = ["messages", "approve", waiting, "--body", "-", "--subject", "Größe"]
        command = [sys.executable, "-m", "cleo_email", *argv]
        done = subprocess.run(command, env=channel.env, input="Größer.\n".encode(), check=False, cwd=tmp_path)
    assert done.returncode == 0
    record, kept = bench.store.messages.get(waiting), bench.store.messages.answer(waiting)
    assert (record.answer_text, record.answered_by) == ("Größer.\n", "cli")
    assert kept is not None
    assert b"Subject: =?utf-8?" in kept.source


def test_a_thread_is_taken_over_and_handed_back(
    bench: Bench, waiting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["messages", "takeover", waiting, "--reason", "I know her"]) == 0
    assert capsys.readouterr().out == f"{waiting} is held in a thread that a person has\n"
    assert bench.store.messages.get(waiting).reason == "a person has this thread: I know her"
    assert main(["messages", "release", waiting]) == 1
    assert "hand it back to have the agent answer" in capsys.readouterr().err
    assert main(["messages", "handback", waiting]) == 0
    assert capsys.readouterr().out == f"{waiting} is received in a thread that the agent has\n"
    bench.clock.now = now_ms()
    bench.work(bench.store.messages.get(waiting).thread_id)
    assert bench.store.messages.get(waiting).state is State.REPLIED


def test_an_answer_is_discarded_with_a_reason(bench: Bench, waiting: str) -> None:
    assert main(["messages", "discard", waiting, "--reason", "wrong price"]) == 0
    record = bench.store.messages.get(waiting)
    assert (record.state, record.reason) == (State.IGNORED, "discarded by cli: wrong price")
