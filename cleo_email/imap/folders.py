"""The folders in which people work beside the agent: Sent, Drafts, and the flags of the inbox."""

import re
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from cleo_email.errors import MailboxError
from cleo_email.imap.connection import KeptConnection
from cleo_email.imap.session import ImapConnection, RefusedForGood, RefusedForNow, folder_name
from cleo_email.imap.special_use import DRAFTS, SENT, SpecialUse, naming
from cleo_email.imap.values import ANSWERED, DELETED, DRAFT, SEEN, content_of, having, search_date, uid_sets

SELECTED_S = 60.0  # after which a folder is selected anew, and those that were not there are looked for again
SLOW_S = 0.2  # to select Sent anew; the inbox then gets a connection of its own
ALONE_S = 3600.0  # without another try to make that, where the server allows none
HEADER_OCTETS = 65_536  # of a header that is fetched
NO_DRAFTS = "there is no folder for drafts any more: give it its name back, or create one named Drafts"
_MESSAGE_ID = re.compile(rb"^message-id:\s*(<[^<>\s]+>)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class SentMail:
    """A mail in Sent, by its header; the body is fetched where somebody wants it."""

    uid: int
    size: int  # octets
    header: bytes = field(repr=False)


class Folders(KeptConnection):
    """Sent and Drafts over a connection of their own. The inbox is only looked at.

    To select a Sent with 100,000 mails anew after each copy that was put into it takes Dovecot half a second,
    to ask what is new in it a few milliseconds. So where it is slow, Sent stays selected, and the inbox is
    looked at over a second connection, if the server lets us in once more.

    UIDs of Drafts and of the inbox are ``UIDVALIDITY/UID``; those of another UIDVALIDITY name nothing.
    """

    inbox = "INBOX"
    _sent: tuple[int, float] | None = None  # UIDVALIDITY of Sent, and when (monotonic) it was selected
    _missing: dict[SpecialUse, float] | None = None  # when (monotonic) a folder was last found to be missing
    _is_slow = False  # to select Sent anew
    _alone_until = 0.0  # monotonic
    _beside: KeptConnection | None = None  # for the inbox
    _inbox: tuple[int, float] | None = None  # as of Sent, over the second connection

    def close(self) -> None:
        self._is_slow = False
        if self._beside is not None:
            self._beside.close()
        super().close()

    # --- Sent -------------------------------------------------------------------------------------------

    def sent_position(self, since: date | None = None) -> tuple[int, int] | None:
        """Return (UIDVALIDITY, highest UID, 0 for none) of Sent; None where there is no such folder.

        With ``since`` the UID is one below those of the mails that were stored since that day.
        """
        validity = self._select_sent()
        if validity is None:
            return None
        connection = self._connection()
        if since and (late := connection.search(f"SINCE {search_date(since)}")):
            return validity, min(late) - 1
        found = connection.search("UID *")  # in an empty folder some find nothing, others refuse
        return validity, max(found, default=0)

    def sent_after(self, validity: int, uid: int) -> list[SentMail] | None:
        """Return the mails in Sent above this UID, ascending, as the folder is at this very moment.

        None where there is no such folder, or it has another UIDVALIDITY by now.
        """
        if self._select_sent() != validity:
            return None
        connection = self._connection()
        # ``n:*`` also gives the highest UID when that is below n (RFC 3501 section 6.4.8).
        new = [found for found in connection.search(f"UID {uid + 1}:*") if found > uid]
        mails: list[SentMail] = []
        for _, uids in uid_sets(new):
            messages = connection.fetch(uids, f"(UID RFC822.SIZE BODY.PEEK[HEADER]<0.{HEADER_OCTETS}>)")
            for number, items in messages.items():
                size = items.get(b"RFC822.SIZE")
                mails.append(SentMail(number, size if isinstance(size, int) else 0, _content(items)))
        return sorted(mails, key=lambda mail: mail.uid)

    def sent_source(self, uid: int) -> bytes:
        """Return the whole mail, b"" where it is gone. UIDs are those of the last ``sent_after``."""
        if self._select_sent() is None:
            return b""
        return self._source(uid)

    def _select_sent(self) -> int | None:
        """Select Sent, or let the server tell what is new in it; return its UIDVALIDITY, None for none."""
        folder = self._known(SENT)
        if folder is None:
            return None
        connection = self._connection(try_after=0)  # its NOOP brings what is new
        if (
            self._sent
            and connection.selected == (folder, True)
            and time.monotonic() - self._sent[1] < SELECTED_S
        ):
            return self._sent[0]
        anew, began = self._sent is not None, time.monotonic()
        validity = self._select(SENT, folder, read_only=True)
        self._sent = (validity, time.monotonic())
        self._is_slow |= anew and time.monotonic() - began > SLOW_S
        return validity

    # --- the inbox --------------------------------------------------------------------------------------

    def answered(self, places: Collection[str]) -> frozenset[str]:
        r"""Return those of the mails in the inbox that carry ``\Answered``."""
        if not places:
            return frozenset()
        beside, kept, now = self._beside_sent(), self._inbox, time.monotonic()
        connection = beside or self._connection()
        is_kept = beside is not None and beside.selected == (self.inbox, True)
        if kept is None or not is_kept or now - kept[1] > SELECTED_S:
            validity = _validity(connection, self.inbox, connection.select(self.inbox, read_only=True))
            kept = self._inbox = (validity, now)
        return self._having(places, kept[0], ANSWERED, connection=connection)

    def _beside_sent(self) -> ImapConnection | None:
        """Return the connection for the inbox, which knows what is new there; None where there is none."""
        if not self._is_slow or time.monotonic() < self._alone_until:
            return None
        if self._beside is None:
            self._beside = KeptConnection(self._account, ssl_context=self._context, timeouts=self._timeouts)
        self._beside.before_login = self.before_login
        try:
            return self._beside._connection(try_after=0)
        except MailboxError:  # one connection for both does as well, only slower
            self._alone_until = time.monotonic() + ALONE_S
            return None

    # --- Drafts -----------------------------------------------------------------------------------------

    def put_draft(self, source: bytes, when: datetime) -> str:
        r"""Store a draft (``\Draft``, ``\Seen``) and return its place, '' where the server tells none.

        Raise RefusedForGood where there is no Drafts folder and none can be created, or it is read-only.
        """
        folder = self._folder(DRAFTS, create=True)
        if folder is None:
            raise RefusedForGood(
                "there is no folder for drafts and none can be created; create one named Drafts, or set "
                "EMAIL_DRAFTS=0"
            )
        self._select(DRAFTS, folder)  # what cannot be removed again must not be put there
        told = self._connection().append(folder, f"{DRAFT} {SEEN}", when, source)
        if told is not None:
            return f"{told[0]}/{told[1]}"
        named = _MESSAGE_ID.search(source)
        return self.find_draft(named[1].decode("ascii", "replace"), "") if named else ""

    def drafts_there(self, places: Collection[str]) -> frozenset[str]:
        r"""Return those of the places at which a draft lies now, not marked ``\Deleted``.

        Raise RefusedForNow where there is no such folder: it may have been renamed, with the drafts in it.
        """
        if not places:
            return frozenset()
        folder = self._folder(DRAFTS, create=False)
        if folder is None:
            raise RefusedForNow(NO_DRAFTS)
        validity = self._select(DRAFTS, folder, read_only=True)
        return self._having(places, validity)

    def find_draft(self, message_id: str, answers: str) -> str:
        """Return the place of the newest draft with this Message-ID, or that answers this mail, or ''.

        ``answers`` is looked for in In-Reply-To: many clients give a draft a new Message-ID.
        """
        folder = self._folder(DRAFTS, create=False)
        if folder is None:
            return ""
        validity = self._select(DRAFTS, folder, read_only=True)
        connection = self._connection()
        found = set(naming(connection, "Message-ID", message_id)) if message_id else set()
        found |= naming(connection, "In-Reply-To", answers) if answers else set()
        places = {f"{validity}/{uid}" for uid in found}
        there = self._having(places, validity)
        return max(there, key=_uid, default="")

    def draft_source(self, place: str) -> bytes:
        """Return the whole draft, b"" where it is gone."""
        if not self.drafts_there([place]):
            return b""
        return self._source(_uid(place))

    def remove_draft(self, place: str) -> bool:
        """Expunge this draft, and no other mail. Return whether it was there and is gone by us."""
        folder, uid = self._folder(DRAFTS, create=False), _uid(place)
        if not self.drafts_there([place]) or folder is None:
            return False
        self._select(DRAFTS, folder)
        connection = self._connection()
        connection.store(str(uid), f"({DELETED})")
        connection.expunge(uid)
        if self.drafts_there([place]):
            raise RefusedForNow("the server keeps a draft that was removed")
        return True

    # --- any folder -------------------------------------------------------------------------------------

    def _known(self, use: SpecialUse) -> bytes | None:
        """Return the folder where there is one. A missing one is looked for once a minute."""
        missing = self._missing = self._missing or {}
        if time.monotonic() - missing.get(use, -SELECTED_S) < SELECTED_S:
            return None
        folder = self._folder(use, create=False)
        if folder is None:
            missing[use] = time.monotonic()
        return folder

    def _select(self, use: SpecialUse, folder: bytes, *, read_only: bool = False) -> int:
        """Select the folder and return its UIDVALIDITY."""
        connection = self._connection()
        try:
            data = connection.select(folder, read_only=read_only)
        except RefusedForGood:
            self._folders.pop(use, None)  # it may have been renamed: the next call looks anew
            raise
        if not read_only and data.get(b"READ-ONLY"):
            raise RefusedForGood(f"{folder_name(folder)} is read-only for this login")
        return _validity(connection, folder, data)

    def _having(
        self, places: Iterable[str], validity: int, *flags: str, connection: ImapConnection | None = None
    ) -> frozenset[str]:
        r"""Return those that are there in the selected folder with these flags, and without ``\Deleted``."""
        uids = {_uid(place) for place in places if place.partition("/")[0] == str(validity)}
        found: set[int] = set()
        for _, uid_set in uid_sets(uids):
            messages = (connection or self._connection()).fetch(uid_set, "(UID FLAGS)")
            found |= (having(messages, flags) - having(messages, [DELETED])) & uids
        return frozenset(f"{validity}/{uid}" for uid in found)

    def _source(self, uid: int) -> bytes:
        messages = self._connection().fetch(str(uid), "(UID BODY.PEEK[])")
        return _content(messages.get(uid, {}))


def _content(items: dict[bytes, Any]) -> bytes:
    parts = (content_of(value) for name, value in items.items() if name.startswith(b"BODY["))
    return next(filter(None, parts), b"")


def _uid(place: str) -> int:
    return int(place.partition("/")[2] or 0)


def _validity(connection: ImapConnection, folder: str | bytes, data: dict[bytes, Any]) -> int:
    told = data.get(b"UIDVALIDITY")
    return int(told or connection.status(folder, "UIDVALIDITY").get("UIDVALIDITY", 0))
