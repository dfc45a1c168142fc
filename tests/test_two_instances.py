"""Two installations of ours that answer each other, with every sign of a machine lost on the way."""

from __future__ import annotations

import email
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from email import policy
from pathlib import Path
from typing import Self

import pytest

from tests.support.agent_server import AgentServer
from tests.support.channel import Channel, Rig
from tests.support.mails import text_of

NAMES = ("one@alpha.test", "two@beta.test")


class Side(Rig):
    """One installation: its processes, its Redis, and the server that takes its mail."""

    def __init__(self, directory: Path, redis_url: str, name: str, **env: str) -> None:
        super().__init__(directory, redis_url, polls=False, env={"EMAIL_USER": name, **env})
        self.name = name
        self.taken = 0

    def __enter__(self) -> Self:
        super().__enter__()
        self.start_web()
        self.start_worker()
        return self

    def hand_over(self, other: Side) -> int:
        """Bring what was sent since the last time to the other one's webhook, without Auto-Submitted."""
        new = self.smtp.mails[self.taken :]
        for sent in new:
            message = email.message_from_bytes(sent.source, policy=policy.default)
            status, answer = other.post(
                {
                    "from_address": self.name,
                    "to_address": other.name,
                    "subject": message["Subject"],
                    "body": text_of(message),
                    "message_id": message["Message-ID"],
                    "in_reply_to": message["In-Reply-To"],
                    "references": message["References"],
                }
            )
            assert status == 202, answer
        self.taken += len(new)
        return len(new)

    def at_rest(self) -> bool:
        return all(record["state"] in ("replied", "held") for record in self.records())

    def held(self) -> list[str]:
        return [record["reason"] for record in self.records("held")]


@pytest.fixture
def agent() -> Iterator[AgentServer]:
    """Says something new each time, so that only the caps can stop it."""
    with AgentServer() as server:
        yield server


def database(redis_url: str, number: int) -> str:
    return f"{redis_url.partition('?')[0]}?db={number}"


def play(one: Side, two: Side) -> None:
    """Carry mail to and fro until nobody writes any more."""
    body = {
        "from_address": two.name,
        "to_address": one.name,
        "subject": "Hello",
        "body": "Are you there?",
        "message_id": "<start@beta.test>",
    }
    assert one.post(body)[0] == 202
    pause = threading.Event()
    quiet = 0
    for _ in range(1200):
        moved = one.hand_over(two) + two.hand_over(one)
        quiet = quiet + 1 if not moved and one.at_rest() and two.at_rest() else 0
        if quiet >= 20 and (one.held() or two.held()):
            return
        pause.wait(0.05)
    raise AssertionError(f"they still write: {len(one.smtp.mails)} and {len(two.smtp.mails)} mails")


def test_two_of_ours_stop_at_the_cap_of_the_thread(
    tmp_path: Path, redis_url: str, agent: AgentServer
) -> None:
    with ExitStack() as stack:
        env = {"CLEO_AGENT": agent.url, "EMAIL_MAX_REPLIES_PER_THREAD": "4"}
        one = stack.enter_context(Side(tmp_path / "one", database(redis_url, 1), NAMES[0], **env))
        two = stack.enter_context(Side(tmp_path / "two", database(redis_url, 2), NAMES[1], **env))
        play(one, two)
        assert (len(one.smtp.mails), len(two.smtp.mails)) == (4, 4)
        (reason,) = one.held() + two.held()
        assert "EMAIL_MAX_REPLIES_PER_THREAD" in reason
        # A person may let it go on by one.
        side = one if one.held() else two
        (held,) = side.records("held")
        assert side.run("messages", "release", held["id"]).returncode == 0
        side.smtp.wait_for(lambda server: len(server.mails) == 5)


def test_two_of_ours_that_repeat_themselves_stop_sooner(tmp_path: Path, redis_url: str) -> None:
    with ExitStack() as stack:
        one = stack.enter_context(Side(tmp_path / "one", database(redis_url, 1), NAMES[0], CLEO_AGENT="echo"))
        two = stack.enter_context(Side(tmp_path / "two", database(redis_url, 2), NAMES[1], CLEO_AGENT="echo"))
        play(one, two)
        assert (len(one.smtp.mails), len(two.smtp.mails)) == (10, 10)
        (reason,) = one.held() + two.held()
        assert "same answer" in reason


def test_two_of_ours_that_start_a_thread_each_time_stop_at_the_cap_of_the_sender(
    tmp_path: Path, redis_url: str, agent: AgentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Channel.post

    def without_threads(self: Channel, body: dict[str, str]) -> tuple[int, object]:
        return original(self, {k: v for k, v in body.items() if k not in ("in_reply_to", "references")})

    monkeypatch.setattr(Channel, "post", without_threads)
    with ExitStack() as stack:
        env = {"CLEO_AGENT": agent.url, "EMAIL_MAX_REPLIES_PER_SENDER": "5"}
        one = stack.enter_context(Side(tmp_path / "one", database(redis_url, 1), NAMES[0], **env))
        two = stack.enter_context(Side(tmp_path / "two", database(redis_url, 2), NAMES[1], **env))
        play(one, two)
        assert (len(one.smtp.mails), len(two.smtp.mails)) == (5, 5)
        (reason,) = one.held() + two.held()
        assert "EMAIL_MAX_REPLIES_PER_SENDER" in reason
