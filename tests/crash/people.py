"""SIGKILL of worker or web process while people work beside the agent: each mail gets one answer, or none.

Mail comes as ever, answers wait because of EMAIL_REVIEW, people decide by HTTP and write with a mail client.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from email import message_from_bytes
from functools import partial
from pathlib import Path
from typing import Any, Self

from cleo_email.store import AT_WORK, Record, State
from tests.crash.rig import IMAP, WEBHOOK, CrashRig, Letter, Tally
from tests.crash.scenario import Scenario
from tests.support.channel import Channel, children
from tests.support.inboxes import ByImap
from tests.support.people import written

GROUP = "kill -9 beside people"
# Instants that only this module reaches.
PREFIXES = ("review-", "handoff-", "draft-", "takeover-", "decide-")
TAKEOVER = ("takeover-before-store", "takeover-after-store", "takeover-before-cursor")
HAND_OVER = ("handoff-after-keep", "handoff-after-store")
BOSS = "boss@people.test"
LETTERS = (Letter(1), Letter(2), Letter(3))
LATER = Letter(4, follows=1)


def hands_over(request: dict[str, Any]) -> dict[str, str]:
    """The agent that gives each new thread to people, with a last word."""
    answer = {"reply": request["message"]["text"]}
    return answer if request["history"] else {**answer, "handoff": "beyond me"}


class Desk(CrashRig):
    """A rig in whose mailbox people work."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.beside: list[str] = []  # mails whose draft still lay there when our answer left
        self.smtp.inbox = self  # type: ignore[assignment]
        return self

    def file(self, source: bytes) -> None:
        """Called by the SMTP server when it accepts a mail."""
        answers = message_from_bytes(source)["In-Reply-To"]
        self.beside += [answers for one in self.drafts() if message_from_bytes(one)["In-Reply-To"] == answers]

    # --- what can be seen ---------------------------------------------------------------------------------

    def drafts(self) -> list[bytes]:
        return self._all("Drafts")

    def _all(self, folder: str) -> list[bytes]:
        assert isinstance(self.inbox, ByImap)
        with self.inbox.login() as client:
            if not client.folder_exists(folder):
                return []
            client.select_folder(folder, readonly=True)
            return [items[b"BODY[]"] for items in client.fetch(client.search(), ["BODY.PEEK[]"]).values()]

    def theirs(self) -> Counter[str]:
        """The mails that people have answered, by what stands in Sent."""
        mails = [message_from_bytes(one) for one in self._all("Sent")]
        return Counter(str(one["In-Reply-To"]) for one in mails if not one["Auto-Submitted"])

    def mine(self) -> list[Record]:
        """The records of the customers' mail."""
        return [one for one in self.stored() if one.message_id in self.letters]

    def all_are(self, state: State, *, drafts: bool = True) -> bool:
        there = self.store.drafts.all()
        records = [one for one in self.mine() if one.state is state]
        placed = all(one.id in there and there[one.id].place for one in records)
        return len(records) == len(self.letters) and (placed or not drafts)

    def is_settled(self) -> bool:
        """Approve what waits for it. Return whether nothing is left to do."""
        there, open_ = self.store.drafts.all(), 0
        for one in self.mine():
            open_ += one.state in AT_WORK or one.state is State.REVIEW
            lies = one.id in there and there[one.id].place
            if one.state is State.REVIEW and (lies or "was taken out" in one.reason):
                self.decide("approve", one)
        return not open_ and len(self.mine()) == len(self.letters) and not there

    # --- what people do -----------------------------------------------------------------------------------

    def decide(self, decision: str, record: Record, **fields: str) -> int:
        status, answer = self.post(fields, f"/email/messages/{record.id}/{decision}")
        assert status in (0, 200, 409), (status, answer)
        return status

    def approve(self) -> None:
        self._all_in_review("approve")

    def approve_edited(self) -> None:
        self._all_in_review("approve", body="Yes.\n\nWe have looked at it together.")

    def discard(self) -> None:
        self._all_in_review("discard")

    def take_over(self) -> None:
        self._all_in_review("takeover")

    def _all_in_review(self, decision: str, **fields: str) -> None:
        for one in reversed(self.mine()):
            if one.state is State.REVIEW and not self.decide(decision, one, **fields):
                return  # the web process is dead

    def send(self) -> None:
        """Send every draft that lies there."""
        assert isinstance(self.inbox, ByImap)
        for source in self.drafts():
            self.inbox.file(source)
        with self.inbox.client("Drafts", readonly=False) as client:
            client.delete_messages(client.search())
            client.expunge()

    def answer(self) -> None:
        """Answer every mail of the customers otherwise, but what has been answered."""
        done = self.answered()
        for number, one in enumerate(self.letters.values()):
            if one.message_id in done:
                continue
            text, name = "I see to it myself.", f"<by-hand-{number}@client.test>"
            self.inbox.file(written(one.sender, text, answers=one.message_id, message_id=name))

    # --- the count ----------------------------------------------------------------------------------------

    def tally(self, since: float, *, answers: int = 1) -> Tally:
        """Wait for the end, then count; each mail is to have so many answers."""
        self.wait(self.is_settled if answers else self._is_discarded, 120)
        seconds = time.monotonic() - since
        self.wait(lambda: self.filed() and not self.store.drafting.due(10**15), 60)
        records, ours, theirs = self.mine(), Counter(self.answered()), self.theirs()
        tally = Tally(accepted=len(records), seconds=seconds)
        for one in records:
            count = ours[one.message_id] + theirs[one.message_id]
            by_us = one.state is State.REPLIED and one.answered_by != "mailbox"
            tally.duplicates += max(count - 1, 0)
            if one.state is State.UNCERTAIN and count <= answers:
                tally.uncertain += 1
                continue
            tally.lost += count < answers
            tally.replied += count == answers
            if count != answers or by_us != bool(ours[one.message_id]):
                told = f"{ours[one.message_id]} answers of ours, {theirs[one.message_id]} of people"
                tally.problems.append(f"{one.message_id}: {told}; it is {one.state}: {one.reason}")
        if left := len(self.drafts()):
            tally.problems.append(f"{left} drafts are left")
        tally.problems += [f"{one} was answered while its draft lay there" for one in self.beside]
        tally.problems += self._mailbox_faults(records, ours)
        return tally

    def _is_discarded(self) -> bool:
        return self.all_are(State.IGNORED, drafts=False) and not self.store.drafts.all()


Act = Callable[[Desk], None]


def scenarios() -> Iterator[Scenario]:
    for way in (IMAP, WEBHOOK):
        for point in ("review-after-keep", "draft-before-put", "draft-after-put"):
            yield _worker(point, way)
        for point in ("draft-before-remove", "draft-after-remove"):
            yield _worker(point, way, before=[Desk.approve])
        for point in TAKEOVER:
            yield _worker(point, way, before=[Desk.answer])
        for point in HAND_OVER:
            # The lock of the dead worker, and the minute after which another one looks.
            yield Scenario(GROUP, point, way, partial(_hand_over, point, way), _over, limit=90)
    # What people do while it is dead.
    yield _worker("review-after-keep", IMAP, "+approved", dead=[Desk.approve])
    for point in ("draft-before-put", "draft-after-put"):
        yield _worker(point, IMAP, "+approved", dead=[Desk.approve])
    yield _worker("draft-after-put", IMAP, "+sent", dead=[Desk.send])
    yield _worker("draft-after-put", IMAP, "+approved+sent", dead=[Desk.approve, Desk.send])
    yield _worker("draft-before-remove", IMAP, "+sent", before=[Desk.approve], dead=[Desk.send])
    yield _worker("draft-after-remove", IMAP, "+answered", before=[Desk.approve], dead=[Desk.answer])
    yield _worker("takeover-before-cursor", IMAP, "+sent", before=[Desk.send])
    for point in ("submit-before-data", "submit-before-end-of-data", "submit-after-look"):
        yield _worker(point, IMAP, "+answered", before=[Desk.approve], dead=[Desk.answer])
    # The web process dies with the decision.
    for point in ("decide-after-move", "web-before-answer"):
        for act in (Desk.approve, Desk.approve_edited, Desk.discard, Desk.take_over):
            yield _web(point, act)
    yield _web("decide-after-thread", Desk.take_over)
    for point in ("decide-after-thread", "decide-after-move", "web-before-answer"):
        yield Scenario(GROUP, f"{point}+hand_back", WEBHOOK, partial(_hand_back, point), _talk)


def _worker(
    point: str, way: str, more: str = "", *, before: Sequence[Act] = (), dead: Sequence[Act] = ()
) -> Scenario:
    # The others that were approved may be between the end of DATA and its answer when the worker dies.
    most = len(LETTERS) - 1 if Desk.approve in before else 0
    play = partial(_kill_worker, point, way, before, dead)
    return Scenario(GROUP, point + more, way, play, waits, uncertain=(0, most))


def _web(point: str, act: Act) -> Scenario:
    return Scenario(GROUP, f"{point}+{act.__name__}", WEBHOOK, partial(_kill_web, point, act), waits)


def _rig(directory: Path, **env: str) -> Desk:
    return Desk(directory, env={"EMAIL_CONCURRENCY": "1", "EMAIL_POLL_INTERVAL_SECONDS": "2", **env})


def waits(directory: Path) -> Desk:
    return _rig(directory, EMAIL_REVIEW="always")


def _over(directory: Path) -> Desk:
    return _rig(directory, CLEO_AGENT=f"{__name__}:{hands_over.__name__}", EMAIL_HANDOFF_TO=BOSS)


_talk = _rig


def _start(rig: CrashRig, **env: str) -> Any:
    """Start a worker, and wait until it has looked at Sent: what is there by then is old."""
    worker = rig.start_worker(**env)
    rig.wait(lambda: rig._client.keys("cleo:*:sent-cursor"), 60)
    return worker


def _kill_worker(point: str, way: str, before: Sequence[Act], dead: Sequence[Act], rig: CrashRig) -> Tally:
    assert isinstance(rig, Desk)
    rig.start_web("--workers", "1")
    # How far Sent was read is noted once for many mails.
    worker = _start(rig, CLEO_CRASH_AT=point if point == "takeover-before-cursor" else f"{point}:2")
    rig.bring(way, LETTERS)
    for act in before:
        rig.wait(lambda: rig.all_are(State.REVIEW), 60)
        act(rig)
    rig.await_death(worker, point)
    for act in dead:
        act(rig)
    restarted = time.monotonic()
    rig.start_worker()
    return rig.tally(restarted)


def _killed_web(rig: Desk, point: str, act: Act) -> float:
    """Have the web process die while people decide. They see an error, and try again."""
    web = rig.start_web("--workers", "1", CLEO_CRASH_AT=f"{point}:2")
    (victim,) = children(web.pid)
    act(rig)
    rig.wait(lambda: victim not in children(web.pid) and rig.was_killed_at(point))
    Channel.kill(web)
    restarted = time.monotonic()
    rig.start_web("--workers", "1")
    act(rig)
    return restarted


def _kill_web(point: str, act: Act, rig: CrashRig) -> Tally:
    assert isinstance(rig, Desk)
    _start(rig)
    rig.bring(IMAP, LETTERS)
    rig.wait(lambda: rig.all_are(State.REVIEW), 60)
    restarted = _killed_web(rig, point, act)
    if act is Desk.take_over:
        rig.wait(lambda: rig.all_are(State.HELD, drafts=False) and not rig.drafts(), 60)
        assert not rig.answered(), "it left although a person has the thread"
        for one in rig.mine():
            assert rig.decide("handback", one) == 200
    return rig.tally(restarted, answers=0 if act is Desk.discard else 1)


def _hand_back(point: str, rig: CrashRig) -> Tally:
    """A person has two threads, and several mails wait in each, when both are handed back."""
    assert isinstance(rig, Desk)
    web = rig.start_web("--workers", "1")
    _start(rig)
    rig.bring(IMAP, [Letter(1), Letter(2)])
    rig.wait(lambda: rig.all_are(State.REPLIED, drafts=False), 60)
    threads = rig.mine()
    for one in threads:
        assert rig.decide("takeover", one) == 200
    later = [Letter(3, follows=1), Letter(4, follows=1), Letter(5, follows=2)]
    rig.bring(IMAP, later)
    rig.wait(lambda: Counter(one.state for one in rig.mine())[State.HELD] == len(later), 60)
    Channel.kill(web)

    def act(rig: Desk) -> None:
        for one in reversed(threads):
            if not rig.decide("handback", one):
                return

    return rig.finish(_killed_web(rig, point, act))


def _hand_over(point: str, way: str, rig: CrashRig) -> Tally:
    """The last word goes to the customer once, the hand-over to people once; later mail waits for them."""
    assert isinstance(rig, Desk)
    rig.start_web("--workers", "1")
    worker = rig.start_worker(CLEO_CRASH_AT=f"{point}:2")
    rig.bring(way, LETTERS)
    rig.await_death(worker, point)
    restarted = time.monotonic()
    rig.start_worker()
    rig.wait(lambda: len(told(rig)) == len(LETTERS), 120)
    seconds = time.monotonic() - restarted
    rig.bring(way, [LATER])
    rig.wait(lambda: any(one.state is State.HELD for one in rig.mine()), 60)
    (held,) = [one for one in rig.mine() if one.message_id == LATER.message_id]
    assert rig.decide("handback", held) == 200
    tally = rig.finish(restarted)
    tally.seconds = seconds
    tally.problems += [
        f"people were told {n} times of {key}" for key, n in Counter(told(rig)).items() if n > 1
    ]
    return tally


def told(rig: CrashRig) -> list[str]:
    """The mails about which people got a mail."""
    return [
        str(message_from_bytes(sent.source)["In-Reply-To"])
        for sent in rig.smtp.mails
        if sent.recipients == (BOSS,)
    ]
