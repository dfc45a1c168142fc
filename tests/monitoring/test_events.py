"""Events on a real Redis and to a real receiver, which checks each signature with the library."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cleo_email.errors import AgentError, AgentUnavailable, SettingsError
from cleo_email.mail.model import Answer
from cleo_email.monitoring import events as module
from cleo_email.monitoring.events import EventReceiver, EventSender
from cleo_email.runtime import DAY, HOUR, MINUTE
from cleo_email.store import Accepted, State, Store, event_log, messages
from tests.support.bench import Bench
from tests.support.event_server import SECRET, EventServer
from tests.support.mails import mail
from tests.support.ports import free_port


@pytest.fixture
def receiver() -> Iterator[EventServer]:
    with EventServer() as server:
        yield server


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url, events=True)


def sender_of(bench: Bench, url: str, secrets: tuple[str, ...] = (SECRET,)) -> EventSender:
    return EventSender(bench.store.event_log, EventReceiver(url, secrets, {}), clock=bench.clock)


def answered(bench: Bench, number: int) -> Accepted:
    accepted = bench.receive(mail(number))
    bench.work(accepted.thread_id)
    return accepted


def tell(sender: EventSender, bench: Bench, rounds: int = 100) -> None:
    """Deliver until nothing is due at this instant of the bench's clock."""
    for _ in range(rounds):
        found = bench.store.event_log.take(bench.clock(), 8)
        if not found:
            return
        for event in found:
            sender.deliver(event)


def types(receiver: EventServer, accepted: Accepted) -> list[str]:
    return [event.type for event in receiver.events if event.message == accepted.id]


def waiting(bench: Bench) -> int:
    return bench.store.event_log.status().messages


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- what is told -------------------------------------------------------------------------------------------


def test_every_change_of_state_is_told_with_the_record_of_that_moment(
    bench: Bench, receiver: EventServer
) -> None:
    accepted = answered(bench, 1)
    tell(sender_of(bench, receiver.url), bench)
    assert types(receiver, accepted) == [
        f"message.{state}" for state in ("received", "answering", "submitting", "replied")
    ]
    history = bench.store.messages.history(accepted.id)
    steps = [
        step
        for number, step in enumerate(history)
        if number == 0 or step["state"] != history[number - 1]["state"]
    ]
    assert len(steps) == len(receiver.events)
    for event, step in zip(receiver.events, steps, strict=True):
        assert event.body["timestamp"] == step["at"] == event.data["updated_at"]
        assert (event.data["state"], event.data["reason"], event.data["by"]) == (
            step["state"],
            step["reason"],
            "agent",
        )
    last, record = receiver.events[-1].data, bench.record(accepted).public()
    assert {**last, "by": None} == {**record, "by": None}
    assert receiver.events[0].data["reply_message_id"] == ""
    assert (receiver.forged, waiting(bench)) == (0, 0)


def test_what_ends_at_the_door_is_told_too(bench: Bench, receiver: EventServer) -> None:
    held = bench.receive(mail(1), hold="too old")
    tell(sender_of(bench, receiver.url), bench)
    assert types(receiver, held) == ["message.received", "message.held"]
    assert [event.data["reason"] for event in receiver.events] == ["", "too old"]
    assert [event.data["state"] for event in receiver.events] == ["received", "held"]


def test_a_retry_is_no_news_and_a_bounce_is(bench: Bench, receiver: EventServer) -> None:
    bench.agent.script = [AgentUnavailable("busy"), Answer("fine")]
    accepted = answered(bench, 1)
    bench.clock.pass_(60)
    bench.work(accepted.thread_id)
    move = bench.store.messages.move
    move(accepted.id, State.REPLIED, now=bench.clock(), reason="it bounced", only_from=[State.REPLIED])
    tell(sender_of(bench, receiver.url), bench)
    assert types(receiver, accepted).count("message.answering") == 1
    assert types(receiver, accepted)[-2:] == ["message.replied"] * 2
    assert receiver.events[-1].data["reason"] == "it bounced"


def test_a_review_is_told_as_review(redis_url: str, receiver: EventServer) -> None:
    bench = Bench(redis_url, events=True, review="always")
    accepted = answered(bench, 1)
    tell(sender_of(bench, receiver.url), bench)
    assert types(receiver, accepted)[-1] == "message.review"
    assert receiver.events[-1].data["state"] == "review"


def test_who_did_it_is_told(bench: Bench, receiver: EventServer) -> None:
    bench.agent.script = [AgentError("no")]
    accepted = answered(bench, 1)
    bench.deciding.dismiss(accepted.id, by="anna@example.com")
    tell(sender_of(bench, receiver.url), bench)
    assert (receiver.events[-1].type, receiver.events[-1].data["by"]) == (
        "message.ignored",
        "anna@example.com",
    )


def test_a_duplicate_is_no_event(bench: Bench, receiver: EventServer) -> None:
    bench.receive(mail(1))
    bench.receive(mail(1))
    tell(sender_of(bench, receiver.url), bench)
    assert len(receiver.events) == 1


def test_nothing_is_stored_where_nobody_is_told(redis_url: str) -> None:
    bench = Bench(redis_url)
    answered(bench, 1)
    assert not [key for key in bench.redis.scan_iter() if b"events" in key]


def test_each_secret_of_a_rotation_signs(bench: Bench) -> None:
    new = "whsec_" + "bmV3LXNlY3JldC1vZi10aGUtZXZlbnRzLW9mLXRlc3Q="
    with EventServer() as before, EventServer(secret=new) as after:
        for receiver in (before, after):
            accepted = bench.receive(mail(receiver.server_port))
            tell(sender_of(bench, receiver.url, (new, SECRET)), bench)
            assert types(receiver, accepted) == ["message.received"]
            assert receiver.forged == 0


# --- order, retries, ends -----------------------------------------------------------------------------------


def test_a_receiver_that_is_down_for_an_hour_gets_everything_once_and_in_order(bench: Bench) -> None:
    with EventServer() as receiver:
        sender = sender_of(bench, f"http://127.0.0.1:{free_port()}/")
        mails = [answered(bench, number) for number in range(20)]
        for _ in range(60):
            tell(sender, bench)
            bench.clock.pass_(60)
        assert waiting(bench) == 20
        assert bench.store.event_log.status().fault.startswith("http://127.0.0.1:")
        sender = sender_of(bench, receiver.url)
        for _ in range(30):
            tell(sender, bench)
            bench.clock.pass_(30)
        for accepted in mails:
            assert receiver.of(accepted.id) == [f"msg_{accepted.id}_{n}" for n in numbers(bench, accepted)]
        assert len(receiver.asked) == len(receiver.events) == 80
        status = bench.store.event_log.status()
        assert (status.messages, status.delivered, status.given_up, status.fault) == (0, 80, 0, "")


def numbers(bench: Bench, accepted: Accepted) -> list[int]:
    found, before = [], ""
    for number, step in enumerate(bench.store.messages.history(accepted.id), 1):
        if step["state"] != before:
            found.append(number)
        before = step["state"]
    return found


@pytest.mark.parametrize("status", [400, 404, 500, 503, 429, 301, None])
def test_any_other_answer_than_success_is_tried_again_with_the_same_id(
    bench: Bench, receiver: EventServer, status: int | None
) -> None:
    accepted = answered(bench, 1)
    receiver.answer = lambda _: status
    receiver.headers = {"Location": receiver.url}
    sender = sender_of(bench, receiver.url)
    tell(sender, bench)
    assert len(receiver.asked) == 1  # the later ones of this message wait for it
    receiver.answer, receiver.headers = (lambda _: 204), {}
    bench.clock.pass_(120)
    tell(sender, bench)
    assert receiver.asked[0].id == receiver.events[0].id
    assert receiver.of(accepted.id) == [f"msg_{accepted.id}_{n}" for n in numbers(bench, accepted)]


def test_a_message_that_the_receiver_refuses_stops_no_other(bench: Bench, receiver: EventServer) -> None:
    poison, *others = (answered(bench, number) for number in range(5))
    receiver.answer = lambda event: 500 if event.message == poison.id else 200
    tell(sender_of(bench, receiver.url), bench)
    assert receiver.of(poison.id) == []
    assert all(len(receiver.of(other.id)) == 4 for other in others)


def test_after_24_hours_of_failures_an_event_is_given_up_and_the_next_one_is_told(
    bench: Bench, receiver: EventServer, caplog: pytest.LogCaptureFixture
) -> None:
    accepted = answered(bench, 1)
    receiver.answer = lambda event: 500 if event.type == "message.received" else 200
    sender = sender_of(bench, receiver.url)
    for _ in range(23):
        tell(sender, bench)
        bench.clock.pass_(HOUR / 1000)
    assert receiver.events == []
    with caplog.at_level(logging.ERROR):
        for _ in range(4):
            tell(sender, bench)
            bench.clock.pass_(HOUR / 1000)
    assert types(receiver, accepted) == ["message.answering", "message.submitting", "message.replied"]
    assert "is given up" in caplog.text
    assert bench.store.event_log.status().given_up == 1


def test_gone_is_not_tried_again(bench: Bench, receiver: EventServer) -> None:
    bench.receive(mail(1))
    receiver.answer = lambda _: 410
    tell(sender_of(bench, receiver.url), bench)
    bench.clock.pass_(DAY / 1000)
    tell(sender_of(bench, receiver.url), bench)
    assert (len(receiver.asked), waiting(bench)) == (1, 0)


def test_while_the_receiver_is_away_it_is_asked_once_in_a_while_only(bench: Bench) -> None:
    mails = [bench.receive(mail(number)) for number in range(50)]
    with EventServer() as receiver:
        receiver.answer = lambda _: 503
        sender = sender_of(bench, receiver.url)
        for _ in range(600):
            tell(sender, bench)
            bench.clock.pass_(1)
        assert len(receiver.asked) < 40  # of 50 messages, in ten minutes
        receiver.answer = lambda _: 200
        bench.clock.pass_(MINUTE / 1000)
        tell(sender, bench)
        bench.clock.pass_(HOUR / 1000)
        tell(sender, bench)
        assert len(receiver.events) == len(mails)


@pytest.mark.parametrize("status", [500, 410])
def test_a_refused_event_after_an_outage_keeps_no_other_waiting(
    bench: Bench, receiver: EventServer, status: int
) -> None:
    mails = [bench.receive(mail(number)) for number in range(10)]
    sender = sender_of(bench, receiver.url)
    receiver.answer = lambda _: 503
    tell(sender, bench)
    bench.clock.pass_(61)
    first = bench.redis.zrange("cleo:events", 0, 0)[0].decode()
    receiver.answer = lambda event: status if event.message == first else 200
    tell(sender, bench)
    told = {event.message for event in receiver.events}
    assert told == {accepted.id for accepted in mails} - {first}


def test_a_message_is_taken_by_one_process_at_a_time(bench: Bench) -> None:
    accepted = answered(bench, 1)
    (event,) = bench.store.event_log.take(bench.clock(), 8)
    assert bench.store.event_log.take(bench.clock(), 8) == []
    bench.clock.pass_(event_log.LEASE_MS / 1000 + 1)  # the process has died
    (again,) = bench.store.event_log.take(bench.clock(), 8)
    assert (again.id, again.stored) == (event.id, event.stored)
    bench.store.event_log.delivered(again, bench.clock())
    bench.store.event_log.delivered(
        event, bench.clock()
    )  # the first one lives after all: nothing is passed over
    (following,) = bench.store.event_log.take(bench.clock(), 8)
    assert following.id == f"msg_{accepted.id}_2"


def test_a_receiver_that_never_comes_does_not_fill_redis(
    bench: Bench, receiver: EventServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(messages, "MOST_TOLD", 5)
    mails = [bench.receive(mail(number)) for number in range(8)]
    assert (waiting(bench), bench.store.event_log.status().dropped) == (5, 3)
    bench.work(mails[0].thread_id)  # of those that are in, the later ones are
    assert bench.redis.llen(f"cleo:events:{mails[0].id}") == 4
    assert 0 < bench.redis.ttl(f"cleo:events:{mails[0].id}") <= 3 * 86_400
    receiver.answer = lambda _: 503
    with caplog.at_level(logging.ERROR):
        tell(sender_of(bench, receiver.url), bench)
    assert "3 changes of state were not kept for CLEO_EVENTS_URL" in caplog.text


def test_expired_events_are_no_stumbling_block(bench: Bench, receiver: EventServer) -> None:
    gone, there = bench.receive(mail(1)), bench.receive(mail(2))
    bench.redis.delete(f"cleo:events:{gone.id}")
    tell(sender_of(bench, receiver.url), bench)
    assert (len(receiver.of(there.id)), waiting(bench)) == (1, 0)


def test_a_damaged_event_is_given_up(bench: Bench, receiver: EventServer) -> None:
    accepted = bench.receive(mail(1))
    broken = {
        "number": 1,
        "entry": json.dumps({"state": "unheard-of", "at": "x", "reason": ""}),
        "record": {},
    }
    bench.redis.lset(f"cleo:events:{accepted.id}", 0, json.dumps(broken))
    tell(sender_of(bench, receiver.url), bench)
    assert (receiver.asked, waiting(bench)) == ([], 0)


def test_a_silent_receiver_costs_one_time_out(
    bench: Bench, receiver: EventServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.5)
    over = threading.Event()
    bench.receive(mail(1))
    receiver.answer = lambda _: over.wait(30) and 200  # type: ignore[return-value]
    begun = time.monotonic()
    tell(sender_of(bench, receiver.url), bench)
    assert time.monotonic() - begun < 10
    assert "no answer within" in bench.store.event_log.status().fault
    over.set()


def test_a_receiver_that_answers_without_end_is_left_once_its_status_is_known(bench: Bench) -> None:
    bench.receive(mail(1))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def flood() -> int:
            connection, _ = server.accept()
            sent = 0
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while sent < 200 * 2**20:
                    sent += connection.send(b"x" * 2**20)
            return sent

        with ThreadPoolExecutor(1) as pool:
            flooding = pool.submit(flood)
            tell(sender_of(bench, f"http://127.0.0.1:{server.getsockname()[1]}/"), bench)
            assert flooding.result(30) < 32 * 2**20, "what the sockets hold"
    assert bench.store.event_log.status().delivered == 1


def test_neither_secret_nor_password_nor_path_is_logged(
    bench: Bench, receiver: EventServer, caplog: pytest.LogCaptureFixture
) -> None:
    bench.receive(mail(1))
    receiver.answer = lambda _: 500
    url = (
        receiver.url.replace("://", "://anna:password-of-the-test@") + "/path-of-the-test?key=key-of-the-test"
    )
    with caplog.at_level(logging.DEBUG, logger="cleo_email"):
        tell(sender_of(bench, url), bench)
    assert receiver.asked[0].headers["authorization"].startswith("Basic ")
    said = caplog.text + repr(bench.store.event_log.status())
    assert "answered 500" in said
    assert not [word for word in ("password-of", "path-of", "key-of", SECRET[6:20], "anna") if word in said]


@pytest.mark.parametrize(
    "url", ["ftp://example.com", "http://", "example.com", "http://exa mple.com", "http://a:b"]
)
def test_a_malformed_url_names_the_setting(url: str) -> None:
    with pytest.raises(SettingsError, match=r"CLEO_EVENTS_URL: found .*, expected http"):
        EventReceiver(url, (SECRET,), {})


# --- the thread of the worker -------------------------------------------------------------------------------


@pytest.fixture
def running(bench: Bench, receiver: EventServer) -> Iterator[EventSender]:
    stop = threading.Event()
    sender = sender_of(bench, receiver.url)
    thread = threading.Thread(target=sender.run, args=(stop,))
    thread.start()
    yield sender
    stop.set()
    bench.store.event_log.added.set()
    thread.join(20)
    assert not thread.is_alive()


def test_the_thread_tells_at_once_several_messages_side_by_side(
    bench: Bench, receiver: EventServer, running: EventSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 600.0)
    gate = threading.Event()
    receiver.answer = lambda _: 200 if gate.wait(20) else 500
    mails = [answered(bench, number) for number in range(20)]
    until(lambda: receiver.at_once == module.AT_ONCE)
    gate.set()
    until(lambda: len(receiver.events) == 80)
    assert receiver.most_at_once == module.AT_ONCE
    for accepted in mails:
        assert receiver.of(accepted.id) == [f"msg_{accepted.id}_{n}" for n in numbers(bench, accepted)]
    until(lambda: waiting(bench) == 0)


def test_an_idle_thread_asks_nothing(
    bench: Bench, running: EventSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    until(lambda: not bench.store.event_log.added.is_set())
    time.sleep(0.2)
    looks: list[int] = []  # not Redis's count of commands: other tests' locks are renewed there
    monkeypatch.setattr(running, "start_due", lambda: looks.append(1) or 0)
    time.sleep(1)
    assert not looks


def test_what_another_process_adds_is_found(
    bench: Bench, receiver: EventServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.1)
    stop = threading.Event()
    thread = threading.Thread(target=sender_of(bench, receiver.url).run, args=(stop,))
    thread.start()
    Bench(redis_url, events=True, clock=bench.clock).receive(mail(1))
    until(lambda: receiver.events)
    stop.set()
    thread.join(20)


# --- again --------------------------------------------------------------------------------------------------


def again(bench: Bench, since: int) -> list[int]:
    return list(bench.store.event_log.again(bench.store.messages, since, bench.clock()))


def test_what_was_told_is_told_again_with_the_same_ids_and_in_order(
    bench: Bench, receiver: EventServer
) -> None:
    mails = [answered(bench, number) for number in range(3)]
    sender = sender_of(bench, receiver.url)
    tell(sender, bench)
    first = {accepted.id: receiver.of(accepted.id) for accepted in mails}
    bodies = {event.id: event.body for event in receiver.events}
    receiver.events.clear()
    assert sorted(again(bench, 0)) == [4, 4, 4]
    tell(sender, bench)
    assert {accepted.id: receiver.of(accepted.id) for accepted in mails} == first
    for event in receiver.events:
        was = bodies[event.id]
        assert (event.body["type"], event.body["timestamp"]) == (was["type"], was["timestamp"])
        assert (event.data["state"], event.data["by"]) == (was["data"]["state"], was["data"]["by"])


def test_only_what_changed_since_then_is_told_again(bench: Bench, receiver: EventServer) -> None:
    old = answered(bench, 1)
    bench.clock.pass_(3600)
    bench.agent.script = [AgentError("no")]
    new = answered(bench, 2)
    bench.deciding.dismiss(new.id, by="cli")
    bench.clock.pass_(60)
    tell(sender_of(bench, receiver.url), bench)
    receiver.events.clear()
    again(bench, bench.clock() - 120_000)
    tell(sender_of(bench, receiver.url), bench)
    assert receiver.of(old.id) == []
    assert types(receiver, new) == [
        f"message.{state}" for state in ("received", "answering", "failed", "ignored")
    ]


def test_what_still_waits_is_not_told_twice(bench: Bench, receiver: EventServer) -> None:
    accepted = answered(bench, 1)
    assert again(bench, 0) == [0]
    sender = sender_of(bench, receiver.url)
    for event in bench.store.event_log.take(bench.clock(), 8):
        sender.deliver(event)
    assert again(bench, 0) == [1]
    tell(sender, bench)
    assert [id_.rpartition("_")[2] for id_ in receiver.of(accepted.id)][:2] == ["1", "1"]
    assert receiver.of(accepted.id)[1:] == [f"msg_{accepted.id}_{n}" for n in numbers(bench, accepted)]


def test_without_room_no_more_is_told_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        bench.receive(mail(number))
    bench.redis.delete("cleo:events", *bench.redis.keys("cleo:events:*"))
    monkeypatch.setattr(event_log, "MOST_TOLD", 2)
    assert again(bench, 0)[-1] == -1
    assert waiting(bench) == 2


def test_a_version_without_events_may_take_over_and_go(redis_url: str, receiver: EventServer) -> None:
    """It tells nothing of what it does; what waited is told, and then what comes after."""
    bench = Bench(redis_url, events=True)
    accepted = bench.receive(mail(1))
    other = Bench(redis_url, clock=bench.clock)
    other.agent.script = [AgentError("no")]
    other.work(accepted.thread_id)
    bench.deciding.dismiss(accepted.id, by="cli")
    tell(sender_of(bench, receiver.url), bench)
    assert types(receiver, accepted) == ["message.received", "message.ignored"]


def test_stores_without_settings_see_what_waits(bench: Bench, redis_url: str) -> None:
    bench.receive(mail(1))
    assert Store(bench.redis).event_log.status().messages == 1
