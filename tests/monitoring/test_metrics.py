"""``GET /metrics``: what happened is counted once, in one place, and read in one round trip."""

from __future__ import annotations

import re
import secrets

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from cleo_email import __version__
from cleo_email.errors import (
    AgentUnavailable,
    SubmissionError,
    SubmissionLoginRefused,
    SubmissionUnavailable,
    SubmissionUncertain,
)
from cleo_email.mail.model import Action, Answer
from cleo_email.monitoring.metrics import HELP, PREFIX, WAITING_STATES, exposition
from cleo_email.screening.screen import Policy
from cleo_email.store import Effects, State
from tests.support.bench import FROM, Bench
from tests.support.channel import ROOT
from tests.support.mails import mail
from tests.support.web import Make, web_maker


@pytest.fixture
def client(redis_url: str) -> Make:
    return web_maker(redis_url)


def scraped(bench: Bench) -> dict[str, float]:
    """Each sample of our metrics by its name and labels."""
    now = bench.clock()
    return samples(exposition(bench.store.totals.read(WAITING_STATES, now), now, "")[0].decode())


def samples(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(one.labels.items()))
            found[one.name.removeprefix(PREFIX) + (f"{{{labels}}}" if labels else "")] = one.value
    return found


def test_a_mail_that_is_answered_is_counted_at_each_step(redis_url: str) -> None:
    bench = Bench(redis_url)
    accepted = bench.receive(mail(1))
    bench.receive(mail(1))  # the same again
    bench.clock.pass_(3)
    before = scraped(bench)
    assert before["messages_waiting{state=received}"] == 1
    assert before["oldest_waiting_age_seconds{state=received}"] == 3
    bench.work(accepted.thread_id)
    found = scraped(bench)
    assert found["messages_accepted_total{ingress=raw}"] == 1
    assert found["messages_total{ingress=raw,state=replied}"] == 1
    assert found["messages_total{ingress=raw,state=failed}"] == 0
    assert found["submissions_total{outcome=sent}"] == 1
    assert found["reply_duration_seconds_count"] == 1
    assert found["reply_duration_seconds_sum"] == 3
    assert (
        found["reply_duration_seconds_bucket{le=2.5}"],
        found["reply_duration_seconds_bucket{le=5.0}"],
    ) == (0, 1)
    assert found["agent_duration_seconds_count"] == 1
    assert (
        found["messages_waiting{state=received}"] == found["oldest_waiting_age_seconds{state=received}"] == 0
    )


@pytest.mark.parametrize(
    ("error", "outcome", "state"),
    [
        (SubmissionUnavailable("later"), "temporary", "submitting"),
        (SubmissionLoginRefused("535"), "temporary", "submitting"),
        (SubmissionError("never"), "permanent", "failed"),
        (SubmissionUncertain("gone"), "uncertain", "uncertain"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_every_outcome_of_a_submission_is_counted(
    redis_url: str, error: Exception, outcome: str, state: str
) -> None:
    bench = Bench(redis_url)
    bench.smtp.script = [error]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    assert str(bench.record(accepted).state) == state
    found = {name: value for name, value in scraped(bench).items() if name.startswith("submissions")}
    assert {name for name, value in found.items() if value} == {f"submissions_total{{outcome={outcome}}}"}


def test_an_agent_that_fails_and_then_hands_over_is_timed_twice(redis_url: str) -> None:
    bench = Bench(redis_url)
    bench.agent.script = [AgentUnavailable("later"), Answer(handoff="a complaint")]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    bench.clock.pass_(60)
    bench.work(accepted.thread_id)
    found = scraped(bench)
    assert found["agent_duration_seconds_count"] == 2
    assert found["threads_handed_over_total"] == 1
    assert found["messages_total{ingress=raw,state=held}"] == 1


def test_a_mail_that_is_held_at_once_is_counted_when_it_is_stored(redis_url: str) -> None:
    bench = Bench(redis_url, policy=Policy(frozenset({FROM.addr}), ("@else.test",), refused=Action.HOLD))
    bench.receive(mail(1))
    assert scraped(bench)["messages_total{ingress=raw,state=held}"] == 1


def test_a_change_that_is_sent_twice_is_counted_once(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As redis-py does when the first answer was lost."""
    bench = Bench(redis_url)
    accepted = bench.receive(mail(1))
    monkeypatch.setattr(secrets, "token_hex", lambda _n: "the same operation")
    for _ in range(2):
        bench.store.messages.move(
            accepted.id,
            State.HELD,
            now=bench.clock(),
            reason="a test",
            effects=Effects(counts={"submission:sent": 1}),
        )
    found = scraped(bench)
    assert found["messages_total{ingress=raw,state=held}"] == 1
    assert found["submissions_total{outcome=sent}"] == 1


def test_polls_workers_and_logins_are_told(redis_url: str) -> None:
    bench = Bench(redis_url)
    health = bench.store.health
    health.poll_fault("refused", login_refused=True)
    health.submission_fault("535")
    for name in ("a:1", "a:2", "a:1"):
        health.worker_seen(bench.clock(), name)
    found = scraped(bench)
    assert (found["polls_total{outcome=failure}"], found["polls_total{outcome=success}"]) == (1, 0)
    assert found["login_refused{server=imap}"] == found["login_refused{server=smtp}"] == 1
    assert found["workers"] == 2
    health.polled(bench.clock())
    health.submission_limited("too many today", bench.clock(), 1)
    bench.clock.pass_(91)
    found = scraped(bench)
    assert found["polls_total{outcome=success}"] == 1
    assert found["poll_last_success_timestamp_seconds"] == (bench.clock() - 91_000) / 1000
    assert found["login_refused{server=imap}"] == found["login_refused{server=smtp}"] == 0
    assert found["workers"] == 0
    assert found["worker_last_seen_timestamp_seconds"] == (bench.clock() - 91_000) / 1000


def test_a_scrape_is_one_round_trip_of_few_commands_however_much_there_is(redis_url: str) -> None:
    bench = Bench(redis_url)

    def commands() -> int:
        stats = bench.redis.info("commandstats")
        # Not what keeps locks of earlier tests alive, whose threads go on for a while.
        others = {"cmdstat_info", "cmdstat_evalsha", "cmdstat_get", "cmdstat_pexpire", "cmdstat_set"}
        return sum(int(one["calls"]) for name, one in stats.items() if name not in others)

    def cost() -> int:
        before = commands()
        scraped(bench)
        return commands() - before

    bench.redis.config_resetstat()
    bench.receive(mail(1))
    few = cost()
    for number in range(2, 60):
        bench.receive(mail(number))
    assert cost() == few < 25
    assert not any("scan" in name or name == "cmdstat_keys" for name in bench.redis.info("commandstats"))


def test_what_was_counted_under_the_bounds_of_another_version_is_not_lost(redis_url: str) -> None:
    bench = Bench(redis_url)
    bench.redis.hset("cleo:totals", mapping={"reply:700": 2, "reply:inf": 1, "reply:ms": 90_001_400})
    found = scraped(bench)
    assert found["reply_duration_seconds_bucket{le=0.5}"] == 0
    assert found["reply_duration_seconds_bucket{le=1.0}"] == 2
    assert found["reply_duration_seconds_count"] == found["reply_duration_seconds_bucket{le=+Inf}"] == 3


# --- by HTTP ------------------------------------------------------------------------------------------------


def test_it_is_answered_as_prometheus_asks(client: Make) -> None:
    web = client()
    answer = web.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    found = samples(answer.get_data(as_text=True))
    assert found[f"build_info{{version={__version__}}}"] == 1
    asked = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5"
    answer = web.get("/metrics", headers={"Accept": asked})
    assert answer.content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {one.name for one in openmetrics.text_string_to_metric_families(answer.get_data(as_text=True))}
    assert f"{PREFIX}polls" in families
    for nonsense in ("application/openmetrics-text;version=abc", "text/plain;version=x;escaping=y", ",;="):
        assert web.get("/metrics", headers={"Accept": nonsense}).status_code == 200


def test_it_is_for_our_own_programs_only(client: Make) -> None:
    web = client(CLEO_API_TOKEN="prometheus:metrics-token-of-the-test")
    refused = web.get("/metrics")
    assert refused.status_code == 401
    assert PREFIX not in refused.get_data(as_text=True)
    shown = {"Authorization": "Bearer metrics-token-of-the-test"}
    assert web.get("/metrics", headers=shown).status_code == 200
    assert client().get("/metrics", environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == 401
    assert client(ENABLED_CLIENTS="teams").get("/metrics").status_code == 404


def test_a_redis_that_refuses_info_leaves_out_its_memory_alone(client: Make, redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.acl_setuser(
            "hosted", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"], commands=["-info"]
        )
        try:
            answer = client(REDIS_URL=f"{redis_url}&username=hosted&password=pw").get("/metrics")
        finally:
            redis.acl_deluser("hosted")
    assert answer.status_code == 200
    found = samples(answer.get_data(as_text=True))
    assert found["workers"] == 0
    assert not any("memory" in name for name in found)


def test_the_page_names_each_metric_as_the_process_does(client: Make) -> None:
    text = client().get("/metrics").get_data(as_text=True)
    told = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    assert len(told) == len(HELP)
    page = (ROOT / "docs/operation.md").read_text("utf-8").partition("### Metrics")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| `(\w+)`[^|]*\| (.*?) \|$", page, re.MULTILINE)
    assert dict(rows) == told
