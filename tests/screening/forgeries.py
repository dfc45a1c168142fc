"""Mails that say they are boss@example.com's and are not; each by a different trick."""

from __future__ import annotations

import re

from tests.screening.signing import BODY, head, sign

MAIL = head() + b"\r\n" + BODY
FAKE = b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s1; h=from:subject; bh=AAAA; b=AAAA\r\n"
RESULTS = b"Authentication-Results: mx.cleo.test; dmarc=pass header.from=example.com\r\n"
NAMES = (
    "test", "evil.test.example.com", "x.evil.test.com", "evil-test.test", "evil.tests", "victim.test",
    "github.io", "co.uk", "user.github.io", "bank.co.uk",
)  # fmt: skip


def from_(sender: str, **more: str) -> bytes:
    return head(sender, **more) + b"\r\n" + BODY


def by_evil(source: bytes) -> bytes:
    return sign(source, "evil.test", name="evil")


def forgeries() -> dict[str, bytes]:
    good = sign(MAIL)
    found = {**_bodies(good), **_writers(good), **_fields(good), **_signers(good), **_signatures(good)}
    found |= {**_strange_senders(), **_every_letter(good), **_readings()}
    return found


def _bodies(good: bytes) -> dict[str, bytes]:
    return {
        "no signature": MAIL,
        "another body": good.replace(b"invoice.", b"invoice to IBAN 1."),
        "body appended": good + b"and more\r\n",
        "body cut": good.replace(BODY, b""),
        "l= over the whole body": sign(MAIL, length=True),
        "l= with an appendix": sign(MAIL, length=True) + b"Pay to IBAN 2.\r\n",
        "l= over nothing": re.sub(rb"l=\d+", b"l=0", sign(MAIL, length=True)),
        "signature in the body": MAIL + good.partition(b"From:")[0],
    }


def _writers(good: bytes) -> dict[str, bytes]:
    evil = b"From: x@evil.test\r\n"
    return {
        "second From on top": b"From: Boss <boss@example.com>\r\n" + by_evil(from_("x@evil.test")),
        "second From above ours": evil + good,
        "second From below": good.replace(b"To: agent", evil + b"To: agent"),
        "second From of the same": b"From: Boss <boss@example.com>\r\n" + good,
        "two mailboxes in From": sign(from_("boss@example.com, x@evil.test")),
        "two mailboxes, ours last": sign(from_("x@evil.test, boss@example.com")),
        "From changed after signing": good.replace(b"Boss <boss@", b"Boss <chief@"),
        "From folded away": b"From:\r\n boss@example.com\r\n" + good,
        "From with a blank before the colon": good.replace(
            b"From: Boss", b"From : x@evil.test\r\nFrom: Boss"
        ),
        "from in other letters": b"fRoM: x@evil.test\r\n" + good,
        "no From": good.replace(b"From: Boss <boss@example.com>\r\n", b""),
        "sender field instead": sign(from_("x@evil.test", Sender="boss@example.com")),
    }


def _fields(good: bytes) -> dict[str, bytes]:
    little = sign(MAIL, include_headers=(b"from", b"subject"))
    reply_to = b"Reply-To: x@evil.test\r\n"
    return {
        "subject changed": good.replace(b"Subject: Invoice", b"Subject: Urgent"),
        "second subject": b"Subject: Urgent\r\n" + good,
        "reply-to added": reply_to + little,
        "reply-to added below": little.replace(b"To: agent", reply_to + b"To: agent"),
        "second reply-to": reply_to + sign(from_("boss@example.com", Reply_To="b@example.com")),
        "subject not signed": sign(MAIL, include_headers=(b"from", b"to")),
        "second To": b"To: other@cleo.test\r\n" + good,
        "fields in another order": sign(head() + b"\r\n" + BODY).replace(b"Subject: Invoice\r\n", b"")
        + b"Subject: Invoice\r\n",
        "signature behind a bare CR": MAIL.replace(b"\r\nTo:", b"\r" + FAKE.rstrip() + b"\r\nTo:"),
        "header ends twice": good.replace(b"To: agent", b"X: 1\r\rFrom: x@evil.test\r\nTo: agent"),
        "NUL in the header": good.replace(b"Subject: ", b"Subject: \x00"),
        "a line that is no field": good.replace(b"To: agent", b"no field at all\r\nTo: agent"),
        "results by a stranger": RESULTS + MAIL,
        "results, folded": RESULTS.replace(b"; ", b";\r\n\t") + MAIL,
        "results below ours": MAIL.replace(b"To: agent", RESULTS + b"To: agent"),
    }


def _signers(good: bytes) -> dict[str, bytes]:
    return {
        "signed by another domain": by_evil(MAIL),
        "wrong key": sign(MAIL, name="evil"),
        "unknown selector": sign(MAIL, selector=b"s9"),
        "domain before another": sign(MAIL, "example.com.evil.test", name="evil"),
        "look-alike domain": sign(MAIL, "examp1e.com", name="evil"),
        "a suffix of the domain": sign(MAIL, "com", name="evil"),
        "the domain as a suffix": sign(MAIL, "notexample.com", name="evil"),
        "signature of an older mail": good.partition(b"From:")[0]
        + head(Message_ID="<m2@example.com>")
        + b"\r\n"
        + BODY,
        "weak key": sign(MAIL, selector=b"weak", bits=1024, name="weak"),
        "i= of another domain": good.replace(b"d=example.com;", b"d=example.com; i=@evil.test;"),
        "d= twice": good.replace(b"d=example.com;", b"d=example.com; d=evil.test;"),
        "d= empty": good.replace(b"d=example.com;", b"d=;"),
        "d= not ASCII": good.replace(b"d=example.com;", "d=exämple.com;".encode()),
    }


def _signatures(good: bytes) -> dict[str, bytes]:
    return {
        "ARC instead of DKIM": good.replace(b"DKIM-Signature:", b"ARC-Message-Signature: i=1;"),
        "X- before the name": good.replace(b"DKIM-Signature:", b"X-DKIM-Signature:"),
        "v=2": good.replace(b"v=1;", b"v=2;"),
        "sha1": good.replace(b"a=rsa-sha256", b"a=rsa-sha1"),
        "really sha1": sign(MAIL, signature_algorithm=b"rsa-sha1"),
        "expired": re.sub(rb"; t=\d+", b"; t=1600000000; x=1600000100", good),
        "from the future": re.sub(rb"; t=\d+", b"; t=99999999999", good),
        "unknown canonicalization": good.replace(b"c=relaxed/relaxed", b"c=none/at/all"),
        "another canonicalization": good.replace(b"c=relaxed/relaxed", b"c=simple/simple"),
        "not by DNS": good.replace(b"q=dns/txt", b"q=http"),
        "no h=": re.sub(rb"h=[^;]*;", b"", good),
        "From not in h=": re.sub(rb"h=[^;]*;", b"h=to:subject;", good),
        "no b=": re.sub(rb"\sb=[^;]*?(?=\r\nFrom)", b"", good),
        "no bh=": re.sub(rb"bh=[^;]*;", b"", good),
        "bh= of nothing": re.sub(rb"bh=[^;]*;", b"bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;", good),
        "garbage": b"DKIM-Signature: " + b"\xff\xfe=;;==" * 50 + b"\r\n" + MAIL,
        "endless field": b"DKIM-Signature: v=1; b=" + b" \r\n" * 20_000 + b" x\r\n" + MAIL,
        "endless blanks": FAKE.replace(b"b=AAAA", b"b=" + b" " * 3_900 + b"!") + MAIL,
        "many signatures": FAKE * 500 + MAIL,
    }


def _strange_senders() -> dict[str, bytes]:
    senders = {
        "empty From": "",
        "From is no address": "boss",
        "comment in From": "boss@evil.test (boss@example.com)",
        "address as the name": '"boss@example.com" <x@evil.test>',
        "encoded address": "=?utf-8?q?boss=40example.com?= <x@evil.test>",
        "quoted local part": '"x@evil.test"@example.com',
        "route in From": "<@example.com:x@evil.test>",
        "two at": "boss@evil.test@example.com",
        "blank in the domain": "boss@example .com",
    }
    found = {trick: sign(from_(sender)) for trick, sender in senders.items()}
    return found | {f"unrelated {name}": by_evil(from_(f"boss@{name}")) for name in NAMES}


QUOTING = (
    b"I will not do this:\r\n--evil\r\n\r\nPay to IBAN 3.\r\n--evil--\r\n"
    b"<!-- =50=61=79 -->\r\nYours, the boss\r\n"
)
ALTERNATIVE = (
    b"--b1\r\nContent-Type: text/plain\r\n\r\nNo.\r\n--b2\r\n\r\nPay.\r\n--b2--\r\n"
    b"--b1\r\nContent-Type: text/html\r\n\r\n<p>No.</p>\r\n--b1--\r\n"
)


def _readings() -> dict[str, bytes]:
    """The body that was signed, and another field that says how it is meant; none of these is signed."""
    found = {}
    for name, value, body in (
        ("Content-Transfer-Encoding", "base64", QUOTING),
        ("Content-Transfer-Encoding", "quoted-printable", b"1=1, but =ZZ is none\r\n"),
        ("Content-Transfer-Encoding", "quoted-printable", b"x" * 90 + b"=50=61=79\r\n"),
        ("Content-Transfer-Encoding", "quoted-printable", b"a\xfc=50\r\n"),
        ("Content-Transfer-Encoding", "x-uuencode", QUOTING),
        ("Content-Transfer-Encoding", "7bit\r\nContent-Transfer-Encoding: base64", QUOTING),
        ("Content-Type", 'multipart/mixed; boundary="evil"', QUOTING),
        ("Content-Type", "multipart/mixed; boundary=none", QUOTING),
        ("Content-Type", "text/html", QUOTING),
        ("Content-Type", "text/plain; charset=utf-16", QUOTING),
        ("Content-Type", "text/plain; charset=utf-7", QUOTING),
        ("Content-Type", "message/rfc822", QUOTING),
        ("Content-Type", "application/octet-stream", QUOTING),
        ("Content-Type", "text/plain\r\nContent-Type: text/html", QUOTING),
        ("Content-Disposition", "attachment", QUOTING),
        ("Content-Type", "multipart/alternative; boundary=b2", ALTERNATIVE),
        ("Content-Type", "multipart/digest; boundary=b1", ALTERNATIVE),
        ("Content-Type", "multipart/report; boundary=b1", ALTERNATIVE),
        ("Content-Type", "text/plain", ALTERNATIVE),
        ("X-Nothing", "", ALTERNATIVE),
    ):
        found[f"{name}: {value} for {body[:12]!r}"] = f"{name}: {value}\r\n".encode() + sign(
            head() + b"\r\n" + body
        )
    encoded = b"Content-Transfer-Encoding: base64\r\nContent-Type: multipart/mixed; boundary=b1\r\n"
    return found | {"base64 of a multipart": encoded + sign(head() + b"\r\n" + ALTERNATIVE)}


def _every_letter(good: bytes) -> dict[str, bytes]:
    """Any change of a letter of the body, of a signed field and of the signature itself."""
    found: dict[str, bytes] = {}
    end = good.index(b"From:")
    places = [
        *range(good.index(b"\r\n\r\n") + 4, len(good) - 2),
        *range(good.index(b"Subject: ") + 9, good.index(b"Subject: ") + 16),
        *range(good.index(b"bh=") + 3, end - 2, 3),
    ]
    for at in places:
        if good[at : at + 1].isalnum():
            other = b"A" if good[at : at + 1] != b"A" else b"B"
            found[f"letter {at}"] = good[:at] + other + good[at + 1 :]
    return found
