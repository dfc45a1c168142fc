"""Who listens to the mailbox, when a login is made for it, and what its news leads to."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest
from redis import Redis

from cleo_email.app import App
from cleo_email.errors import MailboxError, MailboxUnavailable, StoreUnavailable
from cleo_email.imap.idle import Idle
from cleo_email.pipeline.logins import LoginsUsedUp, limit_listener_logins, limit_logins, stop_listening
from cleo_email.pipeline.poll import ANNOUNCED
from cleo_email.runtime import now_ms
from cleo_email.store import Store
from cleo_email.worker import listener as listening
from cleo_email.worker.listener import Listener
from tests.support.imap_server import HANG_UP, FakeImapServer, says

LIMITED = ("NO [LIMIT] sorry", "NO [ALERT] Too many simultaneous connections. (Failure)")
BEATS = 10


def wait(condition: Callable[[], object], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "not so in time"
        threading.Event().wait(0.005)


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the listeners say at WARNING or above; workers of other tests may still end."""
    return [one for one in caplog.records if one.name == listening.__name__ and one.levelno > logging.INFO]


class Installation:
    """Workers on one Redis and one server, of which only the listeners run; the poll is the test's."""

    def __init__(self, url: str, server: FakeImapServer) -> None:
        self.server, self.polls = server, threading.Semaphore(0)
        self.redis = Redis.from_url(url)
        self.store = Store(self.redis)
        self.mailbox = SimpleNamespace(logins=1)
        self.listeners: list[Listener] = []

    def start(self, *, store: Store | None = None) -> Listener:
        app = SimpleNamespace(
            store=store or self.store,
            clock=now_ms,
            settings=SimpleNamespace(poll_interval=60),
            wake=SimpleNamespace(poll=lambda _s: self.polls.release()),
            mailbox=self.mailbox,
        )
        idle = Idle(self.server.account(), ssl_context=self.server.ssl_context())
        listener = Listener(cast("App", app), idle)
        self.listeners.append(listener)
        listener.start()
        return listener

    def poll(self) -> None:
        """A poll begins and succeeds."""
        self.store.ticks.forget(ANNOUNCED)
        self.store.health.polled(now_ms() + 1)

    def start_listening(self) -> Listener:
        listener = self.start()
        self.poll()
        wait(lambda: self.server.idling)
        assert self.polls.acquire(timeout=20), "what came before, nobody tells"
        return listener

    @property
    def logins(self) -> int:
        return len(self.server.sent("AUTHENTICATE"))

    def let_pass(self) -> None:
        """Wait for some turns of whoever may do something."""
        until = time.monotonic() + BEATS * listening.BEAT_S
        wait(lambda: time.monotonic() > until)


@pytest.fixture
def place(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    monkeypatch.setattr(listening, "BEAT_S", 0.02)
    monkeypatch.setattr(listening, "LOOK_S", 0.02)
    monkeypatch.setattr(listening, "RESTS_S", (0.02, 0.02, 1000))
    with FakeImapServer() as server:
        server.capabilities += " IDLE"
        place = Installation(redis_url, server)
        yield place
        for one in place.listeners:
            one.end()
        place.redis.close()


def test_of_two_workers_one_listens_and_the_other_follows_when_it_ends(place: Installation) -> None:
    first = place.start_listening()
    second = place.start()
    place.poll()
    place.let_pass()
    assert len(place.server.idling) == place.logins == 1
    assert place.store.health.read().idle_since > 0
    began = time.monotonic()
    first.end()
    assert not first.is_alive()
    assert time.monotonic() - began < 5
    assert place.server.done_idle.acquire(timeout=20), "the server is told"
    place.poll()
    wait(lambda: place.server.idling)
    assert place.logins == 2
    second.end()
    health = place.store.health.read()
    assert (health.idle_since, health.idle_fault) == (0, "")


def test_another_follows_within_seconds_when_a_process_is_killed(place: Installation) -> None:
    assert listening.LEASE_MS <= 10_000
    assert place.store.listening.take("of a process that was killed", 300) == 0
    assert 0 < place.store.listening.take("mine", 300) <= 300
    place.start_listening()


def test_news_wake_the_poll_once_until_it_begins(place: Installation) -> None:
    place.start_listening()
    place.server.announce("* 1 EXISTS", "* 2 EXISTS")
    place.let_pass()
    assert not place.polls.acquire(blocking=False), "the first one has not begun"
    place.poll()
    place.server.announce("* 3 EXISTS")
    assert place.polls.acquire(timeout=20)


def test_a_server_that_tells_of_something_all_the_time_leads_to_few_polls(
    place: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "PAUSE_S", 60)
    place.start_listening()
    place.poll()
    place.server.announce("* 1 EXISTS")
    assert place.polls.acquire(timeout=20), "the first one is told at once"
    place.poll()
    place.server.announce("* 2 EXISTS", "* 3 EXISTS")
    place.let_pass()
    assert not place.polls.acquire(blocking=False)


def test_no_login_is_made_before_the_poll_has_succeeded_nor_while_it_rests(place: Installation) -> None:
    place.store.health.polled(1)  # in a life before
    place.start()
    place.let_pass()
    assert place.logins == 0
    place.store.ticks.rest("poll", 60_000)
    place.poll()
    place.let_pass()
    assert place.logins == 0
    place.redis.delete("cleo:rest:poll")
    wait(lambda: place.server.idling)


def test_a_login_that_is_refused_is_not_repeated_before_the_poll_has_logged_in_anew(
    place: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    place.server.answers["AUTHENTICATE"] = says("NO [AUTHENTICATIONFAILED] no")
    place.start()
    place.poll()
    wait(lambda: place.store.health.read().idle_fault)
    place.poll()
    place.let_pass()
    assert place.logins == 1
    assert "login refused" in place.store.health.read().idle_fault
    assert len(told(caplog)) == 1
    del place.server.answers["AUTHENTICATE"]
    place.mailbox.logins += 1
    wait(lambda: place.server.idling)


@pytest.mark.parametrize("lie", ["", "BAD unknown command", "NO no"])
def test_a_server_that_does_not_do_it_is_asked_once_by_all_and_that_is_said_once(
    place: Installation, caplog: pytest.LogCaptureFixture, lie: str
) -> None:
    if lie:
        place.server.answers["IDLE"] = says(lie)
    else:
        place.server.capabilities = "AUTH=PLAIN LOGINDISABLED"
    place.start()
    place.start()
    place.poll()
    wait(lambda: place.store.health.read().idle_fault)
    place.poll()
    place.let_pass()
    assert place.logins == 1
    assert ("refuses it" if lie else "has no IDLE") in place.store.health.read().idle_fault
    assert [record.levelname for record in told(caplog)] == ["WARNING"]
    assert "the poll, every 60 s" in caplog.text


@pytest.mark.parametrize("answer", LIMITED)
def test_it_gives_way_where_the_server_limits_connections(
    place: Installation, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    place.server.answers["AUTHENTICATE"] = says(answer)
    place.start()
    place.poll()
    wait(lambda: place.store.health.read().idle_fault)
    place.let_pass()
    assert place.logins == 1
    assert "gives way" in place.store.health.read().idle_fault
    assert len(told(caplog)) == 1


def test_it_gives_way_to_a_connection_of_ours_that_is_one_too_many(place: Installation) -> None:
    place.start_listening()
    stop_listening(place.store, MailboxError("a.test:993: login refused: the server says: NO wrong password"))
    stop_listening(place.store, LoginsUsedUp(1000))
    place.let_pass()
    assert place.server.idling
    stop_listening(place.store, MailboxUnavailable("x: login failed; the server says: [LIMIT] too many"))
    wait(lambda: not place.server.idling)
    place.let_pass()
    assert (place.logins, place.store.health.read().idle_since) == (1, 0)


def test_a_connection_that_breaks_again_and_again_is_made_ever_more_seldom(
    place: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    place.start_listening()
    for logins in (2, 3):
        place.server.announce(HANG_UP)
        wait(lambda many=logins: place.logins == many and place.server.idling)  # type: ignore[misc]
    place.server.announce(HANG_UP)
    place.let_pass()
    assert place.logins == 3
    assert "closed the connection" in place.store.health.read().idle_fault
    assert len(told(caplog)) == 1


def test_one_that_loses_redis_lets_another_listen(
    place: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "LEASE_MS", 1000)
    store = Store(place.redis)
    place.start(store=store)
    place.poll()
    wait(lambda: place.server.idling)

    def lost(_token: str, _ms: int) -> int:
        raise StoreUnavailable("Redis is away")

    monkeypatch.setattr(store.listening, "take", lost)
    wait(lambda: not place.server.idling)
    monkeypatch.undo()
    wait(lambda: place.server.idling)


def test_its_logins_count_with_all_others_and_leave_two_to_the_poll(place: Installation) -> None:
    for _ in range(4):
        limit_listener_logins(place.store.ticks)
    with pytest.raises(LoginsUsedUp):
        limit_listener_logins(place.store.ticks)
    limit_logins(place.store.ticks)
    limit_logins(place.store.ticks)
    with pytest.raises(LoginsUsedUp):
        limit_logins(place.store.ticks)


def test_a_fault_of_our_own_ends_nothing(
    place: Installation, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Idle, "begin", lambda _self: {}["what a stranger sent"])
    listener = place.start()
    place.poll()
    wait(lambda: "unexpected KeyError" in caplog.text)
    assert "stranger" not in caplog.text
    assert listener.is_alive()
    monkeypatch.undo()
    wait(lambda: place.server.idling)
