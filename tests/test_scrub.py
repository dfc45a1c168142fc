"""What a server says is shown on one line, and never with a secret in it."""

from __future__ import annotations

import base64
import sys

import pytest

from cleo_email.accounts import plain_response, xoauth2_response
from cleo_email.scrub import SERVER_LINE, Scrubber

SECRET = 'pass"wörd\\of{3} mine'


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        SECRET.replace("\\", "\\\\").replace('"', '\\"'),
        repr(SECRET),
        repr(SECRET.encode()),
        repr(repr(SECRET.encode())),
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(plain_response("ann", SECRET)).decode(),
        base64.b64encode(xoauth2_response("ann", SECRET)).decode(),
    ],
)
def test_a_secret_is_hidden_however_it_is_spelled(spelling: str) -> None:
    scrub = Scrubber()
    scrub.hide(SECRET, plain_response("ann", SECRET), xoauth2_response("ann", SECRET))
    line = scrub.line(f"no: {spelling} is wrong")
    assert line.startswith("no: ")
    assert line.endswith(" is wrong")
    assert line.count("***") == 1
    assert len(line) <= len("no: 'b\\'***\\'' is wrong")


def test_several_secrets_of_which_one_is_part_of_another() -> None:
    assert Scrubber(["abc", "xabcx", ""]).line("xabcx abc") == "*** ***"


@pytest.mark.parametrize("secret", ["\\\\", "ö", "\udcff", "a\ud800b"])
def test_odd_secrets(secret: str) -> None:
    assert Scrubber([secret]).line(f"<{secret}>") == "<***>"


def test_a_line_is_short_and_printable() -> None:
    line = Scrubber().line("\x1b[31mline one\r\nline two\x07 \u202e" + "x " * sys.maxunicode)
    assert line.startswith("[31mline one line two x x")
    assert line.isprintable()
    assert len(line) == SERVER_LINE
