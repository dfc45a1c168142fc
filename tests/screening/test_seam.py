"""The inside of dkimpy on which cleo_email/screening/signature.py leans.

If an upgrade fails here, read that file against the new version before the pin in setup.cfg is moved.
"""

from __future__ import annotations

import base64
import inspect
import logging
import time
from importlib.metadata import version

import dkim
import pytest

from tests.screening.signing import BODY, FakeDns, check, head, key_record, sign


def verifier(source: bytes = b"") -> dkim.DKIM:
    logger = logging.Logger("dkimpy")
    logger.disabled = True
    return dkim.DKIM(source or None, logger=logger, minkey=1024)


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("dkimpy") == "1.1.8"


def test_it_begins_without_a_mail_and_takes_the_fields_that_it_is_given() -> None:
    one = verifier()
    assert (list(one.headers), one.body) == ([], "")
    one.headers = verifier(sign(head() + b"\r\n" + BODY)).headers
    tags, names, fields = one.verify_headerprep(0)
    assert tags[b"d"] == b"example.com"
    assert names[0] == b"from"
    assert fields[0][0] == b"DKIM-Signature"
    assert one.verify_headerprep(1) is False


def test_without_bh_no_body_is_looked_at_and_the_header_still_is() -> None:
    one, record = verifier(), key_record()
    one.headers = verifier(sign(head() + b"\r\n" + BODY)).headers
    one.body = None  # any use of it would raise
    for change, holds in ((b"Invoice", True), (b"Urgent", False)):
        one.headers = [(name, value.replace(b"Invoice", change)) for name, value in one.headers]
        tags, names, fields = one.verify_headerprep(0)
        assert tags.pop(b"bh")
        assert one.verify_sig(tags, names, fields[0], lambda _name, timeout: record) is holds


def test_the_fields_that_are_given_are_as_it_reads_them_itself() -> None:
    found = verifier(b"From: a\r\n b\r\nX:y\r\n\r\n").headers
    assert [(bytes(name), bytes(value)) for name, value in found] == [
        (b"From", b" a\r\n b\r\n"),
        (b"X", b"y\r\n"),
    ]


@pytest.mark.parametrize(
    ("c", "header", "body"),
    [
        (None, b"simple", b"simple"),
        (b"relaxed", b"relaxed", b"simple"),
        (b"simple/relaxed", b"simple", b"relaxed"),
    ],
)
def test_how_c_is_read(c: bytes | None, header: bytes, body: bytes) -> None:
    policy = dkim.canonicalization.CanonicalizationPolicy.from_c_value(c)
    assert (policy.header_algorithm.name, policy.body_algorithm.name) == (header, body)


def test_the_names_of_its_errors_and_of_what_is_called() -> None:
    for error in (
        dkim.DKIMException, dkim.util.InvalidTagValueList, dkim.asn1.ASN1FormatError,
        dkim.crypto.DigestTooLargeError, dkim.crypto.UnparsableKeyError,
        dkim.canonicalization.InvalidCanonicalizationPolicyError,
    ):  # fmt: skip
        assert issubclass(error, Exception)
    assert list(inspect.signature(dkim.DKIM.verify_sig).parameters) == [
        "self", "sig", "include_headers", "sig_header", "dnsfunc",
    ]  # fmt: skip
    assert dkim.util.parse_tag_value(b" a=1; b = 2 ;") == {b"a": b"1", b"b": b"2"}


def test_the_largest_key_that_is_taken_costs_little() -> None:
    """A modulus and an exponent of any size would take any time, and no other thread runs meanwhile."""

    def integer(value: int) -> bytes:
        raw = value.to_bytes(value.bit_length() // 8 + 1, "big")
        return b"\x02" + length(len(raw)) + raw

    def length(size: int) -> bytes:
        return bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")

    for bits in (3_400, 30_000):
        numbers = integer((1 << bits) - 1) + integer((1 << bits) - 3)
        der = b"\x30" + length(len(numbers)) + numbers
        dns = FakeDns()
        dns.records["s1._domainkey.example.com"] = [b"p=" + base64.b64encode(der)]
        begun = time.process_time()
        check(sign(head() + b"\r\n" + BODY), dns)
        assert time.process_time() - begun < 1
