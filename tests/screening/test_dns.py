"""The look-up itself, against a real name server on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cleo_email.mail.parse import parse
from cleo_email.screening import dkim as ours
from cleo_email.screening.dkim import Dns, DnsFault, Outcome, SenderCheck
from tests.screening.signing import BODY, head, key_record, sign
from tests.support.name_server import NameServer


@pytest.fixture
def server() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.close()


def test_texts_in_several_strings_are_one_and_several_records_are_several(server: NameServer) -> None:
    server.zone["a.example"] = ['"v=DKIM1; " "p=" "AAAA"', '"v=spf1 -all"']
    assert sorted(Dns(server.resolver())("a.example")) == [b"v=DKIM1; p=AAAA", b"v=spf1 -all"]


def test_no_such_name_and_no_such_record_are_answers(server: NameServer) -> None:
    server.zone["b.example"] = []
    lookup = Dns(server.resolver())
    assert lookup("b.example") == lookup("nothing.example") == ()


@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "silence"])
def test_faults_are_no_answers(server: NameServer, fault: str) -> None:
    server.zone["c.example"] = fault
    with pytest.raises(DnsFault):
        Dns(server.resolver())("c.example", 0.5)


def test_a_signed_mail_from_end_to_end(server: NameServer) -> None:
    text = key_record().decode()
    server.zone["s1._domainkey.example.com"] = [f'"{text[:200]}" "{text[200:]}"']
    source = sign(head() + b"\r\n" + BODY)
    check = SenderCheck(Dns(server.resolver()))
    assert check.check(source, parse(source)).outcome is Outcome.PROVEN
    assert server.asked == ["s1._domainkey.example.com"]
    server.zone["s1._domainkey.example.com"] = "SERVFAIL"
    assert check.check(source, parse(source)).outcome is Outcome.UNKNOWN


def test_what_is_not_there_or_fails_is_not_asked_for_again_at_once(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup = Dns(server.resolver())
    server.zone |= {"bad.example": "SERVFAIL", "here.example": ["x"]}
    for _ in range(3):
        assert lookup("nothing.example") == ()
        assert lookup("here.example") == [b"x"]
        with pytest.raises(DnsFault):
            lookup("bad.example")
    assert server.asked.count("nothing.example") == server.asked.count("bad.example") == 1
    assert server.asked.count("here.example") == 3
    monkeypatch.setattr(ours, "REMEMBERED_S", -1.0)
    fresh = Dns(server.resolver())
    server.zone["nothing.example"] = ["there"]
    assert fresh("other.example") == fresh("other.example") == ()
    assert server.asked.count("other.example") == 2, "a while later it is asked for again"


def test_what_is_remembered_is_bounded(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_MAX_REMEMBERED", 3)
    lookup = Dns(server.resolver())
    for number in range(5):
        lookup(f"n{number}.example")
    lookup("n0.example")
    lookup("n4.example")
    assert (server.asked.count("n0.example"), server.asked.count("n4.example")) == (2, 1)
