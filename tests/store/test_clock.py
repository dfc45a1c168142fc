"""Processes whose clocks differ work by that of Redis."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from redis import Redis

from cleo_email.cli.check import examine_redis
from cleo_email.embedded.mailserver import AGENT, CUSTOMER
from cleo_email.runtime import HOUR, now_ms
from cleo_email.settings import read_settings
from cleo_email.store.clock import ServerClock
from cleo_email.store.connection import connect_web
from tests.support.channel import ROOT, Channel
from tests.support.mail_server import FaithfulMailServer
from tests.support.redis_server import RedisServer
from tests.support.web import BASE

SHIFTED = """
import runpy, sys, time
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + {0}
time.time_ns = lambda: real_ns() + {0} * 10**9
sys.argv = ["worker.py"]
runpy.run_path({1!r}, run_name="__main__")
"""


@pytest.mark.parametrize("hours", [-1, 1])
def test_an_hour_between_web_and_worker_costs_no_mail_that_hour(
    redis_url: str, mail_server: FaithfulMailServer, tmp_path: Path, hours: int
) -> None:
    env = mail_server.environment(redis_url)
    with Channel(tmp_path, env) as channel:
        channel.start_web()
        channel.start("-c", SHIFTED.format(hours * 3600, str(ROOT / "worker.py")))
        channel.wait(lambda: channel.get("/readyz")[0] == 200)
        body = {"from_address": CUSTOMER, "to_address": AGENT, "subject": "s", "body": "b"}
        assert channel.post(body)[0] == 202
        channel.wait(lambda: channel.records("replied"))
        which = "ahead of" if hours > 0 else "behind"
        assert (
            f"this machine's clock is 3600 s {which} that of the machine of Redis" in channel.log.read_text()
        )


def shift(monkeypatch: pytest.MonkeyPatch, ms: int) -> None:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + ms * 1_000_000)


@pytest.mark.parametrize("ahead", [-HOUR, -10_000, 10_000, HOUR])
def test_check_names_a_clock_that_is_off(redis_url: str, monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    settings = read_settings({**BASE, "REDIS_URL": redis_url}, dotenv=None)
    assert not [one for one in examine_redis(settings) if one.what == "clock"]
    shift(monkeypatch, ahead)
    (told,) = [one for one in examine_redis(settings) if one.what == "clock"]
    assert told.level == "warning"
    assert f"clock is {abs(ahead) // 1000} s {'ahead of' if ahead > 0 else 'behind'} that of" in told.text
    assert "NTP" in told.text


def test_processes_of_one_machine_agree_to_the_millisecond(redis_url: str) -> None:
    """A wake-up that comes a millisecond before its mail is due would wait for the sweeper."""
    with Redis.from_url(redis_url) as redis:
        for _ in range(200):
            clock = ServerClock(redis)
            before = now_ms()
            assert before <= clock() <= now_ms()
            assert clock.ahead_ms == 0


def test_the_difference_is_measured_once_a_minute_and_kept_while_redis_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer(tmp_path) as server:
        clock = ServerClock(connect_web(server.url))
        shift(monkeypatch, HOUR)
        truth = time.time() * 1000
        assert abs(clock() - truth) < 2000
        shift(monkeypatch, HOUR)  # two hours by now; nobody looks before the minute is over
        assert abs(clock() - truth - HOUR) < 3000
        server.stop()
        clock._next = 0.0  # the minute is over
        assert abs(clock() - truth - HOUR) < 4000, "the last difference counts"
        server.start()
        assert abs(clock() - truth - HOUR) < 10_000, "and is not asked for at each call"
        clock._next = 0.0
        assert abs(clock() - truth) < 10_000
        assert abs(clock.ahead_ms - 2 * HOUR) < 1000
