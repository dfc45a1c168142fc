"""The mailbox of an account: search, fetch and flag its mail."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from types import TracebackType
from typing import Any, Self

from cleo_email.accounts import ImapAccount
from cleo_email.errors import MailboxError, MailboxUnavailable
from cleo_email.imap.sent import SentMail
from cleo_email.imap.session import ImapConnection, KeptConnection, RefusedForGood, RefusedForNow
from cleo_email.imap.values import (
    BatchFailed,
    Fetched,
    ImapTimeouts,
    MailboxStatus,
    MessageInfo,
    batches,
    content_of,
    having,
    info_of,
    search_date,
    status_of,
    uid_sets,
)

STORE = 1000  # messages in one STORE


def mark(
    wire: ImapConnection, uids: set[int], uid_set: str, system: Sequence[str], keywords: Sequence[str]
) -> set[int]:
    """Add flags and return those of ``uids`` that have the system flags now, or else the keywords."""
    decisive = system or keywords
    if not decisive:
        return set()
    done = having(_store(wire, uid_set, system, keywords), decisive) & uids
    # Dovecot, for one, says nothing about a message whose flags a STORE did not change: ask.
    for _, rest in uid_sets(uids - done, STORE):
        done |= having(wire.fetch(rest, "(UID FLAGS)"), decisive) & uids
    return done


def _store(
    wire: ImapConnection, uid_set: str, system: Sequence[str], keywords: Sequence[str]
) -> dict[int, dict[bytes, Any]]:
    try:
        return wire.store(uid_set, f"({' '.join([*system, *keywords])})")
    except (RefusedForNow, RefusedForGood):
        if not system or not keywords:
            raise
    return wire.store(uid_set, f"({' '.join(system)})")


BATCH_MESSAGES = 25  # of one FETCH of bodies
BATCH_OCTETS = 16 * 1024 * 1024  # of one FETCH of bodies; a larger message comes alone
HEADER_OCTETS = 256 * 1024  # of a header that is fetched alone
_DESCRIBE = 500  # messages in one FETCH of sizes
_SEARCH_WINDOW = 50_000  # messages in one SEARCH: imaplib refuses lines above a million octets
_LAST_UID = 2**32 - 1


class Mailbox:
    """One mailbox over one connection, which is made on first use and kept; not for several threads at once.

    After a fault the connection is gone and the next use makes a new one. Every method raises
    MailboxUnavailable for what may pass by itself, MailboxLoginRefused where user or password are wrong, and
    MailboxError for what a person has to change.

    UIDs mean what they meant at the last :meth:`open`: if the server's UIDVALIDITY has changed since, every
    method but ``open`` raises MailboxUnavailable.
    """

    def __init__(
        self,
        account: ImapAccount,
        *,
        ssl_context: ssl.SSLContext | None = None,
        timeouts: ImapTimeouts | None = None,
        folder: str = "INBOX",
    ) -> None:
        self.account = account
        self.folder = folder
        self._kept = KeptConnection(account, ssl_context, timeouts or ImapTimeouts())
        self._sent = SentMail(self._kept)
        self._status: MailboxStatus | None = None

    @property
    def logins(self) -> int:
        """How often it has logged in."""
        return self._kept.logins

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Log out, if connected. The next use connects anew."""
        self._kept.close()

    # --- looking ----------------------------------------------------------------------------------------

    def open(self) -> MailboxStatus:
        """Select the mailbox and say how it is. A kept connection that has died is replaced."""
        self._status = self._select(self._kept.wire(try_after=0))
        return self._status

    def search_unseen(self) -> list[int]:
        r"""UIDs without ``\Seen``, ascending."""
        return self._search("UNSEEN")

    def search_since(self, day: date) -> list[int]:
        """UIDs that reached the server on ``day`` or later, by its INTERNALDATE without time and zone."""
        return self._search(f"SINCE {search_date(day)}")

    def search_since_uid(self, uid: int) -> list[int]:
        """UIDs above ``uid``, ascending."""
        if uid >= _LAST_UID:
            return []
        # ``n:*`` also gives the highest UID when that is below n (RFC 3501 section 6.4.8).
        return [found for found in self._search(f"UID {uid + 1}:*") if found > uid]

    def _search(self, criterion: str) -> list[int]:
        wire, status = self._inbox()
        # Windows from the top down: an EXPUNGE meanwhile moves messages down, into a window still to come.
        starts = range(1, max(status.exists, 1) + 1, _SEARCH_WINDOW)
        found: set[int] = set()
        for start in reversed(starts):
            end = "*" if start == starts[-1] else str(start + _SEARCH_WINDOW - 1)
            window = () if len(starts) == 1 else (f"{start}:{end}",)
            found.update(wire.search(*window, criterion))
        return sorted(found)

    def describe(self, uids: Iterable[int]) -> dict[int, MessageInfo]:
        """Size, date and flags by UID; a UID that is no more is absent. Raises BatchFailed with its UIDs."""
        found: dict[int, MessageInfo] = {}
        for batch, uid_set in uid_sets(uids, _DESCRIBE):
            told = self._fetch(batch, uid_set, "(UID RFC822.SIZE INTERNALDATE FLAGS)")
            for uid in batch:
                if info := info_of(uid, told.get(uid, {})):
                    found[uid] = info
        return found

    def fetch(self, sizes: Iterable[tuple[int, int]]) -> Iterator[Fetched]:
        r"""The messages of (UID, size in octets) pairs, unread as before, a batch at a time.

        A UID that is no more is absent. Raises BatchFailed, which names the UIDs of the batch: one of them
        may be a message that the server cannot read, so go on with :meth:`fetch_one`.
        """
        for batch in batches(sizes, BATCH_MESSAGES, BATCH_OCTETS):
            for uid, content in self._contents(batch, "BODY.PEEK[]", b"BODY[]"):
                yield Fetched(uid, content)

    def fetch_one(self, uid: int) -> Fetched | None:
        """One message alone, or None if it is no more. Raises BatchFailed for the one UID."""
        return next(self.fetch([(uid, 0)]), None)

    def fetch_headers(self, uid: int) -> bytes:
        """At most ``HEADER_OCTETS`` of the header; empty if the message is no more. Raises BatchFailed."""
        parts = self._contents([uid], f"BODY.PEEK[HEADER]<0.{HEADER_OCTETS}>", b"BODY[HEADER]")
        return next((content for _, content in parts), b"")

    def _contents(self, batch: list[int], item: str, name: bytes) -> Iterator[tuple[int, bytes]]:
        told = self._fetch(batch, ",".join(map(str, batch)), f"(UID {item})")
        empty: list[int] = []
        for uid in batch:
            for key, value in told.pop(uid, {}).items():
                if key.startswith(name):
                    content = content_of(value)
                    if content is None:
                        empty.append(uid)
                    else:
                        yield uid, content
        # Dovecot gives NIL for a message that has been expunged meanwhile; of one that is still there it is a
        # fault, and to keep silent about it would be to fetch the message in vain for ever.
        still_there = sorted(self._fetch(empty, ",".join(map(str, empty)), "(UID FLAGS)")) if empty else []
        if still_there:
            raise BatchFailed(
                f"{self._place}: the server gives no content for UIDs {still_there}", still_there
            )

    def _fetch(self, uids: list[int], uid_set: str, items: str) -> dict[int, dict[bytes, Any]]:
        wire, _ = self._inbox()  # a fault in here is not the fault of these messages
        try:
            return wire.fetch(uid_set, items)
        except (MailboxUnavailable, RefusedForGood) as exc:
            raise BatchFailed(str(exc), uids) from exc

    # --- marking ----------------------------------------------------------------------------------------

    def add_flags(self, uids: Iterable[int], flags: Iterable[str]) -> set[int]:
        r"""Add flags and return the UIDs for which the server has confirmed it.

        Keywords (flags without a backslash) are left out where the mailbox does not keep them; they are a
        courtesy to people, so that beside system flags they do not decide about confirmation, and a server
        that refuses them gets the system flags alone. Raises MailboxError on a read-only mailbox.
        """
        wanted = list(dict.fromkeys(flags))
        system = [flag for flag in wanted if flag.startswith("\\")]
        keywords = [flag for flag in wanted if not flag.startswith("\\")]
        confirmed: set[int] = set()
        for batch, uid_set in uid_sets(uids, STORE):
            wire, status = self._inbox()
            if status.read_only:
                raise MailboxError(f"{self._place} is read-only: nothing can be marked as read there")
            confirmed |= mark(wire, set(batch), uid_set, system, keywords if status.keywords_allowed else [])
        return confirmed

    # --- sent mail --------------------------------------------------------------------------------------

    def sent_folder(self, *, create: bool = True) -> str | None:
        r"""The folder marked ``\Sent`` or else named so, created if need be; None if there can be none."""
        return self._sent.folder(create=create)

    def append_sent(self, source: bytes, when: datetime) -> None:
        r"""File a copy of sent mail as read (``\Seen``), dated ``when`` (aware)."""
        self._sent.append(source, when)

    def find_in_sent(self, message_id: str, *, since: date | None = None) -> bool:
        """Whether a sent copy has exactly this Message-ID; ``since`` narrows the search on a large folder.

        False also where there is no folder for sent mail. The next use of the inbox selects it again.
        """
        return self._sent.find(message_id, since)

    def answered_ids(self, since: date) -> frozenset[str]:
        """Message-IDs that sent mail since ``since`` answers, by its In-Reply-To."""
        return self._sent.answered(since)

    # --- for people -------------------------------------------------------------------------------------

    def check(self) -> str:
        """One line about the mailbox for the command line."""
        status = self.open()
        sent = self.sent_folder(create=False)
        return ", ".join(
            [
                f"{self._place}: {status.exists} messages",
                "READ-ONLY, so nothing can be marked as read" if status.read_only else "writable",
                "keywords are kept" if status.keywords_allowed else "keywords are not kept",
                f"sent mail in {sent!r}" if sent else "no folder for sent mail yet",
            ]
        )

    # --- the connection ---------------------------------------------------------------------------------

    @property
    def _place(self) -> str:
        return f"{self.account.host}:{self.account.port}: {self.folder}"

    def _inbox(self) -> tuple[ImapConnection, MailboxStatus]:
        """The connection with our folder selected and the same UIDs as at the last ``open``."""
        if self._status is None:
            self.open()
        assert self._status is not None
        wire = self._kept.wire()
        if wire.selected is None or wire.selected[0] != self.folder:
            status = self._select(wire)
            if status.uidvalidity != self._status.uidvalidity:
                wire.selected = None
                raise MailboxUnavailable(f"{self._place}: UIDVALIDITY has changed, all UIDs are void")
            self._status = status
        return wire, self._status

    def _select(self, wire: ImapConnection) -> MailboxStatus:
        data = wire.select(self.folder)
        uidvalidity = data.get(b"UIDVALIDITY") or wire.status(self.folder, "UIDVALIDITY")
        if not uidvalidity:
            raise MailboxError(f"{self._place}: the server keeps no UIDs (no UIDVALIDITY)")
        return status_of(data, uidvalidity, data.get(b"UIDNEXT") or wire.status(self.folder, "UIDNEXT"))


log = logging.getLogger(__name__)


def describe_each(
    mailbox: Mailbox, uids: Sequence[int]
) -> tuple[dict[int, MessageInfo], list[tuple[int, str]]]:
    """What :meth:`Mailbox.describe` tells, and the UIDs that fail alone, with the reason.

    A batch that fails is halved. Raises MailboxError where the server is gone.
    """
    found: dict[int, MessageInfo] = {}
    failed: list[tuple[int, str]] = []
    parts = [list(uids)] if uids else []
    while parts:
        part = parts.pop()
        try:
            found.update(mailbox.describe(part))
        except BatchFailed as error:
            log.warning("the server cannot tell the size of %d mails: %s", len(part), error)
            mailbox.open()  # raises where the server is gone: then no mail is to blame
            half = len(part) // 2
            if half:
                parts += [part[half:], part[:half]]
            else:
                failed.append((part[0], str(error)))
    return found, failed
