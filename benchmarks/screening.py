"""How well mail is judged: machine mail left alone, people answered, bounces read, and how fast.

    python -m benchmarks.screening

Reads public messages from CLEO_CORPORA (default ``../shared/corpora`` beside the repository). Whether a
status code is right is judged without the code under test: where the standard library finds a
message/delivery-status part, its Status fields decide (or a code in Diagnostic-Code, where Status says only
``x.0.0``); elsewhere any code that stands after a reply code of its class, or after ``#``, in the source.
"""

from __future__ import annotations

import email
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.model import Action, InboundEmail, Verdict
from cleo_email.mail.parse import parse
from cleo_email.screening.authentication import authenticated
from cleo_email.screening.reports import Report, ReportKind, read_report
from cleo_email.screening.screen import Policy, screen
from tests.support.corpora import CORPORA, MISSING

REPORTS = "sisimai-set-of-emails"
# Read one by one: what in the other corpora a machine wrote. All else is people's mail.
MACHINES = {
    "mail-gem": {
        "bad_date_header.eml",  # Precedence: junk
        "empty_in_reply_to.eml",  # a mailing list
        "encoding_madness.eml",  # no-reply@
        "raw_email_with_mimepart_without_content_type.eml",  # a delivery delay
        "multi_address_bounce1.eml",
        "multi_address_bounce2.eml",
        "multipart_report_multiple_status.eml",
        "report_422.eml",
        "report_530.eml",
        "raw_email_trailing_dot.eml",  # noreply@
    },
    "stalwart-mail-parser": {"thirdparty/014.eml"},  # a mailing list
    "webklex-php-imap": {"1366671050@github.com.eml", "example_bounce.eml", "issue-382.eml"},
    "cpython-test_email": {
        "msg_02.txt",  # a digest of Mailman
        "msg_05.txt",
        "msg_16.txt",
        "msg_25.txt",
        "msg_43.txt",  # reports
        "msg_32.txt",
        "msg_33.txt",  # X-Loop of a list
    },
}
POLICY = Policy(own_addresses=frozenset({"agent@cleo.example"}))

_CODE = r"[245]\.\d{1,3}\.\d{1,3}(?!\d|\.\d)"
_STATUS = re.compile(rf"\s*({_CODE})")
_IN_TEXT = re.compile(rf"(?:(?<![\d.])([245])\d\d[ -]#?|#)({_CODE})")


@dataclass
class Figures:
    """What came out; the lists hold file names."""

    reports: int = 0
    answered: list[str] = field(default_factory=list)  # reports that would have been answered
    unrecognised: list[str] = field(default_factory=list)
    wrong_class: list[str] = field(default_factory=list)  # of bounce, feedback
    with_status: int = 0
    wrong_status: list[str] = field(default_factory=list)
    with_original: int = 0  # reports that hold a Message-ID below their own header
    without_original: list[str] = field(default_factory=list)
    people: int = 0
    machines: int = 0
    false_positives: list[str] = field(default_factory=list)  # people's mail that is ignored
    missed_machines: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)  # for a missing, a second or an unusable From
    false_reports: list[str] = field(default_factory=list)
    seconds: float = 0.0


def judge(source: bytes) -> tuple[InboundEmail, Verdict, Report | None]:
    mail = parse(source)
    verdict = screen(mail, envelope_from=None, policy=POLICY)
    return mail, verdict, read_report(source, mail)


def measure(corpora: Path = CORPORA) -> Figures:
    figures = Figures()
    began = time.perf_counter()
    for path in sorted((corpora / REPORTS).rglob("*.eml")):
        _measure_report(figures, path)
    figures.seconds = time.perf_counter() - began
    for corpus, machines in MACHINES.items():
        for path in sorted((corpora / corpus).rglob("*")):
            if path.suffix in (".eml", ".txt"):
                is_machine = path.name in machines or f"{path.parent.name}/{path.name}" in machines
                _measure_other(figures, path, is_machine=is_machine)
    return figures


def _measure_report(figures: Figures, path: Path) -> None:
    source = path.read_bytes()
    _, verdict, report = judge(source)
    figures.reports += 1
    if verdict.action is Action.ANSWER:
        figures.answered.append(path.name)
    if report is None:
        figures.unrecognised.append(path.name)
        return
    if (report.kind is ReportKind.FEEDBACK) != path.name.startswith("arf-"):
        figures.wrong_class.append(path.name)
    if expected := expected_statuses(source):
        figures.with_status += 1
        if report.status not in expected:
            figures.wrong_status.append(f"{path.name}: {report.status!r} of {sorted(expected)}")
    if expected_ids := returned_ids(source):
        figures.with_original += 1
        if report.original_message_id not in expected_ids:
            figures.without_original.append(path.name)


def _measure_other(figures: Figures, path: Path, *, is_machine: bool) -> None:
    name = f"{path.parent.name}/{path.name}"
    try:
        _, verdict, report = judge(path.read_bytes())
    except UnreadableMessage:
        return
    figures.machines += is_machine
    figures.people += not is_machine
    if is_machine and verdict.action is not Action.IGNORE:
        figures.missed_machines.append(name)
    if not is_machine and verdict.action is Action.IGNORE:
        figures.false_positives.append(f"{name}: {verdict.reason}")
    if not is_machine and verdict.action is Action.HOLD:
        figures.held.append(f"{name}: {verdict.reason}")
    if not is_machine and report is not None:
        figures.false_reports.append(f"{name}: {report.kind}")


# --- what is right, found without the code under test -----------------------------------------------------


def expected_statuses(source: bytes) -> set[str]:
    """Every status that the report states; empty if it states none."""
    found: set[str] = set()
    for group in _status_groups(email.message_from_bytes(source)):
        status = _STATUS.match(str(group.get("Status", "")))
        diagnostic = _codes(" ".join(str(group.get("Diagnostic-Code", "")).split()))
        if status and not status[1].endswith(".0.0"):
            found.add(status[1])
        elif status:
            found |= {code for code in diagnostic if code[0] == status[1][0]} or {status[1]}
        else:
            found |= diagnostic
    body = source.replace(b"\r\n", b"\n").partition(b"\n\n")[2].decode("latin-1")
    return found or _codes(" ".join(body.split()))


def _status_groups(message: Message) -> Iterator[Message]:
    for part in message.walk():
        payload = part.get_payload()
        if part.get_content_type() == "message/delivery-status" and isinstance(payload, list):
            yield from (group for group in payload if isinstance(group, Message) and group["Final-Recipient"])


def _codes(text: str) -> set[str]:
    return {match[2] for match in _IN_TEXT.finditer(text) if match[1] in (None, match[2][0])}


def returned_ids(source: bytes) -> set[str]:
    """Every Message-ID that stands below the report's own header, in fields of any name."""
    body = source.replace(b"\r\n", b"\n").partition(b"\n\n")[2].decode("latin-1")
    return set(re.findall(r"(?im)^(?:x-)?(?:original-)?message-id:\s*(<[^<>\s]+>)", body))


# --- how fast ---------------------------------------------------------------------------------------------

_HEAD = b"From: MAILER-DAEMON@x.example\r\nTo: a@b.example\r\nSubject: Undelivered Mail\r\n"
_MIXED = _HEAD + b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
MEGABYTE = 1_000_000


def adversaries() -> dict[str, bytes]:
    """Mails of about 1 MB each that nearly look like what is searched for."""

    def body(line: bytes) -> bytes:
        return _HEAD + b"\r\n" + line * (MEGABYTE // len(line))

    def report(line: bytes) -> bytes:
        status = b"--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        return _MIXED + status + line * (MEGABYTE // len(line)) + b"\r\n--b--\r\n"

    def header(name: bytes, value: bytes) -> bytes:
        folded = b"\r\n ".join([value * (900 // len(value))] * 1000)
        return _HEAD + name + b": " + folded + b"\r\n\r\ntext\r\n"

    nested = b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n) for n in range(400)
    )
    return {
        "lines 'said: 55'": body(b"said: 55 said: 4 5.1. 5.1.1.1 550 5.1 \r\n"),
        "lines '<a@b'": body(b"<a@b <a@b: host said 5\r\n"),
        "lines '@'": body(b"@" * 70 + b"\r\n"),
        "lines 'Message-ID: <'": body(b"\r\nMessage-ID: <a@\r\n"),
        "lines 'Final-Recipient:'": body(b"Final-Recipient: rfc822\r\n\r\n"),
        "lines '--b'": report(b"--bb\r\n"),
        "lines 'Status: 5'": report(b"Status: 5.1\r\nAction: x\r\n\r\n"),
        "one line of a group": report(b"Final-Recipient: rfc822;"),
        "blank lines": body(b"\r\n"),
        "one line": body(b"550 5.1.1 "),
        "multiparts in multiparts": _HEAD + nested,
        "boundary parameters": _HEAD
        + b"Content-Type: multipart/report; "
        + b'boundary="a' * 30_000
        + b"\r\n\r\nx",
        "a header of (": header(b"Auto-Submitted", b"("),
        "a header of List-Post": header(b"List-Post", b"<mailto:"),
        "Authentication-Results of (": header(b"Authentication-Results", b"mx;("),
        "a subject": header(b"Subject", b"automatic reply "),
        "addresses": header(b"From", b"a@b.example, "),
    }


def slowest() -> list[tuple[float, str]]:
    """CPU seconds for each adversary, slowest first; the reading of the mail itself is not counted."""
    times = []
    for name, source in adversaries().items():
        try:
            mail = parse(source)
        except UnreadableMessage:
            mail = InboundEmail(subject="Undelivered Mail", headers=(("return-path", "<>"),))
        began = time.process_time()
        screen(mail, envelope_from=None, policy=POLICY)
        authenticated(mail, "mx")
        read_report(source, mail)
        times.append((time.process_time() - began, name))
    return sorted(times, reverse=True)


def main() -> int:
    if not CORPORA.is_dir():
        print(f"skipped: {MISSING}")
        return 0
    f = measure()
    right = f.with_status - len(f.wrong_status)
    linked = f.with_original - len(f.without_original)
    print(f"reports                    {f.reports}, would be answered: {len(f.answered)} {f.answered}")
    print(f"recognised                 {f.reports - len(f.unrecognised)} {f.unrecognised}")
    print(f"of the wrong class         {len(f.wrong_class)} {f.wrong_class}")
    print(f"status right               {right} of {f.with_status} {f.wrong_status}")
    print(f"original Message-ID        {linked} of {f.with_original} {f.without_original}")
    print(f"people's mail              {f.people}, ignored: {len(f.false_positives)} {f.false_positives}")
    print(f"  taken for a report       {len(f.false_reports)} {f.false_reports}")
    print(f"  held                     {len(f.held)}, all for From: {all('From' in one for one in f.held)}")
    print(
        f"machines' mail elsewhere   {f.machines}, not ignored: {len(f.missed_machines)} {f.missed_machines}"
    )
    print(f"parse + screen + report    {f.reports / f.seconds:,.0f} reports/s")
    for seconds, name in slowest()[:5]:
        print(f"1 MB of {name:<30} {seconds:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
