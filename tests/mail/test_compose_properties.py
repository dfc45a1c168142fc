"""Whatever text comes, the mail round-trips or is refused by name."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cleo_email.errors import InvalidField
from cleo_email.mail.address import validate_address
from cleo_email.mail.attachment import safe_filename
from cleo_email.mail.compose import child_index, compose_message, compose_reply
from cleo_email.mail.model import Address, Answer, AttachedFile, InboundEmail
from cleo_email.mail.wire import clean_header, clean_text
from cleo_email.scrub import no_surrogates
from tests.mail.test_compose import (
    ALICE,
    CLEO,
    DATE,
    OUR_ID,
    assert_transportable,
    classic,
    classic_parts,
    mailboxes,
    modern,
    text_of,
    unfolded,
)

ANY = st.text(st.characters(exclude_categories=[]), max_size=300)  # surrogates and control characters too
NASTY = st.lists(
    st.sampled_from(
        ["\r\n", "\0", "ü", "x" * 80, " ", "=?utf-8?q?", "?=", "\ud800", "🎉", "<a@b>", ",", '"', "\\", ":"]
    ),
    max_size=30,
).map("".join)
TEXT = ANY | NASTY
many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@many
@given(
    subject=TEXT, name=TEXT, markdown=TEXT, filename=TEXT, content=st.binary(max_size=300), content_type=TEXT
)
@example("\x85", "\u2028", "\x1c", "\x1d", b"", "text/\u212a")
def test_messages(
    subject: str, name: str, markdown: str, filename: str, content: bytes, content_type: str
) -> None:
    mail = compose_message(
        from_=Address("cleo@example.org", name),
        to=[Address("alice@example.com", name)],
        cc=[ALICE],
        subject=subject,
        markdown=markdown,
        attachments=[AttachedFile(filename, content_type, content)],
        message_id=OUR_ID,
        date=DATE,
        extra_headers=[("X-Any", subject)],
    )
    assert_transportable(mail)
    parsed = modern(mail)
    assert parsed["Subject"] == clean_header(subject)
    assert unfolded(mail, "Subject") == clean_header(subject)
    assert unfolded(mail, "X-Any") == clean_header(subject)
    assert mailboxes(mail, "From") == [(clean_header(name)[:300].strip(), "cleo@example.org")]
    assert mailboxes(mail, "To") == [(clean_header(name)[:300].strip(), "alice@example.com")]
    assert text_of(mail) == clean_text(markdown).rstrip("\n") + "\n"
    (part,) = parsed.iter_attachments()
    assert part.get_payload(decode=True) == content
    safe = safe_filename(no_surrogates(filename), content_type, 1)
    assert part.get_filename() == safe
    assert classic_parts(mail)[1].get_filename() == safe
    assert sorted(parsed.keys()) == sorted(set(parsed.keys()))


@many
@given(
    message_id=TEXT,
    references=st.lists(TEXT | st.from_regex(r"<[a-z0-9]{1,120}@[a-z]{1,60}>", fullmatch=True), max_size=40),
    subject=TEXT,
    topic=TEXT,
    index=TEXT | st.binary(max_size=200).map(lambda data: __import__("base64").b64encode(data).decode()),
)
def test_replies(message_id: str, references: list[str], subject: str, topic: str, index: str) -> None:
    inbound = InboundEmail(
        message_id=message_id,
        references=tuple(references),
        subject=subject,
        headers=(("thread-topic", topic), ("thread-index", index)),
    )
    mail = compose_reply(inbound, Answer("ok"), from_=CLEO, to=[ALICE], message_id=OUR_ID, date=DATE)
    assert_transportable(mail)
    written = unfolded(mail, "References").split() if classic(mail)["References"] else []
    known = {id_.strip(" \t\r\n") for id_ in (*references, message_id)}
    assert set(written) <= known
    assert len(written) <= 21
    assert not any("=?" in id_ and id_ not in known for id_ in written)
    subject_sent = str(modern(mail)["Subject"])
    assert re.match(r"Re:( |\Z)", subject_sent)
    assert not re.match(r"(?i)Re:\s*(re|aw|sv|antw)\s*:", subject_sent)


@many
@given(TEXT | st.emails() | st.tuples(TEXT, st.emails()).map(lambda pair: f"{pair[0]} <{pair[1]}>"))
def test_validated_addresses_can_be_written_to(text: str) -> None:
    refused: InvalidField | None = None
    try:
        address = validate_address("to", text)
    except InvalidField as error:
        refused = error
    if refused is not None:
        assert refused.field == "to"
        assert str(refused).startswith("to: ")
        assert str(refused).isprintable()
        return
    assert address.addr.isascii()
    assert len(address.addr) <= 254
    mail = compose_message(
        from_=CLEO, to=[address], cc=[], subject="", markdown="", attachments=[], message_id=OUR_ID, date=DATE
    )
    assert mail.recipients == (address.addr,)
    assert_transportable(mail)
    again = validate_address(
        "to", f'"{address.name.translate({34: chr(92) + chr(34), 92: chr(92) * 2})}" <{address.addr}>'
    )
    assert again == address


@many
@given(st.text(max_size=60), st.datetimes(datetime(1601, 1, 2), datetime(9999, 1, 1)))
def test_thread_indexes_never_raise(text: str, date: datetime) -> None:
    assert child_index(text, date.replace(tzinfo=UTC)) == "" or len(text) >= 32
