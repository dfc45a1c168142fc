"""SIGKILL at every named point, for mail that comes by IMAP and by webhook."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cleo_email.crashpoints import POINTS
from tests.crash import events, later, people
from tests.crash.rig import IMAP, WEBHOOK, CrashRig, Letter, Tally
from tests.crash.scenario import Scenario
from tests.support.channel import Channel, children

GROUP = "kill -9"
POLL_ONLY = {point for point in POINTS if point.startswith("poll-")}
# With the webhook these instants are gunicorn's, not the worker's.
IN_WEB = {"accept-before-store", "accept-after-store", "accept-after-wake", "web-before-answer"}
WEB_ONLY = {"web-before-answer"}
# The process ends between the end of DATA and the record of its answer: nobody can know.
IN_THE_WINDOW = {"submit-after-mark", "submit-after-end-of-data", "submit-after-250"}
# The server has the mail: where it files by itself, Sent tells.
ACCEPTED = {"submit-after-end-of-data", "submit-after-250"}
# Reached by another thread than the answers: with one mail it is sure when.
CHORES = {point for point in POINTS if point.startswith("chores-")}
ONCE = CHORES | {"poll-after-search", "poll-after-seen", "settle-after-find"}
FILES = "+files"  # the provider files into Sent by itself
LONG = "+long"  # in the middle of a poll that lets others in, while many answers are made

BEFORE = (Letter(1), Letter(2, follows=1), Letter(3))
WHILE_DEAD = (Letter(4, follows=1), Letter(5))


def scenarios() -> Iterator[Scenario]:
    elsewhere = (*people.PREFIXES, *later.PREFIXES, events.PREFIX)
    for point in (name for name in POINTS if not name.startswith(elsewhere)):
        for ingress in (IMAP, WEBHOOK):
            if point in (POLL_ONLY if ingress == WEBHOOK else WEB_ONLY):
                continue
            files = point == "settle-after-find"
            yield _scenario(point, ingress, files=files)
            if point in ACCEPTED:
                yield _scenario(point, ingress, files=True)
    # Whatever is in the four sessions with the mail server may be in the window.
    yield Scenario(GROUP, "poll-after-seen" + LONG, IMAP, _in_long_poll, uncertain=(0, 4))


def _scenario(point: str, ingress: str, *, files: bool) -> Scenario:
    window = point in IN_THE_WINDOW and not files
    settles = point in ACCEPTED and files
    return Scenario(
        group=GROUP,
        name=point + (FILES if settles else ""),
        ingress=ingress,
        play=partial(_play, point, ingress),
        rig=partial(_rig, files=files),
        uncertain=(1, 1) if window else (0, 0),
    )


def _rig(directory: Path, *, files: bool) -> CrashRig:
    # One conversation at a time: then exactly one mail is in whatever window the process dies in.
    return CrashRig(directory, files=files, env={"EMAIL_CONCURRENCY": "1"})


def _play(point: str, ingress: str, rig: CrashRig) -> Tally:
    if point == "settle-after-find":
        rig.smtp.inject("dot*1=accept+drop")
    before = BEFORE[:1] if point in ONCE else BEFORE
    armed = point if point in ONCE else f"{point}:2"
    if ingress == WEBHOOK and point in IN_WEB:
        restarted = _kill_gunicorn(rig, point, armed, before)
    else:
        restarted = _kill_worker(rig, point, armed, ingress, before)
    return rig.finish(restarted)


def _kill_worker(rig: CrashRig, point: str, armed: str, ingress: str, before: tuple[Letter, ...]) -> float:
    if ingress == WEBHOOK:
        rig.start_web("--workers", "1")
    rig.bring(ingress, before)
    worker = rig.start_worker(CLEO_CRASH_AT=armed)
    rig.await_death(worker, point)
    rig.bring(ingress, WHILE_DEAD)
    restarted = time.monotonic()
    rig.start_worker()
    return restarted


def _in_long_poll(rig: CrashRig) -> Tally:
    rig.bring(IMAP, [Letter(number) for number in range(1, 111)])  # two batches and some
    worker = rig.start_worker(CLEO_CRASH_AT="poll-after-seen:2")
    rig.await_death(worker, "poll-after-seen")
    rig.bring(IMAP, (Letter(111, follows=2), Letter(112, follows=110), Letter(113)))
    restarted = time.monotonic()
    rig.start_worker()
    return rig.finish(restarted)


def _kill_gunicorn(rig: CrashRig, point: str, armed: str, before: tuple[Letter, ...]) -> float:
    """The sender gets no answer and repeats, as providers do."""
    rig.start_worker()
    web = rig.start_web("--workers", "1", CLEO_CRASH_AT=armed)
    (victim,) = children(web.pid)
    for letter in before:
        if not rig.offer(letter):
            break
    rig.wait(lambda: victim not in children(web.pid) and rig.was_killed_at(point))
    Channel.kill(web)
    restarted = time.monotonic()
    rig.start_web("--workers", "1")
    rig.bring(WEBHOOK, (*before, *WHILE_DEAD))
    return restarted
