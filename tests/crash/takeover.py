"""SIGKILL while drafts are put and removed, and while a person's own answer is taken up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from cleo_email.pipeline.receive import IncomingMail, Receiver
from cleo_email.runtime import now_ms
from cleo_email.screening.screen import Policy
from cleo_email.store import Record, State
from cleo_email.store.queue import WakeQueue
from tests.crash.rig import WEBHOOK, CrashRig, Letter, Tally
from tests.crash.scenario import Scenario
from tests.support.bench import signer_on
from tests.support.inboxes import ByImap
from tests.support.mails import AGENT
from tests.support.people import approve, let_wait, written

GROUP = "kill -9 beside people"
PUT = ("draft-before-put", "draft-after-put")
REMOVE = ("draft-before-remove", "draft-after-remove")
TAKEOVER = ("takeover-before-store", "takeover-after-store", "takeover-before-cursor")
POINTS = {*PUT, *REMOVE, *TAKEOVER}
SENT = "+sent"  # the person sends the draft, and writes no answer of their own
LETTER = Letter(1)

Play = Callable[[CrashRig, Record], float]


def scenarios() -> Iterator[Scenario]:
    for point in PUT:
        yield _scenario(point, partial(_putting, point))
    for point in REMOVE:
        yield _scenario(point, partial(_removing, point))
    for point in TAKEOVER:
        yield _scenario(point, partial(_answering, point))
    yield _scenario(TAKEOVER[-1] + SENT, partial(_sending, TAKEOVER[-1]))


def _scenario(name: str, play: Play) -> Scenario:
    return Scenario(GROUP, name, WEBHOOK, partial(_play, play), _rig)


def _rig(directory: Path) -> CrashRig:
    return CrashRig(directory, env={"EMAIL_POLL_INTERVAL_SECONDS": "2"})


def _play(play: Play, rig: CrashRig) -> Tally:
    """An answer waits for a person before the worker starts."""
    signer = signer_on(rig._client)
    policy = Policy(frozenset({AGENT}))
    receiver = Receiver(rig.store, WakeQueue(rig._client), policy, signer, max_age_days=7, retention_days=90)
    id_ = receiver.accept(IncomingMail(LETTER.source(), "raw")).id
    let_wait(rig.store, signer, id_, now_ms())
    record = rig.store.messages.get(id_)
    since = play(rig, record)
    seconds = time.monotonic() - since
    rig.wait(lambda: not rig.store.drafts.all() and not rig._client.zcard("cleo:drafting"), 90)
    problems = [f"{len(drafts(rig))} drafts are left"] if drafts(rig) else []
    return Tally(accepted=1, replied=1, seconds=seconds, problems=problems + _doubts(rig, record))


def _doubts(rig: CrashRig, record: Record) -> list[str]:
    """What is wrong once all is over: one answer, by us or by a person, and never both."""
    now, sent = rig.store.messages.get(record.id), len(rig.smtp.mails)
    turns = [one for one in rig.stored() if one.ingress == "person"]
    by_person = now.answered_by == "mailbox"
    found = [] if sent == (not by_person) else [f"{sent} answers left, and {now.state}: {now.reason}"]
    if by_person and len(turns) != (now.state is State.IGNORED):
        found.append(f"{len(turns)} turns of a person")
    taken = rig.store.threads.person(record.thread_id) is not None
    if taken != bool(turns):
        found.append("the thread is with the wrong one")
    return found


def drafts(rig: CrashRig) -> list[bytes]:
    assert isinstance(rig.inbox, ByImap)
    with rig.inbox.login() as client:
        if not client.folder_exists("Drafts"):
            return []
        client.select_folder("Drafts", readonly=True)
        return [items[b"BODY[]"] for items in client.fetch(client.search(), ["BODY.PEEK[]"]).values()]


def _killed(rig: CrashRig, point: str, act: Callable[[], None] = lambda: None) -> float:
    """Start a worker that dies at that point once ``act`` was done, and another. Return when (monotonic)."""
    worker = rig.start_worker(CLEO_CRASH_AT=point)
    act()
    rig.await_death(worker, point)
    restarted = time.monotonic()
    rig.start_worker()
    return restarted


def _lies_there(rig: CrashRig, record: Record) -> None:
    """Wait for the draft, and until Sent has been looked at: what is there by then is old."""

    def does() -> bool:
        draft = rig.store.drafts.get(record.id)
        return bool(draft and draft.place and rig._client.keys("cleo:*:sent-cursor"))

    rig.wait(does, 90)


def _is(rig: CrashRig, record: Record, state: State) -> Callable[[], bool]:
    return lambda: rig.store.messages.get(record.id).state is state


def _putting(point: str, rig: CrashRig, record: Record) -> float:
    since = _killed(rig, point)
    _lies_there(rig, record)
    assert len(drafts(rig)) == 1
    approve(rig.store, record.id, now_ms())
    rig.wait(_is(rig, record, State.REPLIED), 90)
    return since


def _removing(point: str, rig: CrashRig, record: Record) -> float:
    def act() -> None:
        _lies_there(rig, record)
        approve(rig.store, record.id, now_ms())

    since = _killed(rig, point, act)
    rig.wait(_is(rig, record, State.REPLIED), 90)
    return since


def _answering(point: str, rig: CrashRig, record: Record) -> float:
    def act() -> None:
        _lies_there(rig, record)
        rig.inbox.file(written(LETTER.sender, "I see to it myself.", answers=LETTER.message_id))

    since = _killed(rig, point, act)
    rig.wait(_is(rig, record, State.IGNORED), 90)
    rig.wait(lambda: any(one.ingress == "person" for one in rig.stored()), 90)
    return since


def _sending(point: str, rig: CrashRig, record: Record) -> float:
    def act() -> None:
        _lies_there(rig, record)
        rig.inbox.file(drafts(rig)[0])

    since = _killed(rig, point, act)
    rig.wait(_is(rig, record, State.REPLIED), 90)
    return since
