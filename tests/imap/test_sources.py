"""The bytes of a mail come back as the server holds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cleo_email.imap.mailbox import Mailbox
from tests.support.dovecot import Dovecot
from tests.support.messages import SAMPLES

pytestmark = pytest.mark.servers("dovecot")

HEADER = b"From: a@example.org\r\nSubject: ugly\r\n\r\n"
UGLY = {
    "8 bit, no charset": HEADER + bytes(range(0x80, 0x100)) + b"\r\n",
    "8 bit in the header": "From: Jürgen <j@example.org>\r\nSubject: grüße\r\n\r\n€\r\n".encode(),
    "no newline at the end": HEADER + b"the end",
    "no body": b"Subject: only a header\r\n\r\n",
    "no header": b"\r\nonly a body\r\n",
    "dots": HEADER + b".\r\n..\r\n.x\r\n",
    "looks like an answer": HEADER + b"* 1 FETCH (UID 1 BODY[] {3}\r\n)\r\nA1 OK done\r\n* BYE\r\n",
    "ends like a literal": HEADER + b"{1000000}",
    "braces and quotes": HEADER + b'("NIL" \\ {5}\r\n) ]\r\n',
    "a long line": HEADER + b"x" * 1_200_000 + b"\r\n",
    "control characters": HEADER + bytes(n for n in range(1, 32) if n not in (10, 13)) + b"\x7f\r\n",
    "5 MB": HEADER + (b"0123456789" * 7 + b"\r\n") * 72_000,
    "digits": b"12345",
    "NIL": b"NIL",
}


@pytest.mark.parametrize("name", UGLY)
def test_ugly_mail_comes_back_byte_for_byte(name: str, dovecot: Dovecot, user: str, mailbox: Mailbox) -> None:
    dovecot.fill(user, UGLY[name])
    mailbox.open()
    (uid,) = mailbox.search_unseen()
    info = mailbox.describe([uid])[uid]
    assert info.size == len(UGLY[name])
    (fetched,) = mailbox.fetch([(uid, info.size)])
    assert fetched.source == UGLY[name]
    assert mailbox.search_unseen() == [uid]


def test_bare_line_feeds_come_as_the_protocol_wants_them(
    dovecot: Dovecot, user: str, mailbox: Mailbox
) -> None:
    source = b"Subject: x\n\nfirst\nsecond\r\nthird\n"
    dovecot.fill(user, source)
    mailbox.open()
    info = mailbox.describe([1])[1]
    (fetched,) = mailbox.fetch([(1, info.size)])
    assert fetched.source == b"Subject: x\r\n\r\nfirst\r\nsecond\r\nthird\r\n"
    assert info.size == len(fetched.source)


def test_nul_bytes_do_not_hurt(dovecot: Dovecot, user: str, mailbox: Mailbox) -> None:
    # An IMAP literal cannot hold NUL (RFC 3501 section 9); Dovecot sends 0x80 instead.
    dovecot.fill(user, HEADER + b"before\0after\r\n", HEADER + b"next\r\n")
    mailbox.open()
    sources = [one.source for one in mailbox.fetch([(1, 50), (2, 50)])]
    assert sources == [HEADER + b"before\x80after\r\n", HEADER + b"next\r\n"]


def test_mail_by_lmtp_keeps_its_bytes(dovecot: Dovecot, user: str, mailbox: Mailbox) -> None:
    ugly = HEADER + bytes(range(0x80, 0x100)) + b"\r\n.\r\n..x\r\n"
    dovecot.deliver(user, ugly)
    mailbox.open()
    (fetched,) = mailbox.fetch([(1, len(ugly))])
    assert fetched.source.endswith(b"\r\n" + ugly)


def test_large_mail_comes_alone_and_small_mail_together(
    dovecot: Dovecot, user: str, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [HEADER + b"%d\r\n" % number + b"x" * 40_000 for number in range(90)]
    dovecot.fill(user, *sources)
    mailbox.open()
    infos = mailbox.describe(mailbox.search_unseen())
    batches: list[list[int]] = []
    fetch = mailbox._fetch

    def counted(uids: list[int], *rest: str) -> object:
        batches.append(uids)
        return fetch(uids, *rest)

    monkeypatch.setattr(mailbox, "_fetch", counted)
    sizes = [(uid, 17_000_000 if uid == 30 else info.size) for uid, info in infos.items()]
    assert [one.source for one in mailbox.fetch(sizes)] == sources
    assert [len(batch) for batch in batches] == [29, 1, 50, 10]


def test_mail_of_every_kind_comes_back_byte_for_byte(dovecot: Dovecot, user: str, mailbox: Mailbox) -> None:
    dovecot.fill(user, *(sample.source for sample in SAMPLES))
    mailbox.open()
    infos = mailbox.describe(mailbox.search_unseen())
    fetched = [one.source for one in mailbox.fetch((uid, info.size) for uid, info in infos.items())]
    assert sorted(fetched) == sorted(sample.source for sample in SAMPLES)


def test_real_mail_comes_back_byte_for_byte(
    corpora: Path, dovecot: Dovecot, user: str, mailbox: Mailbox
) -> None:
    folders = ("stalwart-mail-parser", "mail-gem", "webklex-php-imap", "sisimai-set-of-emails")
    found = [path for folder in folders for path in sorted((corpora / folder).rglob("*")) if path.is_file()]
    paths = [path for path in found if path.suffix in (".eml", "") and path.stat().st_size > 0]
    assert len(paths) > 200
    sources = [path.read_bytes() for path in paths]
    dovecot.fill(user, *sources)
    mailbox.open()
    uids = mailbox.search_unseen()
    infos = mailbox.describe(uids)
    fetched = {one.uid: one.source for one in mailbox.fetch((uid, infos[uid].size) for uid in uids)}
    assert len(fetched) == len(sources)
    # As the protocol carries them: CRLF line ends, and 0x80 for NUL.
    expected = [s.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").replace(b"\0", b"\x80") for s in sources]
    different = [
        path.name for path, want, uid in zip(paths, expected, uids, strict=True) if fetched[uid] != want
    ]
    assert different == []
    headers = {uid: mailbox.fetch_headers(uid) for uid in uids[:50]}
    assert all(header and fetched[uid].startswith(header) for uid, header in headers.items())
