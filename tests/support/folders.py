"""The folders in which people work, in memory: ``cleo_email.imap.folders.Folders`` without a server."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import date, datetime
from email import message_from_bytes

from cleo_email.errors import MailboxError
from cleo_email.imap.folders import NO_DRAFTS, SentMail
from cleo_email.imap.session import RefusedForNow

VALIDITY = 7


@dataclass
class FakeFolders:
    """``sent`` and ``drafts`` by UID, None for a folder that is missing; ``flagged`` are places in the inbox.

    ``fault`` is raised by every call, ``refusal`` where a draft is put; ``before`` runs before each call.
    """

    sent: dict[int, bytes] | None = field(default_factory=dict)
    drafts: dict[int, bytes] | None = field(default_factory=dict)
    flagged: set[str] = field(default_factory=set)
    validity: int = VALIDITY
    fault: MailboxError | None = None
    refusal: MailboxError | None = None
    before: Callable[[str], None] = lambda _name: None
    calls: list[str] = field(default_factory=list)
    closed: int = 0
    _next: int = 0

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.before(name)
        if self.fault:
            raise self.fault

    def next_uid(self) -> int:
        self._next += 1
        return self._next

    def close(self) -> None:
        self.closed += 1

    # --- Sent -------------------------------------------------------------------------------------------

    def sent_position(self, since: date | None = None) -> tuple[int, int] | None:
        self._call("sent_position")
        if self.sent is None:
            return None
        return self.validity, 0 if since else max(self.sent, default=0)

    def sent_after(self, validity: int, uid: int) -> list[SentMail] | None:
        self._call("sent_after")
        if self.sent is None or validity != self.validity:
            return None
        found = sorted((number, source) for number, source in self.sent.items() if number > uid)
        return [
            SentMail(n, len(source), source.partition(b"\r\n\r\n")[0] + b"\r\n\r\n") for n, source in found
        ]

    def sent_source(self, uid: int) -> bytes:
        self._call("sent_source")
        return (self.sent or {}).get(uid, b"")

    # --- the inbox --------------------------------------------------------------------------------------

    def answered(self, places: Collection[str]) -> frozenset[str]:
        self._call("answered")
        return frozenset(self.flagged & set(places))

    # --- Drafts -----------------------------------------------------------------------------------------

    def put_draft(self, source: bytes, when: datetime) -> str:
        self._call("put_draft")
        if self.refusal:
            raise self.refusal
        assert when.tzinfo is not None
        assert self.drafts is not None
        uid = self.next_uid()
        self.drafts[uid] = source
        return f"{self.validity}/{uid}"

    def _there(self) -> dict[str, bytes]:
        return {f"{self.validity}/{uid}": source for uid, source in (self.drafts or {}).items()}

    def drafts_there(self, places: Collection[str]) -> frozenset[str]:
        self._call("drafts_there")
        if places and self.drafts is None:
            raise RefusedForNow(NO_DRAFTS)
        return frozenset(self._there().keys() & set(places))

    def find_draft(self, message_id: str, answers: str) -> str:
        self._call("find_draft")
        found = ""
        for place, source in self._there().items():
            mail = message_from_bytes(source)
            named = message_id and message_id in str(mail["Message-ID"])
            if named or (answers and answers in str(mail["In-Reply-To"])):
                found = place
        return found

    def draft_source(self, place: str) -> bytes:
        self._call("draft_source")
        return self._there().get(place, b"")

    def remove_draft(self, place: str) -> bool:
        self._call("remove_draft")
        if not self.drafts_there([place]):
            return False
        assert self.drafts is not None
        del self.drafts[int(place.partition("/")[2])]
        return True
