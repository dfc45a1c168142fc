"""A limit of the account lets all mail wait, and fails none."""

from __future__ import annotations

import pytest

from cleo_email.errors import SubmissionError, SubmissionLimited
from cleo_email.mail.model import Receipt
from cleo_email.store import Accepted, State
from tests.support.bench import Bench
from tests.support.mails import mail


def limit(*, permanent: bool) -> SubmissionLimited:
    code = "550 5.4.5 Daily user sending limit exceeded" if permanent else "450 4.7.1 rate limited"
    return SubmissionLimited(f"the server answers the mail with {code}", permanent=permanent)


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


def wake_what_is_due(bench: Bench) -> None:
    for thread in bench.store.conversations.due(bench.clock.now, 100):
        bench.work(thread)


def ask(bench: Bench, number: int) -> Accepted:
    accepted = bench.receive(mail(number))
    bench.work(accepted.thread_id)
    return accepted


@pytest.mark.parametrize(("permanent", "first_pause"), [(False, 10), (True, 60)])
def test_all_mail_waits_and_the_reason_is_the_servers(
    bench: Bench, permanent: bool, first_pause: int
) -> None:
    bench.smtp.script = [limit(permanent=permanent)]
    first = ask(bench, 1)
    second = ask(bench, 2)
    assert bench.smtp.tries == 1, "the second one waits without a try"
    for one in (first, second):
        assert bench.record(one).state is State.SUBMITTING
        assert "limit" in bench.record(one).reason
    fault = bench.store.health.read().submission_fault
    assert ("5.4.5" if permanent else "4.7.1") in fault
    assert "limits this account" in fault
    bench.clock.pass_(first_pause - 1)
    wake_what_is_due(bench)
    assert bench.smtp.tries == 1
    bench.clock.pass_(2)
    wake_what_is_due(bench)
    assert bench.smtp.tries == 2, "one of the two looks"


@pytest.mark.parametrize("permanent", [False, True])
def test_a_day_later_everything_is_sent(bench: Bench, permanent: bool) -> None:
    bench.smtp.script = [limit(permanent=permanent)]
    accepted = [ask(bench, number) for number in range(1, 6)]
    for _ in range(24 * 60):
        bench.clock.pass_(60)
        bench.redis.delete("cleo:tick:submission-probe")  # which does not know the test's clock
        wake_what_is_due(bench)
    assert bench.smtp.tries < 45, "each further try could prolong it"
    assert {bench.record(one).state for one in accepted} == {State.SUBMITTING}
    bench.smtp.script = [Receipt("250 ok")]
    for _ in range(62):
        bench.clock.pass_(60)
        bench.redis.delete("cleo:tick:submission-probe")
        wake_what_is_due(bench)
    assert {bench.record(one).state for one in accepted} == {State.REPLIED}
    assert len(bench.smtp.sent) == 5
    assert bench.store.health.read().submission_fault == ""
    assert bench.store.health.read().submission_rests_until == 0


def test_a_person_may_try_at_once(bench: Bench) -> None:
    bench.smtp.script = [limit(permanent=True), Receipt("250")]
    accepted = ask(bench, 1)
    bench.deciding.retry(accepted.id, by="cli")
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED


def test_a_mail_of_its_own_fault_fails_all_the_same(bench: Bench) -> None:
    bench.smtp.script = [SubmissionError("550 5.1.1 no such user")]
    assert bench.record(ask(bench, 1)).state is State.FAILED
