"""The hash of a body, and in how many ways it may be read: right for every body, quick for the worst."""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from collections.abc import Callable

import pytest
from dkim.canonicalization import CanonicalizationPolicy
from hypothesis import given
from hypothesis import strategies as st

from cleo_email.screening import signed_body
from cleo_email.screening.dkim import Outcome
from cleo_email.screening.signed_body import body_hash, is_encoded, is_evident
from tests.screening.signing import FakeDns, check, head, sign

MB = 1_000_000
_pieces = st.sampled_from(
    [b" ", b"\t", b"\r\n", b"\n", b"\r", b"a", b"bc", b"  ", b"\r\n\r\n", b"\xff", b"."]
)
bodies = st.lists(_pieces, max_size=40).map(b"".join)


def by_the_book(body: bytes, *, relaxed: bool) -> bytes:
    """RFC 6376 sections 3.4.3 and 3.4.4, a line at a time."""
    lines = body.replace(b"\r\n", b"\n").split(b"\n")
    if relaxed:
        lines = [b" ".join(line.replace(b"\t", b" ").split(b" ")) for line in lines]
        lines = [_once(line).rstrip(b" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        return hashlib.sha256(b"" if relaxed else b"\r\n").digest()
    return hashlib.sha256(b"".join(line + b"\r\n" for line in lines)).digest()


def _once(line: bytes) -> bytes:
    while b"  " in line:
        line = line.replace(b"  ", b" ")
    return line


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 65_536])
@given(body=bodies)
def test_the_hash_of_any_body_in_pieces_of_any_size(piece: int, body: bytes) -> None:
    kept, signed_body._PIECE = signed_body._PIECE, piece  # type: ignore[misc]
    try:
        for relaxed in (True, False):
            assert body_hash(b"X: y\n\n" + body, 6, relaxed=relaxed) == by_the_book(body, relaxed=relaxed)
    finally:
        signed_body._PIECE = kept  # type: ignore[misc]


@given(body=bodies)
def test_it_is_the_one_that_dkimpy_signs(body: bytes) -> None:
    crlf = body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if crlf.endswith((b" ", b"\t")):  # dkimpy keeps a blank at the very end (RFC 6376 section 3.4.4 does not)
        crlf += b"\r\n"
    for name in (b"relaxed", b"simple"):
        canonical = CanonicalizationPolicy.from_c_value(b"relaxed/" + name).canonicalize_body(crlf)
        assert body_hash(crlf, 0, relaxed=name == b"relaxed") == hashlib.sha256(canonical).digest()


HEAVY: dict[str, Callable[[], bytes]] = {
    "one line of blanks": lambda: b" " * (25 * MB) + b"x\r\n",
    "lines of blanks": lambda: (b" " * 998 + b"\r\n") * 25_000,
    "lines of blanks and a letter": lambda: (b"\t" * 997 + b"x\r\n") * 25_000,
    "line ends": lambda: b"\r\n" * (13 * MB),
    "line feeds": lambda: b"\n" * (26 * MB) + b"x",
    "blank lines": lambda: b" \n" * (13 * MB),
    "CRs": lambda: b"\r" * (25 * MB),
    "words of a letter": lambda: b"a " * (12 * MB),
    "hyphens": lambda: b"--" * (12 * MB),
    "lines of 77": lambda: (b"a" * 77 + b"\r\n") * 316_000,
    "quoted-printable": lambda: (b"=3D" * 25 + b"\r\n") * 324_000,
    "base64": lambda: (b"QUFB" * 19 + b"\r\n") * 320_000,
    "equals signs": lambda: b"=" * (25 * MB),
}


@pytest.mark.parametrize("kind", HEAVY)
def test_a_large_body_takes_little_time_and_memory(kind: str) -> None:
    source = b"X: y\r\n\r\n" + HEAVY[kind]()
    steps: list[Callable[[], object]] = [
        lambda: body_hash(source, 8, relaxed=True),
        lambda: body_hash(source, 8, relaxed=False),
        lambda: is_encoded(b"quoted-printable", "text/plain", {}, source, 8),
        lambda: is_encoded(b"base64", "text/plain", {}, source, 8),
        lambda: is_evident("multipart/mixed", {"boundary": "x"}, b"", source, 8),
        lambda: is_evident("text/html", {}, b"base64", source, 8),
    ]
    for step in steps:
        begun = time.process_time()
        step()
        assert time.process_time() - begun < 5
    source = source[: 4 * MB]  # tracing takes its time
    tracemalloc.start()
    for step in steps:
        step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MB, "far less than the mail itself"


@pytest.mark.parametrize("kind", ["one line of blanks", "lines of blanks", "line ends", "CRs"])
def test_a_large_mail_with_many_signatures_is_judged_in_seconds(kind: str) -> None:
    dns = FakeDns()
    dns.publish("evil.test", policy="v=DMARC1; p=none", name="evil")
    body = HEAVY[kind]()
    signature = sign(head("x@evil.test") + b"\r\n", "evil.test", name="evil").partition(b"From:")[0]
    begun = time.process_time()
    source = signature * 20 + head("x@evil.test") + b"\r\n" + body
    assert check(source, dns).outcome is not Outcome.UNKNOWN
    assert time.process_time() - begun < 15, "reading the mail itself included"


BLANKS = b" " * 60_000


@pytest.mark.parametrize(
    "field",
    [
        b"X: " + BLANKS + b"x\r\n",
        b"Subject: " + BLANKS + b"x\r\n",
        b"X: " + b"\r\n ".join([b" " * 900] * 70) + b"x\r\n",
        b"DKIM-Signature: v=1; d=evil.test; h=" + b"from:" * 790 + b"; b=\r\n",
        b"DKIM-Signature: v=1;" + b"\t \r\n " * 700 + b"d=evil.test; h=from; b=!\r\n",
        b"".join(b"X-%d: y\r\n" % number for number in range(990)),
    ],
    ids=lambda field: repr(field[:30]),
)
def test_a_heavy_header_takes_little_time(field: bytes) -> None:
    dns = FakeDns()
    dns.publish("evil.test", policy="v=DMARC1; p=none", name="evil")
    names = (b"from", b"x", b"subject", b"reply-to", *(b"x-%d" % number for number in range(150)))
    signed = sign(
        field + head("x@evil.test") + b"\r\nHello\r\n", "evil.test", name="evil", include_headers=names
    )
    top = signed.partition(b"\r\nX")[0].partition(b"\r\nSubject")[0]
    begun = time.process_time()
    check(signed, dns)
    check((top + b"\r\n") * 15 + signed, dns)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("encoding", "body", "shows"),
    [
        (b"quoted-printable", b"Gr=C3=BC=C3=9Fe,=\r\n Anna\r\n", True),
        (b"quoted-printable", b"2 =3D 2=20\r\n=46rom here\r\n=2E\r\nend =\r\n", True),
        (b"quoted-printable", b"plain, and so it stays\r\n", True),
        (b"quoted-printable", b"Total=20EUR\r\n", False),
        (b"quoted-printable", b"Pay =50=61=79\r\n", False),
        (b"quoted-printable", b"see x=46rom\r\n", False),
        (b"quoted-printable", b"a=0D=0Ab\r\n", False),
        (b"quoted-printable", b"a=\r\n" + b"x" * 80 + b"\r\n", False),
        (b"base64", b"R3LDvMOfZQ==\r\n", True),
        (b"base64", b"Okay\r\n", False),
        (b"base64", b"Yes\r\n", False),
        (b"base64", b"PleasepayNow\r\n", False),
    ],
)
def test_an_encoding_that_nobody_signed_must_show(encoding: bytes, body: bytes, *, shows: bool) -> None:
    """Else the words that were signed become others by a field that an attacker puts on top."""
    assert is_encoded(encoding, "text/plain", {"charset": "utf-8"}, b"\n" + body, 1) is shows
    dns = FakeDns()
    dns.publish("example.com")
    top = b"Content-Transfer-Encoding: " + encoding + b"\r\nContent-Type: text/plain; charset=utf-8\r\n"
    outcome = check(top + sign(head() + b"\r\n" + body), dns).outcome
    assert outcome is (Outcome.PROVEN if shows else Outcome.UNPROVEN)
