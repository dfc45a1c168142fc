"""Small messages of our own, of every kind: read for what they say, cut off anywhere, and replied to."""

from __future__ import annotations

import pytest

from cleo_email.mail.compose import compose_reply
from cleo_email.mail.model import Answer
from cleo_email.mail.parse import attachment_text, parse
from tests.mail.test_compose import CLEO, DATE, OUR_ID, assert_transportable, modern, unfolded
from tests.mail.test_message_hostile import check
from tests.support.messages import SAMPLES, Sample

EVERY = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


@EVERY
def test_it_is_read_for_what_it_says(sample: Sample) -> None:
    message = parse(sample.source)
    check(message)
    assert message.message_id == sample.message_id
    if sample.text:
        assert message.text.strip() == sample.text
    if sample.files is not None:
        assert tuple(attachment.filename for attachment in message.attachments) == sample.files
    for attachment in message.attachments:
        attachment_text(attachment)


@EVERY
def test_cut_off_anywhere_it_can_still_be_read(sample: Sample) -> None:
    for end in range(0, len(sample.source), 37):
        check(parse(sample.source[:end]))


@EVERY
def test_a_reply_to_it_travels_and_threads(sample: Sample) -> None:
    message = parse(sample.source)
    reply = compose_reply(
        message, Answer("ok"), from_=CLEO, to=list(message.from_), message_id=OUR_ID, date=DATE
    )
    assert_transportable(reply)
    parsed = modern(reply)
    assert parsed["Message-ID"] == OUR_ID
    assert str(parsed["Subject"]).startswith("Re:")
    assert unfolded(reply, "In-Reply-To") == sample.message_id
    assert unfolded(reply, "References").split()[-1] == sample.message_id
