"""What counts as an authenticated sender, and the many things that must not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleo_email.mail.model import Address, InboundEmail
from cleo_email.screening.authentication import authenticated

OURS = "mx.example.com"
VICTIM = "chef@firma.de"
DOMAIN = "firma.de"
EVIL = "evil.example"
PASS = f"{OURS}; dmarc=pass header.from={DOMAIN}"


def mail(*results: str, sender: str = VICTIM, more_from: tuple[str, ...] = ()) -> InboundEmail:
    writers = (sender, *more_from)
    headers = [("authentication-results", value) for value in results]
    headers += [("from", ", ".join(writers))]
    return InboundEmail(from_=tuple(Address(one) for one in writers), headers=tuple(headers))


# --- what passes ----------------------------------------------------------------------------------------

REAL = {
    "Gmail": (
        "mx.google.com",
        "mx.google.com;       dkim=pass header.i=@firma.de header.s=s1 header.b=Kd9/x+2=;"
        "       spf=pass (google.com: domain of chef@firma.de designates 192.0.2.1 as permitted sender)"
        " smtp.mailfrom=chef@firma.de;       dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=firma.de",
    ),
    "Gmail with ARC": (
        "mx.google.com",
        "mx.google.com; dkim=pass header.i=@firma.de header.s=google header.b=abcd; arc=pass (i=1 spf=pass"
        " spfdomain=firma.de dkim=pass dkdomain=firma.de dmarc=pass fromdomain=firma.de); spf=pass"
        " smtp.mailfrom=chef@firma.de; dmarc=pass (p=NONE sp=NONE dis=NONE arc=pass) header.from=firma.de;"
        " dara=pass header.i=@gmail.com",
    ),
    "Fastmail": (
        "mx1.messagingengine.com",
        "mx1.messagingengine.com; bimi=skipped (DMARC Policy is not at enforcement); arc=none (no signatures"
        " found); dkim=pass (2048-bit rsa key sha256) header.d=firma.de header.i=@firma.de header.b=Lp0w/t+="
        " header.a=rsa-sha256 header.s=fm1 x-bits=2048; dmarc=pass policy.published-domain-policy=none"
        " policy.applied-disposition=none policy.evaluated-disposition=none"
        " (p=none,d=none,d.eval=none) policy.policy-from=p header.from=firma.de; iprev=pass"
        " smtp.remote-ip=192.0.2.1 (out.firma.de); spf=pass smtp.mailfrom=chef@firma.de"
        " smtp.helo=out.firma.de",
    ),
    "rspamd": (
        "mail.verein.example",
        "mail.verein.example;\tdkim=pass header.d=firma.de header.s=dkim header.b=cW9hYm;\tspf=pass"
        " (mail.verein.example: domain of chef@firma.de designates 2001:db8::1 as permitted sender)"
        " smtp.mailfrom=chef@firma.de;\tdmarc=pass (policy=reject) header.from=firma.de",
    ),
    "OpenDMARC": ("mx.example.com", "mx.example.com; dmarc=pass (p=reject dis=none) header.from=firma.de"),
    "OpenDMARC, host in mixed case": ("mx.example.com", "MX.Example.COM; dmarc=pass header.from=Firma.DE"),
    "Yahoo": (
        "atlas-production.v2-mail-prod1-gq1.omega.yahoo.com",
        "atlas-production.v2-mail-prod1-gq1.omega.yahoo.com; dkim=pass header.i=@firma.de header.s=s1;"
        " spf=pass smtp.mailfrom=firma.de; dmarc=pass(p=REJECT) header.from=firma.de;",
    ),
    "Exim": (
        "mx.example.com",
        "mx.example.com; iprev=pass (out.firma.de) smtp.remote-ip=192.0.2.1; spf=pass"
        " smtp.mailfrom=firma.de; dkim=pass header.d=firma.de header.s=a header.a=rsa-sha256;"
        " dmarc=pass header.from=firma.de",
    ),
    "Stalwart": (
        "mx.example.com",
        "mx.example.com; dkim=pass header.d=firma.de header.s=x header.b=aGVsbG8; spf=pass"
        " (mx.example.com: domain of chef@firma.de designates 192.0.2.9 as permitted sender)"
        " smtp.mailfrom=chef@firma.de smtp.helo=out.firma.de; iprev=pass policy.iprev=192.0.2.9;"
        " dmarc=pass header.from=firma.de policy.dmarc=reject",
    ),
    "amavis, with a comment after the name": (
        "mx.example.com",
        "mx.example.com (amavisd-new); dkim=pass header.d=firma.de; dmarc=pass header.from=firma.de",
    ),
    "RFC 8601 appendix, versions": (
        "example.net",
        "example.net 1; spf=pass smtp.mailfrom=firma.de; dmarc/1=pass header.from=firma.de",
    ),
    "blanks around everything (RFC 8601, 2.2)": (
        "mx.example.com",
        "  mx.example.com ; dmarc = pass ( all \\) is (well) ) header . from = firma.de ",
    ),
    "a reason": (
        "mx.example.com",
        'mx.example.com; dmarc=pass reason="good; \\"dmarc=fail\\"" header.from=firma.de',
    ),
    "a quoted domain": ("mx.example.com", 'mx.example.com; dmarc=pass header.from="firma.de"'),
    "header.from with a mailbox": ("mx.example.com", "mx.example.com; dmarc=pass header.from=chef@firma.de"),
    "folded": ("mx.example.com", "mx.example.com;\r\n\tdmarc=pass\r\n\theader.from=firma.de"),
}


@pytest.mark.parametrize(("server", "value"), REAL.values(), ids=REAL.keys())
def test_what_servers_write_for_an_authenticated_sender_counts(server: str, value: str) -> None:
    assert authenticated(mail(value), server) is True
    assert authenticated(mail(value), f" {server.upper()} ") is True


def test_only_the_topmost_header_is_asked() -> None:
    assert authenticated(mail(PASS, f"{OURS}; dmarc=fail header.from={DOMAIN}"), OURS) is True
    assert authenticated(mail(f"{OURS}; dmarc=fail header.from={DOMAIN}", PASS), OURS) is False


def test_an_international_domain_meets_its_a_label() -> None:
    value = f"{OURS}; dmarc=pass header.from=xn--strae-oqa.de"
    assert authenticated(mail(value, sender="a@straße.de"), OURS) is True
    assert authenticated(mail(value, sender="a@strasse.de"), OURS) is False


def test_nothing_is_known_without_the_header() -> None:
    assert authenticated(mail(), OURS) is None
    assert authenticated(InboundEmail(from_=(Address(VICTIM),)), OURS) is None


# --- what must not pass ---------------------------------------------------------------------------------


def _other_servers() -> list[InboundEmail]:
    names = [
        "mx.evil.example", "mx.example.com.evil.example", "evil.mx.example.com", "example.com",
        "mx.example.co",
        "mx.example.comm", "mx.example.com.", "mx-example.com", "mx.example.com:25", "mx.example.com/1",
        "mx.example.com 2", "mx.example.com 11", "mx.example.com 1 1", "mx.example.com evil",
        "evil mx.example.com", "(mx.example.com) evil.example", '"mx.example.com"', 'mx."example".com',
        "mx .example.com", "mx. example.com", "mx.example(x).com", "mx.exаmple.com", "ⅿx.example.com",
        "mx.example.com\u200b", "\ufeffmx.example.com", "mx.example.com\x00", "=?utf-8?q?mx.example.com?=",
        "",
        "()", "mx.example.com=", "@mx.example.com", "<mx.example.com>", "mx.example.com, mx.example.com",
        "spf=pass", "mx.example.com\\", "(comment) mx.example.com",
    ]  # fmt: skip
    return [mail(f"{name}; dmarc=pass header.from={DOMAIN}") for name in names]


def _below_the_top() -> list[InboundEmail]:
    tops = [
        "mx.other.example; none",
        f"{OURS}; none",
        OURS,
        f"{OURS};",
        "",
        f"{OURS}; dmarc=fail header.from={DOMAIN}",
        f"{OURS}; spf=pass smtp.mailfrom={DOMAIN}",
        "spf=pass smtp.mailfrom=evil.example; dmarc=none action=none header.from=firma.de; compauth=fail",
        "garbage (",
    ]
    return [mail(top, *([PASS] * count)) for top in tops for count in (1, 2)]


def _results() -> list[InboundEmail]:
    """Results that are no pass of DMARC."""
    words = [
        "fail", "none", "neutral", "softfail", "temperror", "permerror", "policy", "bestguesspass", "passed",
        "pas", "pass1", "pass.", "pass/1", "pass=pass", "xpass", "p ass", '"pass"', "paſs", "раss",
        "ｐａｓｓ",
        "",
        "(pass)", "fail (pass)", "(pass) fail", "fail pass", "pass,fail", "hardfail", "=pass", "pass\u200b",
        "=?us-ascii?q?pass?=",
    ]  # fmt: skip
    return [mail(f"{OURS}; dmarc={word} header.from={DOMAIN}") for word in words]


def _methods() -> list[InboundEmail]:
    """Methods that prove something else."""
    words = [
        "spf", "dkim", "dkim-adsp", "sender-id", "domainkeys", "arc", "auth", "bimi", "iprev", "dmarc/2",
        "dmarc/0", "dmarc/", "dmarc/1/1", "dmarc/x", "x-dmarc", "dmarcx", "dmarc-", "dmarc.", "d marc",
        '"dmarc"', "(dmarc)", "dmаrc", "ｄmarc", "dmarc1", "spf=pass dmarc", "x dmarc", "compauth", "dmarc=",
        "dmarc dmarc", "=?utf-8?q?dmarc?=", "@dmarc", "dmarc,x",
    ]  # fmt: skip
    return [mail(f"{OURS}; {word}=pass header.from={DOMAIN}") for word in words]


def _hidden_passes() -> list[InboundEmail]:
    """A pass that stands in a comment, a quoted string or somebody else's property."""
    claim = f"dmarc=pass header.from={DOMAIN}"
    true = f"dmarc=fail header.from={DOMAIN}"
    values = [
        f"{OURS}; ({claim})",
        f"{OURS}; none ({claim})",
        f"{OURS}; spf=fail (; {claim};) smtp.mailfrom={EVIL}",
        f"{OURS}; spf=fail ((; {claim};)) smtp.mailfrom={EVIL}",
        f"{OURS}; spf=fail (\\); {claim};) smtp.mailfrom={EVIL}",
        f'{OURS}; spf=fail reason="; {claim}" smtp.mailfrom={EVIL}',
        f'{OURS}; spf=fail reason="\\"; {claim}; \\"" smtp.mailfrom={EVIL}',
        f"{OURS}; spf=fail reason='; {true}; {claim}'",
        f'{OURS}; "{claim}"',
        f'{OURS}; "; {claim}',
        f"{OURS}; (; {claim}",
        f"{OURS}; ((); {claim}",
        f"{OURS}; ); {claim}",
        f"{OURS}; \\; {claim}",
        f'{OURS}; spf=pass smtp.mailfrom="x; {claim}"@{EVIL}',
        f"{OURS}; spf=pass smtp.mailfrom={claim}",
        f"{OURS}; x.{claim}",
        f"{OURS}; policy.{claim}",
        f"{OURS}; spf=pass {claim}",
        f"{OURS}; spf=pass.{claim}",
        f"{OURS} {claim}",
        f"{OURS}: {claim}",
        f"{OURS}, {claim}",
        f"{OURS}\n{claim}",
        f"({OURS}; {claim})",
        f'"{OURS}; {claim}"',
        f"{claim}; {OURS}",
        f"; {OURS}; {claim}",
        f"{EVIL}; x={OURS}; {claim}",
        f"{OURS}; =?us-ascii?q?{claim.replace(' ', '_')}?=",
        f"{OURS}; spf=fail smtp.mailfrom==?us-ascii?q?a?=; {claim}",
        f"{OURS}; {'(' * 5000}; {claim}",
        f"{OURS}; {'(' * 30}x{')' * 30}; {claim}",
    ]
    return [mail(value) for value in values]


def _two_results() -> list[InboundEmail]:
    """More than one DMARC result: text that the sender chose may have become one of them."""
    claim = f"dmarc=pass header.from={DOMAIN}"
    others = [f"dmarc=fail header.from={DOMAIN}", f"dmarc=pass header.from={EVIL}", claim, "dmarc=none",
              "dmarc",
              f"DMARC=FAIL header.from={DOMAIN}", f"dmarc/1=fail header.from={DOMAIN}",
              "dmarc (x)=fail"]  # fmt: skip
    pairs = [(claim, other) for other in others] + [(other, claim) for other in others]
    return [mail(f"{OURS}; spf=pass; {first}; {second}") for first, second in pairs]


def _other_domains() -> list[InboundEmail]:
    values = [
        EVIL, "firma.de.evil.example", "evil-firma.de", "xfirma.de", "sub.firma.de", "de", "firma",
        "firma.de.de",
        "firma.com", "firma..de", ".firma.de", "firma.de@evil.example", "evil.example,firma.de",
        "firma.de,evil.example", "firma.de/evil.example", "firma.de=evil.example", "fırma.de", "firma。de",
        "xn--firma-.de", '"firma.de"evil', '"firma.de', "(firma.de)", "evil(firma.de)", "", "*.firma.de",
        "firma.de:evil", "[firma.de]", "firma.de\u200b", "=?utf-8?q?firma.de?=",
    ]  # fmt: skip
    mails = [mail(f"{OURS}; dmarc=pass header.from={value}") for value in values]
    props = [
        f"smtp.from={DOMAIN}", f"smtp.mailfrom={DOMAIN}", f"header.d={DOMAIN}", f"header.i=@{DOMAIN}",
        f"header.sender={DOMAIN}", f"policy.from={DOMAIN}", f"from={DOMAIN}", f"header-from={DOMAIN}",
        f"header.from.x={DOMAIN}", f"x.header.from={DOMAIN}", f"headerfrom={DOMAIN}", f"header.from {DOMAIN}",
        f"header.from:{DOMAIN}", f"header.from=={DOMAIN}", f"reason=header.from={DOMAIN}", DOMAIN,
        f"action=none header.from.={DOMAIN}", f'"header.from"={DOMAIN}', f'header."from"={DOMAIN}',
        f"header.from={EVIL} header.from={DOMAIN}", f"header.from={DOMAIN} header.from={EVIL}",
        f"header.from={DOMAIN} header.from={DOMAIN}", f"junk header.from={DOMAIN}", f"(header.from={DOMAIN})",
        f"header.from=(x) ;header.from={DOMAIN}", f"; header.from={DOMAIN}",
    ]  # fmt: skip
    return mails + [mail(f"{OURS}; dmarc=pass {prop}") for prop in props]


def _senders() -> list[InboundEmail]:
    """The server speaks of another domain than the one that we read in From, or From is not one mailbox."""
    spellings = [
        f'"{VICTIM}"@{EVIL}', f"{VICTIM}@{EVIL}", f"{EVIL}%{VICTIM}", f"<{VICTIM}>", f"{VICTIM}(x)",
        f"{VICTIM} ,",
        f"chef @{DOMAIN}", f"chef@ {DOMAIN}", f"chef@{DOMAIN}\x00", f"@{EVIL}:{VICTIM}", f"chef;@{DOMAIN}",
        DOMAIN,
        f"@{DOMAIN}", "chef@", "", f'"chef"@{DOMAIN}', f"chef@sub.{DOMAIN}", f"chef@{DOMAIN}.{EVIL}",
        "chef@firmа.de", "chef@fırma.de", f"chef@[{DOMAIN}]", f"chef\n@{DOMAIN}",
    ]  # fmt: skip
    mails = [mail(PASS, sender=one) for one in spellings if one != f"{EVIL}%{VICTIM}"]
    mails += [mail(f"{OURS}; dmarc=pass header.from={EVIL}", sender=VICTIM)]
    mails += [mail(PASS, more_from=(other,)) for other in (f"a@{EVIL}", f"other@{DOMAIN}", "", "x")]
    mails += [mail(PASS, sender=f"a@{EVIL}", more_from=(VICTIM,))]
    twice = mail(PASS)
    mails += [
        InboundEmail(from_=twice.from_, headers=(*twice.headers, ("from", value)))
        for value in (VICTIM, f"a@{EVIL}", "")
    ]
    mails += [InboundEmail(headers=twice.headers), InboundEmail(headers=twice.headers, reply_to=twice.from_)]
    return mails


def _microsoft() -> list[InboundEmail]:
    """No authserv-id: whoever wrote it, it does not say."""
    value = f"spf=pass (sender IP is 192.0.2.1) smtp.mailfrom={DOMAIN}; dkim=pass (signature was verified)" \
            f" header.d={DOMAIN};dmarc=pass action=none header.from={DOMAIN};compauth=pass"  # fmt: skip
    return [mail(value), mail(f"dmarc=pass action=none header.from={DOMAIN}"), mail(f"{OURS}; x", value)]


SPOOFS = {
    family.__name__.strip("_"): family()
    for family in (
        _other_servers, _below_the_top, _results, _methods, _hidden_passes, _two_results, _other_domains,
        _senders, _microsoft,
    )
}  # fmt: skip


def test_the_families_are_many() -> None:
    assert sum(map(len, SPOOFS.values())) >= 200
    assert len({repr((m.headers, m.from_)) for family in SPOOFS.values() for m in family}) >= 200


@pytest.mark.parametrize("family", SPOOFS)
def test_no_spoof_counts_as_authenticated(family: str) -> None:
    passed = [m.headers for m in SPOOFS[family] if authenticated(m, OURS) is not False]
    assert passed == []


@pytest.mark.parametrize(
    "name", ["", " ", "spf=pass", ";", "mx.example.com; dmarc=pass header.from=firma.de"]
)
def test_a_nonsensical_configured_name_admits_nobody(name: str) -> None:
    microsoft = SPOOFS["microsoft"][0]
    assert authenticated(microsoft, name) is False
    assert authenticated(mail(PASS), name) is False


@pytest.mark.parametrize(
    "value",
    [
        f"{OURS}; " + "(" * 1_000_000,
        f"{OURS}; " + '"' * 1_000_001,
        f"{OURS}; " + "\\" * 1_000_000,
        f"{OURS}; " + "dmarc=pass header.from=firma.de;" * 40_000,
        f"{OURS}; dmarc=pass " + "a.b=c " * 160_000,
        f"{OURS}; dmarc=pass " + "a" * 1_000_000,
        f"{OURS}; dmarc=pass " + "=" * 1_000_000,
        f"{OURS}; dmarc=pass " + ". " * 500_000,
        ";" * 1_000_000,
    ],
    ids=lambda value: repr(value[:30]),
)
def test_a_huge_header_is_refused_at_once(value: str) -> None:
    began = time.process_time()
    assert authenticated(mail(value), OURS) is False
    assert authenticated(mail(value[:65_000]), OURS) is False
    assert time.process_time() - began < 2


_pieces = st.sampled_from(
    [
        OURS,
        DOMAIN,
        "dmarc",
        "pass",
        "=",
        ";",
        ".",
        "/",
        "(",
        ")",
        '"',
        "\\",
        " ",
        "\t",
        "header.from",
        "1",
        "@",
        "é",
    ]
)


@given(st.lists(st.one_of(_pieces, st.text(max_size=3)), max_size=40).map("".join))
def test_any_text_is_judged_without_an_error(value: str) -> None:
    assert authenticated(mail(value), OURS) in (True, False)


@given(st.lists(_pieces, max_size=12).map("".join))
def test_nothing_before_the_servers_own_fail_turns_it_into_a_pass(junk: str) -> None:
    """A server that puts the sender's text into its header still says what it found."""
    value = f"{OURS}; spf=fail smtp.mailfrom={junk}; dmarc=fail header.from={DOMAIN}"
    assert authenticated(mail(value), OURS) is False
