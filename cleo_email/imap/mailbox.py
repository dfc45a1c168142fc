"""The mailbox of an account: search, fetch and flag its mail."""

import contextlib
import logging
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from cleo_email.accounts import ImapAccount
from cleo_email.errors import MailboxError, MailboxUnavailable
from cleo_email.imap.connection import KeptConnection
from cleo_email.imap.session import ImapConnection, RefusedForGood, RefusedForNow
from cleo_email.imap.special_use import SENT, answered_ids, has_message
from cleo_email.imap.values import (
    ACCEPTED,
    FAILED,
    HELD,
    REPLIED,
    SEEN,
    BatchFailed,
    Fetched,
    ImapTimeouts,
    MailboxStatus,
    MessageInfo,
    batches,
    content_of,
    having,
    info_of,
    ranges,
    search_date,
    status_of,
    uid_sets,
)

log = logging.getLogger(__name__)

SELECTED_S = 60.0  # after which a mailbox that is selected is selected again
BATCH_MESSAGES = 50  # of one FETCH of bodies
BATCH_OCTETS = 16 * 1024 * 1024  # of one FETCH of bodies; a larger message comes alone
HEADER_OCTETS = 256 * 1024  # of a header that is fetched alone
_OUTLINE = "HEADER.FIELDS (MESSAGE-ID FROM DATE SUBJECT IN-REPLY-TO REFERENCES)"
_SEARCH_WINDOW = 50_000  # messages in one SEARCH: imaplib refuses lines above a million octets
_LAST_UID = 2**32 - 1


class Mailbox(KeptConnection):
    """One mailbox over one connection, which is made on first use and kept; not for several threads at once.

    After a fault the connection is closed and the next use makes a new one. Every method raises
    MailboxUnavailable for what may pass by itself, MailboxLoginRefused where user or password are wrong, and
    MailboxError for what a person has to change.

    UIDs are those of the last :meth:`open`: if the server's UIDVALIDITY has changed since, every method but
    ``open`` raises MailboxUnavailable.
    """

    def __init__(
        self,
        account: ImapAccount,
        *,
        ssl_context: ssl.SSLContext | None = None,
        timeouts: ImapTimeouts | None = None,
        folder: str = "INBOX",
    ) -> None:
        super().__init__(account, ssl_context=ssl_context, timeouts=timeouts)
        self.folder = folder
        self._place = f"{account.host}:{account.port}: {folder}"
        self._status: MailboxStatus | None = None
        self._selected = (0.0, 0)  # when, and how many refusals there had been
        self._tells_status = True

    # --- looking ----------------------------------------------------------------------------------------

    def open(self) -> MailboxStatus:
        """Select the mailbox and return its status. A kept connection that has died is replaced.

        A mailbox that was selected a moment ago is not selected again: with 10,000 messages in it that takes
        ten times as long as to ask whether its UIDs are still valid. After a refusal it is, as the session
        may look at a mailbox that was deleted.
        """
        connection = self._connection(try_after=0)  # its NOOP brings what is new, too
        if self._status is None or not self._is_still_selected(connection, self._status):
            connection = self._connection()
            self._status = self._select(connection)
            self._selected = (time.monotonic(), connection.refusals)
        return self._status

    def _is_still_selected(self, connection: ImapConnection, status: MailboxStatus) -> bool:
        at, refusals = self._selected
        fresh = time.monotonic() - at < SELECTED_S and connection.refusals == refusals
        if not (fresh and self._tells_status and connection.selected == (self.folder, False)):
            return False
        try:
            told = connection.status(self.folder, "UIDVALIDITY", "MESSAGES")
        except MailboxError:  # not of a mailbox that is selected: RFC 9051 section 6.3.11 advises against it
            self._tells_status = False
            return False
        if told.get("UIDVALIDITY") != status.uidvalidity or "MESSAGES" not in told:
            return False
        self._status = replace(status, exists=told["MESSAGES"])
        return True

    def search_unseen(self) -> list[int]:
        return self._search("UNSEEN")

    def search_untaken(self) -> list[int]:
        """Return the unread mail that does not carry our ``$CleoAccepted``, where keywords are kept."""
        if self._inbox()[1].keywords_allowed:
            with contextlib.suppress(RefusedForNow, RefusedForGood):  # a server that knows no UNKEYWORD
                return self._search(f"UNSEEN UNKEYWORD {ACCEPTED}")
        return self.search_unseen()

    def search_since(self, day: date) -> list[int]:
        """Return the UIDs that reached the server on ``day`` or later, by the day of INTERNALDATE."""
        return self._search(f"SINCE {search_date(day)}")

    def search_accepted(self, day: date) -> list[int]:
        """Return the UIDs since ``day`` of mail that is marked as accepted, and not as answered."""
        ours = f"OR KEYWORD {ACCEPTED} OR KEYWORD {HELD} KEYWORD {FAILED}"
        return self._search(f"{ours} UNKEYWORD {REPLIED} UNANSWERED SINCE {search_date(day)}")

    def search_since_uid(self, uid: int) -> list[int]:
        if uid >= _LAST_UID:
            return []
        # ``n:*`` also gives the highest UID when that is below n (RFC 3501 section 6.4.8).
        return [found for found in self._search(f"UID {uid + 1}:*") if found > uid]

    def _search(self, criterion: str) -> list[int]:
        connection, status = self._inbox()
        # Windows from the top down: an EXPUNGE meanwhile moves messages down, into a window still to come.
        starts = range(1, max(status.exists, 1) + 1, _SEARCH_WINDOW)
        found: set[int] = set()
        for start in reversed(starts):
            end = "*" if start == starts[-1] else str(start + _SEARCH_WINDOW - 1)
            window = () if len(starts) == 1 else (f"{start}:{end}",)
            found.update(connection.search(*window, criterion))
        return sorted(uid for uid in found if 0 < uid <= _LAST_UID)

    def describe(self, uids: Iterable[int]) -> dict[int, MessageInfo]:
        """Return size, date and flags by UID; a UID that is gone is absent. Raise BatchFailed."""
        found: dict[int, MessageInfo] = {}
        for batch, _ in uid_sets(uids):
            messages = self._fetch(batch, "(UID RFC822.SIZE INTERNALDATE FLAGS)")
            for uid in batch:
                if info := info_of(uid, messages.get(uid, {})):
                    found[uid] = info
        return found

    def fetch(self, sizes: Iterable[tuple[int, int]]) -> Iterator[Fetched]:
        r"""Yield the messages of (UID, size in octets) pairs, unread as before, a batch at a time.

        A UID that is gone is absent. Raise BatchFailed, which names the UIDs of the batch: one of them may
        be a message that the server cannot read, so go on with :meth:`fetch_one`.
        """
        for batch in batches(sizes, BATCH_MESSAGES, BATCH_OCTETS):
            for uid, content in self._contents(batch, "BODY.PEEK[]", b"BODY[]"):
                yield Fetched(uid, content)

    def fetch_one(self, uid: int) -> Fetched | None:
        """Return one message alone, or None if it is gone. Raise BatchFailed for the one UID."""
        return next(self.fetch([(uid, 0)]), None)

    def fetch_headers(self, uid: int) -> bytes:
        """Return at most ``HEADER_OCTETS`` of the header, b"" if the message is gone. Raise BatchFailed."""
        parts = self._contents([uid], f"BODY.PEEK[HEADER]<0.{HEADER_OCTETS}>", b"BODY[HEADER]")
        return next((content for _, content in parts), b"")

    def fetch_outlines(self, uids: Iterable[int]) -> Iterator[tuple[MessageInfo, bytes]]:
        """Yield size, date and flags of each message, and the header lines by which it is known again.

        A UID that is gone is absent. Raise BatchFailed.
        """
        for batch, _ in uid_sets(uids):
            messages = self._fetch(batch, f"(UID RFC822.SIZE INTERNALDATE FLAGS BODY.PEEK[{_OUTLINE}])")
            for uid, items in sorted(messages.items()):
                info = info_of(uid, items)
                parts = (content_of(value) for key, value in items.items() if key.startswith(b"BODY[HEADER"))
                if info is not None and uid in batch:
                    yield info, next(filter(None, parts), b"")

    def fetch_envelope(self, uid: int) -> tuple[str, str]:
        """Return (From address, Subject as it stands) of a message whose header cannot be had, '' for none.

        Servers keep the ENVELOPE apart from the message (RFC 3501 section 7.4.2). Raise BatchFailed.
        """
        envelope: Any = self._fetch([uid], "(UID ENVELOPE)").get(uid, {}).get(b"ENVELOPE")
        try:
            subject, senders = content_of(envelope[1]) or b"", envelope[2] or ((None,) * 4,)
            _, _, local, domain = (content_of(part) or b"" for part in senders[0])
        except (TypeError, IndexError, ValueError):
            return "", ""
        address = b"%b@%b" % (local, domain) if local and domain else local
        return address.decode("utf-8", "replace"), subject.decode("utf-8", "replace")

    def _contents(self, batch: list[int], item: str, name: bytes) -> Iterator[tuple[int, bytes]]:
        messages = self._fetch(batch, f"(UID {item})")
        empty: list[int] = []
        for uid in batch:
            for value in (value for key, value in messages.pop(uid, {}).items() if key.startswith(name)):
                if (content := content_of(value)) is not None:
                    yield uid, content
                else:
                    empty.append(uid)
        # Dovecot gives NIL for a message that has been expunged meanwhile. For one that is still there it is
        # a fault, and without an error the message would be fetched in vain for ever.
        still_there = sorted(self._fetch(empty, "(UID FLAGS)")) if empty else []
        if still_there:
            raise BatchFailed(
                f"{self._place}: the server gives no content for UIDs {still_there}", still_there
            )

    def _fetch(self, uids: list[int], items: str) -> dict[int, dict[bytes, Any]]:
        connection, _ = self._inbox()  # a fault in here is not the fault of these messages
        try:
            return connection.fetch(ranges(uids), items)
        except (MailboxUnavailable, RefusedForGood) as exc:
            raise BatchFailed(str(exc), uids) from exc

    # --- marking ----------------------------------------------------------------------------------------

    def add_flags(self, uids: Iterable[int], flags: Iterable[str]) -> set[int]:
        r"""Add flags and return the UIDs for which the server has confirmed it.

        Keywords (flags without a backslash) are for people: they are left out where the mailbox does not keep
        them, they do not decide about confirmation beside system flags, and a server that refuses them gets
        the system flags alone; of keywords alone that it refuses none is confirmed. Raise MailboxError on a
        read-only mailbox.
        """
        wanted = list(dict.fromkeys(flags))
        system = [flag for flag in wanted if flag.startswith("\\")]
        keywords = [flag for flag in wanted if not flag.startswith("\\")]
        confirmed: set[int] = set()
        for batch, uid_set in uid_sets(uids):
            connection, status = self._inbox()
            if status.read_only:
                raise MailboxError(f"{self._place} is read-only: nothing can be marked as read there")
            kept = keywords if status.keywords_allowed else []
            if decisive := system or kept:
                stored = having(_store(connection, uid_set, system, kept), decisive)
                confirmed |= stored & set(batch)
                # Dovecot, for one, says nothing about a message whose flags a STORE did not change: ask.
                for _, rest in uid_sets(set(batch) - stored):
                    confirmed |= having(connection.fetch(rest, "(UID FLAGS)"), decisive) & set(batch)
        return confirmed

    def remove_flags(self, uids: Iterable[int], flags: Iterable[str]) -> None:
        """Take flags off; keywords only where the mailbox keeps them. Raise MailboxError."""
        for _, uid_set in uid_sets(uids):
            connection, status = self._inbox()
            kept = [flag for flag in flags if flag.startswith("\\") or status.keywords_allowed]
            if kept:
                connection.store(uid_set, f"({' '.join(kept)})", "-FLAGS")

    # --- sent mail --------------------------------------------------------------------------------------

    def append_sent(self, source: bytes, when: datetime) -> None:
        r"""File a copy of sent mail as read (``\Seen``), dated ``when`` (aware)."""
        for last in (False, True):
            folder = self._folder(SENT, create=True)
            if folder is None:
                raise RefusedForGood(
                    f"{self._account.host}: there is no folder for sent mail and none can be created;"
                    " create one named Sent, or set EMAIL_SAVE_SENT=0"
                )
            try:
                self._connection().append(folder, SEEN, when, source)
                return
            except RefusedForGood as exc:
                self._folders.pop(SENT, None)  # it may be gone: look anew
                if last or exc.code not in ("TRYCREATE", "NONEXISTENT"):
                    raise

    def find_in_sent(self, message_id: str, *, since: date | None = None) -> bool:
        """Return whether a sent copy has exactly this Message-ID; ``since`` narrows the search.

        False also where there is no folder for sent mail. The next use of the inbox selects it again.
        """
        connection = self._select_sent()
        return connection is not None and has_message(connection, message_id, since)

    def answered_ids(self, since: date) -> frozenset[str]:
        """Return the Message-IDs that sent mail since ``since`` answers, by its In-Reply-To."""
        connection = self._select_sent()
        return answered_ids(connection, since) if connection is not None else frozenset()

    def _select_sent(self) -> ImapConnection | None:
        folder = self._folder(SENT, create=False)
        if folder is None:
            return None
        connection = self._connection()
        try:
            connection.select(folder, read_only=True)
        except RefusedForGood:
            self._folders.pop(SENT, None)  # it may have been renamed: the next call looks anew
            raise
        return connection

    # --- for people -------------------------------------------------------------------------------------

    def check(self) -> str:
        """Return one line about the mailbox for the command line."""
        status = self.open()
        access = "READ-ONLY, so nothing can be marked as read" if status.read_only else "writable"
        keywords = "kept" if status.keywords_allowed else "not kept"
        return f"{self._place}: {status.exists} messages, {access}, keywords are {keywords}"

    # --- the connection ---------------------------------------------------------------------------------

    def _inbox(self) -> tuple[ImapConnection, MailboxStatus]:
        """Return the connection with our folder selected and the UIDVALIDITY of the last ``open``."""
        status = self._status or self.open()
        connection = self._connection()
        if connection.selected is None or connection.selected[0] != self.folder:
            before, status = status, self._select(connection)
            if status.uidvalidity != before.uidvalidity:
                connection.selected = None
                raise MailboxUnavailable(f"{self._place}: UIDVALIDITY has changed, all UIDs are void")
            self._status = status
        return connection, status

    def _select(self, connection: ImapConnection) -> MailboxStatus:
        data = connection.select(self.folder)
        uidvalidity = data.get(b"UIDVALIDITY") or self._uidvalidity_by_status(connection)
        if not uidvalidity:
            raise MailboxError(f"{self._place}: the server keeps no UIDs (no UIDVALIDITY)")
        return status_of(data, uidvalidity)

    def _uidvalidity_by_status(self, connection: ImapConnection) -> int:
        try:
            return connection.status(self.folder, "UIDVALIDITY").get("UIDVALIDITY", 0)
        except RefusedForGood as exc:
            raise MailboxError(f"{self._place}: the server tells no UIDVALIDITY: {exc}") from None


def _store(
    connection: ImapConnection, uid_set: str, system: Sequence[str], keywords: Sequence[str]
) -> dict[int, dict[bytes, Any]]:
    try:
        return connection.store(uid_set, f"({' '.join([*system, *keywords])})")
    except (RefusedForNow, RefusedForGood):
        if not keywords:
            raise
    return connection.store(uid_set, f"({' '.join(system)})") if system else {}


def describe_each(
    mailbox: Mailbox, uids: Sequence[int]
) -> tuple[dict[int, MessageInfo], list[tuple[int, str]]]:
    """Return what :meth:`Mailbox.describe` does, and the UIDs that fail alone, each with the reason.

    A batch that fails is halved. Raise MailboxError where the server is gone.
    """
    found: dict[int, MessageInfo] = {}
    failed: list[tuple[int, str]] = []
    parts = [list(uids)] if uids else []
    while parts:
        part = parts.pop()
        try:
            found.update(mailbox.describe(part))
        except BatchFailed as error:
            log.warning("the server does not say the size of %d mails: %s", len(part), error)
            mailbox.open()  # raises where the server is gone: then no mail is to blame
            half = len(part) // 2
            if half:
                parts += [part[half:], part[:half]]
            else:
                failed.append((part[0], str(error)))
    return found, failed
