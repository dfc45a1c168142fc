"""The new part of a reply: found in every client's format, and nothing lost."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleo_email.mail.quotes import cut_new_part, split_quoted
from tests.mail.replies import Reply, replies
from tests.support.corpora import trimmer_cases


def nonblank(text: str) -> Counter[str]:
    return Counter(line for line in text.split("\n") if line.strip())


@pytest.mark.parametrize("reply", replies(), ids=lambda reply: reply.name)
def test_the_new_part_is_found(reply: Reply) -> None:
    cut = split_quoted(reply.full)
    assert cut.text == reply.new
    assert nonblank(cut.text) + nonblank(cut.quoted) == nonblank(reply.full)


def test_the_set_is_large_enough_to_mean_something() -> None:
    cases = replies()
    assert len(cases) >= 60
    assert len({case.full for case in cases}) == len(cases)


def test_other_people_s_cases(corpora: Path) -> None:
    """Their set drops the body of a forward and the quote between answers; we keep both."""
    cases = trimmer_cases(corpora)
    exact = [name for name, text, wanted in cases if split_quoted(text).text.strip() == wanted.strip()]
    assert len(cases) == 64
    assert len(exact) >= 55


# --- known texts --------------------------------------------------------------------------------------------

EARLIER = """\
Sehr geehrter Herr Maier,

Ihre Lieferung verlässt heute unser Lager in Kassel und trifft voraussichtlich
am Donnerstag bei Ihnen ein.

Mit freundlichen Grüßen
Ihr Versandteam"""
REPEATED = """\
Bitte an die Rückseite liefern.

Sehr geehrter Herr Maier,

Ihre Lieferung verlässt heute unser Lager
in Kassel und trifft voraussichtlich am Donnerstag
bei Ihnen ein.

Mit freundlichen Grüßen
Ihr Versandteam
"""


def test_what_the_thread_holds_is_a_quote_without_any_mark() -> None:
    cut = split_quoted(REPEATED, [EARLIER])
    assert cut.text == "Bitte an die Rückseite liefern."
    assert nonblank(cut.text) + nonblank(cut.quoted) == nonblank(REPEATED)
    assert split_quoted(REPEATED).text.endswith("Ihr Versandteam")


@pytest.mark.parametrize(
    "text",
    [
        EARLIER,  # sent again: nothing else would be left
        f"{EARLIER}\n\nDas ist nicht geschehen.",
        "Wie schreiben Sie?\n\nMit freundlichen Grüßen\nIhr Versandteam",  # too little to be sure
        "Ganz etwas anderes steht in diesem Brief, Satz für Satz und Wort für Wort.",
    ],
)
def test_a_text_that_only_touches_an_earlier_one_stays_whole(text: str) -> None:
    assert split_quoted(text, [EARLIER]).text == text


# --- details ------------------------------------------------------------------------------------------------


def test_a_forward_stays_whole_if_the_caller_knows() -> None:
    text = "Bitte klären.\n\nVon: A <a@x.org>\nGesendet: Montag\nAn: B\nBetreff: x\n\nInhalt"
    assert split_quoted(text).text == "Bitte klären."
    assert split_quoted(text, forwarded=True) == (text, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "-- \nEva",
        "--",
        "----------",
        "Von meinem iPhone gesendet",
        "> nur Zitat",
        "Am 03.02.2025 um 10:15 schrieb Max <m@x.org>:\n\nText ohne Zitatzeichen",
        "Von: A <a@x.org>\nGesendet: Montag\nAn: B\nBetreff: x\n\nInhalt",
    ],
)
def test_where_nothing_would_remain_everything_does(text: str) -> None:
    assert split_quoted(text) == (text.strip("\n"), "")


@pytest.mark.parametrize(
    ("separator", "rest", "cut"),
    [("-- ", 30, True), ("-- ", 200, False), ("--", 5, True), ("--", 40, False), ("---", 5, False)],
)
def test_a_signature_is_short_and_comes_last(separator: str, rest: int, cut: bool) -> None:
    text = "\n".join(["Inhalt", separator, *["Zeile"] * rest])
    assert (split_quoted(text).text == "Inhalt") is cut


def test_the_line_of_the_author_may_be_wrapped_anywhere() -> None:
    words = [
        "Am",
        "Montag,",
        "3.",
        "Februar",
        "2025",
        "um",
        "10:15",
        "Uhr",
        "schrieb",
        "Max",
        "Muster",
        "<max.muster@example.org>:",
    ]
    for position in range(1, len(words)):
        head = " ".join(words[:position]) + "\n" + " ".join(words[position:])
        cut = split_quoted(f"Ja.\n\n{head}\n\n> Kommst du?")
        assert cut.text == "Ja.", head


@pytest.mark.parametrize(
    "line",
    [
        "Am Montag treffen wir uns um 10:15, wie Max schrieb.",
        "On the other hand, he wrote: nothing",
        "Von: hier aus gesehen",
        "Punkte:",
        "10:15:",
        "Die Norm schreibt vor:",
        "Am 3.2. habe ich Ihnen um 10:15 geschrieben:",
    ],
)
def test_sentences_are_no_introductions(line: str) -> None:
    text = f"Guten Tag,\n\n{line}\n\nmehr Text\nund noch mehr"
    assert split_quoted(text) == (text, "")


# --- time, and nothing lost ---------------------------------------------------------------------------------

_LINES = [
    "Am 03.02.2025 um 10:15 schrieb Max <m@x.org>:",
    "Am x schrieb",
    "Von: A <a@x.org>",
    "Gesendet: Montag, 3. Februar 2025",
    "Betreff: x",
    "-----Ursprüngliche Nachricht-----",
    "---------- Forwarded message ---------",
    "> quoted",
    ">> deeper",
    "| bar",
    "-- ",
    "--",
    "____________________________",
    "Von meinem iPhone gesendet",
    "text",
    "Hallo Max,",
    "",
    " ",
    "<",
    "m@x.org> wrote:",
]


@pytest.mark.parametrize("line", [*_LINES, "a" * 100_000, "Am 1 schrieb " * 50, "Cc: a\n"])
def test_time_is_linear_in_the_length(line: str) -> None:
    text = "x\n" + f"{line}\n" * (1_000_000 // (len(line) + 1))
    begin = time.process_time()
    split_quoted(text, [text[:200_000], "x y z " * 50_000])
    assert time.process_time() - begin < 6


@pytest.mark.parametrize(
    "lines",
    [
        "> a",
        "> Von: a@b",
        "Am 24.11.2026 um 14:06 schrieb Max <a@b.example>:",
        "Am 24.11.2026 um 14:06 schrieb Max <a@b.example>:\n> y",
        "Sie haben am 24.11.2026 geschrieben:",
        "Von: a <a@b.example>\nGesendet: 1.1.2026 10:10\nAn: x",
        "a b c d a b c d",
    ],
)
def test_time_is_linear_in_a_thread_whose_texts_are_known(lines: str) -> None:
    """Whoever takes part in a thread chooses the mail, and the texts that it is compared with."""
    text = "Ja.\n" + f"{lines}\n" * (500_000 // len(lines))
    known = [text[:200_000], "a b c d " * 20_000 + "e", "Guten Tag,\n\nwir liefern bis Freitag."]
    begin = time.process_time()
    cut_new_part(text, subject="Re: x", replies=True, recipients=["agent@example.com"], known=known)
    assert time.process_time() - begin < 6


@given(
    st.lists(st.one_of(st.sampled_from(_LINES), st.text(max_size=12)), max_size=25),
    st.lists(st.sampled_from([*_LINES, EARLIER]), max_size=3),
    st.booleans(),
)
@settings(max_examples=500, deadline=None)
def test_no_line_is_ever_lost(lines: list[str], known: list[str], forwarded: bool) -> None:
    text = "\n".join(lines)
    cut = split_quoted(text, known, forwarded=forwarded)
    assert nonblank(cut.text) + nonblank(cut.quoted) == nonblank(text)
    assert bool(cut.text.strip()) == bool(text.strip())
