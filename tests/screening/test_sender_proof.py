"""EMAIL_VERIFY_DKIM in the services: proven mail is answered, forged mail held, and DNS may take its time."""

from __future__ import annotations

import pytest

from cleo_email.mail.model import Action
from cleo_email.pipeline.receive import IncomingMail
from cleo_email.screening.dkim import Dns, DnsFault, SenderCheck
from cleo_email.screening.screen import Policy
from cleo_email.store import State
from tests.screening.signing import BODY, FakeDns, head, sign
from tests.support.bench import FROM, Bench

SIGNED = sign(head() + b"\r\n" + BODY)
FORGED = head() + b"\r\n" + BODY


@pytest.fixture
def dns() -> FakeDns:
    dns = FakeDns()
    dns.publish("example.com")
    return dns


@pytest.fixture
def bench(redis_url: str, dns: FakeDns) -> Bench:
    return Bench(redis_url, sender_check=SenderCheck(dns))


def test_a_proven_sender_is_answered_and_the_agent_knows(bench: Bench) -> None:
    accepted = bench.receive(SIGNED)
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert bench.agent.asked[0].message.authenticated is True
    people = bench.store.threads.people([accepted.thread_id])[accepted.thread_id]
    assert "boss@example.com" in people


def test_a_forged_mail_is_held_and_brings_nobody_into_the_thread(bench: Bench) -> None:
    first = bench.receive(SIGNED)
    bench.work(first.thread_id)
    quoting = f"<m1@example.com> {bench.smtp.sent[0].message_id}"
    trick = head(Message_ID="<m2@example.com>", References=quoting, Cc="x@evil.test") + b"\r\n" + BODY
    forged = bench.receive(trick)
    bench.work(forged.thread_id)
    record = bench.record(forged)
    assert record.state is State.HELD
    assert "EMAIL_VERIFY_DKIM" in record.reason
    assert len(bench.agent.asked) == 1
    everybody = bench.store.threads.people([first.thread_id])[first.thread_id]
    assert "x@evil.test" not in everybody, "or he could read the thread in his own name"


def test_a_person_may_release_it_and_the_agent_is_told_that_it_is_not_proven(bench: Bench) -> None:
    accepted = bench.receive(FORGED)
    bench.work(accepted.thread_id)
    bench.deciding.release(accepted.id, by="cli")
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert bench.agent.asked[0].message.authenticated is False


def test_dns_that_is_away_only_delays(bench: Bench, dns: FakeDns) -> None:
    dns.broken.add("s1._domainkey.example.com")
    accepted = bench.receive(SIGNED)
    for _ in range(20):
        bench.work(accepted.thread_id)
        assert bench.record(accepted).state is State.RECEIVED
        assert "DNS" in bench.record(accepted).reason
        bench.clock.pass_(3600)
    dns.broken.clear()
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert bench.agent.asked[0].message.authenticated is True


def test_dns_that_is_away_for_a_day_makes_it_a_persons_matter(bench: Bench, dns: FakeDns) -> None:
    dns.broken.add("s1._domainkey.example.com")
    accepted = bench.receive(SIGNED)
    bench.work(accepted.thread_id)
    bench.clock.pass_(25 * 3600)
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.HELD
    bench.deciding.release(accepted.id, by="cli")
    bench.work(accepted.thread_id)
    assert bench.agent.asked[0].message.authenticated is None, 'nobody knows, which is not "forged"'


def test_what_the_own_server_or_the_provider_vouches_for_is_not_asked_again(
    redis_url: str, dns: FakeDns
) -> None:
    policy = Policy(frozenset({FROM.addr}), authserv_id="mx.cleo.test")
    bench = Bench(redis_url, policy=policy, sender_check=SenderCheck(dns))
    results = b"Authentication-Results: mx.cleo.test; dmarc=pass header.from=example.com\r\n"
    for source, way in (
        (results + FORGED, {}),
        (head(Message_ID="<m3@x>") + b"\r\n", {"authenticated": True}),
    ):
        accepted = bench.receive(source, **way)
        bench.work(accepted.thread_id)
        assert bench.record(accepted).state is State.REPLIED
    assert dns.asked == []
    # And a signature of its own is enough where the server says nothing.
    signed = bench.receive(SIGNED.replace(b"X-Nothing", b""))
    bench.work(signed.thread_id)
    assert "a copy of message" in bench.record(signed).reason
    assert len(bench.smtp.sent) == 2
    other = bench.receive(sign(head(Message_ID="<m4@example.com>") + b"\r\n" + BODY))
    bench.work(other.thread_id)
    assert bench.record(other).state is State.REPLIED
    assert bench.agent.asked[-1].message.authenticated is True


def test_without_the_setting_the_agent_is_told_that_nobody_knows(redis_url: str) -> None:
    bench = Bench(redis_url)
    accepted = bench.receive(FORGED)
    bench.work(accepted.thread_id)
    assert bench.agent.asked[0].message.authenticated is None


def test_names_that_no_dns_could_have_are_no_fault() -> None:
    for name in ("x" * 70 + ".example", "a..b", ".".join(["y" * 60] * 6)):
        assert Dns()(name) == ()


def test_a_resolver_that_does_not_answer_is_a_fault() -> None:
    import dns.resolver

    silent = dns.resolver.Resolver(configure=False)
    silent.nameservers = ["127.0.0.1"]
    silent.port = 1
    with pytest.raises(DnsFault):
        Dns(silent)("s1._domainkey.example.com", 0.3)


def test_forged_mail_may_be_ignored_instead_of_held(redis_url: str, dns: FakeDns) -> None:
    policy = Policy(frozenset({FROM.addr}), refused=Action.IGNORE)
    bench = Bench(redis_url, policy=policy, sender_check=SenderCheck(dns))
    accepted = bench.receive(FORGED)
    bench.work(accepted.thread_id)
    record = bench.record(accepted)
    assert record.state is State.IGNORED
    assert "EMAIL_VERIFY_DKIM" in record.reason


def test_who_is_not_allowed_is_held_unless_the_operator_wants_them_ignored(redis_url: str) -> None:
    for refused, state in ((Action.HOLD, State.HELD), (Action.IGNORE, State.IGNORED)):
        policy = Policy(frozenset({FROM.addr}), allowed_senders=("@friends.test",), refused=refused)
        bench = Bench(redis_url, policy=policy)
        bench.redis.flushdb()
        record = bench.record(bench.receive(FORGED))
        assert record.state is state
        assert "EMAIL_ALLOWED_SENDERS" in record.reason


@pytest.mark.parametrize(
    ("ingress", "state"),
    [("imap", State.RECEIVED), ("raw", State.RECEIVED), ("mailgun", State.HELD), ("webhook", State.HELD)],
)
def test_the_own_servers_verdict_counts_only_in_mail_that_has_passed_it(
    redis_url: str, ingress: str, state: State
) -> None:
    """A provider does not strip the header that a stranger has written in the server's name."""
    bench = Bench(redis_url, policy=Policy(frozenset({FROM.addr}), authserv_id="mx.cleo.test"))
    verdict = "mx.cleo.test; dmarc=pass header.from=example.com"
    source = head(Authentication_Results=verdict) + b"\r\n" + BODY
    accepted = bench.intake.accept(IncomingMail(source, ingress))
    assert bench.record(accepted).state is state
