"""After Redis was lost: the mailbox itself knows what was answered, by its flags and by what lies in Sent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cleo_email.errors import MailboxError, MailboxUnavailable, UnreadableMessage
from cleo_email.imap.mailbox import Mailbox, describe_each
from cleo_email.imap.values import ACCEPTED, ANSWERED, FAILED, HELD, REPLIED, SEEN, BatchFailed, MessageInfo
from cleo_email.mail.parse import parse
from cleo_email.pipeline.poll import LOCK
from cleo_email.pipeline.receive import IncomingMail, Receiver, unfetched
from cleo_email.runtime import Clock, now_ms
from cleo_email.store import State, Store

log = logging.getLogger(__name__)

HOLD = "it was held or had failed before Redis was lost"
UNKNOWN = "it was opened before Redis was lost, and nothing shows whether it was answered"


@dataclass
class Recovery:
    """What was found and, with ``apply``, done. ``known``: Redis has it; ``ignored``: nobody is to answer it;
    ``unknown``: opened, and nothing tells what became of it; ``failed``: it cannot be fetched or read.
    ``subjects`` has a line for each that was not answered, which begins with the name of its count."""

    answered: int = 0
    taken_up: int = 0
    held: int = 0
    ignored: int = 0
    unknown: int = 0
    known: int = 0
    failed: int = 0
    keywords: bool = True
    applied: bool = False
    subjects: list[str] = field(default_factory=list)


class Recoverer:
    """``max_bytes`` in octets: larger mail is recorded by its header."""

    def __init__(
        self, store: Store, mailbox: Mailbox, intake: Receiver, *, max_bytes: int, clock: Clock = now_ms
    ) -> None:
        self._store = store
        self._mailbox = mailbox
        self._intake = intake
        self._max_bytes = max_bytes
        self._clock = clock

    def run(self, *, days: int, apply: bool, progress: Callable[[int, int], None]) -> Recovery:
        """Take up unanswered mail of the last ``days``. Raises MailboxError, StoreUnavailable."""
        with self._store.locks.hold(LOCK) as lock:
            if lock is None:
                raise MailboxUnavailable("a poll is using the mailbox right now; try again in a moment")
            return self._run(days, apply, progress)

    def _run(self, days: int, apply: bool, progress: Callable[[int, int], None]) -> Recovery:
        status = self._mailbox.open()
        if apply and status.read_only:
            raise MailboxError("the mailbox is read-only for this login; nothing could be marked")
        result = Recovery(keywords=status.keywords_allowed, applied=apply)
        since = (datetime.fromtimestamp(self._clock() / 1000, UTC) - timedelta(days=days)).date()
        answered = self._mailbox.answered_ids(since)
        self._mailbox.open()
        infos, failed = describe_each(self._mailbox, self._mailbox.search_since(since))
        for uid, why in failed:
            self._failed(f"{status.uidvalidity}/{uid}", why, result, apply=apply)
        for number, info in enumerate(infos[uid] for uid in sorted(infos)):
            try:
                self._one(info, status.uidvalidity, answered, result, apply=apply)
            except BatchFailed as error:
                self._mailbox.open()  # raises where the server is gone: then no mail is to blame
                self._failed(f"{status.uidvalidity}/{info.uid}", str(error), result, apply=apply)
            progress(number + 1, len(infos))
        return result

    def _failed(self, where: str, why: str, result: Recovery, *, apply: bool) -> None:
        """One mail that the server cannot deliver stops no other; a person finds it, and may retry it."""
        _count(result, "failed", f"{where}: cannot be fetched: {why}")
        if apply:
            self._intake.quarantine(unfetched(where), f"the server could not deliver UID {where}: {why}")

    def _one(
        self, info: MessageInfo, validity: int, answered: frozenset[str], result: Recovery, *, apply: bool
    ) -> None:
        flags = {flag.lower() for flag in info.flags}
        if flags & {ANSWERED.lower(), REPLIED.lower()}:
            result.answered += 1
            return
        if flags & {"\\deleted", "\\draft"}:
            return
        header = self._mailbox.fetch_headers(info.uid)
        message_id = ""
        try:
            mail = parse(header)
        except UnreadableMessage as error:
            who = f"cannot be read: {error}"
        else:
            message_id = mail.message_id
            who = f"{mail.from_address}: {mail.subject[:70]}"
            if message_id in answered:
                result.answered += 1
                if apply:
                    self._mailbox.add_flags([info.uid], (ANSWERED, REPLIED))
                return
        hold = _hold(flags)
        arrival = self._arrival(info, validity, hold, header, whole=apply or not message_id)
        if arrival is None:
            return
        if apply:
            name = self._take(info, arrival)
        else:
            known, state = self._intake.foresee(arrival)
            name = _name(state, arrival.hold, known=known)
        _count(result, name, f"{info.internal_date:%Y-%m-%d %H:%M}  {who}")

    def _arrival(
        self, info: MessageInfo, validity: int, hold: str, header: bytes, *, whole: bool
    ) -> IncomingMail | None:
        """None where it is gone. Not ``whole``: a header tells enough, unless it has no Message-ID."""
        where = f"{validity}/{info.uid}"
        if info.size > self._max_bytes:
            hold = hold or f"{info.size} bytes, more than EMAIL_MAX_MESSAGE_BYTES ({self._max_bytes})"
        elif whole:
            fetched = self._mailbox.fetch_one(info.uid)
            return IncomingMail(fetched.source, "imap", hold=hold, mailbox=where) if fetched else None
        return IncomingMail(header, "imap", hold=hold, partial=True, mailbox=where)

    def _take(self, info: MessageInfo, arrival: IncomingMail) -> str:
        accepted = self._intake.accept(arrival)
        held = (HELD,) if accepted.state is State.HELD else ()
        self._mailbox.add_flags([info.uid], (SEEN, ACCEPTED, *held))
        return _name(accepted.state, arrival.hold, known=accepted.duplicate)


def _hold(flags: set[str]) -> str:
    """Why a person should decide first, or '' for mail that surely waits for an answer."""
    if flags & {HELD.lower(), FAILED.lower()}:
        return HOLD
    if SEEN.lower() not in flags or ACCEPTED.lower() in flags:
        return ""
    return UNKNOWN  # where keywords are kept a person opened it, else it may have been us


def _name(state: State, hold: str, *, known: bool) -> str:
    """The count of ``Recovery`` that a mail belongs to."""
    if known:
        return "known"
    if state is State.HELD:
        return "unknown" if hold == UNKNOWN else "held"
    return {State.FAILED: "failed", State.IGNORED: "ignored"}.get(state, "taken_up")


def _count(result: Recovery, name: str, line: str) -> None:
    setattr(result, name, getattr(result, name) + 1)
    result.subjects.append(f"{name.replace('_', ' '):8}  {line}")
