"""SIGKILL while agents answer by callback and ask back: each mail gets one answer, and none is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from email import message_from_bytes
from functools import partial
from pathlib import Path
from typing import Any, Self

from tests.crash.randomly import PATIENCE_S, Random, RandomRun
from tests.crash.rig import IMAP, WEBHOOK, CrashRig, Letter, Tally
from tests.crash.scenario import Scenario
from tests.support.channel import Channel, children
from tests.support.later_agent import LaterAgent
from tests.support.mails import AGENT

GROUP = "kill -9 while an agent takes long"
PREFIXES = ("callback-", "question-")
BOSS = "boss@people.test"
LETTERS = (Letter(1), Letter(2), Letter(3))
AFTERWARDS = (Letter(4, follows=1),)


class LaterRig(CrashRig):
    """A rig with an agent that calls back; whoever it asks answers each of its questions once."""

    def __init__(self, directory: Path, agent: LaterAgent, *, files: bool = False, **env: str) -> None:
        env = {"EMAIL_CONCURRENCY": "1", "EMAIL_ASK_ALLOWED": BOSS, **env}
        super().__init__(directory, files=files, env=env)
        self.agent = agent
        self.env["CLEO_PUBLIC_URL"] = f"http://127.0.0.1:{self.port}"
        self._over = threading.Event()
        self._boss = threading.Thread(target=self._answer, daemon=True)

    def __enter__(self) -> Self:
        super().__enter__()
        self.agent.__enter__()
        self._servers.callback(self.agent.__exit__, None, None, None)
        self._servers.callback(self._over.set)
        self.env["CLEO_AGENT"] = self.agent.url
        self._boss.start()
        return self

    def _answer(self) -> None:
        answered: set[str] = set()
        while not self._over.wait(0.1):
            for sent in list(self.smtp.mails):
                id_ = str(message_from_bytes(sent.source)["Message-ID"])
                if sent.recipients == (BOSS,) and id_ not in answered and self._reply(id_):
                    answered.add(id_)

    def _reply(self, id_: str) -> bool:
        body = {
            "from_address": BOSS,
            "to_address": AGENT,
            "subject": "Re: Question",
            "body": "Yes.",
            "message_id": f"<answer-{id_.strip('<>')}>",
            "in_reply_to": id_,
        }
        return self.post(body)[0] in (200, 202)

    def asked(self) -> int:
        return len([sent for sent in self.smtp.mails if sent.recipients == (BOSS,)])


def scenarios() -> Iterator[Scenario]:
    for way in (IMAP, WEBHOOK):
        yield _row("callback-after-wait", way, partial(_kill_worker, "callback-after-wait", way), "")
    yield _row("callback-after-store", WEBHOOK, _kill_web, "")
    for point in ("question-after-keep", "question-after-resume"):
        yield _row(point, WEBHOOK, partial(_kill_worker, point, WEBHOOK), BOSS)


def _row(point: str, way: str, play: Any, ask: str) -> Scenario:
    return Scenario(GROUP, point, way, play, partial(_rig, ask))


def _rig(ask: str, directory: Path) -> LaterRig:
    return LaterRig(directory, LaterAgent(delay=(0.5, 1.5), twice=0.5, ask=ask))


def _kill_worker(point: str, way: str, rig: CrashRig) -> Tally:
    rig.start_web("--workers", "1")
    worker = rig.start_worker(CLEO_CRASH_AT=f"{point}:2")
    rig.bring(way, LETTERS)
    rig.await_death(worker, point)
    rig.bring(way, AFTERWARDS)
    restarted = time.monotonic()
    rig.start_worker()
    return _tally(rig, restarted)


def _kill_web(rig: CrashRig) -> Tally:
    point = "callback-after-store"
    web = rig.start_web("--workers", "1", CLEO_CRASH_AT=f"{point}:2")
    (victim,) = children(web.pid)
    rig.bring(IMAP, LETTERS)
    rig.start_worker()
    rig.wait(lambda: victim not in children(web.pid) and rig.was_killed_at(point), 60)
    Channel.kill(web)
    restarted = time.monotonic()
    rig.start_web("--workers", "1")
    rig.bring(WEBHOOK, AFTERWARDS)
    return _tally(rig, restarted)


def _tally(rig: CrashRig, since: float) -> Tally:
    assert isinstance(rig, LaterRig)
    tally = rig.finish(since)
    if rig.agent.ask and rig.asked() != len(rig.letters):
        tally.problems.append(f"{rig.asked()} questions were mailed for {len(rig.letters)} mails")
    odd = {status for status in rig.agent.statuses if status not in ("accepted", "duplicate", 0, 503)}
    tally.problems += [f"a callback was answered {status}" for status in sorted(odd, key=str)]
    return tally


# --- the big number -----------------------------------------------------------------------------------------


class LaterRun(RandomRun):
    """Kills go on until nearly every mail is answered."""

    def _linger(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while len(self.rig.answered()) < 0.97 * len(self.rig.letters) and time.monotonic() < until:
            self._say()
            time.sleep(0.5)


def run_later(mails: int, every: float, seed: int, directory: Path) -> int:
    """Have ``mails`` answered by callback, a tenth of them twice, with a kill -9 now and then."""
    agent = LaterAgent(delay=(0.2, 20), twice=0.1, forge=True, seed=seed)
    env = {
        "EMAIL_CONCURRENCY": "20",
        "EMAIL_MAX_SENDS_PER_HOUR": "100000",
        "EMAIL_POLL_INTERVAL_SECONDS": "5",
    }
    rig = LaterRig(directory, agent, files=True, **env)
    rig.appendfsync = "always"
    with rig:
        run = LaterRun(Random(mails, duplicates=0, every=every, rate=15.0, seed=seed), rig)
        status = run.play()
        print(f"callbacks: {dict(agent.statuses)}")
        print(f"with a forged token, or that of another question: {dict(agent.forged)}")
        if agent.forged[200]:
            print(f"  {agent.forged[200]} forged callbacks were accepted")
        return 1 if agent.forged[200] else status
