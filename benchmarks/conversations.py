"""From a waiting mail to its reply: many at once, one at a time, during a backlog, and after kill -9."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from email import message_from_bytes
from pathlib import Path

from imapclient import IMAPClient
from redis import Redis

from benchmarks.harness import Plan, Row, fill, inbox, median, pss_mib, say, server_name, small_mail, until
from cleo_email.settings.model import Settings
from cleo_email.store import State, Store
from tests.support.agent_server import AgentServer
from tests.support.channel import Rig
from tests.support.inboxes import ByImap
from tests.support.redis_server import RedisServer

AGENT_S = 1.0


def has_idle() -> bool:
    return any(field.alias == "EMAIL_IDLE" for field in Settings.model_fields.values())


@contextmanager
def _rig(*, delay: float | None = None, **env: str) -> Iterator[Rig]:
    """A channel with a durable Redis and, with ``delay``, an agent that takes so long; else it is echo."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(RedisServer(base / "redis", appendfsync="always"))
        if delay is not None:
            env["CLEO_AGENT"] = stack.enter_context(AgentServer(delay=delay)).url
        env.setdefault("EMAIL_MAX_SENDS_PER_HOUR", "1000000")
        yield stack.enter_context(Rig(base, redis.url, inbox=inbox(base), env=env))


def _start(rig: Rig) -> tuple[int, float]:
    """Start a worker; return its process id, and when it was ready."""
    told = rig.log.read_text().count("worker started") if rig.log.exists() else 0
    worker = rig.start_worker()
    until(lambda: rig.log.read_text().count("worker started") > told, 30)
    return worker.pid, time.monotonic()


def _await_replies(rig: Rig, count: int, seconds: float) -> float:
    """Return when (monotonic) the last of so many replies was there."""
    until(lambda: len(rig.smtp.mails) >= count, seconds, pause=0.002)
    return time.monotonic()


# --- many at once -------------------------------------------------------------------------------------------


def many(plan: Plan) -> Iterator[Row]:
    for count, goal in ((200, "<= 3.3 s"), (50, "")):
        found = [_all_at_once(count) for _ in range(plan.size(1, 3))]
        seconds, memory = median([one[0] for one in found]), max(one[1] for one in found)
        note = f"last reply after the worker is ready; worker at most {memory:.0f} MiB"
        yield Row(f"{count} waiting mails, agent {AGENT_S:g} s", seconds, "s", AGENT_S, goal, note)


def _all_at_once(count: int) -> tuple[float, float]:
    with _rig(delay=AGENT_S) as rig:
        fill(rig, [small_mail(str(number)) for number in range(count)])
        pid, ready = _start(rig)
        memory = 0.0
        while len(rig.smtp.mails) < count // 2:  # then all who wait are there
            until(lambda: len(rig.smtp.mails) >= count // 2, 120)
            memory = pss_mib(pid)
        seconds = _await_replies(rig, count, 120) - ready
    say(f"{count} mails: {seconds:.2f} s")
    return seconds, memory


# --- one at a time ------------------------------------------------------------------------------------------


def latency(plan: Plan) -> Iterator[Row]:
    count = plan.size(8, 60)
    with _rig(EMAIL_IDLE="0") as rig:
        times = _one_by_one(rig, count)
    yield Row(
        "arrival -> reply, poll every 1 s", median(times), "s", None, "", f"{count} mails, {server_name()}"
    )
    if not has_idle():
        return
    with _rig(EMAIL_POLL_INTERVAL_SECONDS="60") as rig:
        times, announced = _after_announcement(rig, count)
    what = "arrival -> reply, IDLE"
    yield Row(what, median(times), "s", median(announced), "", "bare: until the server announces the mail")
    late = [reply - told for reply, told in zip(times, announced, strict=True)]
    yield Row(
        "announcement -> reply, IDLE", median(late), "s", None, "<= 0.15 s", f"at most {max(late):.2f} s"
    )


def _one_by_one(rig: Rig, count: int) -> list[float]:
    rng = random.Random(1)
    _start(rig)
    times: list[float] = []
    for number in range(count + 1):
        time.sleep(rng.random())  # anywhere between two polls
        begun = time.monotonic()
        rig.deliver(small_mail(f"one.{number}"))
        _await_replies(rig, number + 1, 90)
        times.append(time.monotonic() - begun)
    return times[1:]


def _after_announcement(rig: Rig, count: int) -> tuple[list[float], list[float]]:
    """Return for each mail the seconds until its reply, and until another client in IDLE was told."""
    assert isinstance(rig.inbox, ByImap)
    watcher = _Watcher(rig.inbox.login())
    rng = random.Random(1)
    _start(rig)
    time.sleep(3)  # the listener is there
    replies: list[float] = []
    told: list[float] = []
    for number in range(count + 1):
        time.sleep(1 + rng.random())
        begun = time.monotonic()
        rig.deliver(small_mail(f"idle.{number}"))
        _await_replies(rig, number + 1, 90)
        replies.append(time.monotonic() - begun)
        until(lambda: watcher.told >= begun, 5)  # noqa: B023
        told.append(watcher.first_since(begun) - begun)
    return replies[1:], told[1:]


class _Watcher:
    """Notes when the server announces mail to a client in IDLE."""

    def __init__(self, client: IMAPClient) -> None:
        client.select_folder("INBOX", readonly=True)
        client.idle()
        self._client = client
        self._times: list[float] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                said = self._client.idle_check(60)
            except (TimeoutError, OSError, ValueError):
                return
            if any(b"EXISTS" in line for line in said if isinstance(line, tuple)):
                self._times.append(time.monotonic())

    @property
    def told(self) -> float:
        return self._times[-1] if self._times else 0.0

    def first_since(self, moment: float) -> float:
        return next(at for at in self._times if at >= moment)


# --- a backlog ----------------------------------------------------------------------------------------------


def backlog(plan: Plan) -> Iterator[Row]:
    """While N mails wait, a person's mail comes: when is it answered, when does the mailbox show it?"""
    count = plan.size(2000, 10_000)
    env = {"EMAIL_MAX_REPLIES_PER_SENDER": "1000000"}
    with _rig(**env) as rig:
        fill(rig, [small_mail(f"old.{number}") for number in range(count)])
        pid, ready = _start(rig)
        _await_replies(rig, 100, 60)
        begun, before = time.monotonic(), len(rig.smtp.mails)
        rig.deliver(small_mail("new"))
        new = "<q.new@example.test>"
        watch = threading.Thread(target=lambda: flagged.append(_flagged_after(rig, begun)), daemon=True)
        flagged: list[float] = []
        watch.start()
        answered, read = 0.0, before
        while len(rig.smtp.mails) < count + 1 and time.monotonic() - begun < count / 10 + 60:
            time.sleep(0.05)
            sent, read = rig.smtp.mails[read:], len(rig.smtp.mails)
            if any(message_from_bytes(mail.source)["In-Reply-To"] == new for mail in sent):
                answered = answered or time.monotonic() - begun
        seconds = _await_replies(rig, count + 1, 1) - ready
        memory = pss_mib(pid)
        watch.join(180)
    say(f"backlog of {count}: {seconds:.1f} s, new mail {answered:.1f} s, its flag {flagged}")
    what = f"backlog of {count:,} mails"
    yield Row(f"{what}: replies", count / seconds, "replies/s", None, "", f"worker at most {memory:.0f} MiB")
    yield Row(f"{what}: new mail -> its reply", answered, "s", None, "<= 3 s")
    if flagged:
        yield Row(f"{what}: new mail -> \\Answered", flagged[0], "s", None, "<= 10 s")


def _flagged_after(rig: Rig, begun: float) -> float:
    assert isinstance(rig.inbox, ByImap)
    # The server may end before this thread, which is not waited for beyond some minutes.
    with suppress(OSError, IMAPClient.AbortError), rig.inbox.client("INBOX") as client:
        while time.monotonic() - begun < 600:
            client.noop()
            if client.search(["ANSWERED", "HEADER", "Message-ID", "<q.new@example.test>"]):
                return time.monotonic() - begun
            time.sleep(0.2)
    return float("inf")


# --- kill -9 ------------------------------------------------------------------------------------------------


def kill(plan: Plan) -> Iterator[Row]:
    found = [_killed(50) for _ in range(plan.size(1, 3))]
    doubled, lost, uncertain = (sum(one[place] for one in found) for place in (1, 2, 3))
    note = f"50 mails, agent {AGENT_S:g} s; lost {lost}, doubled {doubled}, uncertain {uncertain}"
    yield Row("kill -9 at half -> last reply", max(one[0] for one in found), "s", AGENT_S, "<= 8 s", note)


def _killed(count: int) -> tuple[float, int, int, int]:
    """Kill the worker at half of the replies, start it again; return what became of the mails."""
    with _rig(delay=AGENT_S) as rig:
        fill(rig, [small_mail(f"kill.{number}") for number in range(count)])
        worker = rig.start_worker()
        _await_replies(rig, count // 2, 60)
        rig.kill(worker)
        last = killed = time.monotonic()
        rig.start_worker()
        messages, seen = Store(Redis.from_url(rig.env["REDIS_URL"])).messages, 0
        while time.monotonic() - killed < 120:
            if len(rig.smtp.mails) > seen:
                last, seen = time.monotonic(), len(rig.smtp.mails)
            if messages.count(State.REPLIED) + messages.count(State.UNCERTAIN) >= count:
                break
            time.sleep(0.02)
        answered = Counter(str(reply["In-Reply-To"]) for reply in rig.replies())
        uncertain = messages.count(State.UNCERTAIN)
    lost = count - len(answered)
    say(f"kill -9: {last - killed:.1f} s, {lost} without a reply, {uncertain} uncertain")
    return last - killed, sum(n > 1 for n in answered.values()), max(lost - uncertain, 0), uncertain
