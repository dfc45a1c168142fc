"""Fuzz the reading of mail with atheris (coverage-guided; optional, ``pip install atheris``).

    python -m benchmarks.fuzz_message [-max_total_time=600] [FOLDER]

Anything but UnreadableMessage, a text with NUL or a lone surrogate, an unsafe file name, or more than two
seconds is a finding. Found inputs belong into the tests. Seeds: CLEO_CORPORA.
"""

from __future__ import annotations

import sys
import time

from benchmarks.fuzzing import run
from cleo_email.errors import UnreadableMessage
from cleo_email.mail.parse import attachment_text, parse

_SECONDS = 2.0


def one_input(data: bytes) -> None:
    begin = time.process_time()
    try:
        message = parse(data)
    except UnreadableMessage:
        return
    texts = [message.subject, message.text, message.full_text, message.quoted, *message.notes]
    texts += [value for _, value in message.headers]
    for attachment in message.attachments:
        texts.append(attachment_text(attachment) or "")
        texts.append(attachment.filename)
        assert attachment.filename.strip()
        assert not set(attachment.filename) & set("/\\\r\n\0")
    for text in texts:
        assert "\0" not in text
        text.encode("utf-8")
    assert bool(message.text.strip()) == bool(message.full_text.strip())
    assert time.process_time() - begin < _SECONDS


if __name__ == "__main__":
    run(one_input, sys.argv)
