"""What becomes of the headers and the text of a mail."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cleo_email.errors import UnreadableMessage
from cleo_email.mail.model import Address, ParseLimits
from cleo_email.mail.parse import parse


def mail(*lines: str, body: str = "Hallo\r\n") -> bytes:
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body.encode()


def test_a_plain_mail() -> None:
    message = parse(
        mail(
            "From: =?iso-8859-1?q?J=F6rg_M=FCller?= <joerg@example.org>",
            'To: "Cleo, Support" <cleo@example.com>, info@example.com',
            "Cc: Team: a@example.org, b@example.org;",
            "Reply-To: other@example.org",
            "Sender: secretary@example.org",
            "Subject: =?utf-8?B?QVc6IEdyw7zDn2U=?=",
            "Date: Mon, 3 Feb 2025 10:15:00 +0100",
            "Message-ID: <1@example.org>",
            "In-Reply-To: <0@example.com>",
            "References: <a@example.com>\r\n <0@example.com>",
        )
    )
    assert message.from_ == (Address("joerg@example.org", "Jörg Müller"),)
    assert message.to == (Address("cleo@example.com", "Cleo, Support"), Address("info@example.com"))
    assert [address.addr for address in message.cc] == ["a@example.org", "b@example.org"]
    assert message.reply_to == (Address("other@example.org"),)
    assert message.sender == Address("secretary@example.org")
    assert message.subject == "AW: Grüße"
    assert message.date == datetime(2025, 2, 3, 9, 15, tzinfo=UTC)
    assert message.message_id == "<1@example.org>"
    assert message.in_reply_to == ("<0@example.com>",)
    assert message.references == ("<a@example.com>", "<0@example.com>")
    assert message.text == message.full_text.strip() == "Hallo"
    assert message.content_type == "text/plain"
    assert message.header("references") == "<a@example.com> <0@example.com>"
    assert message.notes == ()


def test_a_header_block_alone_can_be_read() -> None:
    message = parse(b"From: a@example.org\r\nSubject: too large\r\nMessage-ID: <1@x>")
    assert (message.from_address, message.subject, message.message_id) == (
        "a@example.org",
        "too large",
        "<1@x>",
    )
    assert message.full_text == message.text == ""


@pytest.mark.parametrize("source", [b"", b"\r\n", b"\0", b"\xff\xfe", b":", b": x\r\n\r\n", b"\n\n\nx"])
def test_hardly_anything_is_still_a_mail(source: bytes) -> None:
    message = parse(source)
    assert "no From header" in message.notes
    assert message.from_ == ()
    assert message.date is None


def test_headers_that_come_twice_are_all_seen_and_noted() -> None:
    message = parse(
        mail("From: a@example.org", "From: b@example.org", "Subject: ", "Subject: real", "Date: x")
    )
    assert [address.addr for address in message.from_] == ["a@example.org", "b@example.org"]
    assert message.subject == "real"
    assert {"2 From headers", "2 Subject headers"} <= set(message.notes)


def test_the_first_date_that_is_one_counts() -> None:
    assert parse(mail("Date: nonsense", "Date: 3 Feb 2025 10:15:00 GMT")).date == datetime(
        2025, 2, 3, 10, 15, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mon, 3 Feb 2025 10:15:00 -0000", datetime(2025, 2, 3, 10, 15, tzinfo=UTC)),
        ("Mon, 3 Feb 2025 10:15:00 +9999", datetime(2025, 2, 3, 10, 15, tzinfo=UTC)),
        ("3 Feb 25 10:15 EST (winter (cold))", datetime(2025, 2, 3, 15, 15, tzinfo=UTC)),
        ("Tue, 31 Dec 2024 23:59:60 +0000", datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2025-02-03T10:15:00+01:00", datetime(2025, 2, 3, 9, 15, tzinfo=UTC)),
        ("Fri, 1 Aug 2014 16:45:32 -04:00", datetime(2014, 8, 1, 20, 45, 32, tzinfo=UTC)),
        ("1 Aug 2014 16:45:32 +05:30 (IST)", datetime(2014, 8, 1, 11, 15, 32, tzinfo=UTC)),
        ("1 Aug 2014 16:45+02:00", datetime(2014, 8, 1, 14, 45, tzinfo=UTC)),
        ("Mon, 3 Feb 99999999999999 10:15:00 +0100", None),
        ("Mon, 3 Feb 2025 99:15:00 +0100", None),
        ("Mon, 30 Feb 2025 10:15:00 +0100", None),
        ("Mon, 3 Feb 1025 10:15:00 +0100", None),
        ("Fri, 31 Dec 9999 23:59:59 -2300", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("", None),
    ],
)
def test_dates_are_moments_in_utc_or_none(text: str, expected: datetime | None) -> None:
    assert parse(mail(f"Date: {text}")).date == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("<[id@microsoft.example]>", "<[id@microsoft.example]>"),
        ("<a b\r\n c@x>", "<abc@x>"),
        ("id@example.org", "<id@example.org>"),
        ("no identifier", ""),
        ("<>", ""),
        ("<a@x> <b@x>", "<a@x>"),
    ],
)
def test_message_ids_as_careless_programs_write_them(value: str, expected: str) -> None:
    assert parse(mail(f"Message-ID: {value}")).message_id == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a@x.org", [("a@x.org", "")]),
        ("<a@x.org>", [("a@x.org", "")]),
        ("a@x.org (Anna (privat))", [("a@x.org", "Anna (privat)")]),
        ("Anna B <@relay.org:a@x.org>", [("a@x.org", "Anna B")]),
        ('"a b"@x.org', [('"a b"@x.org', "")]),
        ('"Müller, Eva" <e@x.org>; F <f@x.org>', [("e@x.org", "Müller, Eva"), ("f@x.org", "F")]),
        (r'"say \"hi\"" <a@x.org>', [("a@x.org", 'say "hi"')]),
        ("undisclosed-recipients:;", []),
        ("MAILER-DAEMON", [("MAILER-DAEMON", "")]),
        ("Only A Name", []),
        ("Anna <a@x.org", [("a@x.org", "Anna")]),
        ('"Anna <a@x.org>', [("a@x.org", "Anna")]),
        ("a@x.org <b@x.org>", [("b@x.org", "a@x.org")]),
        ("=?utf-8?q?evil=40x.org=2C?= <a@x.org>", [("a@x.org", "evil@x.org,")]),
        ("=?utf-8?b?PGV2aWxAeC5vcmc+?= <a@x.org>", [("a@x.org", "<evil@x.org>")]),
        (",,,a@x.org,,", [("a@x.org", "")]),
        ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", [("pete@silly.test", "Pete")]),
    ],
)
def test_address_lists(value: str, expected: list[tuple[str, str]]) -> None:
    found = [(address.addr, address.name) for address in parse(mail(f"To: {value}")).to]
    assert found == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b"=?utf-8?b?8J+Y?= =?utf-8?b?gA==?=", "😀"),  # cut in the middle of a character
        (b"=?utf-8?q?a?= =?utf-8?q?b?= c", "ab c"),
        (b"=?iso-8859-1*de?q?=FC?=", "ü"),
        (b"=?unknown-charset?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b"=?utf-8?b?R3LDvMOfZ?=", "Grüß"),  # a character missing at the end
        (b"=?utf-8?b?R3L*DvMOf?=", "Grüß"),  # a foreign character inside
        (b"=?utf-8?q?two words?=", "two words"),
        (b"=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
        (b"=?idna?q?a?=", "a"),
        (b"=?iso-8859-1?Q?Fr\xf6sche?=", "Frösche"),  # a letter that somebody forgot to encode
        (b"Gr\xc3\xbc\xc3\x9fe", "Grüße"),
        (b"Gr\xfc\xdfe", "Grüße"),
        (b"a\r\n  b\r\n\tc", "a  b c"),
        (b"nul\0 and \x1b[31m", "nul and [31m"),
        (b"=?utf-8?q?a=0D=0ABcc:_x=40y?=", "a Bcc: x@y"),
        (b"=?utf-7?q?+2D3-?=", "+2D3-"),  # a lone surrogate is no text
    ],
)
def test_subjects_are_decoded_leniently(raw: bytes, expected: str) -> None:
    message = parse(b"From: a@x.org\r\nSubject: " + raw + b"\r\n\r\nx")
    assert message.subject == expected
    assert message.header("subject") == expected


def test_a_missing_empty_line_begins_the_body() -> None:
    message = parse(b"From: a@example.org\r\nSubject: x\r\nDear all,\r\nthis is text: yes\r\n")
    assert message.subject == "x"
    assert message.text == "Dear all,\nthis is text: yes"


@pytest.mark.parametrize(
    "start", [b"From a@x Mon Jan  1 00:00:00 2025\n", b">From a@x\n", b"\xef\xbb\xbf", b"\r\n\r\n"]
)
def test_what_mailboxes_put_before_the_headers_is_passed_over(start: bytes) -> None:
    assert parse(start + b"Subject: x\n\nHallo\n").subject == "x"


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
def test_every_kind_of_line_end(end: bytes) -> None:
    source = b"\r\n".join([b"Subject: x", b" y", b"", b"a", b"b"]).replace(b"\r\n", end)
    message = parse(source)
    assert message.subject == "x y"
    assert message.full_text == "a\nb"


def test_a_folded_line_of_blanks_only_does_not_end_the_headers() -> None:
    message = parse(b"To: a@x.org,\r\n\t\r\n\tb@x.org\r\n \r\nSubject: x\r\n \r\nDear all\r\n")
    assert [address.addr for address in message.to] == ["a@x.org", "b@x.org"]
    assert message.subject == "x"
    assert message.full_text == "Dear all"


def test_blanks_before_the_colon_are_no_part_of_a_name() -> None:
    assert parse(b"Subject : x\r\nTO\t: a@x.org\r\n\r\n").subject == "x"


@pytest.mark.parametrize(
    ("source", "word"),
    [
        (b"X-A: b\r\n" * 11_000 + b"\r\n", "headers"),
        (b"X-A: " + b"b" * 1_100_000, "headers"),
        (b"X-A: b\r\n" + b" b\r\n" * 300_000, "headers"),
        (b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\na\r\n" * 501, "parts"),
        (
            b"".join(
                b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(1000)
            ),
            "levels",
        ),
    ],
)
def test_beyond_a_cap_a_mail_is_unreadable(source: bytes, word: str) -> None:
    with pytest.raises(UnreadableMessage, match=word):
        parse(source)


def test_the_caps_can_be_chosen() -> None:
    source = b"Subject: x\r\n\r\n" + b"word " * 100
    assert len(parse(source, limits=ParseLimits(text_bytes=50)).full_text) == 50
    with pytest.raises(UnreadableMessage, match="larger than 100 bytes"):
        parse(source, limits=ParseLimits(message_bytes=100))


def test_a_text_that_is_too_long_is_cut_and_attached_whole() -> None:
    body = b"word " * 100
    message = parse(b"Subject: x\r\n\r\n" + body, limits=ParseLimits(text_bytes=50))
    assert [attachment.content for attachment in message.attachments] == [body]
    assert message.notes[-1] == "text cut at 50 bytes, the whole is attached"


def test_quoted_text_is_beside_the_new_part() -> None:
    message = parse(
        mail(
            "From: a@x.org",
            "Subject: AW: x",
            body="Ja.\r\n\r\nAm 03.02.2025 um 10:15 schrieb Max <m@x.org>:\r\n> Kommst du?\r\n",
        )
    )
    assert message.text == "Ja."
    assert message.quoted == "Am 03.02.2025 um 10:15 schrieb Max <m@x.org>:\n> Kommst du?"
    assert "Kommst du?" in message.full_text


@pytest.mark.parametrize(("subject", "cut"), [("WG: AW: x", False), ("Fwd: x", False), ("AW: WG: x", True)])
def test_a_forward_is_known_by_its_subject_where_its_text_looks_like_a_reply(subject: str, cut: bool) -> None:
    body = "Bitte lesen.\r\n\r\nVon: A <a@x.org>\r\nGesendet: Montag\r\nAn: B\r\nBetreff: x\r\n\r\nInhalt\r\n"
    message = parse(mail("From: a@x.org", f"Subject: {subject}", body=body))
    assert ("Inhalt" not in message.text) is cut
