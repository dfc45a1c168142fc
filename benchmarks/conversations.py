"""From a waiting mail to its reply: many at once, one at a time, during a backlog, and after kill -9."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from email import message_from_bytes
from pathlib import Path

from imapclient import IMAPClient
from redis import Redis

from benchmarks.harness import Plan, Row, fill, median, pss_mib, say, server_name, small_mail, until
from cleo_email.store import State, Store
from tests.support.agent_server import AgentServer
from tests.support.channel import Rig
from tests.support.inboxes import ByImap, usual
from tests.support.redis_server import RedisServer

AGENT_S = 1.0


@contextmanager
def _rig(*, delay: float | None = None, **env: str) -> Iterator[Rig]:
    """A channel with a durable Redis and, with ``delay``, an agent that takes so long; else it is echo."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(RedisServer(base / "redis", appendfsync="always"))
        if delay is not None:
            env["CLEO_AGENT"] = stack.enter_context(AgentServer(delay=delay)).url
        env.setdefault("EMAIL_MAX_SENDS_PER_HOUR", "1000000")
        yield stack.enter_context(Rig(base, redis.url, inbox=usual(base), env=env))


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
    with Redis.from_url(rig.env["REDIS_URL"]) as redis:
        health = Store(redis).health
        until(lambda: health.read().idle_since > 0, 30)
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


MEANWHILE = ("new", "reply", "webhook") * 3  # what comes during a backlog, evenly over it


def backlog(plan: Plan) -> Iterator[Row]:
    """While N mails wait, people's mail comes: when is it answered, when does the mailbox show it?"""
    count = plan.size(2000, 10_000)
    with _rig(EMAIL_MAX_REPLIES_PER_SENDER="1000000") as rig:
        rig.start_web()
        known = _known_thread(rig)
        fill(rig, [small_mail(f"old.{number}") for number in range(count)])
        pid, ready = _start(rig)
        look = _Look(rig)
        threading.Thread(target=look.run, daemon=True).start()
        memory, first = 0.0, len(rig.smtp.mails)
        for number, kind in enumerate(MEANWHILE):
            share = (number + 0.5) / len(MEANWHILE) * 0.8
            until(lambda: len(rig.smtp.mails) - first > share * count, count / 5)  # noqa: B023
            memory = max(memory, pss_mib(pid))
            look.sent[f"{kind}.{number}"] = time.monotonic()
            _send(rig, kind, f"{kind}.{number}", known)
        seconds = _await_replies(rig, first + count + len(MEANWHILE), count / 5) - ready
        until(look.is_over, 120)
    rate = count / seconds
    slowest = {kind: look.slowest(look.replied, kind) for kind in dict.fromkeys(MEANWHILE)}
    flags, copies = look.slowest(look.flagged), look.slowest(look.filed)
    say(f"backlog of {count}: {rate:.0f}/s, replies {slowest}, flags {flags:.2f} s, copies {copies:.2f} s")
    what, note = f"backlog of {count:,} mails", f"the slowest of {len(MEANWHILE) // 3}"
    yield Row(f"{what}: replies", rate, "replies/s", None, "", f"worker at most {memory:.0f} MiB")
    yield Row(f"{what}: new mail -> its reply", slowest["new"], "s", None, "<= 3 s", note)
    yield Row(f"{what}: mail of an earlier thread -> its reply", slowest["reply"], "s", None, "<= 3 s", note)
    yield Row(f"{what}: webhook -> its reply", slowest["webhook"], "s", None, "<= 3 s", note)
    yield Row(f"{what}: new mail -> \\Answered", flags, "s", None, "<= 10 s", "the slowest")
    yield Row(f"{what}: new mail -> its copy in Sent", copies, "s", None, "<= 10 s", "the slowest")


def _known_thread(rig: Rig) -> str:
    """Let a mail be answered by a worker that ends then. Return the Message-ID of the answer."""
    worker = rig.start_worker()
    rig.deliver(small_mail("known"))
    _await_replies(rig, 1, 60)
    until(lambda: bool(rig.inbox and rig.inbox.answered() and rig.inbox.sent()), 60, pause=0.2)
    worker.terminate()
    worker.wait(40)
    return str(rig.replies()[0]["Message-ID"])


def _send(rig: Rig, kind: str, name: str, known: str) -> None:
    source = small_mail(name)
    if kind == "reply":
        source = source.replace(f"customer.{name}@".encode(), b"customer.known@")
        source = f"In-Reply-To: {known}\r\nReferences: <q.known@example.test> {known}\r\n".encode() + source
    if kind == "webhook":
        path, mail = "/email/incoming/raw", {"Content-Type": "message/rfc822"}
        assert rig.call("POST", path, source, mail)[0] == 202
    else:
        rig.deliver(source)


class _Look:
    """Notes when the mails of ``sent`` are answered, are flagged, and have a copy of the answer in Sent."""

    def __init__(self, rig: Rig) -> None:
        assert isinstance(rig.inbox, ByImap)
        self._rig: Rig = rig
        self._inbox: IMAPClient = rig.inbox.login()
        self._sent_box: IMAPClient = rig.inbox.login()
        self._next: dict[str, int] = dict.fromkeys(("INBOX", "Sent"), 1)
        self._uids: dict[int, str] = {}
        self._read: int = len(rig.smtp.mails)
        self.sent: dict[str, float] = {}
        self.replied: dict[str, float] = {}
        self.flagged: dict[str, float] = {}
        self.filed: dict[str, float] = {}

    def run(self) -> None:
        self._inbox.select_folder("INBOX", readonly=True)
        self._sent_box.select_folder("Sent", readonly=True)
        self._next["INBOX"] = int(self._inbox.folder_status("INBOX", ["UIDNEXT"])[b"UIDNEXT"])
        # The server may end before this thread.
        with suppress(OSError, IMAPClient.AbortError):
            while not self.is_over():
                self._look()
                time.sleep(0.05)

    def is_over(self) -> bool:
        mailed = sum(not name.startswith("webhook") for name in self.sent)
        return len(self.filed) == len(self.sent) == len(MEANWHILE) and len(self.flagged) == mailed

    def slowest(self, times: dict[str, float], kind: str = "") -> float:
        return max(at - self.sent[name] for name, at in times.items() if name.startswith(kind))

    def _look(self) -> None:
        mails, self._read = self._rig.smtp.mails[self._read :], len(self._rig.smtp.mails)
        self._note(self.replied, [message_from_bytes(mail.source)["In-Reply-To"] for mail in mails])
        self._uids |= self._arrived(self._inbox, "INBOX", b"MESSAGE-ID")
        self._note(self.filed, list(self._arrived(self._sent_box, "Sent", b"IN-REPLY-TO").values()))
        open_ = [uid for uid, id_ in self._uids.items() if _name(id_) not in self.flagged]
        found = self._inbox.fetch(open_, ["FLAGS"]) if open_ else {}
        self._note(
            self.flagged, [self._uids[uid] for uid, of in found.items() if b"\\Answered" in of[b"FLAGS"]]
        )

    def _arrived(self, client: IMAPClient, box: str, field: bytes) -> dict[int, str]:
        """Return this field of the mails that came since the last look."""
        client.noop()
        uids = [uid for uid in client.search(["UID", f"{self._next[box]}:*"]) if uid >= self._next[box]]
        self._next[box] = max([self._next[box], *(uid + 1 for uid in uids)])
        part = b"BODY[HEADER.FIELDS (" + field + b")]"
        found = client.fetch(uids, [part.replace(b"BODY", b"BODY.PEEK")]) if uids else {}
        return {uid: of[part].decode().partition(":")[2].strip() for uid, of in found.items()}

    def _note(self, times: dict[str, float], ids: Sequence[str | None]) -> None:
        for name in map(_name, filter(None, ids)):
            if name in self.sent:
                times.setdefault(name, time.monotonic())


def _name(message_id: str) -> str:
    return message_id.removeprefix("<q.").removesuffix("@example.test>")


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
