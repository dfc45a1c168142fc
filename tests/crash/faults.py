"""What the servers around do wrong: Redis killed or hung, IMAP and SMTP failing at each step."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from pathlib import Path

from cleo_email.errors import StoreUnavailable
from tests.crash.rig import IMAP, WEBHOOK, CrashRig, Letter, Tally
from tests.crash.scenario import Scenario
from tests.support import dovecot
from tests.support.agent_server import AgentServer
from tests.support.imap_server import Answer, Session, bye, first, hang_up, silence
from tests.support.inboxes import FakeInbox

SIGTERM, REDIS, IMAP_SERVER, SMTP_SERVER = "SIGTERM", "Redis", "IMAP server", "SMTP server"
FEW = tuple(Letter(n) for n in range(1, 7))
MANY = tuple(Letter(n) for n in range(1, 61))

# Stage of the SMTP dialogue; "dot" is the answer to the end of DATA.
OPENING = ("connect", "ehlo", "starttls")
MAIL = ("mail", "rcpt", "data", "body", "dot")
ACTIONS = ("450 4.2.0 later", "421 4.3.2 closing", "550 5.7.1 no", "drop", "silence")


def scenarios() -> Iterator[Scenario]:
    yield from _sigterm()
    yield from _redis()
    yield from _imap()
    yield from _smtp()


# --- Redis ----------------------------------------------------------------------------------------------


def _redis() -> Iterator[Scenario]:
    for ingress in (IMAP, WEBHOOK):
        for name, play in (
            ("kill -9, idle", _idle),
            ("kill -9 during accept", _accepting),
            ("kill -9 during answering", partial(_answering, kill_redis, 1.0)),
            ("away 30 s during answering", partial(_answering, kill_redis, 30.0)),
            ("hung 20 s during answering", partial(_answering, freeze_redis, 20.0)),
            ("kill -9 before end of DATA", partial(_submitting, "data*0=wait", kill_redis, 1.0)),
            ("kill -9 after end of DATA", partial(_submitting, "dot*0=wait", kill_redis, 1.0)),
            ("away 30 s after end of DATA", partial(_submitting, "dot*0=wait", kill_redis, 30.0)),
            ("hung 20 s before end of DATA", partial(_submitting, "data*0=wait", freeze_redis, 20.0)),
        ):
            yield Scenario(REDIS, name, ingress, partial(play, ingress), CrashRig)


def kill_redis(rig: CrashRig, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> float:
    """kill -9, and a start on the same append-only file after so many seconds; when it answered again."""
    rig.redis.kill()
    meanwhile()
    time.sleep(seconds)
    rig.redis.start()
    return time.monotonic()


def freeze_redis(rig: CrashRig, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> float:
    """It accepts connections and says nothing; afterwards it does what it was told meanwhile."""
    rig.redis.freeze()
    meanwhile()
    time.sleep(seconds)
    rig.redis.thaw()
    return time.monotonic()


def _idle(ingress: str, rig: CrashRig) -> Tally:
    rig.start_web()
    rig.start_worker()
    rig.bring(ingress, FEW[:3])
    rig.wait(rig.is_over)
    since = kill_redis(rig, 1.0)
    rig.bring(ingress, FEW[3:])
    return rig.finish(since, 200)


def _accepting(ingress: str, rig: CrashRig) -> Tally:
    rig.start_web()
    stored = _stored(rig)
    if ingress == IMAP:
        rig.bring(IMAP, MANY)
        rig.start_worker()
        rig.wait(lambda: stored() >= 10)
        return rig.finish(kill_redis(rig, 1.0))
    rig.start_worker()
    sender = threading.Thread(target=rig.bring, args=(WEBHOOK, MANY))
    sender.start()
    rig.wait(lambda: stored() >= 10)
    since = kill_redis(rig, 1.0)
    sender.join()
    return rig.finish(since)


def _stored(rig: CrashRig) -> Callable[[], int]:
    def count() -> int:
        try:
            return len(rig.stored())
        except StoreUnavailable:
            return 0

    return count


def _answering(how: Callable[..., float], away: float, ingress: str, rig: CrashRig) -> Tally:
    with AgentServer(delay=3.0) as agent:
        rig.env["CLEO_AGENT"] = agent.url
        rig.start_web()
        rig.bring(ingress, FEW)
        rig.start_worker()
        rig.wait(lambda: len(agent.requests()) >= len(FEW))
        return rig.finish(how(rig, away))


def _submitting(fault: str, how: Callable[..., float], away: float, ingress: str, rig: CrashRig) -> Tally:
    """All mails wait in the middle of their submission; they go on while Redis is not there."""
    rig.smtp.inject(fault)
    rig.start_web()
    rig.bring(ingress, FEW[:3])
    rig.start_worker()
    rig.smtp.wait_for(lambda server: sum(line == "DATA" for line in server.commands) >= 3, 30)
    if fault.startswith("dot"):
        rig.wait(lambda: all(record.data_ended_at for record in rig.stored()))
    return rig.finish(how(rig, away, rig.smtp.gate.set))


# --- SIGTERM --------------------------------------------------------------------------------------------


def _sigterm() -> Iterator[Scenario]:
    for ingress in (IMAP, WEBHOOK):
        yield Scenario(SIGTERM, "finished within 25 s", ingress, partial(_terminated, 5.0, ingress))
        yield Scenario(SIGTERM, "handed over after 25 s", ingress, partial(_terminated, 32.0, ingress))


def _terminated(thinking: float, ingress: str, rig: CrashRig) -> Tally:
    """All mails are with the agent when the worker is told to stop; later ones wait for the next worker."""
    with AgentServer(delay=thinking) as agent:
        rig.env["CLEO_AGENT"] = agent.url
        rig.start_web()
        rig.bring(ingress, FEW[:3])
        worker = rig.start_worker()
        rig.wait(lambda: len(agent.requests()) >= 3)
        begun = time.monotonic()
        worker.terminate()
        rig.bring(ingress, FEW[3:])
        assert worker.wait(29) == 0
        took = time.monotonic() - begun
        since = time.monotonic()
        rig.start_worker()
        tally = rig.finish(since)
        asked = len(agent.requests())
    # One wake-up may still be taken off the queue in the two seconds in which the stop is noticed.
    least = len(FEW) + (3 if thinking > 25 else 0)
    if asked not in (least, least + (thinking > 25)):
        tally.problems.append(f"the agent was asked {asked} times, expected {least}")
    if (took >= 25) != (thinking > 25):
        tally.problems.append(f"the worker ended after {took:.0f} s")
    return tally


# --- IMAP -----------------------------------------------------------------------------------------------


def _imap() -> Iterator[Scenario]:
    if not dovecot.missing():
        yield Scenario(IMAP_SERVER, "stopped 5 s during the poll", IMAP, _restart_imap)
    for name, command, answer in (
        ("BYE at SELECT", "SELECT", bye("going down")),
        ("BYE in the middle of FETCH", "UID FETCH", _bye_mid_fetch),
        ("connection lost at FETCH", "UID FETCH", hang_up),
        ("silence at FETCH", "UID FETCH", silence),
        ("connection lost at STORE", "UID STORE", hang_up),
        ("silence at STORE", "UID STORE", silence),
        ("connection lost at APPEND", "APPEND", hang_up),
    ):
        # A half-open connection must be noticed within 90 s; then work goes on as after any fault.
        limit = 90.0 if answer is silence else 60.0
        play = partial(_imap_fault, command, answer)
        yield Scenario(IMAP_SERVER, name, IMAP, play, _scripted, limit=limit)
    yield Scenario(IMAP_SERVER, "new UIDVALIDITY", IMAP, _new_uidvalidity, _scripted)


def _scripted(directory: Path) -> CrashRig:
    return CrashRig(directory, inbox=FakeInbox())


def _restart_imap(rig: CrashRig) -> Tally:
    stored = _stored(rig)
    rig.bring(IMAP, MANY)
    rig.start_worker()
    rig.wait(lambda: stored() >= 10)
    rig.inbox.stop()
    time.sleep(5)
    rig.inbox.start()
    return rig.finish(time.monotonic())


def _bye_mid_fetch(session: Session, tag: str, rest: str) -> None:
    """Two of the mails, half of a third, and the end."""
    if "BODY.PEEK[]" not in rest:
        session.usual(tag, rest)
        return
    for uid, message in list(session._chosen(rest))[:2]:
        session.send_message(uid, message, rest)
    session.wfile.write(b"* 3 FETCH (UID 3 BODY[] {4000}\r\nFrom: half a mail\r\n* BYE going down\r\n")
    hang_up(session, tag, rest)


def _imap_fault(command: str, answer: Answer, rig: CrashRig) -> Tally:
    assert isinstance(rig.inbox, FakeInbox)
    # After a second loss copies rest five minutes, longer than a row waits for them.
    once = answer is silence or command == "APPEND"
    rig.inbox.server.answers[command] = first(answer, 1 if once else 2)
    rig.bring(IMAP, FEW)
    since = time.monotonic()
    rig.start_worker()
    return rig.finish(since, 200)


class Fresh(Letter):
    """A letter of today: one with an older Date may have been read before the mailbox was rebuilt."""

    def source(self) -> bytes:
        return re.sub(
            rb"(?m)^Date: .*?(?=\r$)",
            f"Date: {format_datetime(datetime.now(UTC))}".encode(),
            super().source(),
        )


def _new_uidvalidity(rig: CrashRig) -> Tally:
    """The mailbox was rebuilt: all UIDs are void, and one new mail was opened by a person meanwhile."""
    assert isinstance(rig.inbox, FakeInbox)
    rig.env["EMAIL_POLL_INTERVAL_SECONDS"] = "2"
    rig.bring(IMAP, FEW[:3])
    rig.start_worker()
    rig.wait(lambda: rig.is_over() and rig.filed())
    server = rig.inbox.server
    server.inbox.reverse()
    server.uidvalidity = 8
    rig.bring(IMAP, [Fresh(letter.number) for letter in FEW[3:]])
    server.inbox[-1].flags.add("\\Seen")
    return rig.finish(time.monotonic())


# --- SMTP -----------------------------------------------------------------------------------------------


def _smtp() -> Iterator[Scenario]:
    for stage, action in itertools.product((*OPENING, "auth", *MAIL), ACTIONS):
        ways = (IMAP, WEBHOOK) if stage == "dot" else (WEBHOOK,)
        for ingress in ways:
            yield _smtp_scenario(stage, action, ingress)
    for action in ("accept+drop", "accept+silence"):
        for ingress in (IMAP, WEBHOOK):
            yield _smtp_scenario("dot", action, ingress)
            yield _smtp_scenario("dot", action, ingress, files=True)
    yield _smtp_scenario("quit", "550 5.0.0 no", WEBHOOK)


def _smtp_scenario(stage: str, action: str, ingress: str, *, files: bool = False) -> Scenario:
    # A short mail is complete before the client can notice what the server does in the middle of it.
    broken = stage in ("dot", "body") and action.removeprefix("accept+") in ("drop", "silence")
    refused = action.startswith("550") and stage not in ("auth", "quit")
    # A server that is silent is given up after 30 s, at the end of DATA after 60 s. A refused login is tried
    # again after a minute, without an attempt being used up.
    patient = action.endswith("silence") or (stage == "auth" and action.startswith("550"))
    return Scenario(
        group=SMTP_SERVER,
        name=f"{stage}: {action}" + (", files by itself" if files else ""),
        ingress=ingress,
        play=partial(_smtp_fault, f"{stage}*1={action}", ingress),
        rig=partial(CrashRig, files=files),
        uncertain=(0 if (stage, action) == ("body", "drop") else 1, 1) if broken and not files else (0, 0),
        failed=int(refused),
        limit=100.0 if patient else 60.0,
    )


def _smtp_fault(fault: str, ingress: str, rig: CrashRig) -> Tally:
    """The first mail meets the fault, the others find the server in order."""
    rig.smtp.inject(fault)
    rig.start_web("--workers", "1")
    rig.bring(ingress, FEW[:3])
    since = time.monotonic()
    rig.start_worker(EMAIL_CONCURRENCY="1")
    return rig.finish(since, 200)
