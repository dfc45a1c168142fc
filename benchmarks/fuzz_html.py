"""Fuzz HTML to text with atheris; see fuzz_message."""

from __future__ import annotations

import sys
import time

from benchmarks.fuzzing import run
from cleo_email.mail.html import html_to_text

_SECONDS = 2.0


def one_input(data: bytes) -> None:
    begin = time.process_time()
    text, *_ = html_to_text(data.decode("utf-8", "replace"))
    assert "\0" not in text
    text.encode("utf-8")
    assert time.process_time() - begin < _SECONDS


if __name__ == "__main__":
    run(one_input, sys.argv)
