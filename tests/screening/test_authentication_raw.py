"""Authentication of mails as bytes: how From and encoded words are read must not open a door."""

from __future__ import annotations

import pytest

from cleo_email.mail.parse import parse
from cleo_email.screening.authentication import authenticated

OURS = "mx.example.com"
EVIL = "evil.example"

# Where one reader sees chef@firma.de, another may see a mailbox at evil.example.
SPELLINGS = [
    f'"chef@firma.de" <a@{EVIL}>', f"chef@firma.de <a@{EVIL}>", f"a@{EVIL} (chef@firma.de)",
    f"<chef@firma.de> <a@{EVIL}>", f"<a@{EVIL}> <chef@firma.de>", f"chef@firma.de, a@{EVIL}",
    f"a@{EVIL}, chef@firma.de", f'"a@{EVIL}, chef" <chef@firma.de>',
    f"=?utf-8?q?chef=40firma.de?= <a@{EVIL}>",
    f"=?utf-8?q?chef=40firma.de=2C?= <a@{EVIL}>", f"=?utf-8?q?=3Cchef=40firma.de=3E?= <a@{EVIL}>",
    f"=?utf-8?q?=3Cchef=40firma.de=3E=2C?= <a@{EVIL}>", f"=?utf-8?b?PGNoZWZAZmlybWEuZGU+?=, a@{EVIL}",
    f"chef@firma.de\x00@{EVIL}", f"a@{EVIL}\x00@firma.de", f"group: chef@firma.de, a@{EVIL};",
    f"<@{EVIL}:chef@firma.de>", f"<@firma.de:a@{EVIL}>", f'"chef@firma.de"@{EVIL}',
    f"chef@firma.de\r\n a@{EVIL}",
    f"chef@{EVIL}@firma.de", f"chef@firma.de@{EVIL}", f"a@{EVIL}\r\nFrom: chef@firma.de",
    f"chef@firma.de\r\nFrom: a@{EVIL}", f"chef@firma.de\r\nFrom : a@{EVIL}",
    f"chef@firma.de\r\nfrom:a@{EVIL}",
    f"(chef@firma.de) a@{EVIL}", f"chef(@{EVIL})@firma.de", f"chef@firma.de(@{EVIL})",
    f"chef@(firma.de){EVIL}",
    f'"chef\\"@firma.de>, <"a@{EVIL}', f'"<chef@firma.de>" a@{EVIL}', f"<<chef@firma.de>a@{EVIL}>",
    f"<chef@firma.de\r\n\t>a@{EVIL}", f"chef@firma.de;a@{EVIL}", f"chef@firma.de a@{EVIL}",
    f"chef@firma.de>a@{EVIL}",
    f"<chef@firma.de>,, <a@{EVIL}>", f"chef@firma.de.{EVIL}", f"chef@sub.firma.de, a@{EVIL}",
    f":a@{EVIL}, chef@firma.de",
    f"undisclosed:;, a@{EVIL}", f"chef@[firma.de] a@{EVIL}", f"chef@FIRMA.DE\u0000 <a@{EVIL}>",
    f"a@{EVIL} <>",
]  # fmt: skip


def source(sender: str, result: str, *more: str) -> bytes:
    lines = [
        f"Authentication-Results: {result}",
        "Received: from x by mx.example.com",
        f"From: {sender}",
        *more,
    ]
    return ("\r\n".join(lines) + "\r\nTo: support@firma.de\r\nSubject: x\r\n\r\nText\r\n").encode()


@pytest.mark.parametrize("sender", SPELLINGS)
def test_a_pass_for_the_senders_own_domain_never_vouches_for_another(sender: str) -> None:
    """The server checked evil.example, which passes; whoever we take the sender to be must be from there."""
    mail = parse(source(sender, f"{OURS}; dmarc=pass header.from={EVIL}"))
    if authenticated(mail, OURS):
        assert [address.key.rpartition("@")[2] for address in mail.from_] == [EVIL]


@pytest.mark.parametrize("count", [2, 3])
def test_a_repeated_from_header_is_not_one_sender(count: int) -> None:
    again = ["From: chef@firma.de"] * (count - 1)
    mail = parse(source("chef@firma.de", f"{OURS}; dmarc=pass header.from=firma.de", *again))
    assert authenticated(mail, OURS) is False


def test_a_folded_pass_is_read() -> None:
    folded = (
        f"{OURS};\r\n\tspf=pass smtp.mailfrom=firma.de;\r\n\tdmarc=pass (p=reject)\r\n\t header.from=firma.de"
    )
    assert authenticated(parse(source("Chef <chef@firma.de>", folded)), OURS) is True


def test_a_forged_header_below_the_servers_own_does_not_count() -> None:
    forged = f"Authentication-Results: {OURS}; dmarc=pass header.from=firma.de"
    mail = parse(source("chef@firma.de", f"{OURS}; dmarc=fail header.from=firma.de", forged))
    assert authenticated(mail, OURS) is False
    mail = parse(source("chef@firma.de", "other.example; none", forged))
    assert authenticated(mail, OURS) is False


SMUGGLED = [
    "=?us-ascii?q?a;_dmarc=3Dpass_header.from=3Dfirma.de_;x?=",
    "=?utf-8?b?YTsgZG1hcmM9cGFzcyBoZWFkZXIuZnJvbT1maXJtYS5kZSA7eA==?=",
]


@pytest.mark.parametrize("word", SMUGGLED)
def test_an_encoded_word_beside_the_servers_own_fail_changes_nothing(word: str) -> None:
    """An envelope sender may be spelled as an encoded word, and servers copy it into their header."""
    value = f"{OURS}; spf=fail smtp.mailfrom={word}@{EVIL}; dmarc=fail header.from=firma.de"
    assert authenticated(parse(source("chef@firma.de", value)), OURS) is False


@pytest.mark.parametrize("word", SMUGGLED)
def test_an_encoded_word_is_no_pass_where_the_server_judged_no_dmarc(word: str) -> None:
    value = f"{OURS}; spf=fail smtp.mailfrom={word}@{EVIL}"
    assert authenticated(parse(source("chef@firma.de", value)), OURS) is False
