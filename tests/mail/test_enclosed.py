"""A mail within a mail: 7-bit lines whatever it holds, and what it says stays."""

from __future__ import annotations

from email import message_from_bytes, policy

import pytest

from cleo_email.mail.enclosed import enclosed_mail
from cleo_email.mail.parse import parse

HEAD = b"From: a@example.test\r\nTo: b@example.test\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
TYPE = b"Content-Type: text/plain; charset=utf-8\r\n"
GRUESSE = "Schöne Grüße".encode()
NESTED = (
    HEAD
    + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n'
    + TYPE
    + b"\r\n"
    + GRUESSE
    + b"\r\n--b\r\n"
    b"Content-Type: message/rfc822\r\n\r\n" + HEAD + TYPE + b"\r\n" + GRUESSE + b"\r\n--b--\r\n"
)


def part_of(source: bytes) -> tuple[bytes, object]:
    part = enclosed_mail(source, "mail.eml")
    assert part.isascii()
    assert max(map(len, part.split(b"\r\n"))) <= 998
    assert part.count(b"\r\n") == part.count(b"\n") == part.count(b"\r")
    return part, message_from_bytes(part, policy=policy.default)


@pytest.mark.parametrize(
    "source",
    [
        HEAD + TYPE + b"\r\nHello\r\n",
        HEAD + TYPE + b"\nHello\n",
        HEAD + TYPE + b"\r\n" + GRUESSE,
        HEAD + TYPE + b"Content-Transfer-Encoding: 8bit\r\n\r\n" + GRUESSE + b"\r\n.\r\nFrom here\r\n",
        HEAD + TYPE + b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n",
        HEAD + TYPE + b"\r\n" + b"x" * 5000,
        HEAD + b"\r\n",
        NESTED,
    ],
)
def test_it_is_enclosed_as_a_mail(source: bytes) -> None:
    _, part = part_of(source)
    assert part.get_content_type() == "message/rfc822"  # type: ignore[attr-defined]
    assert part["Content-Transfer-Encoding"] is None  # type: ignore[index]
    inner = enclosed_mail(source, "mail.eml").partition(b"\r\n\r\n")[2]
    before, after = parse(source), parse(inner)
    assert after.full_text.split() == before.full_text.split()
    assert (after.from_, after.subject) == (before.from_, before.subject)
    assert [one.filename for one in after.attachments] == [one.filename for one in before.attachments]


@pytest.mark.parametrize(
    "source",
    [
        b"From: a@example.test\r\nSubject: " + GRUESSE + b"\r\n\r\nHello " + GRUESSE,
        HEAD + b"X-Long: " + b"x" * 1200 + b"\r\n\r\n" + GRUESSE,
        HEAD + b"Content-Type: message/global\r\n\r\n" + GRUESSE,
        b"\x00\xff" * 1000,
    ],
)
def test_what_has_no_such_form_is_a_file_with_its_bytes(source: bytes) -> None:
    _, part = part_of(source)
    if part.get_content_type() != "message/rfc822":  # type: ignore[attr-defined]
        assert part.get_content() == source  # type: ignore[attr-defined]
        assert part.get_filename() == "mail.eml"  # type: ignore[attr-defined]
