"""A click on *Accept* is not answered; words beside it, and invitations, are."""

from __future__ import annotations

import time

import pytest

from cleo_email.mail.model import Action, Verdict
from cleo_email.mail.parse import parse
from cleo_email.screening.screen import Policy, screen

POLICY = Policy(own_addresses=frozenset({"support@firma.example"}))
ENTRY = (
    "BEGIN:VCALENDAR\nPRODID:x\nVERSION:2.0\nMETHOD:{}\nBEGIN:VEVENT\nSUMMARY:Besprechung\n"
    "ATTENDEE;PARTSTAT=ACCEPTED:mailto:anna@kunde.example\nEND:VEVENT\nEND:VCALENDAR\n"
)
HEAD = "From: Anna <anna@kunde.example>\nTo: support@firma.example\nMIME-Version: 1.0\n"


def verdict(
    subject: str, text: str, method: str = "REPLY", kind: str = "alternative", name: str = ""
) -> Verdict:
    disposition = f'Content-Disposition: attachment; filename="{name}"\n' if name else ""
    source = (
        f"{HEAD}Subject: {subject}\nIn-Reply-To: <1@firma.example>\n"
        f"Content-Type: multipart/{kind}; boundary=b\n\n"
        f"--b\nContent-Type: text/plain; charset=utf-8\n\n{text}\n"
        f"--b\nContent-Type: text/calendar; charset=utf-8\n{disposition}\n{ENTRY.format(method)}--b--\n"
    )
    return screen(parse(source.encode()), envelope_from=None, policy=POLICY)


GENERATED = [
    "", "\n\n", "Anna Muster has accepted this invitation.\n\nBesprechung\nTuesday Nov 24, 2026\nAnna Muster",
    "Anna <anna@kunde.example> hat Ihre Einladung angenommen.", "Accepted: Besprechung", "Zugesagt",
    "anna@kunde.example hat den Termin mit Vorbehalt angenommen.\n\nWann: Dienstag\nWo: Kassel",
    "Anna Muster a accepté l'invitation.", "Anna ha rifiutato l'invito all'evento Riunione.",
    "Yes, I will attend.", "Viele Grüße\nAnna Muster\nFirma GmbH",
    "When: Tuesday\nWhere: Kassel\n\n*~*~*~*~*~*~*~*~*~*\n\nHallo, passt Dienstag?",
    "The following meeting has been declined:\n\nSubject: x",
]  # fmt: skip


@pytest.mark.parametrize("text", GENERATED)
@pytest.mark.parametrize("method", ["REPLY", "COUNTER", "reply"])
def test_a_calendar_s_answer_is_ignored(text: str, method: str) -> None:
    said = verdict("Zugesagt: Besprechung", text, method)
    assert said.action is Action.IGNORE
    assert f"METHOD:{method.upper()}" in said.reason
    assert verdict("Accepted: x", text, method, kind="mixed", name="reply.ics").action is Action.IGNORE


@pytest.mark.parametrize(
    "text",
    [
        "Danke, bis Dienstag!", "Ich habe den Termin zugesagt, bringe aber einen Kollegen mit.",
        "Leider abgelehnt, weil der Termin kollidiert. Geht Freitag?", "Termin angenommen?",
        "Anna has declined this invitation with this note:\n\n\"Friday would be fine\"",
        "Könnten wir Freitag nehmen?\n\nWann: Dienstag\nWo: Kassel", "Yes, I will attend.\nIs there parking?",
    ],
)  # fmt: skip
def test_words_of_a_person_beside_it_are_answered(text: str) -> None:
    assert verdict("Abgesagt: Besprechung", text).action is Action.ANSWER
    assert verdict("Abgesagt: Besprechung", text, "COUNTER").action is Action.ANSWER


@pytest.mark.parametrize("method", ["REQUEST", "PUBLISH", "CANCEL", "REPLYING"])
def test_an_invitation_is_answered(method: str) -> None:
    assert verdict("Einladung: Besprechung", "", method).action is Action.ANSWER
    assert verdict("Einladung: Besprechung", "Passt das?", method).action is Action.ANSWER


@pytest.mark.parametrize(
    ("parameter", "body"), [("; method=REPLY", "x"), ('; Method="Counter"', "x"), ("", "REPLY")]
)
def test_a_mail_of_nothing_but_the_entry(parameter: str, body: str) -> None:
    kind = f"text/calendar; charset=utf-8{parameter}"
    source = f"{HEAD}Subject: Accepted: x\nContent-Type: {kind}\n\n{ENTRY.format(body)}"
    assert screen(parse(source.encode()), envelope_from=None, policy=POLICY).action is Action.IGNORE
    request = source.replace("REPLY", "REQUEST").replace("Counter", "REQUEST")
    assert screen(parse(request.encode()), envelope_from=None, policy=POLICY).action is Action.ANSWER


def test_a_person_who_forwards_one_is_answered() -> None:
    assert verdict("WG: Zugesagt: Besprechung", "").action is Action.ANSWER


def test_the_subject_alone_means_nothing() -> None:
    source = f"{HEAD}Subject: Zugesagt: Lieferung am Freitag\n\nDer Lieferant hat die Besprechung zugesagt."
    assert screen(parse(source.encode()), envelope_from=None, policy=POLICY).action is Action.ANSWER


def test_an_operator_may_want_a_robot_s_answers() -> None:
    policy = Policy(POLICY.own_addresses, allowed_robots=("anna@kunde.example",))
    source = f"{HEAD}Subject: x\nContent-Type: text/calendar; method=REPLY\n\n{ENTRY.format('REPLY')}"
    assert screen(parse(source.encode()), envelope_from=None, policy=policy).action is Action.ANSWER


@pytest.mark.parametrize("line", ["METHOD;", "METHOD:\n", "*", "when ", "note ", "accepted "])
def test_long_ones_take_linear_time(line: str) -> None:
    begin = time.process_time()
    verdict("x", line * (500_000 // len(line)), line * (500_000 // len(line)))
    assert time.process_time() - begin < 2
