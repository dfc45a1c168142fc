"""Machines that give themselves away by little, and people who look like one."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cleo_email.mail.model import Action, Address, Body, InboundEmail
from cleo_email.screening.screen import Policy, screen

POLICY = Policy(own_addresses=frozenset({"support@firma.example"}))
OURS = ("<1@firma.example>",)


def action(subject: str, text: str = "x", sender: str = "anna@kunde.example", **changes: Any) -> Action:
    headers = tuple((name.lower(), value) for name, value in changes.pop("headers", ()))
    changes |= {"headers": headers, "read": lambda: Body(text)}
    mail = InboundEmail(from_=(Address(sender),), subject=subject, **changes)
    return screen(mail, envelope_from=None, policy=POLICY).action


# --- machines ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject",
    [
        "Out of Office Re: Offer", "Fuera de la oficina Re: Oferta", "Absence du bureau Re: Offre",
        "Abwesenheitsnotiz AW: Angebot", "Out of office RE: Can you help?", "Max Smith is out of the office.",
        "Max Mustermann ist außer Haus.", "Max Dupont est absent(e).",
        "Max Smith is out of the office (returning 12/03/2026)", "AUTO: Max Smith is out of the office.",
        "OTOMATİK YANIT: Teklif", "Otomatik Yanıt: Teklif",
        "Abwesenheitsnotiz: AW: Frage: Können Sie helfen?",
    ],
)  # fmt: skip
def test_absence_notes_without_any_header(subject: str) -> None:
    assert action(subject) is Action.IGNORE


@pytest.mark.parametrize(
    "subject",
    [
        "Nicht gelesen: Angebot", "Non letto: Offerta", "Niet gelezen: Offerte", "Ej läst: Offert",
        "Nieobecność: Re: Oferta", "Re: Offer [Automatic reply]", "Re: Angebot (Automatische Antwort)",
        "Re: Angebot (verification required)", "Max Mustermann ist außer Haus", "Auto: Re: Angebot",
        "Holiday until 3 Dec", "Ticket received #4711", "Request received: Angebot", "Case created - x",
    ],
)  # fmt: skip
def test_automatic_answers_to_our_mail(subject: str) -> None:
    assert action(subject, in_reply_to=OURS) is Action.IGNORE
    assert action(subject) is Action.ANSWER


@pytest.mark.parametrize(
    "text",
    [
        "I am out of the office until Monday.", "Ich bin vom 3. bis 12.8. im Urlaub.", "Bin weg bis Montag.",
        "In dringenden Fällen wenden Sie sich an Herrn Maier.", "Thank you for your message.", "",
        "Sono in ferie fino a lunedì.", "Ich bin derzeit nicht erreichbar.",
    ],
)  # fmt: skip
def test_an_everyday_topic_above_an_absence_note(text: str) -> None:
    assert action("Holiday: Offer", text, in_reply_to=OURS) is Action.IGNORE
    assert action("Auto: Angebot", text, in_reply_to=OURS) is Action.IGNORE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Cron-Env", "<SHELL=/bin/sh>"), ("RT-Ticket", "kunde.example #4711"),
        ("Managed-by", "RT 4.4.3 (http://www.bestpractical.com/rt/)"), ("X-ChallengeResponse", "challenge"),
        ("X-SFDC-EmailCategory", "workflowActionAlert"),
    ],
)  # fmt: skip
def test_programs_that_name_themselves(name: str, value: str) -> None:
    assert action("Re: Angebot", headers=[(name, value)]) is Action.IGNORE


RULE = ("X-MS-Exchange-Generated-Message-Source", "Mailbox Rules Agent")
LOOP = "X-MS-Exchange-Inbox-Rules-Loop"


def test_the_answer_of_a_mailbox_rule_is_ignored() -> None:
    assert action("Ihr Antrag", headers=[RULE, (LOOP, "Anna@Kunde.example")]) is Action.IGNORE
    assert action("Re: x", headers=[RULE, ("X-Auto-Response-Suppress", "All")]) is Action.IGNORE
    assert action("Danke für Ihre Bewerbung", headers=[RULE], in_reply_to=OURS) is Action.IGNORE


def test_what_a_mailbox_rule_hands_on_is_a_persons() -> None:
    redirected = [RULE, (LOOP, "bob@kunde.example")]
    assert action("Re: Angebot", headers=redirected) is Action.ANSWER
    assert action("Angebot", headers=redirected, in_reply_to=OURS) is Action.ANSWER
    assert action("AW: Angebot", headers=[RULE], in_reply_to=OURS) is Action.ANSWER
    assert action("Angebot", headers=[RULE]) is Action.ANSWER
    assert action("WG: Angebot", headers=[RULE, (LOOP, "anna@kunde.example")]) is Action.ANSWER


# --- people -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sender",
    [
        "eleonoreplyn@firma.example", "eleonoreply@firma.example", "ono.reply@firma.example",
        "norbert.reply@firma.example", "no@reply.example", "reply@noreply.example", "nora.no@firma.example",
    ],
)  # fmt: skip
def test_letters_inside_of_a_name_make_no_robot(sender: str) -> None:
    assert action("Angebot", sender=sender) is Action.ANSWER


@pytest.mark.parametrize(
    "sender",
    [
        "noreply2@x.example", "shop.no.reply@x.example", "bitte-nicht-antworten@x.example",
        "NE_PAS_REPONDRE@x.example", "noreplyshop@x.example", "do_not_reply+12@x.example",
        "messages-noreply@x.example", "noreply=anna@x.example", "no-responder@x.example",
    ],
)  # fmt: skip
def test_a_mailbox_that_nobody_reads_in_all_spellings(sender: str) -> None:
    assert action("Angebot", sender=sender) is Action.IGNORE


@pytest.mark.parametrize(
    "subject",
    [
        "Abwesenheitsnotiz: wie stelle ich sie ein?", "Out of office: can you switch mine on?",
        "Automatic reply - please switch off mine", "Autoreply (Frage dazu)",
        "Abwesenheitsnotiz: bitte deaktivieren", "Out of office: how to set up",
    ],
)  # fmt: skip
def test_whoever_speaks_of_the_function_itself_is_a_person(subject: str) -> None:
    assert action(subject, "Guten Tag, können Sie mir helfen?") is Action.ANSWER
    assert action(subject, "Ich bin bis Montag nicht im Büro.") is Action.IGNORE
    assert action(subject, in_reply_to=OURS) is Action.IGNORE


@pytest.mark.parametrize(
    "subject",
    [
        "Holiday: two more rooms please", "Holiday – booking for 4", "Auto: neue Reifen",
        "Ticket received but wrong date", "Case created by my colleague is wrong", "Urlaub: Vertretung",
    ],
)  # fmt: skip
def test_an_everyday_topic_in_answer_to_us_is_a_persons(subject: str) -> None:
    assert action(subject, "Guten Tag, bitte ändern.", in_reply_to=OURS) is Action.ANSWER
    assert action(subject) is Action.ANSWER


@pytest.mark.parametrize(
    "subject",
    [
        "Is Max out of the office?", "Frage: wer ist außer Haus.", "Herr Maier ist außer Haus",
        "Re: Max Smith is out of the office.", "Mail settings (out of office)", "Offer [urgent]",
    ],
)  # fmt: skip
def test_talk_about_an_absence(subject: str) -> None:
    assert action(subject) is Action.ANSWER


@pytest.mark.parametrize("word", ["ich bin ", "no.", "(", "is out of the office ", "einrichte", "re: "])
def test_long_ones_take_linear_time(word: str) -> None:
    long = word * 100_000
    begin = time.process_time()
    action(f"Out of office: {long}", long, sender=f"{long}@x.example", in_reply_to=OURS)
    action(long, long)
    assert time.process_time() - begin < 1
