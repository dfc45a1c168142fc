"""A header that two readers read in two ways proves nobody, whoever has checked it; every other one does.

Each mutation starts from a genuine mail that is proven, and puts a line or a few octets of an attacker's into
it. Where it stays proven, what the agent reads must be what was proven.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleo_email.mail.address import a_label, split_address
from cleo_email.mail.fields import read_header
from cleo_email.mail.model import ParseLimits
from cleo_email.mail.parse import parse
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.screening.authentication import authenticated
from cleo_email.screening.dkim import Outcome, SenderCheck
from cleo_email.screening.screen import Policy
from cleo_email.store import State
from tests.screening.signing import BODY, SIGNED, FakeDns, check, head, sign
from tests.support.bench import FROM, Bench
from tests.support.corpora import CORPORA, MISSING, raw_messages

TEXT = b"Pay to IBAN 9."
OURS = "mx.cleo.test"
VERDICT = b"Authentication-Results: mx.cleo.test; dmarc=pass header.from=example.com\r\n"

# Lines that one program takes for a field, another for the beginning of the body, the next for nothing.
LINES: dict[str, bytes] = {
    "two hyphens": b"--x: " + TEXT,
    "a delimiter": b"--b1",
    "a delimiter with a colon": b"--b1:",
    "a long name": b"X" * 257 + b": " + TEXT,
    "a very long name": b"X" * 60_000 + b": " + TEXT,
    "no colon": TEXT,
    "a word": b"Text",
    "an empty name": b": " + TEXT,
    "a name of blanks inside": b"X Y: " + TEXT,
    "a blank before the colon": b"X : " + TEXT,
    "a tab before the colon": b"X\t: " + TEXT,
    "an 8-bit name": b"X-\xe4: " + TEXT,
    "a UTF-8 name": "X-ä: ".encode() + TEXT,
    "a name with NUL": b"X\x00: " + TEXT,
    "a name with DEL": b"X\x7f: " + TEXT,
    "a name with VT": b"X\x0b: " + TEXT,
    "NUL in the value": b"X: a\x00" + TEXT,
    "VT in the value": b"X: a\x0b" + TEXT,
    "FF in the value": b"X: a\x0c" + TEXT,
    "DEL in the value": b"X: a\x7f" + TEXT,
    "FS in the value": b"X: a\x1c" + TEXT,
    "GS in the value": b"X: a\x1d" + TEXT,
    "RS in the value": b"X: a\x1eX: " + TEXT,
    "BEL in the value": b"X: a\x07" + TEXT,
    "ESC in the value": b"X: a\x1b" + TEXT,
    "a CR": b"X: a\r" + TEXT,
    "two CRs": b"X: a\r\r" + TEXT,
    "two CRs at the end": b"X: a\r",
    "CRs for an empty line": b"X: a\r\r\r" + TEXT,
    "a line feed": b"X: a\nY: b",
    "two line feeds": b"X: a\n\n" + TEXT,
    "three line feeds": b"X: a\n\n\n" + TEXT,
    "LF CR": b"X: a\n\r" + TEXT,
    "a line of a blank": b" ",
    "a line of a tab": b"\t",
    "a line of many blanks": b" " * 900,
    "a line of blanks in a field": b"X: a\r\n \r\n b",
    "a line of blanks after a field": b"X: a\r\n\t",
    "a line of VT": b"\x0b",
    "a line of FF": b"\x0c",
    "a line of CR": b"\r",
    "a line of NUL": b"\x00",
    "mbox": b"From x@evil.test Tue Nov 24 09:00:00 2026",
    "quoted mbox": b">From x@evil.test Tue Nov 24 09:00:00 2026",
    "mbox with the text": b"From " + TEXT,
    "a bracket": b"[" + TEXT + b"]",
    "only a semicolon": b"X; " + TEXT,
    "an equals sign": b"X= " + TEXT,
    "a byte order mark": b"\xef\xbb\xbfX: a",
    "a no-break space": b"\xa0X: a",
    "NEL": b"\x85X: a",
    "a dot": b".",
    "second From": b"From: x@evil.test",
    "second From of the same": b"From: Boss <boss@example.com>",
    "second Sender": b"Sender: a@example.com\r\nSender: x@evil.test",
    "second Reply-To": b"Reply-To: a@example.com\r\nReply-To: x@evil.test",
    "second Subject": b"Subject: " + TEXT,
    "second Date": b"Date: Tue, 24 Nov 2026 09:00:00 +0100",
    "second Message-ID": b"Message-ID: <m9@example.com>",
    "two MIME-Versions": b"MIME-Version: 1.0\r\nMIME-Version: 1.0",
    "two Content-Types": b"Content-Type: text/plain\r\ncontent-type: text/html",
    "two encodings": b"Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64",
    "two dispositions": b"Content-Disposition: inline\r\nContent-Disposition: attachment",
    "a field that servers cut": b"X: " + b"y" * 70_000,
    "a header that servers cut": b"\r\n".join(b"X: " + b"y" * 900 for _ in range(300)),
    "more fields than anybody writes": b"\r\n".join([b"X: y"] * 1001),
}

GENUINE: dict[str, bytes] = {
    "plain": head() + b"\r\n" + BODY,
    "folded": head(X_Long="a\r\n b\r\n\tc", References="<a@b>\r\n <c@d>") + b"\r\n" + BODY,
    "strange names": head(**{"X!#$%&'*+-.^`{|}~": "y", "x": "", "-x": "y", ">X": "y"}) + b"\r\n" + BODY,
    "a name of 200": head(**{"X" * 200: "y"}) + b"\r\n" + BODY,
    "hyphens in values": head(X="--b1", Y="-- ") + b"\r\n" + BODY,
    "Japanese": head().replace(b"Invoice", b"\x1b$B@A5a\x1b(B") + b"\r\n" + BODY,
    "UTF-8": head().replace(b"Invoice", "Rechnung … fällig".encode()) + b"\r\n" + BODY,
    "two To and Received": head() + b"Received: a\r\nReceived: b\r\nCc: c@example.com\r\n\r\n" + BODY,
    "hyphens in the body": head() + b"\r\n-- \r\nFrom x\r\n\r\n: y\r\n",
    "a long line": head(X="y" * 5_000) + b"\r\n" + BODY,
    "no body": head() + b"\r\n",
    "LF": (head() + b"\r\n" + BODY).replace(b"\r\n", b"\n"),
    "octets in the body": head() + b"\r\n\x00\x0b\x0c\x1c\r\n\nx\ry\r\n",
}  # fmt: skip


@pytest.fixture
def dns() -> FakeDns:
    dns = FakeDns()
    dns.publish("example.com", policy="v=DMARC1; p=reject")
    return dns


def places(source: bytes) -> Iterator[tuple[str, int]]:
    """On top, behind the signature, in the middle, at the end of the header."""
    yield "top", 0
    yield "behind the first field", source.index(b"\r\nFrom:") + 2
    yield "in the middle", source.index(b"Subject:")
    yield "at the end", source.index(b"\r\n\r\n") + 2


def mutations(source: bytes) -> Iterator[tuple[str, bytes]]:
    for name, line in LINES.items():
        for place, at in places(source):
            yield f"{name}, {place}", source[:at] + line + b"\r\n" + source[at:]
    end = source.index(b"\r\n\r\n")
    yield "no empty line", source[: end + 2] + TEXT + b"\r\n" + source[end + 4 :]
    yield "an empty line on top", b"\r\n" + source
    yield "a line feed on top", b"\n" + source
    yield "a byte order mark on top", b"\xef\xbb\xbf" + source
    yield "a continuation on top", b" " + TEXT + b"\r\n" + source
    yield "a blank line for the empty one", source[: end + 2] + b" " + source[end + 2 :]
    yield "a tab for the empty line", source[: end + 2] + b"\t" + source[end + 2 :]
    yield "the empty line ends in LF", source[:end] + b"\r\n\n" + source[end + 4 :]
    yield "the empty line is two LF", source[:end] + b"\n\n" + source[end + 4 :]
    yield "CR alone", source.replace(b"\r\n", b"\r")
    yield "LF above, CRLF below", source[:end].replace(b"\r\n", b"\n") + source[end:]
    yield "another mail in LF on top", head().replace(b"\r\n", b"\n") + b"\n" + TEXT + b"\r\n" + source


def proven_by_server(source: bytes) -> bool:
    return authenticated(parse(source), OURS) is True


def test_the_mutations_are_many() -> None:
    assert len(dict(mutations(sign(GENUINE["plain"])))) >= 250


def test_none_is_proven_by_its_signature_and_all_say_why(dns: FakeDns) -> None:
    proven, silent = [], []
    for name, source in mutations(sign(GENUINE["plain"])):
        mail = parse(source)
        if SenderCheck(dns).check(source, mail).outcome is not Outcome.UNPROVEN:
            proven.append(name)
        if not mail.doubt or not any("two ways" in note for note in mail.notes):
            silent.append(name)
    assert proven == []
    assert silent == []


def test_none_is_proven_by_the_server_that_is_trusted() -> None:
    genuine = VERDICT + GENUINE["plain"]
    assert proven_by_server(genuine)
    assert [name for name, source in mutations(genuine) if proven_by_server(source)] == []
    below = [(name, VERDICT + source) for name, source in mutations(b"X: y\r\n" + GENUINE["plain"])]
    below = [one for one in below if one[0] != "a continuation on top"]  # of the server's own field
    assert [name for name, source in below if proven_by_server(source)] == []


@pytest.mark.parametrize("name", GENUINE)
def test_a_genuine_mail_stays_proven(dns: FakeDns, name: str) -> None:
    source = GENUINE[name]
    for canonical in ((b"relaxed", b"relaxed"), (b"simple", b"simple"), (b"relaxed", b"simple")):
        signed = sign(source, canonicalize=canonical)
        if name == "LF":
            signed = signed.replace(b"\r\n", b"\n")
        assert check(signed, dns).outcome is Outcome.PROVEN
        assert parse(signed).doubt == ""
    assert proven_by_server(VERDICT + source)


def test_fields_that_a_server_puts_on_top_of_a_mail_with_line_feeds_are_no_doubt(dns: FakeDns) -> None:
    source = GENUINE["LF"]
    assert check(sign(source), dns).outcome is Outcome.PROVEN
    assert proven_by_server(VERDICT + source)
    # But the author must not stand among them: to a reader of CRLF alone all the rest is one last field.
    first = head() + b"X: a\n\n" + TEXT
    assert not proven_by_server(VERDICT + first)


def test_what_is_a_field_for_everybody_is_one_for_us() -> None:
    """A line of two hyphens is a delimiter within a multipart only, and a name may be long."""
    for line in (LINES["two hyphens"], LINES["a long name"]):
        mail = parse(line + b"\r\n" + GENUINE["plain"])
        assert mail.from_address == "boss@example.com"
        assert mail.text.strip() == BODY.decode().strip()
    inner = b"--b\r\nContent-Type: text/plain\r\n--b\r\n\r\nsecond\r\n--b--\r\n"
    mail = parse(head(Content_Type="multipart/mixed; boundary=b") + b"\r\n" + inner)
    assert mail.text.strip() == "second"


def test_in_the_services_it_is_held_and_the_record_says_why(redis_url: str, dns: FakeDns) -> None:
    line = b"--x: " + TEXT + b"\r\n"
    bench = Bench(redis_url, sender_check=SenderCheck(dns))
    for source, way in (
        (line + sign(head(Message_ID="<a@example.com>") + b"\r\n" + BODY), {}),
        (line + sign(head(Message_ID="<b@example.com>") + b"\r\n" + BODY), {"authenticated": True}),
    ):
        accepted = bench.receive(source, **way)
        bench.work(accepted.thread_id)
        record = bench.record(accepted)
        assert (record.state, record.authenticated) == (State.HELD, "0")
        assert "two ways" in record.reason
    trusting = Bench(redis_url, policy=Policy(frozenset({FROM.addr}), authserv_id=OURS))
    mail = VERDICT + line + head(Message_ID="<c@example.com>") + b"\r\n" + BODY
    record = trusting.record(trusting.intake.accept(IncomingMail(mail, "imap")))
    assert (record.state, record.authenticated) == (State.HELD, "0")
    assert "two ways" in record.reason
    plain = Bench(redis_url)
    accepted = plain.receive(line + head(Message_ID="<d@example.com>") + b"\r\n" + BODY, authenticated=True)
    plain.work(accepted.thread_id)
    assert plain.agent.asked[-1].message.authenticated is False


_octets = st.sampled_from([b"\r", b"\n", b" ", b"\t", b":", b"-", b"X", b"\x00", b"\x0b", b"\xe4", b"From"])
STRICT = re.compile(
    rb"(?:[!-9;-~]+:[^\r\n]*\r\n(?:[ \t]+[^ \t\r\n][^\r\n]*\r\n)*)+\r\n", re.DOTALL
)  # RFC 5322 section 2.2


@given(st.lists(_octets, min_size=1, max_size=8).map(b"".join), st.integers(0, 3))
def test_whatever_is_put_in_without_a_doubt_is_a_field_by_the_book(octets: bytes, place: int) -> None:
    source = GENUINE["plain"]
    at = dict(places(b"DKIM-Signature: x\r\n" + source)).values()
    offset = max(0, list(at)[place] - 19)
    mutated = source[:offset] + octets + b"\r\n" + source[offset:]
    header = read_header(mutated, ParseLimits())
    if not header.doubt:
        assert STRICT.fullmatch(mutated, 0, header.body)


@pytest.mark.skipif(not CORPORA.is_dir(), reason=MISSING)
def test_real_mail_that_is_signed_stays_proven_unless_it_is_malformed() -> None:
    doubts, lost, proven = [], [], 0
    signed = (*SIGNED, b"mime-version", b"content-type", b"content-transfer-encoding", b"content-disposition")
    for path in raw_messages(CORPORA):
        source = path.read_bytes()
        mail = parse(source) if len(source) < 10**6 else None
        parts = split_address(mail.from_address) if mail and len(mail.from_) == 1 else None
        if mail is None or parts is None or not parts[1].isascii():
            continue
        if mail.doubt:
            doubts += [(path.name, mail.doubt)] * ("is no field" not in mail.doubt)
            continue
        domain = a_label(parts[1])
        dns = FakeDns()
        dns.publish(domain)
        finding = check(sign(source, domain, include_headers=signed), dns)
        proven += finding.outcome is Outcome.PROVEN
        lost += [(path.name, finding.reason)] * (finding.outcome is not Outcome.PROVEN)
    assert lost == []
    assert proven > 350
    assert len(doubts) < 10, doubts
