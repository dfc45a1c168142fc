"""Introductions of rarer clients, known without the thread's history."""

from __future__ import annotations

import time

import pytest

from cleo_email.mail.quotes import split_quoted

NEW = "Neuer Text.\nZweite Zeile."
ADDRESS = "Agent <agent@firma.example>"


@pytest.mark.parametrize(
    "line",
    [
        f"Zitat von {ADDRESS}:", f"Quoting {ADDRESS}:",
        "Zitat von agent@firma.example:", f"Citando a {ADDRESS}:",
        f"* {ADDRESS} [2026-11-24 09:00]:", "24.11.2026, 09:00 von agent@firma.example:",
        "Nov 24, 2026, 09:00 by agent@firma.example:", "Agent ---24.11.2026 09:00:00---Hallo",
        "Agent Muster ---11/24/2026 09:00:00 AM---Hallo",
        f"---- Am Di, 24 Nov. 2026 09:00:00 +0100 {ADDRESS} schrieb ----",
        f"---- Le mar., 24 nov. 2026 09:00:00 +0100 {ADDRESS} a écrit ----",
        "-----Original meddelelse-----", "-------- Ursprungsmeddelande --------",
        "----- Oprindelig mail -----",
    ],
)  # fmt: skip
def test_an_introduction_with_marks_and_without(line: str) -> None:
    for quoted in ("> Hallo\n> Welt\n", "Hallo,\n\nWelt\n"):
        text = f"{NEW}\n\n{line}\n\n{quoted}"
        cut = split_quoted(text)
        assert cut.text == NEW
        assert line in cut.quoted


BLOCK = (
    "> Von: Agent <agent@firma.example>\n> Gesendet: Dienstag, 24. November 2026 09:00\n> An: Anna\n"
    "> Betreff: x\n"
    ">\n> Hallo\n"
)


def test_a_header_block_with_quote_marks() -> None:
    assert split_quoted(f"{NEW}\n\n{BLOCK}").text == NEW
    assert split_quoted(f"Meine Antwort:\n\n{BLOCK}").text == "Meine Antwort:"
    assert split_quoted(f"{BLOCK}\n{NEW}").text == NEW
    between = f"{NEW}\n\n{BLOCK}\nNein.\n\n> Und?\n\nJa."
    assert split_quoted(between).text == between


@pytest.mark.parametrize(
    "line",
    [
        "Von Yahoo Mail auf Android gesendet", "Von Outlook für iOS gesendet", "Odesláno z iPhonu",
        "Odoslané z iPhonu", "iPhone’umdan gönderildi", "Galaxy cihazımdan gönderildi",
        "나의 iPhone에서 보냄",
        "Lähetetty iPhonesta", "Elküldve az iPhone-omról", "נשלח מה-iPhone שלי", "أرسلت من الـ iPhone",
        "Στάλθηκε από το iPhone μου", "Trimis de pe iPhone-ul meu", "Надіслано з iPhone",
        "Enviat des del meu iPhone", "Poslano s mog iPhonea", "Đã gửi từ iPhone của tôi",
        "ส่งจาก iPhone ของฉัน", "Dikirim dari iPhone saya",
    ],
)  # fmt: skip
def test_a_mobile_signature(line: str) -> None:
    assert split_quoted(f"Ja.\n\n{line}\n").text == "Ja."


@pytest.mark.parametrize(
    "text",
    [
        "Zitat von Goethe:\nEdel sei der Mensch\n\nGefällt es Ihnen?",
        "Das Zitat von a@b.example: gilt es noch?",
        "Termine:\n\n24.11.2026, 09:00 von Berlin:\nAbfahrt", "Fehler [2026-11-24 09:00]:\nKein Papier",
        "Tabelle ---24.11.2026---\nx", "Von Yahoo kam eine E-Mail", "--- und dann schrieb er nicht mehr",
        "Es geht ums Handy.\n\nVon meinem iPhone kann ich über Outlook nichts senden.",
        "It is about mail.\n\nFrom my iPhone I cannot send mail via Outlook.",
        "Colis\n\nEnvoyé de Paris avec mon portable dans le carton, où est-il ?",
        "Hola\n\nEnviado desde Madrid con el móvil dentro, ¿dónde está?",
        "Eine Mail wurde\nvon Outlook nicht gesendet.", "Das hat er\nVon Yahoo wurde nichts gesendet.",
    ],
)  # fmt: skip
def test_sentences_that_look_alike_stay(text: str) -> None:
    assert split_quoted(text) == (text, "")


@pytest.mark.parametrize(
    "piece",
    [
        "Zitat von ",
        "Zitat von a@b:\n",
        "* a <a@b> [",
        "1 von a@b",
        "---",
        "a --- 1.1.11 ",
        "> Von: a@b\n",
        "schrieb ",
    ],
)
def test_long_ones_take_linear_time(piece: str) -> None:
    begin = time.process_time()
    split_quoted(piece * (500_000 // len(piece)))
    split_quoted("\n".join([piece * 30] * 5000))
    assert time.process_time() - begin < 2
