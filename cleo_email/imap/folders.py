"""The folders in which people work beside the agent: Sent, Drafts, and the flags of the inbox."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime

from cleo_email.accounts import ImapAccount
from cleo_email.imap.values import ImapTimeouts


@dataclass(frozen=True)
class SentMail:
    """A mail in Sent, by its header; the body is fetched where somebody wants it."""

    uid: int
    size: int  # octets
    header: bytes = field(repr=False)


class Folders:
    """Sent and Drafts over a connection of their own, which is made on first use and kept.

    It is not for several threads at once. UIDs of Drafts and of the inbox are named as ``UIDVALIDITY/UID``;
    one of another UIDVALIDITY names nothing. After a fault the connection is closed and the next use makes a
    new one. Every method raises MailboxUnavailable for what may pass by itself, MailboxLoginRefused, and
    MailboxError for what a person has to change.
    """

    def __init__(
        self,
        account: ImapAccount,
        *,
        ssl_context: ssl.SSLContext | None = None,
        timeouts: ImapTimeouts | None = None,
        inbox: str = "INBOX",
    ) -> None:
        self.before_login: Callable[[], None] = lambda: None
        raise NotImplementedError

    def close(self) -> None:
        """Log out, if connected. The next use connects anew."""
        raise NotImplementedError

    # --- Sent -------------------------------------------------------------------------------------------

    def sent_position(self) -> tuple[int, int] | None:
        """Return (UIDVALIDITY, highest UID, 0 for none) of Sent; None where there is no such folder."""
        raise NotImplementedError

    def sent_after(self, validity: int, uid: int) -> list[SentMail] | None:
        """Return the mails in Sent above this UID, ascending, as the folder is at this very moment.

        None where there is no such folder, or it has another UIDVALIDITY by now.
        """
        raise NotImplementedError

    def sent_source(self, uid: int) -> bytes:
        """Return the whole mail, b"" where it is gone. UIDs are those of the last ``sent_after``."""
        raise NotImplementedError

    # --- the inbox --------------------------------------------------------------------------------------

    def answered(self, places: Collection[str]) -> frozenset[str]:
        r"""Return those of the mails in the inbox that carry ``\Answered``."""
        raise NotImplementedError

    # --- Drafts -----------------------------------------------------------------------------------------

    def put_draft(self, source: bytes, when: datetime) -> str:
        r"""Store a draft (``\Draft``, ``\Seen``) and return its place, '' where the server tells none.

        Raise RefusedForGood where there is no Drafts folder and none can be created, or it is read-only.
        """
        raise NotImplementedError

    def drafts_there(self, places: Collection[str]) -> frozenset[str]:
        r"""Return those of the places at which a draft lies now, not marked ``\Deleted``."""
        raise NotImplementedError

    def find_draft(self, message_id: str, answers: str) -> str:
        """Return the place of the newest draft with this Message-ID, or that answers this mail, or ''.

        ``answers`` is looked for in In-Reply-To: many clients give a draft a new Message-ID.
        """
        raise NotImplementedError

    def draft_source(self, place: str) -> bytes:
        """Return the whole draft, b"" where it is gone."""
        raise NotImplementedError

    def remove_draft(self, place: str) -> bool:
        """Expunge this draft, and no other mail. Return whether it was there and is gone by us."""
        raise NotImplementedError
