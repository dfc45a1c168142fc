"""Characters without a shape: none turns a subject, a name or a file name around, or hides a text in them."""

from __future__ import annotations

import base64

import pytest

from cleo_email.cli.messages import mail_text
from cleo_email.errors import InvalidField
from cleo_email.mail.address import person, validate_address
from cleo_email.mail.parse import parse

SHAPELESS = [
    *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2060, 0x2070)), "\u00ad", "\u200b", "\ufeff",
    "\u180e", "\ufffb", "\U000e0001", "\U000e0041", "\U000e007f",
]  # fmt: skip
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"


def word(text: str) -> str:
    return f"=?utf-8?b?{base64.b64encode(text.encode()).decode()}?="


def mail_of(text: str, *, raw: bool = False) -> bytes:
    shown = text if raw else word(text)
    return (
        f"From: {shown} <anna@example.net>\r\nTo: agent@example.com\r\nSubject: {shown}\r\n"
        'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello\r\n"
        f'--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename="{shown}"\r\n\r\n'
        "x\r\n--b--\r\n"
    ).encode()


@pytest.mark.parametrize("char", SHAPELESS)
@pytest.mark.parametrize("raw", [False, True])
def test_what_has_no_shape_is_dropped(char: str, raw: bool) -> None:
    mail = parse(mail_of(f"in{char}voice.pdf", raw=raw))
    assert (mail.subject, mail.from_name) == ("invoice.pdf", "invoice.pdf")
    assert mail.attachments[0].filename == "invoice.pdf"
    assert char not in mail_text(mail_of(f"in{char}voice.pdf", raw=raw))


def test_words_in_variation_selectors_are_dropped_and_shapes_stay() -> None:
    hidden = "".join(map(chr, range(0xE0110, 0xE0130)))
    text = f"\u8fbb\U000e0100 \u2764\ufe0f{hidden}"
    mail = parse(f"From: a@example.net\r\nSubject: {text}\r\n\r\n{text}\r\n".encode())
    assert mail.subject == mail.full_text.strip() == "\u8fbb\U000e0100 \u2764\ufe0f"
    assert "hidden text dropped" in mail.notes


@pytest.mark.parametrize("text", [FAMILY, "שלום\u200f!", "\u200eabc", "نامه\u200cای"])
def test_what_scripts_and_emoji_need_stays(text: str) -> None:
    mail = parse(mail_of(f"x{text}x"))
    assert (mail.subject, mail.from_name) == (f"x{text}x", f"x{text}x")


def test_an_address_keeps_each_character_that_makes_it_another() -> None:
    mail = parse("From: an\u200bna@example.net\r\n\r\nx".encode())
    assert mail.from_address != "anna@example.net"
    assert person("\u212aate@example.net") != person("kate@example.net")


@pytest.mark.parametrize("local", ["=?utf-8?q?anna?=", "a=?b", "=?"])
def test_an_encoded_word_is_no_local_part(local: str) -> None:
    with pytest.raises(InvalidField, match="encoded word"):
        validate_address("to", f"{local}@example.net")
