"""Finished mail: threading, headers that survive, parts that arrive byte for byte."""

from __future__ import annotations

import email
import email.header
import email.utils
import re
from datetime import UTC, datetime, timedelta, timezone
from email import policy
from email.message import EmailMessage, Message

import pytest

from cleo_email.errors import InvalidField
from cleo_email.mail.compose import compose_message, compose_reply, trimmed_references
from cleo_email.mail.message_id import new_message_id
from cleo_email.mail.model import Address, Answer, AttachedFile, InboundEmail, OutboundEmail

CLEO = Address("cleo@example.org", "Cleo")
ALICE = Address("alice@example.com", "Alice")
DATE = datetime(2026, 11, 24, 9, 30, 5, tzinfo=UTC)
OUR_ID = "<ours@example.org>"


def reply(inbound: InboundEmail, answer: Answer | None = None, **changes: object) -> OutboundEmail:
    arguments: dict[str, object] = {
        "from_": CLEO,
        "to": [ALICE],
        "message_id": OUR_ID,
        "date": DATE,
        **changes,
    }
    return compose_reply(inbound, answer or Answer("Hello"), **arguments)  # type: ignore[arg-type]


def message(**changes: object) -> OutboundEmail:
    arguments: dict[str, object] = {
        "from_": CLEO,
        "to": [ALICE],
        "cc": [],
        "subject": "Status",
        "attachments": [],
    }
    arguments |= {"markdown": "Hello", "message_id": OUR_ID, "date": DATE, **changes}
    return compose_message(**arguments)  # type: ignore[arg-type]


def modern(mail: OutboundEmail) -> EmailMessage:
    parsed = email.message_from_bytes(mail.source, policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    assert not [defect for part in parsed.walk() for defect in part.defects]
    return parsed


def classic(mail: OutboundEmail) -> Message:
    return email.message_from_bytes(mail.source, policy=policy.compat32)


def classic_parts(mail: OutboundEmail) -> list[Message]:
    parts = classic(mail).get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if isinstance(part, Message)]


def unfolded(mail: OutboundEmail, name: str) -> str:
    """The header as Python's older policy reads it, encoded-words decoded."""
    raw = re.sub(r"\r\n(?=[ \t])", "", str(classic(mail)[name]))
    return str(email.header.make_header(email.header.decode_header(raw)))


def mailboxes(mail: OutboundEmail, name: str) -> list[tuple[str, str]]:
    """Display names and addresses, as both of Python's readers see them."""
    raw = re.sub(r"\r\n(?=[ \t])", "", str(classic(mail)[name]))
    found = []
    for display, addr in email.utils.getaddresses([raw]):
        found.append((str(email.header.make_header(email.header.decode_header(display))), addr))
    # The newer reader puts a blank between encoded-words of a phrase, which RFC 2047 section 6.2 forbids,
    # and loses blanks that are not ASCII.
    seen = [("".join(box.display_name.split()), box.addr_spec) for box in modern(mail)[name].addresses]
    assert seen == [("".join(display.split()), addr) for display, addr in found]
    return found


def text_of(mail: OutboundEmail, kind: str = "plain") -> str:
    part = modern(mail).get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def assert_transportable(mail: OutboundEmail) -> None:
    assert mail.source.isascii()
    assert b"\0" not in mail.source
    lines = mail.source.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    assert max(map(len, lines)) <= 998
    assert lines[-1] == b""


# --- threading ------------------------------------------------------------------------------------------


def test_a_reply_refers_to_the_message_and_all_before_it() -> None:
    inbound = InboundEmail(
        message_id="<3@x>", references=("<1@x>", "<2@x>"), in_reply_to=("<2@x>",), subject="Hi"
    )
    mail = modern(reply(inbound))
    assert mail["In-Reply-To"] == "<3@x>"
    assert mail["References"] == "<1@x> <2@x> <3@x>"
    assert mail["Subject"] == "Re: Hi"
    assert mail["Auto-Submitted"] == "auto-replied"
    assert mail["Message-ID"] == OUR_ID
    assert mail["Date"] == "Tue, 24 Nov 2026 09:30:05 +0000"
    assert mail["MIME-Version"] == "1.0"
    assert mail["From"] == "Cleo <cleo@example.org>"
    assert mail["To"] == "Alice <alice@example.com>"
    assert mail["Cc"] is None


def test_without_references_the_only_in_reply_to_counts() -> None:
    """RFC 5322 section 3.6.4."""
    inbound = InboundEmail(message_id="<3@x>", in_reply_to=("<2@x>",))
    assert modern(reply(inbound))["References"] == "<2@x> <3@x>"
    inbound = InboundEmail(message_id="<3@x>", in_reply_to=("<1@x>", "<2@x>"))
    assert modern(reply(inbound))["References"] == "<3@x>"


def test_a_mail_without_message_id_is_answered_without_inventing_one() -> None:
    mail = modern(reply(InboundEmail(subject="Hi")))
    assert mail["In-Reply-To"] is None
    assert mail["References"] is None
    mail = modern(reply(InboundEmail(references=("<1@x>",))))
    assert mail["In-Reply-To"] is None
    assert mail["References"] == "<1@x>"


def test_long_references_keep_the_first_and_the_last_twenty() -> None:
    ids = tuple(f"<{number}@x>" for number in range(30))
    references = str(modern(reply(InboundEmail(message_id="<30@x>", references=ids)))["References"]).split()
    assert references == ["<0@x>", *(f"<{number}@x>" for number in range(11, 31))]
    assert trimmed_references(ids[:21]) == list(ids[:21])
    assert trimmed_references(ids[:22]) == [ids[0], *ids[2:22]]


def test_references_name_each_message_once() -> None:
    inbound = InboundEmail(message_id="<2@x>", references=("<1@x>", "<1@x>", "<2@x>", "<3@x>"))
    assert modern(reply(inbound))["References"] == "<1@x> <3@x> <2@x>"


@pytest.mark.parametrize("length", [60, 77, 78, 89, 200, 900])
def test_long_message_ids_never_become_encoded_words(length: int) -> None:
    """Python 3.11 writes one of 89 characters as ``=?utf-8?q?…?=``, and Outlook drops the thread."""
    ids = tuple(f"<{letter * (length - 14)}@example.com>" for letter in "abc")
    assert len(ids[0]) == length
    mail = reply(InboundEmail(message_id=ids[2], references=ids[:2]))
    assert_transportable(mail)
    assert b"=?" not in mail.source.partition(b"\r\n\r\n")[0]
    assert str(modern(mail)["References"]).split() == list(ids)
    assert unfolded(mail, "References").split() == list(ids)
    assert str(modern(mail)["In-Reply-To"]).strip() == ids[2]


@pytest.mark.parametrize(
    "unusable",
    [
        "",
        "no brackets",
        "<a b@x>",
        "<ä@x>",
        f"<{'x' * 1000}@x>",
        "<a@x>\r\nBcc: <eve@x>",
        "<a@x><b@x>",
        "<a\0@x>",
    ],
)
def test_ids_that_no_header_can_carry_are_left_out(unusable: str) -> None:
    mail = reply(InboundEmail(message_id=unusable, references=("<1@x>", unusable)))
    assert modern(mail)["In-Reply-To"] is None
    assert modern(mail)["References"] == "<1@x>"
    assert modern(mail)["Bcc"] is None


def test_brackets_of_another_kind_inside_an_id_stay() -> None:
    """policy.default raises on this one."""
    mail = reply(InboundEmail(message_id="<[id@microsoft.com]>"))
    assert unfolded(mail, "In-Reply-To") == "<[id@microsoft.com]>"


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("Angebot", "Re: Angebot"),
        ("Re: Angebot", "Re: Angebot"),
        ("AW: RE: SV: Antw: Angebot", "Re: Angebot"),
        ("", "Re:"),
        ("Re:", "Re:"),
        ("WG: Angebot", "Re: WG: Angebot"),
        ("Regen", "Re: Regen"),
        ("a\r\nBcc: eve@example.org", "Re: a Bcc: eve@example.org"),
        ("tab\tand\0null", "Re: tab and null"),
    ],
)
def test_exactly_one_re(subject: str, expected: str) -> None:
    mail = reply(InboundEmail(subject=subject))
    assert modern(mail)["Subject"] == expected
    assert modern(mail)["Bcc"] is None


def test_an_endless_subject_is_answered_all_the_same() -> None:
    mail = reply(InboundEmail(subject="ä" * 100_000))
    assert_transportable(mail)
    assert str(modern(mail)["Subject"]) == "Re: " + "ä" * 1996


def test_an_unusable_recipient_is_named() -> None:
    with pytest.raises(InvalidField) as caught:
        reply(InboundEmail(), to=[Address("müller@example.com")])
    assert caught.value.field == "to"


def test_services_with_long_local_parts_get_their_answer() -> None:
    addr = f"reply+{'A' * 80}@reply.example.com"
    assert reply(InboundEmail(), to=[Address(addr)]).recipients == (addr,)


# --- headers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject",
    [
        "Grüße aus Köln",
        "ü" * 300,
        "日本語の件名" * 40,
        "🎉" * 100,
        "word " * 100,
        "x" * 900,
        "=?utf-8?q?pretended?=",
        "a =?utf-8?q?pre?= b",
        "mixed ascii and ümläute and a very long line that has to be folded somewhere, does it not?",
        "_under_scores_ & = ? signs ü",
        "",
    ],
)
def test_subjects_round_trip(subject: str) -> None:
    mail = message(subject=subject)
    assert_transportable(mail)
    assert modern(mail)["Subject"] == subject.strip()
    assert unfolded(mail, "Subject") == subject.strip()
    assert (
        all(len(line) <= 78 for line in mail.source.partition(b"\r\n\r\n")[0].split(b"\r\n"))
        or "x" * 900 in subject
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Jörg Müller",
        "Müller, Jörg (IT)",
        'The "Boss"',
        "back\\slash",
        "a@b.example",
        "x" * 290,
        "日本" * 70,
        "=?x?=",
    ],
)
def test_display_names_round_trip(name: str) -> None:
    mail = message(from_=Address("cleo@example.org", name), to=[Address("a@b.example", name)], cc=[ALICE])
    assert_transportable(mail)
    for header, addr in (("From", "cleo@example.org"), ("To", "a@b.example")):
        assert mailboxes(mail, header) == [(name, addr)]
    assert modern(mail)["Cc"] == "Alice <alice@example.com>"


def test_many_recipients_each_once() -> None:
    to = [Address(f"user{number}@example.com", f"Nützer {number}") for number in range(100)]
    mail = message(to=to, cc=[Address("USER5@example.com"), Address("extra@example.com")])
    assert_transportable(mail)
    assert mail.recipients == (*(address.addr for address in to), "extra@example.com")
    assert [mailbox.addr_spec for mailbox in modern(mail)["To"].addresses] == [address.addr for address in to]


def test_domains_with_umlauts_travel_in_ascii() -> None:
    mail = message(from_=Address("info@müller.example"), to=[Address("post@straße.example")])
    assert mail.envelope_from == "info@xn--mller-kva.example"
    assert mail.recipients == ("post@xn--strae-oqa.example",)
    assert modern(mail)["From"] == "info@xn--mller-kva.example"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"to": []}, "to"),
        ({"to": [Address("müller@example.com")]}, "to"),
        ({"to": [Address("a@b.example\r\nBcc: eve@example.com")]}, "to"),
        ({"to": [Address("a@b.example> <eve@example.com")]}, "to"),
        ({"cc": [Address("nobody")]}, "cc"),
        ({"from_": Address("cleo@exa mple.org")}, "from"),
        ({"subject": "x" * 2001}, "subject"),
        ({"message_id": "ours@example.org"}, "message_id"),
        ({"message_id": "<ours@example.org>\r\nX: y"}, "message_id"),
        ({"extra_headers": [("X-A\r\nBcc", "eve@example.com")]}, "extra_headers"),
        ({"extra_headers": [("", "x")]}, "extra_headers"),
        ({"extra_headers": [("Reply-\x00To", "x")]}, "extra_headers"),
        ({"extra_headers": [("Subject", "two")]}, "extra_headers"),
        ({"extra_headers": [("BCC", "eve@example.com")]}, "extra_headers"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        message(**changes)
    assert caught.value.field == field
    assert field in str(caught.value)


def test_extra_headers_and_other_marks() -> None:
    mail = message(
        extra_headers=[("X-Workflow", "wöchentlich\r\nBcc: eve@example.com"), ("X-Empty", "")],
        auto_submitted="",
        in_reply_to="<1@x>",
        references=["<0@x>", "<1@x>"],
        cc=[ALICE, Address("bob@example.com", "Bob")],
    )
    parsed = modern(mail)
    assert parsed["X-Workflow"] == "wöchentlich Bcc: eve@example.com"
    assert parsed["X-Empty"] == ""
    assert parsed["Bcc"] is None
    assert parsed["Auto-Submitted"] is None
    assert parsed["References"] == "<0@x> <1@x>"
    assert modern(message())["Auto-Submitted"] == "auto-generated"
    assert modern(message())["X-Auto-Response-Suppress"] == "OOF, AutoReply"


def test_dates() -> None:
    berlin = DATE.astimezone(timezone(timedelta(hours=1)))
    assert modern(message(date=berlin))["Date"] == "Tue, 24 Nov 2026 10:30:05 +0100"
    odd = DATE.astimezone(timezone(timedelta(seconds=1172)))
    assert modern(message(date=odd))["Date"] == "Tue, 24 Nov 2026 09:30:05 +0000"
    with pytest.raises(ValueError, match="time zone"):
        message(date=DATE.replace(tzinfo=None))


def test_message_ids() -> None:
    assert new_message_id("example.org", token="1.a-b") == "<1.a-b@example.org>"
    assert new_message_id("müller.example", token="x") == "<x@xn--mller-kva.example>"
    for domain, token in (
        ("example.org", "a b"),
        ("example.org", ""),
        ("exa mple", "a"),
        ("example.org", "x" * 1000),
    ):
        with pytest.raises(InvalidField):
            new_message_id(domain, token=token)


# --- Outlook --------------------------------------------------------------------------------------------


def test_outlook_threads_go_on() -> None:
    headers = (("thread-topic", "Grüße"), ("thread-index", "AQHbk8nHpIdrU5wZekeXoY/5fqNYgQ=="))
    mail = modern(reply(InboundEmail(subject="AW: Grüße", headers=headers)))
    assert mail["Thread-Topic"] == "Grüße"
    assert str(mail["Thread-Index"]).startswith("AQHbk8nHpIdrU5wZekeXoY/5fqNYg")
    assert len(str(mail["Thread-Index"])) == 36
    plain = modern(reply(InboundEmail(headers=(("thread-index", "bogus"),))))
    assert plain["Thread-Index"] is None
    assert plain["Thread-Topic"] is None


# --- bodies ---------------------------------------------------------------------------------------------


def test_text_and_html_are_made_from_the_markdown() -> None:
    markdown = "# Ergebnis\n\n* eins\n* **zwei**\n\nGrüße\nCleo"
    mail = message(markdown=markdown)
    assert modern(mail).get_content_type() == "multipart/alternative"
    assert text_of(mail) == markdown + "\n"
    assert "<strong>zwei</strong>" in text_of(mail, "html")
    assert "Grüße<br>\nCleo" in text_of(mail, "html")


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("lone \ud83d surrogate", "lone \ufffd surrogate\n"),
        ("pair \ud83c\udf89", "pair 🎉\n"),
        ("nul\0 bell\x07 escape\x1b[31m", "nul bell escape[31m\n"),
        ("a\r\nb\rc\u2028d\x0ce", "a\nb\nc\nd\ne\n"),
        ("From here\n.\n..\n--=_a_0\n", "From here\n.\n..\n--=_a_0\n"),
        ("trailing  \nblanks \t\n", "trailing  \nblanks \t\n"),
        ("x" * 5000, "x" * 5000 + "\n"),
        ("ü" * 5000, "ü" * 5000 + "\n"),
        ("From " + "y" * 71 + "\nFrom ü", "From " + "y" * 71 + "\nFrom ü\n"),
        ("", "\n"),
    ],
)
def test_any_text_arrives(markdown: str, text: str) -> None:
    mail = message(markdown=markdown)
    assert_transportable(mail)
    assert not re.search(rb"(?m)^From ", mail.source.partition(b"\r\n\r\n")[2])
    assert max(map(len, mail.source.split(b"\r\n"))) <= 78
    assert text_of(mail) == text
    old = next(part for part in classic(mail).walk() if part.get_content_type() == "text/plain")
    payload = old.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode() == text.replace("\n", "\r\n")


def test_attachments_arrive_byte_for_byte_in_the_same_mail() -> None:
    contents = [
        bytes(range(256)) * 100,
        b"",
        b"\r\n.\r\n--=_m_",
        b"text\nwith\rline\r\nends",
        b"\xff" * 1_000_000,
    ]
    files = tuple(
        AttachedFile(f"f{number}.bin", "application/pdf", data) for number, data in enumerate(contents)
    )
    mail = reply(InboundEmail(), Answer("See attached", files))
    assert_transportable(mail)
    assert modern(mail).get_content_type() == "multipart/mixed"
    attached = list(modern(mail).iter_attachments())
    assert [part.get_content() for part in attached] == contents
    assert [part.get_payload(decode=True) for part in classic_parts(mail)[1:]] == contents
    assert text_of(mail) == "See attached\n"
    assert {part.get_content_type() for part in attached} == {"application/pdf"}


@pytest.mark.parametrize(
    ("filename", "safe"),
    [
        ("Bericht.pdf", "Bericht.pdf"),
        ("Übersicht 2026.pdf", "Übersicht 2026.pdf"),
        ("日本語" * 20 + ".txt", "日本語" * 20 + ".txt"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\evil.exe", "evil.exe"),
        ("a\r\nContent-Type: text\r\n\r\n.pdf", "aContent-Type_ text.pdf"),
        ("", "attachment-1.pdf"),
        ("..", "attachment-1.pdf"),
        ("\0", "attachment-1.pdf"),
        ("quo\"te;semi'.txt", "quo_te;semi'.txt"),
        ("100%.txt", "100%.txt"),
        ("=?utf-8?q?x?=.txt", "=_utf-8_q_x_=.txt"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("\ud800.txt", "\ufffd.txt"),
        ("ä" * 300 + ".pdf", "ä" * 116 + ".pdf"),
        ("x" * 70 + ".pdf", "x" * 70 + ".pdf"),
    ],
)
def test_filenames(filename: str, safe: str) -> None:
    mail = message(attachments=[AttachedFile(filename, "application/pdf", b"x")])
    assert_transportable(mail)
    (part,) = modern(mail).iter_attachments()
    assert part.get_filename() == safe
    assert list(part.keys()) == ["Content-Type", "Content-Transfer-Encoding", "Content-Disposition"]
    old = classic_parts(mail)[1]
    assert old.get_filename() == safe
    assert old.get_content_disposition() == "attachment"


@pytest.mark.parametrize(
    ("written", "sent", "charset"),
    [
        ("application/pdf", "application/pdf", None),
        ("Text/CSV; charset=ISO-8859-1; header=present", "text/csv", "iso-8859-1"),
        ("text/plain", "text/plain", None),
        ("", "application/octet-stream", None),
        ("nonsense", "application/octet-stream", None),
        ("text/html\r\nX-Evil: 1", "application/octet-stream", None),
        ("message/rfc822", "application/octet-stream", None),
        ("multipart/mixed; boundary=x", "application/octet-stream", None),
        ('text/plain; charset="a\r\nb"', "text/plain", None),
    ],
)
def test_content_types(written: str, sent: str, charset: str | None) -> None:
    mail = message(attachments=[AttachedFile("a.dat", written, b"From: x\n\n\xfc")])
    (part,) = modern(mail).iter_attachments()
    assert part.get_content_type() == sent
    assert part.get_content_charset() == charset
    assert part.get_payload(decode=True) == b"From: x\n\n\xfc"
    assert part["X-Evil"] is None


def test_the_same_input_gives_the_same_bytes() -> None:
    file = AttachedFile("a.pdf", "application/pdf", b"x")
    assert message(attachments=[file]).source == message(attachments=[file]).source
