"""SIGKILL where an answer waits for a person, and where the agent hands a thread over."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from functools import partial
from pathlib import Path
from typing import Any

from cleo_email.store import State
from tests.crash.rig import IMAP, WEBHOOK, CrashRig, Letter, Tally
from tests.crash.scenario import Scenario

REVIEW = ("review-after-keep",)
HAND_OVER = ("handoff-after-keep", "handoff-after-store")
POINTS = frozenset({*REVIEW, *HAND_OVER})
BOSS = "boss@people.test"
LETTERS = (Letter(1), Letter(2), Letter(3))


def asks_for_a_review(request: dict[str, Any]) -> dict[str, str]:
    return {"reply": request["message"]["text"], "review": "look at it"}


def hands_over(request: dict[str, Any]) -> dict[str, str]:
    return {"reply": request["message"]["text"], "handoff": "beyond me"}


def scenarios(group: str) -> Iterator[Scenario]:
    for ingress in (IMAP, WEBHOOK):
        for point in REVIEW:
            rig = partial(_rig, asks_for_a_review.__name__)
            yield Scenario(group, point, ingress, partial(_review, point, ingress), rig)
        for point in HAND_OVER:
            rig = partial(_rig, hands_over.__name__)
            # The lock of the dead worker, and the minute after which another one looks.
            play = partial(_hand_over, point, ingress)
            yield Scenario(group, point, ingress, play, rig, limit=90)


def _rig(agent: str, directory: Path) -> CrashRig:
    env = {"EMAIL_CONCURRENCY": "1", "CLEO_AGENT": f"{__name__}:{agent}", "EMAIL_HANDOFF_TO": BOSS}
    return CrashRig(directory, env=env)


def _killed(point: str, ingress: str, rig: CrashRig) -> float:
    if ingress == WEBHOOK:
        rig.start_web("--workers", "1")
    rig.bring(ingress, LETTERS)
    worker = rig.start_worker(CLEO_CRASH_AT=f"{point}:2")
    rig.await_death(worker, point)
    restarted = time.monotonic()
    rig.start_worker()
    return restarted


def _review(point: str, ingress: str, rig: CrashRig) -> Tally:
    """Each answer waits, and leaves once when a person approves it."""
    _killed(point, ingress, rig)
    rig.wait(lambda: all_wait(rig), 60)
    assert not rig.answered(), "it left before anybody saw it"
    restarted = time.monotonic()
    rig.approve_all()
    return rig.finish(restarted)


def _hand_over(point: str, ingress: str, rig: CrashRig) -> Tally:
    """The last word goes to the customer once, and the hand-over to people once."""
    restarted = _killed(point, ingress, rig)
    rig.wait(lambda: len(told(rig)) == len(LETTERS), 120)
    tally = rig.finish(restarted)
    tally.seconds = time.monotonic() - restarted
    tally.problems += [
        f"people were told {n} times of {key}" for key, n in Counter(told(rig)).items() if n > 1
    ]
    return tally


def all_wait(rig: CrashRig) -> bool:
    return Counter(record.state for record in rig.stored())[State.REVIEW] == len(LETTERS)


def told(rig: CrashRig) -> list[str]:
    """The mails about which people got a mail."""
    return [
        str(message_from_bytes(sent.source)["In-Reply-To"])
        for sent in rig.smtp.mails
        if sent.recipients == (BOSS,)
    ]
