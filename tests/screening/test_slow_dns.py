"""Name servers of an attacker that take their time, and the mail of others beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cleo_email.mail.parse import parse
from cleo_email.runtime import PROOF_S
from cleo_email.screening.dkim import Dns, Outcome, SenderCheck
from cleo_email.store import State
from tests.screening.signing import BODY, head, key_record, sign
from tests.support.bench import Bench
from tests.support.name_server import NameServer

FLOOD = 150
SLOTS = 50  # EMAIL_CONCURRENCY; by default there are more


@pytest.fixture
def server() -> Iterator[NameServer]:
    server = NameServer()
    text = key_record().decode()
    server.zone["s1._domainkey.example.com"] = [f'"{text[:200]}" "{text[200:]}"']
    yield server
    server.close()


def mail(domain: str, number: int = 0) -> bytes:
    sender = head(f"boss@{domain}", Message_ID=f"<{number}@{domain}>")
    return sign(sender + b"\r\n" + BODY, domain)


@pytest.mark.parametrize(
    ("domain", "is_silent"),
    [("evil.test", False), ("evil.test", True), ("n{}.evil.test", False), ("evil{}.test", True)],
)
def test_a_flood_of_slow_proofs_delays_nobody_else(
    redis_url: str, server: NameServer, domain: str, is_silent: bool
) -> None:
    server.slow, server.delay = (".test",), 1000.0 if is_silent else 4.0
    bench = Bench(redis_url, sender_check=SenderCheck(Dns(server.resolver()), slow_at_once=SLOTS // 8))
    flood = [bench.receive(mail(domain.format(number), number)) for number in range(FLOOD)]
    genuine = bench.receive(mail("example.com"))
    with ThreadPoolExecutor(SLOTS) as slots:
        for accepted in flood:
            slots.submit(bench.work, accepted.thread_id)
        begun = time.monotonic()
        slots.submit(bench.work, genuine.thread_id).result()
        waited = time.monotonic() - begun
    assert bench.record(genuine).state is State.REPLIED
    assert bench.agent.asked[0].message.authenticated is True
    print(f"waited {waited:.2f} s")
    assert waited < 6, "one slot each and four seconds would have been 12"
    assert {bench.record(accepted).state for accepted in flood} == {State.RECEIVED}, "asked again later"


def test_the_whole_proof_has_one_deadline(server: NameServer) -> None:
    server.slow, server.delay = (".test",), 1000.0
    plain = head("boss@evil.test") + b"\r\n" + BODY
    signatures = [sign(plain, f"n{number}.evil.test")[: -len(plain)] for number in range(7)]
    source = b"".join(signatures) + plain
    begun = time.monotonic()
    finding = SenderCheck(Dns(server.resolver())).check(source, parse(source))
    assert finding.outcome is Outcome.UNKNOWN
    assert time.monotonic() - begun < PROOF_S + 1


def test_a_genuine_domain_whose_servers_are_slow_is_proven(server: NameServer) -> None:
    server.slow, server.delay = ("example.com",), 1.0
    check = SenderCheck(Dns(server.resolver()))
    source = mail("example.com")
    assert check.check(source, parse(source)).outcome is Outcome.PROVEN
    assert check.check(source, parse(source)).outcome is Outcome.PROVEN, "and is not held against it"


def test_where_too_many_wait_a_slow_domain_is_asked_later(server: NameServer) -> None:
    server.slow, server.delay = ("example.com",), 1.0
    check = SenderCheck(Dns(server.resolver()), slow_at_once=0)
    source = mail("example.com")
    for quick in (False, True):
        begun = time.monotonic()
        finding = check.check(source, parse(source))
        assert (finding.outcome, "DNS" in finding.reason) == (Outcome.UNKNOWN, True)
        assert time.monotonic() - begun < (0.2 if quick else 3)
    assert server.asked == ["s1._domainkey.example.com"]


def test_a_slow_neighbour_is_not_held_against_a_domain(server: NameServer) -> None:
    """Whoever finds a dead sub-domain of the victim's must not stop the victim's own mail."""
    server.slow, server.delay = ("dead.example.com",), 1000.0
    server.zone["_dmarc.example.com"] = ['"v=DMARC1; p=none"']
    check = SenderCheck(Dns(server.resolver()), slow_at_once=0)
    forged = sign(head("boss@example.com") + b"\r\n" + BODY, "dead.example.com")
    assert check.check(forged, parse(forged)).outcome is Outcome.UNKNOWN
    source = mail("example.com")
    assert check.check(source, parse(source)).outcome is Outcome.PROVEN
