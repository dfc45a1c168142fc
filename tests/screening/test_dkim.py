"""Our own look at the sender: what counts, what never does, and what DNS could not tell."""

from __future__ import annotations

import base64
import logging
import time

import pytest

from cleo_email.mail.parse import parse
from cleo_email.screening.dkim import Outcome, SenderCheck, read_policy
from tests.screening.forgeries import ALTERNATIVE, QUOTING, forgeries
from tests.screening.signing import BODY, SIGNED, FakeDns, check, head, key_record, sign

MAIL = head() + b"\r\n" + BODY


@pytest.fixture
def dns() -> FakeDns:
    dns = FakeDns()
    dns.publish("example.com", policy="v=DMARC1; p=reject")
    dns.publish("mail.example.com")
    dns.publish("evil.test", policy="v=DMARC1; p=none", name="evil")
    return dns


# --- what is proven -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "canonicalize", [(a, b) for a in (b"simple", b"relaxed") for b in (b"simple", b"relaxed")]
)
def test_a_signature_of_the_senders_domain_proves_it(dns: FakeDns, canonicalize: tuple[bytes, bytes]) -> None:
    assert check(sign(MAIL, canonicalize=canonicalize), dns).outcome is Outcome.PROVEN
    assert "_dmarc.example.com" not in dns.asked, "nothing else is asked for where it is the same domain"


def test_line_ends_without_cr_are_the_same_mail(dns: FakeDns) -> None:
    assert check(sign(MAIL).replace(b"\r\n", b"\n"), dns).outcome is Outcome.PROVEN


def test_a_related_domain_counts_as_dmarc_says(dns: FakeDns) -> None:
    source = sign(MAIL, "mail.example.com")
    assert check(source, dns).outcome is Outcome.PROVEN
    dns.records["_dmarc.example.com"] = [b"v=DMARC1; p=none; adkim=s"]
    assert check(source, dns).outcome is Outcome.UNPROVEN
    dns.records["_dmarc.example.com"] = [b"v=DMARC1; p=none; adkim=r"]
    assert check(source, dns).outcome is Outcome.PROVEN
    del dns.records["_dmarc.example.com"]
    assert check(source, dns).outcome is Outcome.UNPROVEN, "nobody said that it counts"


def test_the_policy_of_the_organisation_serves_its_sub_domains(dns: FakeDns) -> None:
    source = sign(head("a@news.example.com") + b"\r\n" + BODY, "example.com")
    assert check(source, dns).outcome is Outcome.PROVEN
    dns.records["_dmarc.news.example.com"] = [b"v=DMARC1; p=none; adkim=s"]
    assert check(source, dns).outcome is Outcome.UNPROVEN


def test_one_good_signature_among_bad_ones_is_enough(dns: FakeDns) -> None:
    source = sign(sign(MAIL, "evil.test", name="evil"), "example.com")
    forged = b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s1; h=from; bh=AAAA; b=AAAA\r\n"
    assert check(forged * 3 + source, dns).outcome is Outcome.PROVEN


def test_a_reply_to_that_is_signed_is_no_flaw(dns: FakeDns) -> None:
    source = sign(head(Reply_To="desk@example.com") + b"\r\n" + BODY)
    assert check(source, dns).outcome is Outcome.PROVEN


GMAIL = (
    b'--0000000000009\r\nContent-Type: text/plain; charset="UTF-8"\r\n\r\nHi\r\n\r\n'
    b"--0000000000009\r\nContent-Type: text/html\r\n\r\n<div>Hi</div>\r\n\r\n--0000000000009--\r\n"
)
PREAMBLE = b"This is a multi-part message in MIME format.\r\n"
BASE64 = base64.encodebytes(b"Gr\xc3\xbc\xc3\x9fe " * 40).replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("kind", "encoding", "body"),
    [
        ('multipart/alternative; boundary="0000000000009"', "", GMAIL),
        ("multipart/mixed;\r\n\tboundary=0000000000009", "7bit", b"\r\n" + PREAMBLE + b"\r\n" + GMAIL),
        ('text/plain; charset="UTF-8"; format=flowed', "quoted-printable", b"Gr=C3=BC=C3=9Fe,=\r\n Anna\r\n"),
        ('text/plain; charset="UTF-8"', "base64", BASE64),
        ("text/plain; charset=iso-8859-15", "8bit", b"Gr\xfc\xdfe\r\n"),
        ("text/html; charset=utf-8", "quoted-printable", b'<!DOCTYPE html>\r\n<html lang=3D"de">\r\n'),
        ("text/html", "base64", base64.encodebytes(b"<html><body>Hello</body></html>")),
        ("", "", BODY),
    ],
)
def test_fields_that_are_not_signed_may_say_what_the_body_shows_by_itself(
    dns: FakeDns, kind: str, encoding: str, body: bytes
) -> None:
    """Gmail signs neither of them."""
    more = {"Content-Type": kind, "Content-Transfer-Encoding": encoding}
    fields = {name.replace("-", "_"): value for name, value in more.items() if value}
    assert check(sign(head(**fields) + b"\r\n" + body), dns).outcome is Outcome.PROVEN


def test_fields_that_are_signed_may_say_what_they_like(dns: FakeDns) -> None:
    fields = {"Content_Type": "multipart/report; boundary=x", "Content_Transfer_Encoding": "quoted-printable"}
    names = (*SIGNED, b"content-type", b"content-transfer-encoding")
    signed = sign(head(**fields) + b"\r\n" + b"a=b" + BODY, include_headers=names)
    assert check(signed, dns).outcome is Outcome.PROVEN
    found = check(sign(head(**fields) + b"\r\n" + b"a=b" + BODY), dns)
    assert found.outcome is Outcome.UNPROVEN
    assert "Content-Transfer-Encoding is not signed" in found.reason


@pytest.mark.parametrize("flags", [b"t=y", b"t=s:y", b" t = Y ", b"t=y:s"])
def test_a_key_in_testing_proves_nothing(dns: FakeDns, flags: bytes) -> None:
    (name,) = [name for name in dns.records if name.startswith("s1._domainkey.example.com")]
    dns.records[name] = [dns.records[name][0].replace(b"v=DKIM1;", b"v=DKIM1; " + flags + b";")]
    assert check(sign(MAIL), dns).outcome is Outcome.UNPROVEN
    dns.records[name] = [dns.records[name][0].replace(flags, b"t=s")]
    assert check(sign(MAIL), dns).outcome is Outcome.PROVEN


def test_a_long_body_is_looked_at_once(dns: FakeDns) -> None:
    body = b"Gr=C3=BC=C3=9Fe " * 4 + b"=\r\n"
    source = sign(head(Content_Transfer_Encoding="quoted-printable") + b"\r\n" + body * 100_000)
    forged = b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s1; h=from; bh=AAAA; b=AAAA\r\n"
    begun = time.process_time()
    assert check(forged * 19 + source, dns).outcome is not Outcome.UNKNOWN
    assert time.process_time() - begun < 5


# --- what DNS does not tell ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["s1._domainkey.mail.example.com", "_dmarc.example.com"])
def test_a_dns_fault_is_unknown_and_never_a_failure(dns: FakeDns, name: str) -> None:
    dns.broken.add(name)
    found = check(sign(MAIL, "mail.example.com"), dns)
    assert found.outcome is Outcome.UNKNOWN
    assert "DNS" in found.reason
    dns.broken.clear()
    assert check(sign(MAIL, "mail.example.com"), dns).outcome is Outcome.PROVEN


def test_a_dns_fault_of_a_signature_that_could_not_count_is_none(dns: FakeDns) -> None:
    dns.broken |= {"s1._domainkey.evil.test", "_dmarc.evil.test"}
    assert check(sign(MAIL, "evil.test", name="evil"), dns).outcome is Outcome.UNPROVEN
    assert dns.asked == []


def test_a_key_that_is_gone_is_no_fault_of_dns(dns: FakeDns) -> None:
    del dns.records["s1._domainkey.example.com"]
    assert check(sign(MAIL), dns).outcome is Outcome.UNPROVEN


# --- what never counts --------------------------------------------------------------------------------------


def test_of_all_forgeries_none_is_proven(dns: FakeDns) -> None:
    dns.records["weak._domainkey.example.com"] = [key_record(1024, "other")]
    dns.publish("notexample.com", name="evil", policy="v=DMARC1; p=none")
    dns.publish("com", name="evil")
    mails = forgeries()
    assert len(mails) >= 200
    begun = time.process_time()
    outcomes = {trick: check(source, dns).outcome for trick, source in mails.items()}
    assert {trick for trick, outcome in outcomes.items() if outcome is not Outcome.UNPROVEN} == set()
    assert time.process_time() - begun < 20


@pytest.mark.parametrize(
    "record",
    [
        b"", b"v=DKIM1; p=", b"v=DKIM1", b"v=DKIM2; p=AAAA", b"v=DKIM1; k=rsa; p=!!!", b"v=DKIM1; p=AAAA",
        b"k=unheard-of; p=AAAA", b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        b"p=AAAA; p=AAAA", b"\xff\x00", b"v=spf1 -all", b"p=" + b"A" * 60_000,
    ],
)  # fmt: skip
def test_keys_of_every_kind_but_the_right_one(dns: FakeDns, record: bytes) -> None:
    dns.records["s1._domainkey.example.com"] = [record]
    assert check(sign(MAIL), dns).outcome is Outcome.UNPROVEN


def test_the_key_among_other_records_is_found(dns: FakeDns) -> None:
    dns.records["s1._domainkey.example.com"].insert(0, b"v=spf1 -all")
    assert check(sign(MAIL), dns).outcome is Outcome.PROVEN
    dns.records["s1._domainkey.example.com"] *= 2
    assert check(sign(MAIL), dns).outcome is Outcome.UNPROVEN


def test_the_tricks_start_from_a_mail_that_is_proven(dns: FakeDns) -> None:
    assert check(sign(MAIL), dns).outcome is Outcome.PROVEN
    for kind, body in (("text/plain", QUOTING), ("multipart/alternative; boundary=b1", ALTERNATIVE)):
        as_meant = f"Content-Type: {kind}\r\n".encode() + sign(head() + b"\r\n" + body)
        assert check(as_meant, dns).outcome is Outcome.PROVEN


def test_neighbours_below_a_public_suffix_are_strangers(dns: FakeDns) -> None:
    for signer, author in (
        ("attacker.co.uk", "victim.co.uk"),
        ("attacker.github.io", "github.io"),
        ("attacker.github.io", "victim.github.io"),
        ("co.uk", "victim.co.uk"),
    ):
        for domain in (signer, author, "co.uk", "github.io"):
            dns.publish(domain, policy="v=DMARC1; p=none", name="evil")
        source = sign(head(f"boss@{author}") + b"\r\n" + BODY, signer, name="evil")
        assert check(source, dns).outcome is Outcome.UNPROVEN, (signer, author)


@pytest.mark.parametrize(
    "text",
    [
        "", "v=DMARC1", "v=spf1 -all", "p=none; v=DMARC1", "V=DMARC1; p=none", "v=DMARC1; adkim=s; adkim=r",
        " v = DMARC1 ; p = none ; adkim = r ;",
    ],
)  # fmt: skip
def test_policies_are_read_strictly(text: str) -> None:
    tags = read_policy(text.encode())
    assert bool(tags) is (text.strip().replace(" ", "").startswith("v=DMARC1") and text.count("adkim") < 2)


def test_two_policies_are_none(dns: FakeDns) -> None:
    dns.records["_dmarc.example.com"] *= 2
    assert check(sign(MAIL, "mail.example.com"), dns).outcome is Outcome.UNPROVEN


def test_few_questions_for_a_flood_of_signatures(dns: FakeDns) -> None:
    flood = b"".join(
        b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s%d; h=%s; bh=AAAA; b=AAAA\r\n"
        % (number, b":".join(SIGNED))
        for number in range(1000)
    )
    assert check(flood + MAIL, dns).outcome is Outcome.UNPROVEN
    assert len(dns.asked) <= 10


def test_the_text_of_a_mail_reaches_no_log(
    dns: FakeDns, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for source in list(forgeries().values())[:60]:
        check(source, dns)
    out = capfd.readouterr()
    assert "invoice" not in (caplog.text + out.out + out.err).lower()


def test_a_reading_that_differs_from_ours_is_not_believed(dns: FakeDns) -> None:
    other = parse(head("x@evil.test") + b"\r\n" + BODY)
    assert SenderCheck(dns).check(sign(MAIL), other).outcome is Outcome.UNPROVEN
