"""Alerts: at most one an hour for each kind, one when it is over, and none is lost."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from redis import Redis

from cleo_email.errors import CleoError, StoreUnavailable, SubmissionLoginRefused
from cleo_email.mail.model import Action, Answer, Receipt
from cleo_email.monitoring.alerts import Alerts
from cleo_email.runtime import MINUTE
from cleo_email.screening.screen import Policy
from cleo_email.store import Accepted, State
from tests.support.bench import FROM, Bench
from tests.support.mails import mail

WAITS, NO_WORKER = "Mail waits for a person", "No worker is running"
HOLDS = Policy(frozenset({FROM.addr}), ("@else.test",), refused=Action.HOLD)
LINK = "https://cleo.test/operator/"


@dataclass
class Recorder:
    """A way that works, unless ``fault`` is set."""

    name: str = "recorder"
    fault: CleoError | None = None
    told: list[tuple[str, str]] = field(default_factory=list)

    def send(self, subject: str, text: str) -> None:
        if self.fault:
            raise self.fault
        self.told.append((subject, text))

    @property
    def subjects(self) -> list[str]:
        return [subject for subject, _ in self.told]


class Desk:
    """A bench whose worker is seen whenever somebody looks."""

    def __init__(self, redis_url: str, *, polls_every_s: int = 60) -> None:
        self.bench = Bench(redis_url, policy=HOLDS)
        self.way = Recorder()
        self.worker = True
        self._every_s = polls_every_s
        self.alerts = self.again()

    def again(self) -> Alerts:
        """As another process, or one that has started again."""
        store, clock = self.bench.store, self.bench.clock
        self.alerts = Alerts(store, [self.way], LINK, polls_every_s=self._every_s, clock=clock)
        return self.alerts

    def look(self, *, after: float = 15) -> list[str]:
        """Return the subjects of what is told ``after`` so many seconds."""
        self.bench.clock.pass_(after)
        if self.worker:
            self.bench.store.health.worker_seen(self.bench.clock())
        before = len(self.way.told)
        self.alerts.run()
        return self.way.subjects[before:]

    def hold(self, number: int) -> Accepted:
        return self.bench.receive(mail(number))

    def dismiss(self, accepted: Accepted) -> None:
        self.bench.store.messages.move(accepted.id, State.IGNORED, now=self.bench.clock(), reason="dismissed")


@pytest.fixture
def desk(redis_url: str) -> Desk:
    return Desk(redis_url, polls_every_s=0)


def test_nothing_is_told_where_all_is_well(desk: Desk) -> None:
    assert desk.look() == desk.look(after=2 * 86_400) == []


def test_mails_that_wait_are_told_in_one_alert_an_hour_and_once_when_none_does(desk: Desk) -> None:
    first = desk.hold(1)
    assert desk.look() == [WAITS]
    others = [desk.hold(number) for number in range(2, 6)]
    assert desk.look() == desk.look(after=3000) == []
    assert desk.look(after=3600) == [WAITS]
    assert "0 to approve, 5 held, 0 failed, 0 uncertain" in desk.way.told[-1][1]
    assert desk.look(after=4 * 3600) == [], "nothing is new"
    for one in (first, *others):
        assert desk.look() == []
        desk.dismiss(one)
    assert desk.look() == ["No mail waits for a person any more"]
    assert desk.look() == desk.look(after=86_400) == []


def test_what_waits_for_days_is_told_again_each_day(desk: Desk) -> None:
    desk.hold(1)
    assert desk.look() == [WAITS]
    assert [bool(desk.look(after=3600)) for _ in range(48)].count(True) == 2


def test_what_begins_again_within_the_hour_is_told_after_it(desk: Desk) -> None:
    one = desk.hold(1)
    assert desk.look() == [WAITS]
    desk.dismiss(one)
    assert len(desk.look()) == 1
    desk.hold(2)
    assert desk.look() == []
    assert desk.look(after=3600) == [WAITS]


def test_an_alert_holds_numbers_and_a_link_and_nothing_of_a_mail(desk: Desk) -> None:
    source = mail(1, text="Kontonummer 4711")
    desk.bench.receive(source)
    desk.look()
    ((subject, text),) = desk.way.told
    assert LINK in text
    assert "Es warten: 0 auf Freigabe, 1 angehalten" in text
    for secret in ("4711", "client.test", "customer", "Question", "Subject"):
        assert secret.lower() not in (subject + text).lower()


def test_without_a_public_url_the_commands_are_named(desk: Desk) -> None:
    desk.alerts = Alerts(desk.bench.store, [desk.way], "", polls_every_s=0, clock=desk.bench.clock)
    desk.hold(1)
    desk.look()
    assert "cleo-email messages list" in desk.way.told[0][1]


def test_a_hand_over_is_told_even_where_nothing_waits(redis_url: str) -> None:
    desk = Desk(redis_url, polls_every_s=0)
    desk.bench.policy = desk.bench.intake.policy = Policy(frozenset({FROM.addr}))
    desk.bench.agent.script = [Answer("A colleague will write to you.", handoff="a complaint")]
    accepted = desk.hold(1)
    desk.bench.work(accepted.thread_id)
    assert desk.bench.record(accepted).state is State.REPLIED
    assert desk.look() == ["The agent has handed a thread over"]
    assert "since the last alert: 1." in desk.way.told[0][1]
    assert desk.look() == desk.look(after=2 * 86_400) == []


def test_an_alert_that_reaches_nobody_is_tried_again_until_it_does(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.hold(1)
    desk.way.fault = CleoError("the network is away")
    for _ in range(60):
        assert desk.look() == []
    assert len([one for one in caplog.records if one.levelno == logging.ERROR]) == 1
    desk.way.fault = None
    assert desk.look(after=301) == [WAITS]
    assert desk.look(after=301) == []


def test_what_was_over_before_anybody_could_be_told_is_not_told(desk: Desk) -> None:
    one = desk.hold(1)
    desk.way.fault = CleoError("away")
    desk.look()
    desk.dismiss(one)
    desk.way.fault = None
    assert desk.look(after=3600) == desk.look(after=3600) == []


def test_one_way_that_works_is_enough(desk: Desk) -> None:
    broken = Recorder("broken", CleoError("always"))
    store, clock = desk.bench.store, desk.bench.clock
    desk.alerts = Alerts(store, [broken, desk.way], LINK, polls_every_s=0, clock=clock)
    desk.hold(1)
    assert desk.look() == [WAITS]
    assert desk.look() == []


def test_a_process_that_ends_before_it_wrote_down_tells_twice_and_loses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.hold(1)
    with monkeypatch.context() as patch:

        def killed(*_: object, **__: object) -> None:
            raise StoreUnavailable("killed here")

        patch.setattr(desk.bench.store.alerts, "write", killed)
        with pytest.raises(StoreUnavailable):
            desk.look()
    desk.again()
    assert desk.look() == [WAITS]
    assert desk.way.subjects == [WAITS, WAITS]
    desk.again()
    assert desk.look() == [], "what another process told is known"


def test_two_processes_do_not_tell_at_the_same_time(desk: Desk) -> None:
    desk.hold(1)
    with desk.bench.store.locks.hold("alerts"):
        assert desk.look() == []
    assert desk.look() == [WAITS]


# --- the other kinds ----------------------------------------------------------------------------------------


def test_a_worker_that_is_away_is_told_by_whoever_looks_in_its_place(desk: Desk) -> None:
    assert desk.look() == []
    desk.worker = False
    assert desk.look(after=80) == []
    assert desk.look(after=20) == [NO_WORKER]
    assert desk.look(after=3 * 3600) == []
    desk.worker = True
    assert desk.look() == ["A worker is running again"]


def test_a_process_that_has_just_started_waits_for_a_worker_before_it_misses_one(desk: Desk) -> None:
    desk.worker = False
    assert desk.look(after=60) == []
    desk.worker = True
    assert desk.look() == []


def test_the_web_process_looks_only_while_no_worker_does(desk: Desk) -> None:
    desk.hold(1)
    desk.bench.clock.pass_(60)
    desk.bench.store.health.worker_seen(desk.bench.clock())
    desk.alerts.look_for_worker()
    assert desk.way.told == []
    desk.bench.clock.pass_(91)
    desk.alerts.look_for_worker()
    assert sorted(desk.way.subjects) == [WAITS, NO_WORKER]


def test_a_refused_imap_login_is_told_at_once_and_over_after_a_poll(redis_url: str) -> None:
    desk = Desk(redis_url)
    desk.bench.store.health.poll_fault("imap.test:993 refuses the login (EMAIL_PASSWORD)", login_refused=True)
    assert desk.look() == ["A login to the mail server is refused"]
    assert "EMAIL_PASSWORD" in desk.way.told[0][1]
    assert desk.look(after=3000) == [], "that polls fail is told already"
    desk.bench.store.health.fresh_start()
    desk.again()
    assert desk.look() == []
    desk.bench.store.health.polled(desk.bench.clock())
    assert desk.look() == ["The mail server takes the login again"]


def test_a_refused_smtp_login_is_over_once_a_mail_has_left(redis_url: str) -> None:
    desk = Desk(redis_url, polls_every_s=0)
    bench = desk.bench
    bench.policy = bench.intake.policy = Policy(frozenset({FROM.addr}))
    bench.smtp.script = [SubmissionLoginRefused("smtp.test:587 refuses the login (EMAIL_PASSWORD)")]
    accepted = bench.receive(mail(1))
    bench.work(accepted.thread_id)
    assert desk.look() == ["A login to the mail server is refused"]
    bench.store.health.fresh_start()  # a worker starts, and does not know it any more
    assert desk.look() == desk.look() == []
    bench.smtp.script = [Receipt("250 ok")]
    bench.redis.delete("cleo:tick:submission-probe")
    bench.clock.pass_(60)
    bench.work(accepted.thread_id)
    assert bench.record(accepted).state is State.REPLIED
    assert desk.look() == ["The mail server takes the login again"]


def test_a_limit_of_the_account_is_no_refused_login(desk: Desk) -> None:
    desk.bench.store.health.submission_limited("too many mails today", desk.bench.clock(), MINUTE)
    assert desk.look() == []


def test_polls_that_fail_are_told_after_a_quarter_of_an_hour(redis_url: str) -> None:
    desk = Desk(redis_url)
    health = desk.bench.store.health
    health.polled(desk.bench.clock())
    health.poll_fault("imap.test:993: refused: nothing listens there")
    assert desk.look(after=14 * 60) == []
    assert desk.look(after=60) == ["The mailbox cannot be read"]
    assert "15 minutes" in desk.way.told[0][1]
    assert "nothing listens there" in desk.way.told[0][1]
    health.polled(desk.bench.clock())
    assert desk.look() == ["The mailbox is read again"]


def test_a_worker_that_starts_after_days_has_a_quarter_of_an_hour_for_its_first_poll(redis_url: str) -> None:
    desk = Desk(redis_url)
    desk.bench.store.health.polled(desk.bench.clock())
    desk.bench.store.health.poll_fault("the server was down, then")
    desk.bench.clock.pass_(3 * 86_400)
    desk.again()
    assert desk.look() == []
    desk.bench.store.health.polled(desk.bench.clock())
    assert desk.look() == []


def test_a_seldom_poll_is_not_late(redis_url: str) -> None:
    desk = Desk(redis_url, polls_every_s=7200)
    desk.bench.store.health.polled(desk.bench.clock())
    assert desk.look(after=6900) == []


def test_a_redis_that_fills_up_is_told_and_has_to_empty_a_little(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {"share": 0.69}
    read = type(desk.bench.store.totals).read

    def filled(self: Any, *args: Any) -> Any:
        found = read(self, *args)
        return replace(found, memory_used=int(used["share"] * 1000), memory_limit=1000)

    monkeypatch.setattr(type(desk.bench.store.totals), "read", filled)
    assert desk.look() == []
    used["share"] = 0.72
    assert desk.look() == ["Redis is filling up"]
    assert "72 %" in desk.way.told[0][1]
    used["share"] = 0.68
    assert desk.look() == []
    used["share"] = 0.5
    assert desk.look() == ["Redis has room again"]


def test_looking_costs_few_commands(desk: Desk, redis_url: str) -> None:
    costs = []
    with Redis.from_url(redis_url) as redis:
        for _ in range(10):  # what other tests left behind may renew its locks meanwhile
            before = redis.info("stats")["total_commands_processed"]
            desk.look()
            costs.append(redis.info("stats")["total_commands_processed"] - before)
    assert min(costs) < 30


def test_a_way_that_hangs_does_not_keep_the_ticker_waiting(desk: Desk) -> None:
    gate, entered = threading.Event(), threading.Semaphore(0)

    class Hanging(Recorder):
        def send(self, subject: str, text: str) -> None:
            entered.release()
            assert gate.wait(30)

    store, clock = desk.bench.store, desk.bench.clock
    alerts = Alerts(store, [Hanging()], LINK, polls_every_s=0, clock=clock)
    desk.hold(1)
    desk.bench.store.health.worker_seen(clock())
    for _ in range(3):
        alerts.look()  # returns at once
    assert entered.acquire(timeout=10)
    gate.set()
    thread = alerts._thread
    assert thread is not None
    thread.join(10)
    assert not entered.acquire(blocking=False), "one at a time"
