"""Accept unanswered mail again after Redis was lost: flags and Sent show what was answered."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, date, datetime, timedelta

from cleo_email.errors import MailboxError, MailboxUnavailable, UnreadableMessage
from cleo_email.imap.mailbox import Mailbox, describe_each
from cleo_email.imap.values import (
    ACCEPTED,
    ANSWERED,
    FAILED,
    HELD,
    REPLIED,
    SEEN,
    BatchFailed,
    MailboxStatus,
    MessageInfo,
)
from cleo_email.mail.parse import parse
from cleo_email.pipeline.receive import IncomingMail, Receiver, unfetched
from cleo_email.pipeline.upkeep import LOCK, flags_of
from cleo_email.runtime import Clock, now_ms
from cleo_email.store import State, Store

log = logging.getLogger(__name__)

HOLD = "it was held or had failed before Redis was lost"
IGNORED = "it had been left unanswered before Redis was lost"
NO_KEYWORDS = "it is unread, and as the server keeps no keywords nothing shows whether that was on purpose"
UNKNOWN = "it was opened before Redis was lost, and nothing shows whether it was answered"


@dataclass
class Recovery:
    """The counts of what was found and, with ``apply``, done."""

    answered: int = 0
    taken_up: int = 0
    held: int = 0
    ignored: int = 0
    unknown: int = 0  # opened by a person or by us, with no trace of an answer
    known: int = 0  # Redis has a record of it
    failed: int = 0  # it cannot be fetched or read
    keywords: bool = True
    applied: bool = False
    # One line for each unanswered mail, which begins with the name of its count.
    subjects: list[str] = field(default_factory=list)

    def count(self, name: str, line: str) -> None:
        setattr(self, name, getattr(self, name) + 1)
        self.subjects.append(f"{name.replace('_', ' '):8}  {line}")


@dataclass
class Recoverer:
    """Finds unanswered mail in the mailbox. Of mail above ``max_bytes`` only the header is recorded."""

    store: Store
    mailbox: Mailbox
    receiver: Receiver
    _: KW_ONLY
    max_bytes: int
    mark_unanswered: bool = False
    clock: Clock = now_ms

    def run(self, *, days: int, apply: bool, progress: Callable[[int, int], None]) -> Recovery:
        """Accept unanswered mail of the last ``days``. Raise MailboxError, StoreUnavailable."""
        with self.store.locks.hold(LOCK) as lock:
            if lock is None:
                raise MailboxUnavailable("a poll is using the mailbox right now; try again in a moment")
            return self._run(days, apply, progress)

    def overlooked(self, *, days: int, most: int) -> Recovery:
        """Foresee what becomes of the newest ``most`` mails that some Redis accepted and nobody answered.

        Nothing is changed. Raise MailboxError, StoreUnavailable.
        """
        status, since = self.mailbox.open(), self._day(days)
        uids = self.mailbox.search_accepted(since)[-most:] if status.keywords_allowed else []
        result = self._look(uids, status, frozenset(), apply=False)
        if result.taken_up or result.held:  # Sent, which may hold much, is asked only where it could tell
            answered = self.mailbox.answered_ids(since)
            result = self._look(uids, self.mailbox.open(), answered, apply=False)
        return result

    def _run(self, days: int, apply: bool, progress: Callable[[int, int], None]) -> Recovery:
        status = self.mailbox.open()
        if apply and status.read_only:
            raise MailboxError("the mailbox is read-only for this login; nothing could be marked")
        since = self._day(days)
        answered = self.mailbox.answered_ids(since)
        self.mailbox.open()
        return self._look(self.mailbox.search_since(since), status, answered, progress, apply=apply)

    def _day(self, days: int) -> date:
        return (datetime.fromtimestamp(self.clock() / 1000, UTC) - timedelta(days=days)).date()

    def _look(
        self,
        uids: Sequence[int],
        status: MailboxStatus,
        answered: frozenset[str],
        progress: Callable[[int, int], None] = lambda done, total: None,
        *,
        apply: bool,
    ) -> Recovery:
        result = Recovery(keywords=status.keywords_allowed, applied=apply)
        infos, failed = describe_each(self.mailbox, uids)
        for uid, why in failed:
            self._failed(f"{status.uidvalidity}/{uid}", why, result, apply=apply)
        for number, info in enumerate(infos[uid] for uid in sorted(infos)):
            try:
                self._one(info, status.uidvalidity, answered, result, apply=apply)
            except BatchFailed as error:
                self.mailbox.open()  # raises where the server is gone: then no mail is to blame
                self._failed(f"{status.uidvalidity}/{info.uid}", str(error), result, apply=apply)
            progress(number + 1, len(infos))
        return result

    def _failed(self, where: str, why: str, result: Recovery, *, apply: bool) -> None:
        """Record a mail that the server cannot deliver, so that a person finds it and may retry it."""
        result.count("failed", f"{where}: cannot be fetched: {why}")
        if apply:
            self.receiver.quarantine(unfetched(where), f"the server could not deliver UID {where}: {why}")

    def _one(
        self, info: MessageInfo, validity: int, answered: frozenset[str], result: Recovery, *, apply: bool
    ) -> None:
        flags = {flag.lower() for flag in info.flags}
        if flags & {ANSWERED.lower(), REPLIED.lower()}:
            result.answered += 1
            return
        if flags & {"\\deleted", "\\draft"}:
            return
        header = self.mailbox.fetch_headers(info.uid)
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
                    self.mailbox.add_flags([info.uid], (ANSWERED, REPLIED))
                return
        hold = _hold(flags, keywords=result.keywords)
        incoming = self._incoming(info, validity, hold, header, whole=apply or not message_id)
        if incoming is None:
            return
        if apply:
            accepted = self.receiver.accept(incoming)
            known, state = accepted.duplicate, accepted.state
            self.mailbox.add_flags([info.uid], flags_of(state, mark_unanswered=self.mark_unanswered))
        else:
            known, state = self.receiver.foresee(incoming)
        name = {State.FAILED: "failed", State.IGNORED: "ignored"}.get(state, "taken_up")
        if known:
            name = "known"
        elif state is State.HELD:
            name = "unknown" if incoming.hold == UNKNOWN else "held"
        result.count(name, f"{info.internal_date:%Y-%m-%d %H:%M}  {who}")

    def _incoming(
        self, info: MessageInfo, validity: int, hold: str, header: bytes, *, whole: bool
    ) -> IncomingMail | None:
        """Return the mail, None where it is gone; only its header where it is not to be ``whole``."""
        where, unread = f"{validity}/{info.uid}", SEEN not in info.flags
        if info.size > self.max_bytes:
            hold = hold or f"{info.size} bytes, more than EMAIL_MAX_MESSAGE_BYTES ({self.max_bytes})"
        elif whole:
            fetched = self.mailbox.fetch_one(info.uid)
            if fetched is None:
                return None
            return IncomingMail(fetched.source, "imap", hold=hold, mailbox=where, unread=unread)
        return IncomingMail(header, "imap", hold=hold, partial=True, mailbox=where, unread=unread)


def _hold(flags: set[str], *, keywords: bool) -> str:
    """Return why a person should decide first, or '' for mail that surely waits for an answer."""
    seen, accepted = SEEN.lower() in flags, ACCEPTED.lower() in flags
    if flags & {HELD.lower(), FAILED.lower()}:
        return HOLD
    if accepted and not seen:  # what is to be answered is \\Seen
        return IGNORED
    if accepted or (not seen and keywords):
        return ""
    # Seen: a person opened it, or we did on a server that keeps no keywords.
    return UNKNOWN if seen else NO_KEYWORDS
