"""Mail by both ways, some of it twice, while something is killed every few seconds."""

from __future__ import annotations

import random
import statistics
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cleo_email.errors import StoreUnavailable
from cleo_email.store import State
from tests.crash.rig import IMAP, WEBHOOK, CrashRig, Letter, Tally
from tests.support.agent_server import AgentServer
from tests.support.channel import children

FOLLOW_UPS = 0.3
WORKERS = 2
SAY_S = 5.0
PATIENCE_S = 240.0


@dataclass(frozen=True)
class Random:
    """``duplicates`` in per cent, ``every`` seconds between kills, ``rate`` mails a second.

    ``files``: the provider files into Sent by itself, so that everything uncertain must settle.
    """

    mails: int
    duplicates: int = 20
    every: float = 4.0
    rate: float = 8.0
    seed: int = 1
    files: bool = True


def run_random(plan: Random, directory: Path) -> int:
    """Play it, with a word now and then on standard error; the exit status."""
    env = {
        "EMAIL_CONCURRENCY": "20",
        "EMAIL_POLL_INTERVAL_SECONDS": "5",
        "EMAIL_MAX_SENDS_PER_HOUR": "100000",
    }
    with AgentServer(delay=0.3) as agent:
        rig = CrashRig(directory, files=plan.files, env={**env, "CLEO_AGENT": agent.url})
        with rig:
            return RandomRun(plan, rig).play()


class RandomRun:
    def __init__(self, plan: Random, rig: CrashRig) -> None:
        self.plan, self.rig = plan, rig
        self.chance = random.Random(plan.seed)
        self.killed: Counter[str] = Counter()
        self.handed = 0  # deliveries, duplicates included
        self.over = threading.Event()
        self.begun = time.monotonic()
        self._said = 0.0

    def play(self) -> int:
        self.web = self.rig.start_web()
        self.workers = [self.rig.start_worker() for _ in range(WORKERS)]
        killer = threading.Thread(target=self._kill_now_and_then)
        killer.start()
        try:
            self._feed()
            self._linger()
        finally:
            self.over.set()
            killer.join()
        tally = self._finish()
        return self._report(tally)

    def _linger(self) -> None:
        """Let the kills go on for a while after the last mail."""

    # --- mail in ----------------------------------------------------------------------------------------

    def _feed(self) -> None:
        for way, letter in self._deliveries():
            self.rig.letters[letter.message_id] = letter
            if way == IMAP:
                self.rig.inbox.deliver(letter.source())
            else:
                self.rig.wait(lambda letter=letter: self.rig.offer(letter), 60)  # type: ignore[misc]
            self.handed += 1
            self._say()
            behind = self.begun + self.handed / self.plan.rate - time.monotonic()
            if behind > 0:
                time.sleep(behind)

    def _deliveries(self) -> list[tuple[str, Letter]]:
        """Every mail once, the duplicates again at once or up to 40 deliveries later, by either way."""
        chance = self.chance
        letters: list[Letter] = []
        for number in range(1, self.plan.mails + 1):
            roots = [letter.number for letter in letters[-100:] if letter.follows is None]
            follows = chance.choice(roots) if roots and chance.random() < FOLLOW_UPS else None
            letters.append(Letter(number, follows))
        waiting = deque(letters)
        again: list[tuple[int, str, Letter]] = []
        out: list[tuple[str, Letter]] = []
        twice = set(chance.sample(range(len(letters)), len(letters) * self.plan.duplicates // 100))
        while waiting or again:
            due = [item for item in again if item[0] <= len(out) or not waiting]
            if due:
                again.remove(due[0])
                out.append(due[0][1:])
                continue
            letter = waiting.popleft()
            out.append((chance.choice((IMAP, WEBHOOK)), letter))
            if letter.number - 1 in twice:
                again.append(
                    (len(out) + chance.choice((0, 0, 5, 40)), chance.choice((IMAP, WEBHOOK)), letter)
                )
        return out

    # --- kill -9 ----------------------------------------------------------------------------------------

    def _kill_now_and_then(self) -> None:
        victims: list[Callable[[], None]] = [self._worker, self._gunicorn_worker, self._redis, self._gunicorn]
        while not self.over.wait(self.plan.every * self.chance.uniform(0.5, 1.5)):
            self.chance.choices(victims, (5, 2, 3, 1))[0]()

    def _worker(self) -> None:
        number = self.chance.randrange(WORKERS)
        self.rig.kill(self.workers[number])
        self.killed["worker"] += 1
        time.sleep(self.chance.uniform(0, 1))
        self.workers[number] = self.rig.start_worker()

    def _gunicorn_worker(self) -> None:
        for pid in self.chance.sample(children(self.web.pid), 1):
            self.rig.kill_pid(pid)
            self.killed["gunicorn worker"] += 1

    def _gunicorn(self) -> None:
        self.rig.kill(self.web)
        self.killed["gunicorn"] += 1
        self.web = self.rig.start_web()

    def _redis(self) -> None:
        self.rig.redis.kill()
        self.killed["Redis"] += 1
        time.sleep(self.chance.uniform(0, 1.5))
        self.rig.redis.start()

    # --- the end ----------------------------------------------------------------------------------------

    def _finish(self) -> Tally:
        since = time.monotonic()
        while not self.rig.is_over() and time.monotonic() - since < PATIENCE_S:
            self._say()
            time.sleep(0.5)
        return self.rig.finish(since, PATIENCE_S)

    def _say(self) -> None:
        if time.monotonic() - self._said < SAY_S:
            return
        self._said = time.monotonic()
        try:
            counts = {state: self.rig.store.messages.count(state) for state in State}
        except StoreUnavailable:
            return
        told = ", ".join(f"{state} {count}" for state, count in counts.items() if count)
        seconds = time.monotonic() - self.begun
        print(
            f"{seconds:5.0f} s: {self.handed} deliveries, {sum(self.killed.values())} kills; {told}",
            file=sys.stderr,
            flush=True,
        )

    def _report(self, tally: Tally) -> int:
        records = self.rig.stored()
        waits = sorted((r.updated_at - r.received_at) / 1000 for r in records if r.state is State.REPLIED)
        kinds = ", ".join(f"{name} {count}" for name, count in self.killed.most_common())
        print(
            f"mails {len(self.rig.letters)}, deliveries {self.handed}, "
            f"seconds {time.monotonic() - self.begun:.0f}\n"
            f"kill -9: {sum(self.killed.values())} ({kinds})\n"
            f"accepted {tally.accepted}, replied {tally.replied}, failed {tally.failed}, "
            f"duplicates {tally.duplicates}, lost {tally.lost}, uncertain {tally.uncertain}\n"
            f"after the last kill all was over within {tally.seconds:.1f} s\n"
            f"from acceptance to reply: median {statistics.median(waits):.1f} s, "
            f"95 % {waits[len(waits) * 95 // 100]:.1f} s, longest {waits[-1]:.1f} s"
        )
        problems = tally.problems
        if tally.failed:
            problems.append(f"{tally.failed} failed, expected none")
        if tally.uncertain and self.plan.files:
            accepted = set(self.rig.answered())
            late = [r for r in records if r.state is State.UNCERTAIN and r.message_id in accepted]
            problems += [f"{r.message_id} is uncertain though Sent shows its answer" for r in late]
        for problem in problems:
            print(f"  {problem}")
        return 1 if problems else 0
