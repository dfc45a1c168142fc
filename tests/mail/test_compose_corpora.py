"""Every real message is answered with a mail that travels and threads, whatever its own headers look like."""

from __future__ import annotations

from pathlib import Path

from cleo_email.errors import InvalidField, UnreadableMessage
from cleo_email.mail.compose import compose_reply
from cleo_email.mail.model import Answer
from cleo_email.mail.parse import parse
from tests.mail.test_compose import ALICE, CLEO, DATE, OUR_ID, assert_transportable, modern, unfolded
from tests.support.corpora import raw_messages


def test_replies_to_real_messages(corpora: Path) -> None:
    answered = unusable = 0
    for path in raw_messages(corpora):
        try:
            inbound = parse(path.read_bytes())
        except UnreadableMessage:
            continue
        to = list(inbound.from_) or [ALICE]
        try:
            mail = compose_reply(inbound, Answer("ok"), from_=CLEO, to=to, message_id=OUR_ID, date=DATE)
        except InvalidField:
            unusable += 1
            mail = compose_reply(inbound, Answer("ok"), from_=CLEO, to=[ALICE], message_id=OUR_ID, date=DATE)
        assert_transportable(mail)
        parsed = modern(mail)
        assert parsed["Message-ID"] == OUR_ID, path
        assert str(parsed["Subject"]).startswith("Re:"), path
        if mail.source.find(b"\r\nIn-Reply-To: ") > 0:
            assert unfolded(mail, "In-Reply-To") == inbound.message_id, path
            assert unfolded(mail, "References").split()[-1] == inbound.message_id, path
        answered += 1
    assert answered > 300
    assert unusable < answered / 10
