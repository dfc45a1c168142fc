"""Subjects without the marks of replying and forwarding."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleo_email.mail.thread import is_forward, normalise_subject

_MARKS = (
    "Re:|RE :|re:re:RE:|AW:|Aw: AW:|Antw:|Antwort:|SV:|Svar:|VS:|Odp:|R:|RIF:|RES:|Rép:|YNT:"
    "|回复:|回复：|答复：|Отв:|Re[2]:|RE (3):|Re^4:|Re5:|AW: Re[2]: SV:"
)


@pytest.mark.parametrize("mark", _MARKS.split("|"))
def test_marks_of_replies_go(mark: str) -> None:
    assert normalise_subject(f"{mark} Angebot") == "Angebot"
    assert normalise_subject(f"  {mark}\t\r\n  Angebot   A ") == "Angebot A"


@pytest.mark.parametrize(
    "subject", ["Report: x", "Rest", "Re", "Aware: x", "Research", "[Re: x]", "R2D2: x", "Rezept: Re"]
)
def test_words_that_only_look_alike_stay(subject: str) -> None:
    assert normalise_subject(subject) == subject


@pytest.mark.parametrize(
    "subject", ["WG: x", "Fwd: x", "FW: AW: x", "TR : x", "RV: x", "Doorst: x", "转发: x"]
)
def test_marks_of_forwards_go_only_if_asked(subject: str) -> None:
    assert is_forward(subject)
    assert normalise_subject(subject) == subject
    assert normalise_subject(subject, forwards=True) == "x"


def test_a_reply_to_a_forward_is_a_reply() -> None:
    assert not is_forward("AW: WG: x")
    assert normalise_subject("AW: WG: x") == "WG: x"
    assert normalise_subject("AW: WG: Re: x", forwards=True) == "x"


def test_a_subject_of_marks_only_is_empty() -> None:
    assert normalise_subject("Re: AW:") == ""


@pytest.mark.parametrize(
    "subject", ["Re: " * 250_000, "Re" + " " * 1_000_000 + ":", "Re[" * 300_000, "Re1" * 300_000]
)
def test_long_subjects_take_linear_time(subject: str) -> None:
    begin = time.process_time()
    normalise_subject(subject, forwards=True)
    assert time.process_time() - begin < 2


@given(st.text(max_size=60), st.booleans())
def test_normalising_twice_changes_nothing(subject: str, forwards: bool) -> None:
    once = normalise_subject(subject, forwards=forwards)
    assert normalise_subject(once, forwards=forwards) == once
    assert once == " ".join(once.split())
