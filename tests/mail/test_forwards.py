"""Forwards and pasted mails reach the agent whole; what a reply quotes does not."""

from __future__ import annotations

import time

import pytest

from cleo_email.mail.model import InboundEmail, Turn
from cleo_email.mail.parse import parse
from cleo_email.mail.thread import is_forward, is_reply, may_be_forward
from cleo_email.pipeline.answer import new_part

GERMAN = "Von: Bob <bob@x.example>\nGesendet: Montag, 23. November 2026 09:00\nAn: Anna\nBetreff: Preise"
DANISH = "Fra: Bob <bob@x.example>\nSendt: 23. november 2026 09:00\nTil: Anna\nEmne: Priser"
FINNISH = "Lähettäjä: Bob <bob@x.example>\nLähetetty: 23.11.2026 09:00\nVastaanottaja: Anna\nAihe: Hinnat"
ORIGINAL = f"-----Original Message-----\n{GERMAN}"
REST = "Die Preise steigen.\n\n-- \nBob"


def mail(subject: str, text: str, *, answers: bool = False) -> InboundEmail:
    head = f"From: Anna <anna@kunde.example>\nTo: Support <Support@firma.example>\nSubject: {subject}\n"
    if answers:
        head += "In-Reply-To: <1@firma.example>\n"
    return parse(f"{head}Content-Type: text/plain; charset=utf-8\n\n{text}\n".encode())


@pytest.mark.parametrize(
    "subject",
    [
        "[EXTERN] WG: Preise", "[EXT] WG: Preise", "[EXTERN] FW: Preise", "*** EXTERN *** WG: AW: Preise",
        "EXTERN: WG: Preise", "[EXT][SPAM?] Fwd: Preise", "(extern) Fwd: Preise", "[Fwd: Preise]",
    ],
)  # fmt: skip
@pytest.mark.parametrize("answers", [False, True])
def test_the_tag_of_a_company_does_not_hide_a_forward(subject: str, answers: bool) -> None:
    text = f"Bitte prüfen.\n\n{GERMAN}\n\n{REST}"
    assert is_forward(subject)
    forward = mail(subject, text, answers=answers)
    assert forward.text == text
    assert new_part(forward, (Turn("user", "Guten Tag"), Turn("assistant", "Hallo"))) == text


@pytest.mark.parametrize(
    "subject", ["AW: WG: x", "[EXTERN] AW: x", "EXT: RE: WG: x", "AW: [EXTERN] WG: x", "[EXT] Re: [x] Fwd: x"]
)
def test_an_answer_to_a_forward_is_a_reply(subject: str) -> None:
    assert is_reply(subject)
    assert not is_forward(subject)
    assert mail(subject, f"Ja.\n\n{GERMAN}\n\n{REST}").text == "Ja."


def test_vs_is_a_forward_in_danish_and_a_reply_in_finnish() -> None:
    assert may_be_forward("[EKSTERN] VS: Priser")
    danish = f"Se venligst nedenfor.\n\n{DANISH}\n\n{REST}"
    assert mail("VS: Priser", danish, answers=True).text == danish
    assert mail("VS: Hinnat", f"Kyllä.\n\n{FINNISH}\n\n{REST}", answers=True).text == "Kyllä."
    assert mail("SV: Priser", f"Ja.\n\n{DANISH}\n\n{REST}", answers=True).text == "Ja."


@pytest.mark.parametrize("block", [GERMAN, DANISH, ORIGINAL, f"________________________________\n{GERMAN}"])
def test_a_mail_pasted_into_a_new_mail_is_no_quote(block: str) -> None:
    text = f"Bitte übersetzen:\n\n{block}\n\n{REST}"
    assert mail("Übersetzung", text).text == text
    assert mail("AW: Übersetzung", text).text == "Bitte übersetzen:"
    assert mail("Übersetzung", text, answers=True).text == "Bitte übersetzen:"


@pytest.mark.parametrize("separator", ["", "-----Ursprüngliche Nachricht-----\n"])
def test_our_own_mail_below_a_new_one_is_a_quote_even_without_a_mark(separator: str) -> None:
    block = GERMAN.replace("bob@x.example", "support@firma.example")
    assert mail("Preise", f"Noch etwas.\n\n{separator}{block}\n\nGuten Tag").text == "Noch etwas."
    to_us = GERMAN.replace("An: Anna", "An: support@firma.example")
    pasted = f"Bob hat keine Antwort bekommen.\n\n{separator}{to_us}\n\nGuten Tag"
    assert mail("Preise", pasted).text == pasted


def test_with_a_history_an_earlier_mail_is_a_quote() -> None:
    pasted = mail("Preise", f"Und nun?\n\n{GERMAN}\n\n{REST}")
    assert new_part(pasted, (Turn("user", "Guten Tag"),)) == "Und nun?"
    assert new_part(pasted, ()) == pasted.full_text


@pytest.mark.parametrize(
    "block",
    [
        "Von: Berlin\nAn: München\nDatum: 1.12.\nBetreff: Dienstreise",
        "From: 10.0.0.1\nTo: 10.0.0.2\nDate: now\nSubject: none",
    ],
)
@pytest.mark.parametrize("answers", [False, True])
def test_a_list_with_such_labels_is_no_quote(block: str, answers: bool) -> None:
    text = f"Hallo,\n\nbitte buchen:\n\n{block}\n\nDanke, Anna"
    assert mail("Reise", text, answers=answers).text == text


@pytest.mark.parametrize(
    "title",
    ["Weitergeleitete Nachricht", "*Weitergeleitete Nachricht*", "Forwarded message:", "Message transféré",
     "Weitergeleitete E-Mail"],
)  # fmt: skip
def test_a_bare_title_above_a_header_block_is_a_forward(title: str) -> None:
    text = f"Bitte prüfen.\n\n{title}\n\n{GERMAN}\n\n{REST}"
    assert mail("Preise", text, answers=True).text == text
    if title.startswith("*"):  # as good as a rule
        return
    without = f"Ja.\n\n{title}\n\nWas heißt das?\n\n{GERMAN}\n\n{REST}"
    assert "Preise steigen" not in mail("Preise", without, answers=True).text


def test_a_signature_above_a_forward_does_not_take_it_along() -> None:
    text = f"Was meint er?\n\n-- \nAnna\n\n---------- Forwarded message ---------\n{GERMAN}\n\n{REST}"
    assert mail("Preise", text).text == text


@pytest.mark.parametrize(
    "piece", ["[x] ", "[", "(x", "*x* ", "*", "EXT: ", "ext ", "Fra: x\n", "fra", "Von: x@y\n"]
)
def test_long_input_takes_linear_time(piece: str) -> None:
    begin = time.process_time()
    is_forward(piece * 200_000)
    is_reply(piece * 200_000)
    mail(f"VS: {piece.strip()}", piece * (1_000_000 // len(piece)))
    assert time.process_time() - begin < 2
