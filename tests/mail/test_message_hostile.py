"""Mails that are made to hang or to break the reader, and the real ones of other projects."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.model import InboundEmail
from cleo_email.mail.parse import attachment_text, parse
from tests.mail.hostile import HOSTILE
from tests.support.corpora import raw_messages

_SECONDS = 5.0  # of CPU; below 1 on an idle machine
_BYTES = 300_000_000


def check(message: InboundEmail) -> None:
    """What holds for every mail, whatever it was made of."""
    texts = [message.subject, message.text, message.full_text, message.quoted, *message.notes]
    texts += [value for _, value in message.headers]
    for text in texts:
        assert "\0" not in text
        text.encode("utf-8")  # no lone surrogate
    assert bool(message.text.strip()) == bool(message.full_text.strip())
    assert message.date is None or message.date.utcoffset() is not None
    for attachment in message.attachments:
        assert attachment.filename.strip()
        assert not set(attachment.filename) & set('/\\\r\n\0:"<>|')
        assert len(attachment.filename.encode()) <= 255
    for identifier in (*message.references, *message.in_reply_to):
        assert identifier.startswith("<")
        assert identifier.endswith(">")


@pytest.mark.parametrize("name", HOSTILE)
def test_no_mail_takes_long(name: str) -> None:
    source = HOSTILE[name]()
    begin = time.process_time()
    with contextlib.suppress(UnreadableMessage):
        check(parse(source))
    assert time.process_time() - begin < _SECONDS


@pytest.mark.parametrize(
    "name", ["40 MB of emoji", "one line of 40 MB", "20 MB of padded base64", "HTML that multiplies"]
)
def test_no_mail_takes_much_memory(name: str) -> None:
    source = HOSTILE[name]()
    tracemalloc.start()
    try:
        parse(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak + len(source) < _BYTES


def test_every_real_message_can_be_read(corpora: Path) -> None:
    messages = raw_messages(corpora)
    assert len(messages) > 450
    for path in messages:
        message = parse(path.read_bytes())
        check(message)
        for attachment in message.attachments:
            attachment_text(attachment)


_PIECES = st.sampled_from(
    [
        b"From: a@b.c",
        b"To: ",
        b"Subject: =?utf-8?q?",
        b"Content-Type: multipart/mixed; boundary=b",
        b"Content-Type: multipart/alternative; boundary=c",
        b"Content-Type: text/html; charset=",
        b"Content-Type: message/rfc822",
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: quoted-printable",
        b"Content-Disposition: attachment; filename*0*=utf-8''",
        b"--b",
        b"--b--",
        b"--c",
        b"<p style='display:none'>",
        b"<td><a href=http://x>",
        b"> ",
        b"Am 1.2.2025 um 10:00 schrieb Max:",
        b"Von: a@b.c\r\nGesendet: 1\r\nAn: x\r\nBetreff: y",
        b"-- ",
        b" ",
        b"",
        b"",
        b"?=",
        b";",
        b"\0",
        "ü😀".encode(),
        b"\xff\xfe",
    ]
)


@given(
    st.lists(st.one_of(_PIECES, st.binary(max_size=20)), max_size=40),
    st.sampled_from([b"\r\n", b"\n", b"\r", b""]),
)
@settings(max_examples=300, deadline=None)
def test_any_mixture_of_pieces_can_be_read(pieces: list[bytes], end: bytes) -> None:
    check(parse(end.join(pieces)))


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_can_be_read(source: bytes) -> None:
    check(parse(source))


def test_a_real_message_cut_off_anywhere_can_be_read(corpora: Path) -> None:
    messages = [path.read_bytes() for path in raw_messages(corpora)]
    source = max(
        (message for message in messages if b"multipart/" in message and len(message) < 8000), key=len
    )
    for end in range(0, len(source), 37):
        check(parse(source[:end]))
