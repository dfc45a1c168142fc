"""Tell people of CLEO_ALERT_TO that something waits for them or has stopped: once, and once when it is over.

A worker looks every 15 seconds; a web process does while no worker has been seen. What was told is kept after
it was told: a process that ends in between lets an alert come twice, and none is lost. An alert holds numbers
and the words of servers, never anything of a mail, and there is no record of it, so that it waits in no queue
and causes no other one.
"""

from __future__ import annotations

import logging
import threading
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from importlib.resources import files

from cleo_email.errors import CleoError, StoreUnavailable, place_of
from cleo_email.monitoring.ways import AlertWay
from cleo_email.runtime import DAY, HOUR, MINUTE, Clock, SeldomLog, now_ms
from cleo_email.store import WAITING, Store
from cleo_email.store.health import WORKER_MS
from cleo_email.store.messages import HANDED_OVER
from cleo_email.store.totals import Snapshot

log = logging.getLogger(__name__)

APART_MS = HOUR  # between two alerts of one kind
REMINDER_MS = DAY  # where it goes on, and nothing is new
RETRY_MS = 5 * MINUTE  # where nobody could be told
POLLS_MS = 15 * MINUTE
FULL, EMPTIER = 0.7, 0.65  # shares of Redis's memory: when it is told, and when it is over
STATES = tuple(sorted(str(state) for state in WAITING))
_SENT = "submission:sent"


@dataclass(frozen=True)
class Condition:
    """What is found out about one kind of alert.

    ``news`` grows with each further thing to tell. Where ``passes`` it is told, and is not over at some time.
    ``is_over`` may be false while the opposite is not certain either.
    """

    kind: str
    is_on: bool
    _: KW_ONLY
    is_over: bool
    news: int = 0
    passes: bool = False
    values: Mapping[str, int] = field(default_factory=dict)
    said: Sequence[str] = ()  # by servers


@dataclass
class Alerts:
    """Looks, and tells. ``ways`` are how people are reached, ``link`` is where they go on.

    ``polls_every_s`` is 0 without a mailbox.
    """

    store: Store
    ways: Sequence[AlertWay]
    link: str
    _: KW_ONLY
    polls_every_s: int
    clock: Clock = now_ms
    _faults: SeldomLog = field(init=False, default_factory=SeldomLog)
    _thread: threading.Thread | None = field(init=False, default=None)
    _born: int = field(init=False)

    def __post_init__(self) -> None:
        self._born = self.clock()

    def look(self) -> None:
        """Run in a thread of its own: a server that does not answer must not keep the ticker waiting."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run_safely, name="cleo-alerts", daemon=True)
            self._thread.start()

    def look_for_worker(self) -> None:
        """Run where no worker does. Raise StoreUnavailable."""
        if self.store.health.read().worker_is_away(self.clock()):
            self.run()

    def _run_safely(self) -> None:
        try:
            self.run()
        except StoreUnavailable as error:
            log.debug("no alert can be sent: %s", error)
        except Exception as error:  # noqa: BLE001 - the thread's outermost edge
            log.error("alerts: unexpected %s", place_of(error))

    def run(self) -> None:
        """Tell what is to be told, unless another process is at it. Raise StoreUnavailable."""
        with self.store.locks.hold("alerts") as lock:
            if lock is None:
                return
            told = self.store.alerts.read()
            for condition in self._conditions(self.store.totals.read(STATES, self.clock()), told):
                self._settle(condition, told.get(condition.kind, {}))

    def try_ways(self) -> Iterator[tuple[AlertWay, str]]:
        """Send a test by every way. Yield each with why it failed, or ''."""
        for way in self.ways:
            try:
                way.send(*self._message("test", "title", {}, ()))
            except CleoError as error:
                yield way, str(error)
            else:
                yield way, ""

    # --- what is found ----------------------------------------------------------------------------------

    def _conditions(self, now: Snapshot, told: Mapping[str, Mapping[str, int]]) -> Iterator[Condition]:
        health, at = now.health, self.clock()
        counts = {state: count for state, (count, _) in now.waiting.items()}
        news = now.count(*(f"state:{state}:" for state in STATES))
        waits = sum(counts.values()) > 0
        yield Condition("waiting", waits, is_over=not waits, news=news, values=counts)
        over = now.count(HANDED_OVER)
        since = {"count": over - told.get("handover", {}).get("seen", 0)}
        yield Condition("handover", False, is_over=False, news=over, passes=True, values=since)
        away = health.worker_is_away(at)
        # A worker that has just started is seen only once it reads its queues.
        yield Condition("worker", away and at - self._born > WORKER_MS, is_over=not away)
        yield self._login(now, told.get("login", {}))
        if self.polls_every_s and not away:  # without a worker there are no polls, which is told already
            yield self._polls(now, at)
        if now.memory_used is not None:
            share = now.memory_used / now.memory_limit if now.memory_limit else 0.0
            percent = {"count": round(share * 100)}
            yield Condition("memory", share > FULL, is_over=share < EMPTIER, values=percent)

    def _login(self, now: Snapshot, told: Mapping[str, int]) -> Condition:
        health, sent = now.health, now.count(_SENT)
        imap, smtp = health.login_faults > 0, health.smtp_login_refused
        said = [health.poll_fault] * imap + [health.submission_fault] * smtp
        # A worker that starts forgets that SMTP refused it: it is over once a mail has left.
        unproven = "sent" in told and sent <= told["sent"] - 1
        return Condition(
            "login",
            imap or smtp,
            is_over=not (imap or smtp or unproven),
            said=said,
            values={"sent": sent + 1 if smtp else 0},
        )

    def _polls(self, now: Snapshot, at: int) -> Condition:
        health = now.health
        since = max(health.polled, self._born)
        # A look at a large mailbox takes long without a fault.
        late = at - since >= (POLLS_MS if health.poll_fault else max(HOUR, 3000 * self.polls_every_s))
        refused = health.login_faults > 0  # which is told already
        values = {"count": (at - since) // MINUTE}
        works = not (late or health.poll_fault)
        return Condition(
            "polls", late and not refused, is_over=works, values=values, said=[health.poll_fault]
        )

    # --- what is told -----------------------------------------------------------------------------------

    def _settle(self, condition: Condition, told: Mapping[str, int]) -> None:
        """Tell what has begun, goes on or is over, and keep that it was told."""
        now, last = self.clock(), told.get("told", 0)
        if now < told.get("retry", 0):
            return
        due = condition.news > told.get("seen", 0)
        if condition.is_on:
            due = due or not told.get("open") or now - last >= REMINDER_MS
        if (condition.is_on or condition.passes) and due and now - last >= APART_MS:
            if self._tell(condition, "title"):
                kept = {name: value for name, value in condition.values.items() if name == "sent"}
                opened = int(not condition.passes)
                self.store.alerts.write(
                    condition.kind, told=now, open=opened, seen=condition.news, retry=0, **kept
                )
        elif told.get("open") and condition.is_over and self._tell(condition, "over"):
            self.store.alerts.write(condition.kind, open=0, sent=0, retry=0)

    def _tell(self, condition: Condition, what: str) -> bool:
        """Tell it by every way. Return whether one of them worked; else it is tried again later."""
        subject, text = self._message(condition.kind, what, condition.values, condition.said)
        reached = False
        for way in self.ways:
            try:
                way.send(subject, text)
                reached = True
            except StoreUnavailable:
                raise
            except CleoError as error:
                if self._faults.is_due(f"{way.name} {type(error).__name__}"):
                    log.error("an alert (%s) cannot be sent by %s: %s", condition.kind, way.name, error)
        if reached:
            log.info("people were told: %s", subject)
        else:
            self.store.alerts.write(condition.kind, retry=self.clock() + RETRY_MS)
        return reached

    def _message(
        self, kind: str, what: str, values: Mapping[str, int], said: Sequence[str]
    ) -> tuple[str, str]:
        """Return subject and text, in every language."""
        parts = []
        for words in (language[kind] for language in _words().values()):
            lines = [words[what] + "."]
            if what == "title":
                lines += ["", words["text"].format_map(values), *(f"    {line}" for line in said if line)]
            parts.append("\n".join(lines))
        subject = next(iter(_words().values()))[kind][what]
        return subject, "\n\n".join([*parts, self.link or "cleo-email messages list"]) + "\n"


@cache
def _words() -> dict[str, dict[str, dict[str, str]]]:
    return tomllib.loads(files(__package__).joinpath("alerts.toml").read_text("utf-8"))
