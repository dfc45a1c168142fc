"""Fuzz the cutting of quotes with atheris: no line may ever be lost; see fuzz_message."""

from __future__ import annotations

import sys
from collections import Counter

from benchmarks.fuzzing import run
from cleo_email.mail.quotes import split_quoted


def one_input(data: bytes) -> None:
    text = data[:-1].decode("utf-8", "replace").replace("\r", "")
    known = [text[: len(text) // 2]] if data[-1:] > b"\x80" else []
    cut = split_quoted(text, known)
    assert _lines(cut.text) + _lines(cut.quoted) == _lines(text)
    assert bool(cut.text.strip()) == bool(text.strip())


def _lines(text: str) -> Counter[str]:
    return Counter(line for line in text.split("\n") if line.strip())


if __name__ == "__main__":
    run(one_input, sys.argv)
