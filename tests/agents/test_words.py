from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleo_email.agents.base import well_formed_json
from cleo_email.scrub import no_surrogates, one_line

ANY_TEXT = st.text(st.characters(), max_size=300)  # lone surrogates included


@given(ANY_TEXT)
def test_what_is_well_formed_can_be_encoded_and_loses_only_surrogates(text: str) -> None:
    clean = no_surrogates(text)
    clean.encode("utf-8")
    if not any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        assert clean == text


def test_a_lone_surrogate_is_replaced_and_a_pair_is_joined() -> None:
    assert no_surrogates("a\ud800b") == "a\ufffdb"
    assert no_surrogates("a\udc00") == "a\ufffd"
    assert no_surrogates("\ud83d\ude00") == "\U0001f600"


@given(ANY_TEXT)
def test_one_line_is_short_and_printable(text: str) -> None:
    line = one_line(text, 50)
    assert len(line) <= 50
    assert all(char == " " or char.isprintable() for char in line)
    assert line == line.strip()


def test_one_line_blots_out_secrets_before_it_cuts() -> None:
    secret = "s3cret-" * 10
    line = one_line("x" * 170 + secret, without=[secret])
    assert "s3cret" not in line
    assert line.endswith("***")


def test_one_line_drops_direction_overrides() -> None:
    assert one_line("a\u202eb\x1b[31mc\r\nd") == "a b [31mc d"


def test_json_values_lose_what_strict_json_cannot_carry() -> None:
    value = {"a\ud800": [1, 2.5, math.nan, math.inf, True, None, ("x", "\udfff")]}
    clean = well_formed_json(value)
    assert clean == {"a\ufffd": [1, 2.5, None, None, True, None, ["x", "\ufffd"]]}
    json.dumps(clean, allow_nan=False).encode("utf-8")


def test_json_values_of_other_kinds_are_refused() -> None:
    with pytest.raises(TypeError, match="bytes"):
        well_formed_json({"a": b"x"})
